//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipc::{Fingerprint, PairingId, Pin, PlaneKind, SessionId};

use crate::config::DesktopKind;
use crate::install::{Options, Scope};
use crate::permit::Change;

/// Streams this machine's desktop to other screens: the host of Lumen.
///
/// `lumend run` is the host; every other command talks to a running one.
#[derive(Debug, Parser)]
#[command(
    name = "lumend",
    version = ipc::BUILD,
    after_help = "\
First steps:
  lumend install                           as a service; it says what to say next
  lumend run --spawn --desktop pattern     serve a test picture (on loopback, until a client is allowed)
  lumend run --spawn --desktop sway        serve a headless desktop of lumend's own
  lumend run --spawn                       serve this user's sway session, once there is one
  lumend pair 1234                 let a Moonlight client in that shows this PIN
  lumend fingerprint               what native clients pin with --pin
  lumend allow SHA256              let a native client in; it prints its fingerprint when it is refused
  lumend clients                   who may come in; rename, disable and remove them
  lumend permit CLIENT -keyboard   what one may do: view, pointer, keyboard, gamepad, launch
  lumend status                    planes, sessions, latencies
  lumend status --security         whether every plane is as locked down as it should be
  lumend stop --run CLIENT         end the app that a Moonlight client has left running

Exit codes: 0 done, 1 failed, 2 usage, 3 no lumend answers, 4 refused.
The log goes to stderr, of a service to the journal; LUMEN_LOG sets what is told (error, warn, info, debug, or per module)."
)]
pub struct Cli {
    /// Directory of the control socket [default: $XDG_RUNTIME_DIR/lumen; as root always /run/lumen]
    #[arg(long, global = true, value_name = "DIR")]
    pub runtime: Option<PathBuf>,
    /// Directory of the identity and the allowed clients [default: ~/.local/state/lumen; as root /var/lib/lumen]
    #[arg(long, global = true, value_name = "DIR")]
    pub state: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve a desktop until SIGTERM or Ctrl-C.
    ///
    /// Started as root, it keeps nothing of that: it becomes the user that [run] uid names, with all it starts.
    Run {
        /// Start the planes as children of this process, as nothing else has to be installed for. Else a service manager
        /// starts them, one for each connection to the sockets in `planes` below --runtime.
        #[arg(long)]
        spawn: bool,
        /// What to show [default: as [desktop] kind says; without it, a sway session of this user's, waited for]
        #[arg(long, value_name = "DESKTOP")]
        desktop: Option<DesktopChoice>,
        /// Configuration file [default: ~/.config/lumen/lumen.toml or /etc/lumen/lumen.toml, if there is one]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Where launchers of another user make the desktops' directories [default: as --runtime]
        #[arg(long, hide = true, value_name = "DIR")]
        desktops: Option<PathBuf>,
        /// Where those note what they will have to undo [default: in --state]
        #[arg(long, hide = true, value_name = "DIR")]
        undo: Option<PathBuf>,
    },
    /// Show planes, sessions and latencies.
    Status {
        /// As JSON, for scripts.
        #[arg(long)]
        json: bool,
        /// Instead, read from the kernel what each plane is and has, beside what its profile promises. Exit code 1 if
        /// anything differs. As root it sees planes of every user.
        #[arg(long)]
        security: bool,
    },
    /// Replace a plane's process: streams go on after a hiccup (of net's, Moonlight's end and can be resumed).
    Restart {
        /// capture, encode, net, input or audio
        plane: PlaneKind,
        /// Of this session alone; else of all.
        #[arg(long, value_name = "ID", value_parser = session)]
        session: Option<SessionId>,
    },
    /// End a session; or what a Moonlight client has running, also after it has left.
    Stop {
        /// Its number, as `lumend status` shows it
        #[arg(value_parser = session, required_unless_present = "run")]
        session: Option<SessionId>,
        /// End an app and its session: by its number, as `lumend status` shows it, or the name or fingerprint of its client
        #[arg(long, value_name = "RUN|CLIENT", conflicts_with = "session")]
        run: Option<String>,
    },
    /// Make a session's next frame a keyframe.
    Idr {
        /// Its number, as `lumend status` shows it
        #[arg(value_parser = session)]
        session: SessionId,
    },
    /// Print the SHA-256 of the host's certificate.
    Fingerprint,
    /// Let the native client in whose certificate has this SHA-256.
    ///
    /// The first one allowed opens the host to the network, unless listen.address says otherwise.
    Allow {
        /// 64 hexadecimal digits
        sha256: Fingerprint,
    },
    /// Let a Moonlight client in: give the PIN that it shows.
    ///
    /// The client begins: choose this host in it. Each PIN is tried once; with a wrong one the client has to begin again.
    /// Exit code 0 means that this PIN has paired a client.
    Pair {
        /// Four digits; without it you are asked
        #[arg(value_parser = pin)]
        pin: Option<Pin>,
        /// Which client, by the number that `lumend pair` shows, where more than one waits
        #[arg(long, value_name = "N", value_parser = pairing)]
        client: Option<PairingId>,
        /// What to call it [default: what it calls itself]
        #[arg(long)]
        name: Option<String>,
    },
    /// List the clients that are known, and what each may do; or change that list.
    Clients {
        /// As JSON, for scripts.
        #[arg(long)]
        json: bool,
        #[command(subcommand)]
        change: Option<ClientsCommand>,
    },
    /// Change what a client may do: at once, and for its next sessions.
    Permit {
        /// Its name, or its fingerprint or the beginning of it, as `lumend clients` shows them
        client: String,
        /// A list of view, pointer, keyboard, gamepad, launch; +LIST to add, -LIST to take away; all; none
        #[arg(value_name = "[+-]LIST", allow_hyphen_values = true)]
        permissions: Change,
    },
    /// Forget the client whose certificate has this SHA-256, and end its sessions.
    Forget {
        /// 64 hexadecimal digits, as `lumend clients` shows them
        sha256: Fingerprint,
    },
    /// Move this machine's pointer, keyboard and gamepad once, as a client would: two seconds of everything.
    ///
    /// It needs no running lumend. It types into the window that has the keyboard: give that to an empty editor. The
    /// sway session that it is started in is used, else the desktop of a `lumend run --desktop sway` with the same
    /// --runtime, else the kernel's devices.
    InputTest {
        /// As JSON, for scripts.
        #[arg(long)]
        json: bool,
        /// Configuration file, of which [input] counts [default: as for run]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Put Lumen's systemd units in place; said again, bring them up to date.
    ///
    /// For yourself, the programs stay where they are. For the machine, they are copied to /usr/local/lib/lumen.
    Install {
        #[command(flatten)]
        place: Placement,
    },
    /// Stop lumend and take away what `lumend install` has put in place, with the same options.
    ///
    /// What was changed since is kept and named; so are the host's identity, its clients and its configuration.
    Uninstall {
        #[command(flatten)]
        place: Placement,
    },
    /// A role of `lumend run --desktop sway`, which starts it with a link of its own. Without arguments it is one that a
    /// service manager has started, and learns by that link what it is for.
    #[command(hide = true)]
    Launcher {
        exec: Option<String>,
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=16))]
        seats: u32,
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16))]
        number: u32,
        /// There are apps only, where lumend was started.
        #[arg(long)]
        bare: bool,
        /// Where launchers note what they will have to undo.
        #[arg(long, value_name = "DIR")]
        undo: Option<PathBuf>,
        /// The list of apps, as JSON.
        #[arg(long, default_value = "[]")]
        apps: String,
    },
}

/// What `lumend install` and `lumend uninstall` work on.
#[derive(Clone, Debug, Args)]
pub struct Placement {
    /// For yourself: units of your own service manager [default, except for root]
    #[arg(long)]
    user: bool,
    /// For the machine, with users of Lumen's own; needs root [default for root]
    #[arg(long, conflicts_with = "user")]
    system: bool,
    /// Only the right to make gamepads, for those who use --user; needs root
    #[arg(long, conflicts_with_all = ["user", "system", "prefix"])]
    devices: bool,
    /// Copy the programs to DIR/lib/lumen, and link DIR/bin/lumend to them [default: where an installation lies that this
    /// program is of; else /usr/local for the machine, and a user's stay where they are]
    #[arg(long, value_name = "DIR")]
    prefix: Option<PathBuf>,
    /// Work on the tree below DIR instead, as for a package; systemd is not told
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

impl From<Placement> for Options {
    fn from(place: Placement) -> Self {
        let Placement { user, system, devices, prefix, root, dry_run } = place;
        let named = [(user, Scope::User), (system, Scope::System), (devices, Scope::Devices)];
        let scope = named.into_iter().find(|(said, _)| *said).map(|(_, scope)| scope);
        Self { scope, prefix, root, dry_run }
    }
}

/// Each CLIENT is a name, or a fingerprint or the beginning of one, as the list shows them.
#[derive(Debug, Subcommand)]
pub enum ClientsCommand {
    /// Show it
    List,
    /// Give a client another name
    Rename { client: String, name: String },
    /// Let a client in again that was disabled
    Enable { client: String },
    /// Turn a client away and end its sessions, but keep it in the list
    Disable { client: String },
    /// Forget a client and end its sessions; a Moonlight client has to pair again
    Remove { client: String },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum DesktopChoice {
    /// A headless sway of lumend's own, with what [desktop] exec names on it
    Sway,
    /// A moving test picture whose pixels carry frame number and time
    Pattern,
}

impl From<DesktopChoice> for DesktopKind {
    fn from(choice: DesktopChoice) -> Self {
        match choice {
            DesktopChoice::Sway => Self::Sway,
            DesktopChoice::Pattern => Self::Pattern,
        }
    }
}

fn pin(text: &str) -> Result<Pin, String> {
    Pin::new(text).ok_or_else(|| "a PIN is four digits".into())
}

fn pairing(text: &str) -> Result<PairingId, String> {
    text.parse().map(PairingId).map_err(|_| "a client that waits has a number, as `lumend pair` shows it".into())
}

fn session(text: &str) -> Result<SessionId, String> {
    text.parse().map(SessionId).map_err(|_| "a session is a number, as `lumend status` shows it".into())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn reads_what_the_documentation_shows() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        let run = parse("lumend run --spawn --desktop sway --config a.toml --state s --runtime r").unwrap();
        assert_eq!(run.runtime, Some("r".into()));
        assert!(matches!(run.command, Command::Run { spawn: true, desktop: Some(DesktopChoice::Sway), .. }));
        let restart = parse("lumend restart encode --session 3").unwrap();
        assert!(matches!(restart.command, Command::Restart { plane: PlaneKind::Encode, session: Some(SessionId(3)) }));
        let pair = parse("lumend pair 0123 --client 4 --name Sofa").unwrap();
        assert!(matches!(pair.command, Command::Pair { pin: Some(_), client: Some(PairingId(4)), name: Some(_) }));
        assert!(matches!(parse("lumend pair").unwrap().command, Command::Pair { pin: None, client: None, name: None }));
        let stop = parse("lumend stop 3").unwrap();
        assert!(matches!(stop.command, Command::Stop { session: Some(SessionId(3)), run: None }));
        let stop = parse("lumend stop --run Sofa").unwrap();
        assert!(matches!(stop.command, Command::Stop { session: None, run: Some(run) } if run == "Sofa"));
        let clients = parse("lumend clients").unwrap();
        assert!(matches!(clients.command, Command::Clients { json: false, change: None }));
        let disable = parse("lumend clients disable Sofa").unwrap();
        assert!(matches!(disable.command, Command::Clients { change: Some(ClientsCommand::Disable { .. }), .. }));
        let Command::Install { place } = parse("lumend install --user --dry-run").unwrap().command else { panic!() };
        assert_eq!((Options::from(place.clone()).scope, Options::from(place).dry_run), (Some(Scope::User), true));
        for wrong in [
            "lumend",
            "lumend install --user --system",
            "lumend restart launcher",
            "lumend allow 12",
            "lumend stop x",
            "lumend stop",
            "lumend stop 1 --run 2",
            "lumend run --desktop kde",
            "lumend pair 123",
            "lumend pair 12345",
            "lumend pair 12x4",
            "lumend clients remove",
        ] {
            assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }
}
