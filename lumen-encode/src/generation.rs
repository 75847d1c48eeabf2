//! One wiring of a session: a pool to read from, a ring to write to, an encoder between them.

use std::os::fd::{AsFd, OwnedFd};

use ipc::event::{Event, now_ns};
use ipc::feedback::Feedback;
use ipc::mailbox::MailboxReader;
use ipc::plane::PlaneError;
use ipc::ring::{ChunkFlags, ChunkHeader, FrameWriter, RingConsumer, RingProducer};
use ipc::shm::{Mapping, ShmError};
use ipc::{Colour, EncodeStats, EncodeWiring, PlaneKind, RingFds};
use lumen_core::Mode;

use crate::encoder::{Coding, EncodeError, Settings, Slice, open};
use crate::prepared::Prepared;
use crate::still::Still;
use crate::{ConvertError, Converter, Encoder, I420};

/// More feedback than this without a pause is no feedback: the ring holds a quarter of it.
const MAX_FEEDBACK: usize = 4096;

/// Why a wiring could not be taken into use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("frame pool: {0}")]
    Pool(#[from] ConvertError),
    #[error("shared memory: {0}")]
    Memory(#[from] ShmError),
    #[error("encoder: {0}")]
    Encoder(#[from] EncodeError),
}

/// What can come in for a generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Supply {
    Feedback,
    Credit,
    Picture,
    /// Nothing new: the time to show the last picture again.
    Repeat,
}

/// The times of one picture, CLOCK_MONOTONIC nanoseconds.
#[derive(Clone, Copy, Default)]
struct Times {
    captured_ns: u64,
    taken_ns: u64,
    converted_ns: u64,
}

/// How long the last picture of a generation may be shown in the next: while a plane is replaced, not while nobody
/// watches.
const KEEP_NS: u64 = 500_000_000;

/// The last picture of a generation that has ended. Encoded once more it is what the next one begins with, unless a newer
/// picture is there by then: the client need not wait for the desktop.
pub(crate) struct Kept {
    picture: I420,
    colour: Colour,
    until_ns: u64,
}

impl Kept {
    /// The picture, where it is still worth showing and means the same in the stream to come.
    fn picture(self, mode: Mode, colour: Colour, now_ns: u64) -> Option<I420> {
        let Self { picture, colour: its, until_ns } = self;
        let size = (usize::from(mode.width()), usize::from(mode.height()));
        (now_ns <= until_ns && its == colour && (picture.width(), picture.height()) == size).then_some(picture)
    }
}

/// Everything that belongs to a generation; dropping it gives all of it back.
pub(crate) struct Generation {
    number: u32,
    colour: Colour,
    mailbox: MailboxReader,
    buffers: Vec<Mapping>,
    converter: Converter,
    encoder: Box<dyn Encoder>,
    video: RingProducer,
    feedback: RingConsumer,
    message: Vec<u8>,
    /// The last picture taken, kept to be encoded again.
    picture: I420,
    times: Times,
    /// The frame number of the next access unit.
    frame: u32,
    /// What the next access unit has to be, whatever picture it shows.
    coding: Coding,
    /// Nothing of a generation whose client has been without a picture has left yet. The first is coarse: a fifth of the
    /// bytes, encoded, sent and decoded in about half the time, while every millisecond is one of standstill.
    hurry: bool,
    /// The picture last taken has not left yet: it outgrew its credit.
    unsent: bool,
    /// Not even a coarse IDR of it fitted: what is encoded next is flattened first.
    flatten: bool,
    still: Still,
    blocked: bool,
    max_kbps: u32,
    stats: EncodeStats,
}

impl Generation {
    /// Maps all memory and starts the encoder. The pool's pages are capture's to make, while this one makes its encoder;
    /// to map those that are there takes a tenth of a millisecond when a buffer first comes.
    pub(crate) fn wire(
        wiring: EncodeWiring<OwnedFd>,
        kept: Option<Kept>,
        prepared: Option<Prepared>,
    ) -> Result<Self, WireError> {
        let EncodeWiring { generation, mode, settings, pool, video, feedback, .. } = wiring;
        let converter = Converter::new(pool.format, mode, settings.colour)?;
        let mut buffers = Vec::with_capacity(pool.buffers.len());
        for buffer in &pool.buffers {
            buffers.push(Mapping::read_only(buffer.as_fd(), pool.format.size())?);
        }
        let count = u32::try_from(buffers.len()).unwrap_or(u32::MAX);
        let mailbox = MailboxReader::attach(pool.mailbox.as_fd(), Event::from_fd(pool.wake), count)?;
        let RingFds { memory, data, credit, geometry } = video;
        let video = RingProducer::attach(memory.as_fd(), Event::from_fd(data), Event::from_fd(credit), geometry)?;
        let RingFds { memory, data, credit, geometry } = feedback;
        let feedback = RingConsumer::attach(memory.as_fd(), Event::from_fd(data), Event::from_fd(credit), geometry)?;
        let encoder = match prepared.and_then(|prepared| prepared.fitting(mode, &settings)) {
            Some(encoder) => encoder,
            None => open(settings.backend, Settings::new(mode, &settings))?,
        };
        // Whatever the one before ended of.
        let hurry = generation.0 > 1;
        let mut still = Still::new(mode.frame_interval_ns());
        let picture = kept.and_then(|kept| kept.picture(mode, settings.colour, now_ns()));
        if picture.is_some() {
            still.retry();
        }
        Ok(Self {
            number: generation.0,
            colour: settings.colour,
            mailbox,
            buffers,
            converter,
            encoder,
            video,
            feedback,
            message: Vec::with_capacity(64),
            picture: picture.unwrap_or_else(|| I420::new(mode)),
            times: Times::default(),
            frame: 0,
            coding: if hurry { Coding::CoarseIdr } else { Coding::Idr },
            hurry,
            unsent: false,
            flatten: false,
            still,
            blocked: false,
            max_kbps: settings.bitrate_kbps,
            stats: EncodeStats::default(),
        })
    }

    /// What the next generation may begin with.
    pub(crate) fn keep(self) -> Option<Kept> {
        let shown = self.still.due_ns().is_some() && !self.unsent;
        let until_ns = now_ns().saturating_add(KEEP_NS);
        shown.then_some(Kept { picture: self.picture, colour: self.colour, until_ns })
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    pub(crate) fn encoder_name(&self) -> &'static str {
        self.encoder.name()
    }

    pub(crate) fn stats(&self) -> EncodeStats {
        self.stats
    }

    /// Signalled for new feedback.
    pub(crate) fn feedback(&self) -> &Event {
        self.feedback.data()
    }

    /// What the next frame waits for. Without credit a new picture is no news: it stays in the mailbox, where a newer
    /// one may replace it.
    pub(crate) fn awaits(&self) -> (&Event, Supply) {
        if self.blocked { (self.video.credit(), Supply::Credit) } else { (self.mailbox.wake(), Supply::Picture) }
    }

    /// When the last picture is to be encoded again; none while there is none, or no credit for it.
    pub(crate) fn repeat_ns(&self) -> Option<u64> {
        if self.blocked { None } else { self.still.due_ns() }
    }

    /// Does what an event calls for.
    pub(crate) fn serve(&mut self, supply: Supply) -> Result<(), PlaneError> {
        match supply {
            Supply::Feedback => return self.read_feedback(),
            Supply::Credit => _ = self.video.credit().drain(),
            Supply::Picture => _ = self.mailbox.wake().drain(),
            Supply::Repeat => {}
        }
        self.work()
    }

    /// Makes the next frame an IDR, soon even if nothing moves.
    pub(crate) fn want_idr(&mut self) {
        if self.coding == Coding::Delta {
            self.coding = Coding::Idr;
        }
        self.still.hasten();
    }

    /// Reads what net has to say.
    fn read_feedback(&mut self) -> Result<(), PlaneError> {
        self.feedback.data().drain();
        let mut kbps = None;
        for _ in 0..MAX_FEEDBACK {
            let Some(chunk) = self.feedback.peek().map_err(PlaneError::by(PlaneKind::Net))? else {
                return kbps.map_or(Ok(()), |kbps| self.set_bitrate(kbps));
            };
            self.message.clear();
            let feedback = chunk.read(&mut self.message).ok().and_then(|()| Feedback::decode(&self.message));
            let feedback = feedback.ok_or_else(|| PlaneError::by(PlaneKind::Net)("malformed feedback"))?;
            self.feedback.release();
            match feedback {
                Feedback::Idr => self.want_idr(),
                Feedback::BitrateKbps(wish) => kbps = Some(wish),
            }
        }
        Err(PlaneError::by(PlaneKind::Net)("feedback without an end"))
    }

    /// The ring was made for the wired bitrate; a client may ask for less, not for more.
    fn set_bitrate(&mut self, kbps: u32) -> Result<(), PlaneError> {
        self.encoder.set_bitrate(kbps.min(self.max_kbps)).map_err(PlaneError::failed)
    }

    /// Encodes one frame, if there is credit for it and something to show: the newest picture, else the last one once
    /// more when that is due.
    fn work(&mut self) -> Result<(), PlaneError> {
        // Credit first: a picture taken without it would grow old in our hands, where no newer one can replace it.
        let Some(writer) = self.video.reserve() else {
            self.blocked = true;
            return self.video.check().map_err(PlaneError::by(PlaneKind::Net));
        };
        self.blocked = false;
        let fresh = match self.mailbox.take().map_err(PlaneError::by(PlaneKind::Capture))? {
            Some((index, meta)) => {
                let taken_ns = now_ns();
                let buffer = self.buffers.get(index as usize);
                let buffer = buffer
                    .ok_or_else(|| PlaneError::by(PlaneKind::Capture)("a picture in a buffer that is not there"))?;
                let converted = self.converter.convert(buffer.as_slice(), &mut self.picture);
                self.mailbox.release(index);
                converted.map_err(PlaneError::failed)?;
                self.times = Times { captured_ns: meta.captured_ns, taken_ns, converted_ns: now_ns() };
                true
            }
            None if self.still.is_due(now_ns()) => {
                if !self.unsent {
                    // The desktop looked like this until now, so that this is when the picture is from.
                    let now_ns = now_ns();
                    self.times = Times { captured_ns: now_ns, taken_ns: now_ns, converted_ns: now_ns };
                }
                false
            }
            None => return Ok(()),
        };
        if self.flatten {
            self.picture.flatten();
        }
        let repeat = !fresh && !self.unsent;
        let delivery = Delivery::new(self.number, self.frame, repeat, self.times, writer);
        let delivery = delivery.run(self.encoder.as_mut(), &self.picture, self.coding)?;
        self.account(delivery, repeat);
        self.video.check().map_err(PlaneError::by(PlaneKind::Net))
    }

    /// Draws the conclusions from a frame that has left, or could not.
    fn account(&mut self, delivered: Delivered, repeat: bool) {
        let now_ns = now_ns();
        if delivered.chunks > 0 {
            self.frame = self.frame.wrapping_add(1);
        }
        self.stats.bytes += delivered.bytes;
        if delivered.outgrown {
            self.hurry = false;
            self.stats.oversize += 1;
            self.unsent = true;
            if self.flatten {
                // Nothing is smaller than that: try again, but no more often than frames come.
                self.still.fresh(now_ns);
                self.still.hasten();
            } else {
                self.still.retry();
            }
            self.flatten = self.coding == Coding::CoarseIdr;
            self.coding = Coding::CoarseIdr;
            return;
        }
        if repeat {
            self.still.repeated(now_ns);
        } else {
            self.still.fresh(now_ns);
        }
        if std::mem::take(&mut self.hurry) {
            // What was coarse is refined with the next picture, or without one.
            self.still.hasten();
        }
        self.unsent = false;
        self.flatten = false;
        self.coding = Coding::Delta;
        self.stats.encoded += 1;
        self.stats.idr += u64::from(delivered.idr);
        self.stats.still += u64::from(repeat);
    }
}

/// One access unit on its way into the ring.
struct Delivery<'a> {
    writer: FrameWriter<'a>,
    header: ChunkHeader,
    still: bool,
    delivered: Delivered,
}

/// What became of it.
#[derive(Clone, Copy, Default)]
struct Delivered {
    chunks: u32,
    bytes: u64,
    idr: bool,
    outgrown: bool,
}

impl<'a> Delivery<'a> {
    fn new(generation: u32, frame: u32, still: bool, times: Times, writer: FrameWriter<'a>) -> Self {
        let Times { captured_ns, taken_ns, converted_ns } = times;
        let header = ChunkHeader { generation, frame, captured_ns, taken_ns, converted_ns, ..ChunkHeader::default() };
        Self { writer, header, still, delivered: Delivered::default() }
    }

    fn run(mut self, encoder: &mut dyn Encoder, picture: &I420, coding: Coding) -> Result<Delivered, PlaneError> {
        encoder.encode(picture, coding, &mut |slice| self.slice(slice)).map_err(PlaneError::failed)?;
        // Dropping the writer aborts a frame of which some slices have left: net must know that no more will come.
        Ok(self.delivered)
    }

    fn slice(&mut self, slice: Slice<'_>) {
        if self.delivered.outgrown {
            return;
        }
        let flag = |set: bool, flag| if set { flag } else { ChunkFlags::NONE };
        self.header.flags =
            flag(slice.last, ChunkFlags::LAST) | flag(slice.idr, ChunkFlags::IDR) | flag(self.still, ChunkFlags::STILL);
        self.header.sliced_ns = now_ns();
        match self.writer.commit(self.header, slice.bytes) {
            Ok(()) => {
                self.delivered.chunks += 1;
                self.delivered.bytes += slice.bytes.len() as u64;
                self.delivered.idr |= slice.idr;
            }
            Err(_) => self.delivered.outgrown = true,
        }
    }
}
