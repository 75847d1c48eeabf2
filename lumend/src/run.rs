//! `lumend run`, up to the loop: everything that can be wrong is found here, before anything is started.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use ipc::event::now_ns;

use crate::apps::Apps;
use crate::clients::Clients;
use crate::config::{Config, DesktopKind, HandsChoice, Listen};
use crate::daemon::{Daemon, Parts};
use crate::desktop::{Desktop, Means, Program};
use crate::discovery::Discovery;
use crate::door::Door;
use crate::failure::Failure;
use crate::gamestream::GameStream;
use crate::host::Host;
use crate::identity::{GameStreamIdentity, Identity};
use crate::launcher::Commands;
use crate::notify::Notify;
use crate::outputs::Terms;
use crate::places;
use crate::reach::{self, Binaries, Starter, above_link};
use crate::signer::Signer;
use crate::sockets::{BindError, Kept, Sockets};
use crate::sound::Sound;
use crate::uinput::Supply;

/// Where launchers note what they will have to undo, in the state directory.
pub const UNDO: &str = "app-undo";

/// Runs until told to stop. With `spawn` the planes are lumend's children, else a service manager starts them; `kept` is
/// what that has kept since an earlier run.
pub fn run(
    config: Option<PathBuf>,
    desktop: Option<DesktopKind>,
    spawn: bool,
    (runtime, state): (&Path, &Path),
    mut kept: Kept,
) -> Result<(), Failure> {
    let mut config = read(config)?;
    if let Some(kind) = desktop {
        config.desktop.kind = kind;
    }
    // While still root, if it ever was: programs and pictures may lie where the other user cannot reach them.
    let program = std::env::current_exe()?;
    let starter = if spawn {
        Starter::Parent(Binaries::open_beside(program.parent().unwrap_or(Path::new("/")))?)
    } else {
        Starter::Manager(reach::Sockets::find(runtime)?)
    };
    let own = above_link(File::open("/proc/self/exe")?.as_fd())?;
    let apps = Apps::new(&config.apps);
    let supply = Supply::open(if config.input.enabled { config.sessions.max } else { 0 });

    places::settle(runtime, state, config.run.uid)?;
    let identity = Identity::load_or_create(state)?;
    let wanted = config.gamestream.enabled;
    let gamestream_identity = wanted.then(|| GameStreamIdentity::load_or_create(state)).transpose()?;
    let clients = Clients::load(state)?;
    let door = Door::open(runtime)?;
    let mut notify = Notify::from_environment();
    let now = now_ns();
    let sockets = bind(&config.listen, clients.any_native(), &mut kept, &mut notify, now)?;
    let gamestream = GameStream::new(config.gamestream, apps, now, &mut kept);
    // What nobody wants any more would keep its port for as long as it is open here.
    drop(kept);
    let means = Means::new(&config.input, supply.available());
    let wlroots = matches!(config.input.backend, HandsChoice::Auto | HandsChoice::Wlroots);
    let own_desktop = config.desktop.kind == DesktopKind::Sway;
    // A desktop of lumend's own serves one session at a time.
    let most = if own_desktop { 1 } else { config.sessions.max };
    let terms = Terms {
        display: config.display.clone(),
        seats: if config.input.enabled && wlroots { most } else { 0 },
        own: own_desktop,
    };
    let commands: Vec<_> = gamestream.apps().list().iter().map(Commands::from).collect();
    let program = Program::new(own, (runtime, &state.join(UNDO)), &config.desktop.exec, terms.seats, &commands);
    let program = program.served_by(starter.manager().cloned());
    let desktop = match config.desktop.kind {
        DesktopKind::Pattern => Desktop::pattern(program, means),
        DesktopKind::Auto => Desktop::found(now, program, terms, means),
        DesktopKind::Sway => Desktop::own(program, terms, means, config.sessions.max)?,
    };
    let host = Host::new();
    let discovery = Discovery::new(config.discovery.enabled, &host.name);
    let signer = Signer::new(identity, gamestream_identity, now);
    let sound = Sound::new(state, config.audio.socket.clone());
    let parts = Parts {
        config,
        starter,
        host,
        signer,
        clients,
        door,
        sockets,
        gamestream,
        discovery,
        desktop,
        supply,
        sound,
        notify,
    };
    Daemon::new(parts)?.run()
}

/// The sockets of lumen/1, of what is kept if it fits. If they cannot be had it may be what is kept that has their ports,
/// under an address that is not wanted any more; so the manager is to keep nothing for the next start.
fn bind(listen: &Listen, open: bool, kept: &mut Kept, notify: &mut Notify, now: u64) -> Result<Sockets, BindError> {
    kept.iter().for_each(|(name, fd)| notify.has_kept(name, fd));
    Sockets::bind(listen, open, kept).inspect_err(|_| notify.keep(now, &[]))
}

/// The configuration that counts.
pub fn read(told: Option<PathBuf>) -> Result<Config, Failure> {
    if let Some(path) = told {
        return Ok(Config::load(&path)?);
    }
    let [own, common] = places::configurations();
    let path = if own.exists() { own } else { common };
    Ok(Config::load_or_default(&path)?)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::notify::tests::{notify, told};

    /// A service manager, as systemd does it, starts lumend again with what it has kept, again and again.
    #[test]
    fn a_socket_kept_under_an_address_that_is_not_wanted_any_more_is_let_go() {
        let narrow = Sockets::bind(&Listen { port: 0, ..Listen::default() }, false, &mut Kept::default()).unwrap();
        // They are the manager's now; lumend has copies.
        let store = narrow.named().map(|(name, fd)| (name, fd.try_clone_to_owned().unwrap()));
        let handed = || store.iter().map(|(name, fd)| ((*name).to_owned(), fd.try_clone().unwrap())).collect();
        let (port, media_port) = (narrow.quic_address.port(), Some(narrow.media_address.port()));
        let listen = Listen { port, media_port, ..Listen::default() };
        drop(narrow);

        let (mut silent, manager) = notify("kept-fits");
        let bound = bind(&listen, false, &mut Kept::new(handed()), &mut silent, 0).unwrap();
        assert_eq!((bound.quic_address.port(), told(&manager)), (listen.port, Vec::new()));
        drop(bound);

        let (mut notify, manager) = notify("kept-in-the-way");
        assert!(bind(&listen, true, &mut Kept::new(handed()), &mut notify, 0).is_err(), "the manager has the port");
        let removed = store.each_ref().map(|(name, _)| format!("FDSTOREREMOVE=1\nFDNAME={name}"));
        let mut said = told(&manager);
        said.sort_by_key(|line| removed.iter().position(|removed| removed == line));
        assert_eq!(said, removed);
        drop(store);
        bind(&listen, true, &mut Kept::default(), &mut notify, 0).expect("the next start has an empty store");
    }

    /// Who has the port is not asked: a stranger's is not lumend's to let go, and the next start fails as well.
    #[test]
    fn a_port_that_is_a_strangers_stays_so() {
        let stranger: OwnedFd = UdpSocket::bind("127.0.0.1:0").unwrap().into();
        let port = UdpSocket::from(stranger.try_clone().unwrap()).local_addr().unwrap().port();
        let (mut notify, manager) = notify("strangers");
        let listen = Listen { port, ..Listen::default() };
        assert!(bind(&listen, false, &mut Kept::default(), &mut notify, 0).is_err());
        assert_eq!(told(&manager), Vec::<String>::new());
    }
}
