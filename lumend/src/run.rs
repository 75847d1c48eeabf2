//! `lumend run`, up to the loop: everything that can be wrong is found here, before anything is started.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use ipc::event::now_ns;

use crate::apps::Apps;
use crate::clients::Clients;
use crate::config::{Config, DesktopKind, HandsChoice};
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
use crate::sockets::{Kept, Sockets};
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
    kept.iter().for_each(|(name, fd)| notify.has_kept(name, fd));
    let sockets = Sockets::bind(&config.listen, clients.any_native(), &mut kept)?;
    let now = now_ns();
    let gamestream = GameStream::new(config.gamestream, apps, now, &mut kept);
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

/// The configuration that counts.
pub fn read(told: Option<PathBuf>) -> Result<Config, Failure> {
    if let Some(path) = told {
        return Ok(Config::load(&path)?);
    }
    let [own, common] = places::configurations();
    let path = if own.exists() { own } else { common };
    Ok(Config::load_or_default(&path)?)
}
