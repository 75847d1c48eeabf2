//! lumend itself: one thread, one poll loop, one closed enum of what can wake it. It waits for nobody: what does not
//! take its message at once is dead.

mod act;
mod apps;
mod ctl;
mod hands;
mod hear;
mod links;
mod pairing;
mod sound;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::AsFd;

use ipc::event::now_ns;
use ipc::link::Link;
use ipc::{NetCounters, SessionId};
use lumen_core::ResumeToken;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;
use tracing::{debug, error, info, warn};

use crate::book::Book;
use crate::clients::Clients;
use crate::config::Config;
use crate::desktop::Desktop;
use crate::discovery::{Discovery, Offer};
use crate::door::{Door, VisitorId};
use crate::failure::Failure;
use crate::gamestream::GameStream;
use crate::grumbles::printable;
use crate::host::Host;
use crate::keep::Keep;
use crate::machine::{Event, Exit, Limits, Machine, Mint, PlaneId, Process};
use crate::notify::Notify;
use crate::pairing::Pairings;
use crate::plumb::Kit;
use crate::rate::Rate;
use crate::reach::{Reach, Starter, Strays};
use crate::signer::Signer;
use crate::sockets::Sockets;
use crate::sound::Sound;
use crate::uinput::Supply;

/// Everything that can wake the loop.
#[derive(Clone, Copy, Debug)]
enum Wake {
    /// SIGTERM, SIGINT or SIGHUP.
    Signal,
    /// Somebody connects to the control socket.
    Knock,
    /// A control connection can be read, or written.
    Visitor(VisitorId),
    /// A plane speaks, or has closed its link.
    Word(PlaneId),
    /// A plane has written to its stderr.
    Grumble(PlaneId),
    /// A plane's process has ended.
    Death(PlaneId),
    /// The network plane wants something signed.
    Sign,
    /// The compositor's control socket, or the launcher.
    Desktop,
    /// The kernel tells of links and addresses.
    Links,
}

/// What the daemon is started with.
pub struct Parts {
    pub config: Config,
    pub starter: Starter,
    pub host: Host,
    pub signer: Signer,
    pub clients: Clients,
    pub door: Door,
    pub sockets: Sockets,
    pub gamestream: GameStream,
    pub discovery: Discovery,
    pub desktop: Desktop,
    pub supply: Supply,
    pub sound: Sound,
    pub notify: Notify,
    /// Planes that could not be ended.
    pub strays: Strays,
}

pub struct Daemon {
    parts: Parts,
    machine: Machine,
    signals: SignalFd,
    /// A network plane's other link, for signatures alone.
    sign_link: Option<(PlaneId, Link)>,
    planes: BTreeMap<PlaneId, Reach>,
    /// One has spoken first, or ended, since the service manager was told of them.
    planes_changed: bool,
    kits: BTreeMap<SessionId, Kit>,
    books: BTreeMap<SessionId, Book>,
    /// What outlives a session's input plane.
    keeps: BTreeMap<SessionId, Keep>,
    counters: NetCounters,
    pairings: Pairings,
    /// The network plane that they are with.
    pairings_with: Option<PlaneId>,
    /// The network plane that was told last where clients are to find what.
    announced: Option<(PlaneId, Vec<Offer>)>,
    /// Of log lines that clients can cause.
    news: Rate,
    /// What was said last of putting a default sink back: why it cannot be done, or nothing if it is being tried.
    undo_obstacle: Option<String>,
    /// It has been said that the network plane is failed.
    told_of_failure: bool,
    queue: VecDeque<Event>,
    finished: bool,
    /// Why it stops, if nobody told it to.
    failure: Option<Failure>,
}

impl Daemon {
    pub fn new(parts: Parts) -> io::Result<Self> {
        let mut mask = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            mask.add(signal);
        }
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let limits = Limits {
            max_sessions: parts.config.sessions.max as usize,
            bitrate_kbps: parts.config.encode.bitrate_kbps,
            audio: parts.config.audio.enabled,
            input: parts.config.input.enabled,
            standby: parts.config.encode.standby,
        };
        let apps = parts.gamestream.apps().list().iter().enumerate();
        let apps = apps.map(|(index, app)| (app.id, app.has_commands().then_some(index as u16)));
        let clients = parts.clients.iter().filter_map(|(id, client)| Some((id, pairing::standing(client)?)));
        let machine = Machine::new(limits, apps, clients, parts.sound.records(), mint(), now_ns());
        Ok(Self {
            parts,
            machine,
            signals,
            sign_link: None,
            planes: BTreeMap::new(),
            planes_changed: false,
            kits: BTreeMap::new(),
            books: BTreeMap::new(),
            keeps: BTreeMap::new(),
            counters: NetCounters::default(),
            pairings: Pairings::default(),
            pairings_with: None,
            announced: None,
            news: Rate::new(now_ns(), 50, 2),
            undo_obstacle: None,
            told_of_failure: false,
            queue: VecDeque::from([Event::Begin]),
            finished: false,
            failure: None,
        })
    }

    /// Runs until told to stop and everything has stopped.
    pub fn run(mut self) -> Result<(), Failure> {
        info!("listening on {}, desktop {}", self.parts.sockets.quic_address, self.parts.desktop.name());
        self.pump();
        // The planes go first, so that no compositor is taken from under a capture.
        while !(self.finished && self.parts.desktop.stop(now_ns())) {
            for wake in self.wait()? {
                self.woken(wake);
                self.pump();
            }
            let now = now_ns();
            self.bury(now);
            self.parts.door.tick(now);
            if self.parts.gamestream.tick(now) {
                self.serve_gamestream();
            }
            if self.parts.desktop.deadline().is_some_and(|at| now >= at) {
                self.queue.extend(self.parts.desktop.dispatch(now));
            }
            if let Some(reason) = self.parts.desktop.hopeless() {
                self.failure = Some(Failure::new(1, reason));
                self.queue.push_back(Event::Shutdown);
            }
            if self.machine.deadline().is_some_and(|at| now >= at) {
                self.queue.push_back(Event::Tick);
            }
            self.tend_discovery(now);
            self.pump();
            self.tend_notify(now);
            self.announce();
        }
        info!("stopped");
        self.failure.map_or(Ok(()), Err)
    }

    /// Says once that clients can come: the network plane has its sockets and there is a desktop to show.
    fn announce(&mut self) {
        if !self.parts.notify.is_due() || !self.parts.desktop.is_settled() {
            return;
        }
        let net = self.machine.net().current.and_then(|id| self.machine.process(id));
        if net.is_some_and(Process::is_ready) {
            self.parts.notify.ready(now_ns());
        }
    }

    /// Tells the service manager what there is to tell.
    fn tend_notify(&mut self, now: u64) {
        let Parts { notify, sockets, gamestream, strays, .. } = &mut self.parts;
        notify.tick(now);
        let wants_status = notify.wants_status(now);
        if std::mem::take(&mut self.planes_changed) || wants_status {
            let sockets = sockets.named().into_iter().chain(gamestream.named()).map(|(name, fd)| (name.to_owned(), fd));
            let planes = self.planes.values().filter_map(Reach::for_successor).chain(strays.for_successor());
            notify.keep(now, &sockets.chain(planes).collect::<Vec<_>>());
        }
        if wants_status {
            let text = self.view().line();
            self.parts.notify.status(now, text);
        }
    }

    /// Sleeps until something happens or is due. Deaths come last: a process's last words are heard before.
    fn wait(&self) -> io::Result<Vec<Wake>> {
        const READ: PollFlags = PollFlags::POLLIN;
        let mut fds = vec![(self.signals.as_fd(), READ, Wake::Signal), (self.parts.door.listener(), READ, Wake::Knock)];
        fds.extend(
            self.planes.iter().filter_map(|(&id, reach)| reach.link().map(|link| (link.as_fd(), READ, Wake::Word(id)))),
        );
        fds.extend(self.sign_link.iter().map(|(_, link)| (link.as_fd(), READ, Wake::Sign)));
        let both = |write| if write { READ | PollFlags::POLLOUT } else { READ };
        fds.extend(self.parts.desktop.sources().map(|(fd, write)| (fd, both(write), Wake::Desktop)));
        fds.extend(self.parts.discovery.source().map(|fd| (fd, READ, Wake::Links)));
        let now = now_ns();
        fds.extend(self.planes.iter().filter_map(|(&id, reach)| {
            let pipe = reach.grumbles.as_ref()?.source(now)?;
            Some((pipe, READ, Wake::Grumble(id)))
        }));
        fds.extend(
            self.planes.iter().filter_map(|(&id, reach)| reach.pidfd().map(|(fd, what)| (fd, what, Wake::Death(id)))),
        );
        fds.extend(self.parts.door.visitors().map(|(id, fd, what)| (fd, what, Wake::Visitor(id))));
        let mut polled: Vec<_> = fds.iter().map(|(fd, what, _)| PollFd::new(*fd, *what)).collect();
        let due = [
            self.machine.deadline(),
            self.parts.door.deadline(),
            self.parts.desktop.deadline(),
            self.pairings.deadline(),
            self.parts.gamestream.deadline(),
            self.parts.discovery.deadline(),
            self.parts.notify.deadline(),
            self.planes.values().filter_map(Reach::deadline).min(),
            self.keeps.values().filter_map(Keep::deadline).min(),
        ];
        let timeout = due
            .into_iter()
            .flatten()
            .min()
            .map(|at| TimeSpec::from(std::time::Duration::from_nanos(at.saturating_sub(now))));
        match ppoll(&mut polled, timeout, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready = polled.iter().zip(&fds).filter(|(poll, _)| poll.any() == Some(true));
        Ok(ready.map(|(_, (_, _, wake))| *wake).collect())
    }

    fn woken(&mut self, wake: Wake) {
        let now = now_ns();
        match wake {
            Wake::Signal => {
                while let Ok(Some(signal)) = self.signals.read_signal() {
                    info!("signal {}: stopping", signal.ssi_signo);
                    self.parts.notify.stopping(now);
                    self.queue.push_back(Event::Shutdown);
                }
            }
            Wake::Knock => self.parts.door.accept(now),
            Wake::Visitor(id) => {
                if let Some(request) = self.parts.door.read(id) {
                    match self.control(now, id, request) {
                        Some(reply) => self.parts.door.answer(id, &reply),
                        None => self.parts.door.hold(id, now),
                    }
                } else {
                    self.parts.door.write(id);
                }
            }
            Wake::Word(id) => self.hear(id),
            Wake::Sign => self.sign(now),
            Wake::Desktop => self.queue.extend(self.parts.desktop.dispatch(now)),
            Wake::Links => self.parts.discovery.woken(now),
            Wake::Grumble(id) => self.retell(id),
            Wake::Death(id) => {
                self.hear(id);
                self.retell(id);
                // What it has said last is judged before its end is: what it leaves its heir depends on that.
                self.pump();
                if let Some(exit) = self.planes.get_mut(&id).and_then(|reach| reach.reap(now)) {
                    self.died(id, exit);
                }
            }
        }
    }

    /// Planes of whose end no descriptor tells.
    fn bury(&mut self, now: u64) {
        let due = |(&id, reach): (&PlaneId, &Reach)| reach.deadline().is_some_and(|at| now >= at).then_some(id);
        let due: Vec<_> = self.planes.iter().filter_map(due).collect();
        for id in due {
            self.woken(Wake::Death(id));
        }
    }

    fn died(&mut self, id: PlaneId, exit: Exit) {
        self.devices_stay(id, &exit, now_ns());
        self.planes_changed = true;
        if let Some(reach) = self.planes.remove(&id) {
            let (plane, session) = fields(&reach);
            match &exit {
                Exit::Crashed(_) | Exit::Accuses { .. } if !reach.killed => {
                    warn!(plane, session, "{} ended: {exit}", label(&reach));
                }
                exit => debug!(plane, session, "{} ended: {exit}", label(&reach)),
            }
            let name = label(&reach);
            if let Some(stray) = reach.into_stray() {
                error!(plane, session, "{name} cannot be killed from here, and lives on; see `lumend status`");
                self.parts.strays.add(stray);
            }
        }
        self.queue.push_back(Event::Exited { plane: id, exit });
    }

    /// Lets the machine think about everything that has happened, and does what it says.
    fn pump(&mut self) {
        while let Some(mut event) = self.queue.pop_front() {
            match &mut event {
                Event::Gone { session, reason, .. } if self.news.take(now_ns()) => {
                    info!(session = session.0, "session {session}: its client is gone: {reason}");
                }
                Event::AppEnded { run, reason } => {
                    *reason = printable(reason, hear::REASON);
                    self.tell_of_app(*run, reason);
                }
                Event::DesktopDown { reason } => warn!("no desktop: {reason}"),
                Event::CannotOpen { session, reason, .. } | Event::CannotWire { session, reason } => {
                    warn!(session = session.0, "session {session}: {reason}");
                }
                Event::CannotWireBranch { session, kind, reason, .. } => self.tell_of_obstacle(*session, *kind, reason),
                _ => {}
            }
            let now = now_ns();
            for action in self.machine.step(now, event) {
                self.act(now, action);
            }
        }
        let net = self.machine.net();
        if net.failed && !self.told_of_failure {
            let last = net.last_exit.as_deref().unwrap_or("not known");
            error!("the network plane failed five times in a minute; last: {last}; see `lumend status`");
        }
        self.told_of_failure = net.failed;
        self.tend_pairings(now_ns());
        let machine = &self.machine;
        self.kits.retain(|id, _| machine.session(*id).is_some());
        self.books.retain(|id, _| machine.session(*id).is_some());
        self.clear_keeps(now_ns());
    }
}

/// Where the tokens come from with which clients come back.
fn mint() -> Mint {
    Box::new(|| {
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes).ok()?;
        Some(ResumeToken(bytes))
    })
}

/// What the journal is told of a plane beside the words.
fn fields(reach: &Reach) -> (&'static str, Option<u32>) {
    (reach.kind.name(), reach.session.map(|session| session.0))
}

/// A plane in words, for the log.
fn label(reach: &Reach) -> String {
    let pid = reach.pid().map_or_else(|| "not known yet".into(), |pid| pid.to_string());
    match reach.session {
        Some(session) => format!("{} of session {session} (pid {pid})", reach.kind),
        None => format!("{} (pid {pid})", reach.kind),
    }
}
