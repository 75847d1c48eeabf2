//! A running session: its control connection, its media thread, and how it ends.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use lumen_core::hello::{ClientMessage, Code, ControlMessage, FrameReader, HostMessage};
use lumen_core::{AudioLayout, Fingerprint, Mode, Permissions};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use quinn::{RecvStream, SendStream, VarInt};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::audio::SoundSink;
use crate::boot_id;
use crate::connect::{Connected, next_message};
use crate::datagrams::{DatagramReport, Receivers, RumbleSink};
use crate::error::{ConnectError, Ending, refusal_in};
use crate::frame::FrameSink;
use crate::input::{self, InputSender};
use crate::live::Live;
use crate::media::{Media, MediaReport};

/// How long the farewell may take before the connection is dropped all the same.
const FAREWELL: Duration = Duration::from_millis(300);

/// What the media thread may be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
}

/// A wire into a running session, for any thread.
#[derive(Clone)]
pub struct Control {
    commands: Sender<Command>,
    wake: Arc<EventFd>,
    stop: Arc<Notify>,
}

impl Control {
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
}

impl Over {
    /// The first word counts: what follows is only the consequence.
    pub(crate) fn end(&self, ending: Ending) {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(ending);
        let _ = self.event.write(1);
        self.control.stop();
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
        let wake =
            Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(io::Error::from)?);
        let welcome = &connected.welcome;
        let address = media.unwrap_or(SocketAddr::new(connected.remote.ip(), welcome.media_port));
        let media = Media::new(welcome, address, received, wake.clone())?;
        let control = Control { commands, wake, stop: Arc::new(Notify::new()) };
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
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let over = Arc::new(Over { ending: Mutex::new(None), event, control: self.control.clone() });
        let live = Arc::new(Live::default());
        let Sinks { frames, sound, rumble } = sinks;
        let (media, media_over, media_live) = (self.media, over.clone(), live.clone());
        let media =
            Builder::new().name("media".to_owned()).spawn(move || media.run(frames, &media_over, &media_live))?;
        let (connected, control_over) = (self.connected, over.clone());
        let receivers = Receivers { sound, rumble, input: self.input, report: DatagramReport::default() };
        let control = Builder::new()
            .name("control".to_owned())
            .spawn(move || run_control(connected, receivers, &control_over))?;
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

/// The control thread: says `Start`, listens to the host, carries datagrams both ways, says `Bye`.
fn run_control(connected: Connected, mut receivers: Receivers, over: &Over) -> DatagramReport {
    let Connected { runtime, endpoint, connection, send, recv, reader, fingerprint: _, .. } = connected;
    let input = receivers.input.clone();
    runtime.block_on(async {
        let ended = tokio::select! {
            ended = converse(send, recv, reader, over) => ended,
            never = receivers.receive(&connection) => never,
            never = input::keep(input.clone()) => never,
        };
        let ending = match ended {
            Some(ending) => ending,
            None => match connection.closed().await {
                error if let Some(refusal) = refusal_in(&error, Fingerprint([0; 32])) => {
                    Ending::Ended { code: refusal.code, reason: refusal.reason }
                }
                error => Ending::Lost { reason: error.to_string() },
            },
        };
        over.end(ending);
        if let Some(input) = &input {
            input.close();
        }
        connection.close(VarInt::from_u32(0), b"bye");
        let _ = timeout(FAREWELL, endpoint.wait_idle()).await;
    });
    receivers.report
}

/// Returns how the session ended, or none when the connection's own end must be asked for the reason.
async fn converse(mut send: SendStream, mut recv: RecvStream, mut reader: FrameReader, over: &Over) -> Option<Ending> {
    send.write_all(&encoded(&ClientMessage::Start)).await.ok()?;
    let listen = async {
        loop {
            match next_message(&mut recv, &mut reader).await {
                Ok(Some(HostMessage::Reconfigure { generation, mode })) => {
                    over.control.send(Command::Reconfigure { generation, mode });
                }
                Ok(Some(HostMessage::End { code, reason } | HostMessage::Refused { code, reason })) => {
                    return Some(Ending::Ended { code: Code::from_wire(code.into()), reason });
                }
                Ok(Some(HostMessage::Welcome(_))) => {
                    return Some(Ending::Lost { reason: "it said welcome twice".to_owned() });
                }
                Ok(None) => return None,
                Err(reason) => return Some(Ending::Lost { reason }),
            }
        }
    };
    tokio::select! {
        ending = listen => ending,
        () = over.control.stop.notified() => {
            // The host frees the session when it reads this; that it has read it shows in the acknowledgement.
            let farewell = async {
                if send.write_all(&encoded(&ClientMessage::Bye)).await.is_ok() && send.finish().is_ok() {
                    let _ = send.stopped().await;
                }
            };
            let _ = timeout(FAREWELL, farewell).await;
            Some(Ending::Stopped)
        }
    }
}

fn encoded(message: &ClientMessage) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    bytes
}
