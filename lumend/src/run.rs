//! `lumend run`, up to the loop: everything that can be wrong is found here, before anything is started.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use ipc::event::now_ns;
use tracing::warn;

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
use crate::reach::{self, Binaries, Starter, Strays, above_link};
use crate::signer::Signer;
use crate::sockets::{BindError, Kept, Sockets};
use crate::sound::Sound;
use crate::uinput::Supply;

/// Where launchers note what they will have to undo, in the state directory.
pub const UNDO: &str = "app-undo";

/// For so long a port may stay in use when a service manager starts lumend: network planes of an earlier one may be ending
/// still. No longer, so that the manager learns of it, and no shorter, as it starts lumend again at once.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between tries to bind.
const PAUSE: Duration = Duration::from_millis(50);

/// Directories of a run.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    pub runtime: &'a Path,
    pub state: &'a Path,
    /// Of the desktops that launchers start: of another user's, where those are.
    pub desktops: &'a Path,
    /// Where launchers note what they will have to undo.
    pub undo: &'a Path,
}

/// Runs until told to stop. With `spawn` the planes are lumend's children, else a service manager starts them; `kept` is
/// what that has kept since an earlier run.
pub fn run(
    config: Option<PathBuf>,
    desktop: Option<DesktopKind>,
    spawn: bool,
    Places { runtime, state, desktops, undo }: Places<'_>,
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
    let clients = Clients::load(state).map_err(Failure::of_list)?;
    let door = Door::open(runtime)?;
    let mut notify = Notify::from_environment();
    let now = now_ns();
    // Before anything is used that they may have as well.
    let strays = end_leftovers(&mut kept, &mut notify);
    // A person is told at once.
    let patience = if notify.is_due() { PATIENCE } else { Duration::ZERO };
    let (sockets, gamestream) = bind(&config, clients.any_native(), apps, kept, &mut notify, patience)?;
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
    let program = Program::new(own, (desktops, undo), &config.desktop.exec, terms.seats, &commands);
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
        strays,
    };
    Daemon::new(parts)?.run()
}

/// Ends planes of an earlier lumend that live although their link is closed; returns those that it cannot end. The manager
/// lets go of the rest when it is told what to keep next.
fn end_leftovers(kept: &mut Kept, notify: &mut Notify) -> Strays {
    let leftovers = kept.split_off(reach::is_of_plane);
    leftovers.iter().for_each(|(name, fd)| notify.has_kept(name, fd.as_fd()));
    reach::end_leftovers(leftovers)
}

/// All sockets, of what is kept if it fits; the rest of that is closed, as it would keep its ports. If those of lumen/1
/// cannot be had it may be what is kept that has theirs, under an address that is not wanted any more: so the manager and
/// this lumend let go of all of it before it is tried again. Those of GameStream are tried again later.
fn bind(
    config: &Config,
    open: bool,
    apps: Apps,
    mut kept: Kept,
    notify: &mut Notify,
    patience: Duration,
) -> Result<(Sockets, GameStream), BindError> {
    kept.iter().for_each(|(name, fd)| notify.has_kept(name, fd));
    let sockets = Sockets::bind(&config.listen, open, &mut kept).or_else(|error| {
        notify.keep::<&str>(now_ns(), &[]);
        kept = Kept::default();
        wait_for_ports(error, patience, notify, || Sockets::bind(&config.listen, open, &mut Kept::default()))
    })?;
    Ok((sockets, GameStream::new(config.gamestream, apps, now_ns(), &mut kept)))
}

/// Tries it for so long as ports are in use. Nothing waits for lumend yet, and no port says when it is free.
fn wait_for_ports(
    first: BindError,
    patience: Duration,
    notify: &mut Notify,
    bind: impl Fn() -> Result<Sockets, BindError>,
) -> Result<Sockets, BindError> {
    if patience.is_zero() || !matches!(first, BindError::InUse { .. }) {
        return Err(first);
    }
    warn!("{first}; it is waited for");
    notify.status(now_ns(), format!("waiting: {first}"));
    let until = Instant::now() + patience;
    loop {
        thread::sleep(PAUSE);
        match bind() {
            Err(BindError::InUse { .. }) if Instant::now() < until => {}
            done => return done,
        }
    }
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
    use std::net::{TcpListener, UdpSocket};

    use super::*;
    use crate::config::Listen;
    use crate::notify::tests::{notify, told};

    /// Of both kinds of client, one of whom is served.
    fn at(listen: Listen) -> Config {
        let mut config = Config { listen, ..Config::default() };
        config.gamestream.enabled = false;
        config
    }

    fn bound(config: &Config, open: bool, kept: Kept, notify: &mut Notify) -> Result<Sockets, BindError> {
        bind(config, open, Apps::new(&config.apps), kept, notify, Duration::ZERO).map(|(sockets, _)| sockets)
    }

    /// A service manager, as systemd does it, starts lumend again with what it has kept, again and again.
    #[test]
    fn a_socket_kept_under_an_address_that_is_not_wanted_any_more_is_let_go() {
        let narrow = Sockets::bind(&Listen { port: 0, ..Listen::default() }, false, &mut Kept::default()).unwrap();
        // They are the manager's now; lumend has copies.
        let store = narrow.named().map(|(name, fd)| (name, fd.try_clone_to_owned().unwrap()));
        let handed =
            || Kept::new(store.iter().map(|(name, fd)| ((*name).to_owned(), fd.try_clone().unwrap())).collect());
        let (port, media_port) = (narrow.quic_address.port(), Some(narrow.media_address.port()));
        let config = at(Listen { port, media_port, ..Listen::default() });
        drop(narrow);

        let (mut silent, manager) = notify("kept-fits");
        let sockets = bound(&config, false, handed(), &mut silent).unwrap();
        assert_eq!((sockets.quic_address.port(), told(&manager)), (port, Vec::new()));
        drop(sockets);

        let (mut notify, manager) = notify("kept-in-the-way");
        assert!(bound(&config, true, handed(), &mut notify).is_err(), "the manager has the port");
        let removed = store.each_ref().map(|(name, _)| format!("FDSTOREREMOVE=1\nFDNAME={name}"));
        let mut said = told(&manager);
        said.sort_by_key(|line| removed.iter().position(|removed| removed == line));
        assert_eq!(said, removed);
        drop(store);
        bound(&config, true, Kept::default(), &mut notify).expect("the next start has an empty store");
    }

    #[test]
    fn a_listener_that_nobody_wants_any_more_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at_port = listener.local_addr().unwrap();
        let kept = Kept::new(vec![("gamestream-http".to_owned(), listener.into())]);
        let (mut notify, _manager) = notify("unwanted");
        let _sockets = bound(&at(Listen { port: 0, ..Listen::default() }), false, kept, &mut notify).unwrap();
        TcpListener::bind(at_port).expect("nobody has the port");
    }

    /// A stranger's port is not lumend's to let go, and the next start fails as well.
    #[test]
    fn a_port_that_is_a_strangers_stays_so() {
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        let config = at(Listen { port: stranger.local_addr().unwrap().port(), ..Listen::default() });
        let (mut notify, manager) = notify("strangers");
        assert!(bound(&config, false, Kept::default(), &mut notify).is_err());
        assert_eq!(told(&manager), Vec::<String>::new());
    }

    /// Network planes of an earlier lumend may still be ending.
    #[test]
    fn a_port_that_comes_free_is_waited_for_and_the_manager_is_told() {
        let before = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = before.local_addr().unwrap().port();
        let (mut notify, manager) = notify("comes-free");
        manager.set_nonblocking(false).unwrap();
        let ending = thread::spawn(move || {
            let mut text = [0; 1000];
            let length = manager.recv(&mut text).unwrap();
            drop(before);
            String::from_utf8_lossy(&text[..length]).into_owned()
        });
        let config = at(Listen { port, media_port: Some(0), ..Listen::default() });
        let apps = Apps::new(&config.apps);
        let forever = Duration::from_secs(600);
        let (sockets, _) = bind(&config, false, apps, Kept::default(), &mut notify, forever).unwrap();
        assert_eq!(sockets.quic_address.port(), port);
        let status = ending.join().unwrap();
        assert!(status.starts_with("STATUS=waiting: UDP port") && status.contains("listen.port"), "{status}");
    }
}
