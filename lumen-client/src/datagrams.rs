//! What comes as datagrams on the control connection: sound, rumble, and what of our input has arrived.

use lumen_core::audio::{self, AUDIO_DATAGRAM};
use lumen_core::input::{INPUT_ACK_DATAGRAM, MAX_PADS, RUMBLE_DATAGRAM, Rumble};
use quinn::Connection;

use crate::audio::{SoundPacket, SoundSink};
use crate::input::InputSender;
use crate::monotonic_ns;

/// What one pad was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PadRumble {
    pub last: Rumble,
    /// The most that each motor was ever told.
    pub low_max: u16,
    pub high_max: u16,
}

/// Counts of a session's datagrams.
#[derive(Clone, Default, Debug)]
pub struct DatagramReport {
    pub rumbles: u64,
    /// Those pads that were ever told anything, by their index.
    pub pads: [Option<PadRumble>; MAX_PADS as usize],
    /// Of no known kind, malformed, or sound that nobody asked for.
    pub rejected: u64,
}

/// Takes the session's force feedback, on the control thread: it hands on and returns.
pub trait RumbleSink: Send {
    fn rumble(&mut self, rumble: Rumble);
}

/// Where datagrams go.
#[derive(Default)]
pub(crate) struct Receivers {
    sound: Option<Box<dyn SoundSink>>,
    rumble: Option<Box<dyn RumbleSink>>,
    pub input: Option<InputSender>,
    pub report: DatagramReport,
    /// The number of the next packet of sound, as it is handed on.
    next: u32,
    /// What is added to the numbers of this connection's; none before its first.
    offset: Option<u32>,
}

impl Receivers {
    pub(crate) fn new(
        sound: Option<Box<dyn SoundSink>>,
        rumble: Option<Box<dyn RumbleSink>>,
        input: Option<InputSender>,
    ) -> Self {
        Self { sound, rumble, input, ..Self::default() }
    }

    /// On another connection sound is numbered anew; handed on it is numbered on. What was missed in between shows in the
    /// packets' times.
    pub(crate) fn reconnected(&mut self) {
        self.offset = None;
    }

    /// Receives until the connection ends, and then for ever nothing: why it has ended is for others to find out.
    pub(crate) async fn receive(&mut self, connection: &Connection) -> ! {
        while let Ok(datagram) = connection.read_datagram().await {
            if self.take(monotonic_ns(), &datagram).is_none() {
                self.report.rejected += 1;
            }
        }
        std::future::pending().await
    }

    /// None if the datagram is worth nothing.
    fn take(&mut self, received_ns: u64, datagram: &[u8]) -> Option<()> {
        match *datagram.first()? {
            AUDIO_DATAGRAM => {
                let sound = self.sound.as_mut()?;
                let (seq, pts_ns, opus) = audio::parse(datagram)?;
                let seq = seq.wrapping_add(*self.offset.get_or_insert(self.next.wrapping_sub(seq)));
                if seq.wrapping_sub(self.next) < 1 << 31 {
                    self.next = seq.wrapping_add(1);
                }
                sound.packet(SoundPacket { seq, pts_ns, received_ns, opus: opus.to_vec() });
            }
            RUMBLE_DATAGRAM => self.rumble(Rumble::from_datagram(datagram)?),
            INPUT_ACK_DATAGRAM => self.input.as_ref()?.acknowledge(received_ns, datagram)?,
            _ => return None,
        }
        Some(())
    }

    fn rumble(&mut self, rumble: Rumble) {
        self.report.rumbles += 1;
        let pad = self.report.pads[usize::from(rumble.pad.get())].get_or_insert(PadRumble {
            last: rumble,
            low_max: 0,
            high_max: 0,
        });
        pad.last = rumble;
        pad.low_max = pad.low_max.max(rumble.low);
        pad.high_max = pad.high_max.max(rumble.high);
        if let Some(sink) = &mut self.rumble {
            sink.rumble(rumble);
        }
    }
}
