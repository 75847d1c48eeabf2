//! A running session: its control connection, its media thread, and how it ends.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use lumen_core::hello::Welcome;
use lumen_core::{AudioLayout, Fingerprint, Mode, Permissions};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use tokio::sync::Notify;

use crate::audio::SoundSink;
use crate::connect::Connected;
use crate::datagrams::{DatagramReport, Receivers, RumbleSink};
use crate::error::{ConnectError, Ending};
use crate::frame::FrameSink;
use crate::input::InputSender;
use crate::line;
use crate::live::Live;
use crate::media::{Media, MediaReport};
use crate::{boot_id, monotonic_ns};

/// What the media thread may be told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Command {
    Stop,
    /// Everything after this frame is useless until an IDR comes.
    Keyframe {
        generation: u32,
        frame: u32,
    },
    Reconfigure {
        generation: u32,
        mode: Mode,
    },
    /// The host was lost and is back.
    Resume(Box<Resumption>),
}

/// What the host has said on another connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Resumption {
    pub welcome: Welcome,
    /// When the host was taken for lost, and when it had said this; our CLOCK_MONOTONIC, nanoseconds.
    pub lost_ns: u64,
    pub redialled_ns: u64,
}

/// A wire into a running session, for any thread.
#[derive(Clone)]
pub struct Control {
    commands: Sender<Command>,
    wake: Arc<EventFd>,
    stop: Arc<Notify>,
}

impl Control {
    fn new(commands: Sender<Command>) -> io::Result<Self> {
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { commands, wake: Arc::new(wake), stop: Arc::new(Notify::new()) })
    }

    /// Asks for the end; the host is told, so that it frees the session at once.
    pub fn stop(&self) {
        self.stop.notify_one();
    }

    /// Asks the host for a keyframe because `frame` of `generation` cannot be decoded; repeated until one comes.
    pub fn want_keyframe(&self, generation: u32, frame: u32) {
        self.send(Command::Keyframe { generation, frame });
    }

    fn send(&self, command: Command) {
        // No receiver means that the media thread has ended, and with it what there was to ask for.
        if self.commands.send(command).is_ok() {
            let _ = self.wake.write(1);
        }
    }
}

/// How the session ended, once it has; the event becomes readable then and stays so.
pub(crate) struct Over {
    ending: Mutex<Option<Ending>>,
    event: EventFd,
    control: Control,
    /// When media was heard last, our CLOCK_MONOTONIC.
    heard_ns: AtomicU64,
    /// Times that the host was lost, less those that it was found: a number, since a thread may say so late.
    away: AtomicU32,
}

impl Over {
    pub(crate) fn new(control: Control) -> io::Result<Self> {
        Ok(Self {
            ending: Mutex::new(None),
            event: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            control,
            heard_ns: AtomicU64::new(monotonic_ns()),
            away: AtomicU32::new(0),
        })
    }

    /// The first word counts: what follows is only the consequence.
    pub(crate) fn end(&self, ending: Ending) {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(ending);
        let _ = self.event.write(1);
        self.control.stop();
    }

    /// Media has come, at this time.
    pub(crate) fn heard(&self, now_ns: u64) {
        self.heard_ns.store(now_ns, Relaxed);
    }

    pub(crate) fn heard_ns(&self) -> u64 {
        self.heard_ns.load(Relaxed)
    }

    /// The host is being looked for: its silence is no news until it is [`Self::found`].
    pub(crate) fn lost(&self) {
        self.away.fetch_add(1, Relaxed);
    }

    /// Said once for each time that it was lost. If it speaks over another connection, the media thread says it, when it
    /// counts the silence from then on; until then the old one would end the session.
    pub(crate) fn found(&self) {
        self.away.fetch_sub(1, Relaxed);
    }

    pub(crate) fn is_away(&self) -> bool {
        self.away.load(Relaxed) > 0
    }

    /// Ends when somebody has asked for the end.
    pub(crate) async fn stopped(&self) {
        self.control.stop.notified().await;
    }

    pub(crate) fn command(&self, command: Command) {
        self.control.send(command);
    }
}

/// A session the host has agreed to. No media flows before [`Session::play`], which should follow within seconds: until
/// then nothing answers the host's keep-alives.
pub struct Session {
    connected: Connected,
    first_use: bool,
    media: Media,
    control: Control,
    input: Option<InputSender>,
}

/// Who takes what a session delivers. What nobody takes is received and counted all the same, but for sound.
pub struct Sinks {
    pub frames: Box<dyn FrameSink>,
    pub sound: Option<Box<dyn SoundSink>>,
    pub rumble: Option<Box<dyn RumbleSink>>,
}

impl Session {
    pub(crate) fn new(
        connected: Connected,
        media: Option<SocketAddr>,
        first_use: bool,
        input: bool,
    ) -> Result<Self, ConnectError> {
        let (commands, received) = channel();
        let control = Control::new(commands)?;
        let wake = control.wake.clone();
        let media = Media::new(&connected.welcome, connected.remote.ip(), media, received, wake)?;
        let input = input.then(|| InputSender::new(connected.connection.clone()));
        Ok(Self { connected, first_use, media, control, input })
    }

    /// The sound that comes; none if none was asked for, or the host has none to give.
    pub fn sound(&self) -> Option<AudioLayout> {
        self.connected.welcome.audio
    }

    /// Where input goes in; none if it was not asked for.
    pub fn input(&self) -> Option<InputSender> {
        self.input.clone()
    }

    /// What the host lets this client's hands do at first; its user may change that at any time.
    pub fn permissions(&self) -> Permissions {
        self.connected.welcome.permissions
    }

    /// Host and client run on one machine, and so read one clock.
    pub fn same_clock(&self) -> bool {
        let host = self.connected.welcome.boot_id;
        host == boot_id() && host != [0; 16]
    }

    /// The mode the host has made.
    pub fn mode(&self) -> Mode {
        self.connected.welcome.mode
    }

    /// Of the host's certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        self.connected.fingerprint
    }

    /// The host was not known before, and was trusted because it was the first to answer.
    pub fn first_use(&self) -> bool {
        self.first_use
    }

    /// What the host calls itself; not checked, for display only.
    pub fn host_name(&self) -> String {
        self.connected.welcome.host_name.chars().filter(|c| !c.is_control()).collect()
    }

    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Tells the host to start, and delivers frames from a thread of its own, everything else from another.
    pub fn play(self, sinks: Sinks) -> io::Result<Playing> {
        let over = Arc::new(Over::new(self.control.clone())?);
        let live = Arc::new(Live::default());
        let Sinks { frames, sound, rumble } = sinks;
        let (media, media_over, media_live) = (self.media, over.clone(), live.clone());
        let media =
            Builder::new().name("media".to_owned()).spawn(move || media.run(frames, &media_over, &media_live))?;
        let (connected, control_over) = (self.connected, over.clone());
        let receivers = Receivers::new(sound, rumble, self.input);
        let control =
            Builder::new().name("control".to_owned()).spawn(move || line::run(connected, receivers, &control_over))?;
        Ok(Playing { over, live, media, control })
    }
}

/// A session whose media flows.
pub struct Playing {
    over: Arc<Over>,
    live: Arc<Live>,
    media: JoinHandle<MediaReport>,
    control: JoinHandle<DatagramReport>,
}

/// What is left of a session.
pub struct Finished {
    pub ending: Ending,
    pub media: MediaReport,
    pub datagrams: DatagramReport,
}

impl Playing {
    pub fn live(&self) -> &Live {
        &self.live
    }

    pub fn control(&self) -> Control {
        self.over.control.clone()
    }

    /// How the session ended, or none while it runs. [`AsFd`] gives a descriptor that is readable from then on.
    pub fn ending(&self) -> Option<Ending> {
        self.over.ending.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the session if it still runs, and collects both threads. The sinks are dropped before this returns.
    pub fn finish(self) -> Finished {
        self.over.control.stop();
        // Panics abort, so a thread that has ended has returned.
        let datagrams = self.control.join().unwrap_or_default();
        self.over.control.send(Command::Stop);
        let media = self.media.join().unwrap_or_default();
        let ending = self.over.ending.lock().unwrap_or_else(PoisonError::into_inner).take();
        Finished { ending: ending.unwrap_or(Ending::Stopped), media, datagrams }
    }
}

impl AsFd for Playing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.over.event.as_fd()
    }
}

/// Waits until one of `fds` is readable; none after `wait`.
pub(crate) fn first_readable(fds: &[BorrowedFd<'_>], wait: Duration) -> io::Result<Option<usize>> {
    let mut polled: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    match ppoll(&mut polled, Some(TimeSpec::from_duration(wait)), None) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(polled.iter().position(|fd| fd.revents().is_some_and(|events| !events.is_empty())))
}

#[cfg(test)]
mod tests {
    use lumen_core::fec::Scheme;
    use lumen_core::hello::Codec;
    use lumen_core::seal::MediaSecret;

    use super::*;
    use crate::frame::ReceivedFrame;

    struct Nobody;

    impl FrameSink for Nobody {
        fn frame(&mut self, _: ReceivedFrame) {}
    }

    fn welcome() -> Welcome {
        Welcome {
            session: 1,
            generation: 1,
            mode: Mode::new(1280, 720, 60_000).unwrap(),
            codec: Codec::H264,
            fec: Scheme::Leopard,
            parity_floor_percent: 10,
            shard_size: 1200,
            secret: MediaSecret([1; 32]),
            audio: None,
            permissions: Permissions::NONE,
            resumed: true,
            resume: None,
            media_port: 9,
            boot_id: [0; 16],
            host_name: "test".into(),
        }
    }

    #[test]
    fn a_host_that_was_found_is_away_until_its_media_is_expected() {
        let (commands, received) = channel();
        let control = Control::new(commands).unwrap();
        let host = std::net::Ipv4Addr::LOCALHOST.into();
        let mut media = Media::new(&welcome(), host, None, received, control.wake.clone()).unwrap();
        let over = Over::new(control).unwrap();
        over.lost();
        let welcome = Welcome { generation: 2, ..welcome() };
        over.command(Command::Resume(Box::new(Resumption { welcome, lost_ns: 1, redialled_ns: 2 })));
        // It is lost once more before the media thread has looked.
        over.lost();
        assert!(media.obey(&mut Nobody, &over).is_continue());
        assert!(over.is_away(), "of the second time nobody has heard");
        over.found();
        assert!(!over.is_away());
    }
}
