//! The thread behind the media thread: writes the stream, decodes, reads stamps, records.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle};

use lumen_core::stamp;

use crate::decode::{Decoded, VideoDecoder, luma};
use crate::frame::{FrameSink, ReceivedFrame};
use crate::monotonic_ns;
use crate::picture::Picture;
use crate::recorder::{Fate, Recorder};
use crate::session::Control;

/// Frames that may wait for the decoder: two seconds at 60 Hz. More means that it will never catch up.
const QUEUE: usize = 128;
/// While the picture from the middle has not come, the last one is kept at this distance, in nanoseconds.
const KEEP_EVERY: u64 = 100_000_000;

/// What to do with frames besides counting them.
#[derive(Default)]
pub struct Outputs {
    /// Annex-B stream as received.
    pub stream: Option<BufWriter<File>>,
    /// One JSON line a frame.
    pub trace: Option<BufWriter<File>>,
    pub decode: bool,
    /// Where a decoded picture goes, and how many nanoseconds after the first one it is taken.
    pub png: Option<(PathBuf, Option<u64>)>,
}

/// The sink a session delivers to; drop it to end the worker.
struct Queue {
    frames: SyncSender<ReceivedFrame>,
    overrun: Arc<AtomicU64>,
    control: Control,
    /// A frame was dropped here: what follows is useless until an IDR.
    broken: bool,
}

impl FrameSink for Queue {
    fn frame(&mut self, frame: ReceivedFrame) {
        self.broken &= !frame.idr;
        if self.broken {
            self.overrun.fetch_add(1, Relaxed);
            return;
        }
        let place = (frame.generation, frame.number);
        match self.frames.try_send(frame) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.broken = true;
                self.overrun.fetch_add(1, Relaxed);
                self.control.want_keyframe(place.0, place.1);
            }
        }
    }
}

/// What the worker has to tell in the end.
pub struct Worked {
    pub recorder: Recorder,
    /// Frames dropped because [`QUEUE`] were waiting.
    pub overrun: u64,
    /// What could not be written.
    pub failure: Option<String>,
}

/// A running worker.
pub struct Worker {
    thread: JoinHandle<(Recorder, Option<String>)>,
    overrun: Arc<AtomicU64>,
}

impl Worker {
    /// Starts the thread and gives the sink that feeds it.
    pub fn start(outputs: Outputs, control: Control) -> io::Result<(Self, Box<dyn FrameSink>)> {
        let (frames, received) = sync_channel(QUEUE);
        let overrun = Arc::new(AtomicU64::new(0));
        let queue = Queue { frames, overrun: overrun.clone(), control: control.clone(), broken: false };
        let job = Job {
            outputs,
            control,
            decoder: VideoDecoder::default(),
            recorder: Recorder::default(),
            picture: Kept::default(),
        };
        let thread = Builder::new().name("decode".to_owned()).spawn(move || job.run(&received))?;
        Ok((Self { thread, overrun }, Box::new(queue)))
    }

    /// Waits until everything delivered has been worked off; the sink must be gone.
    pub fn finish(self) -> Worked {
        let (recorder, failure) = self.thread.join().unwrap_or_default();
        Worked { recorder, overrun: self.overrun.load(Relaxed), failure }
    }
}

/// The picture that will become the PNG.
#[derive(Default)]
struct Kept {
    picture: Picture,
    first_ns: Option<u64>,
    taken_ns: Option<u64>,
}

struct Job {
    outputs: Outputs,
    control: Control,
    decoder: VideoDecoder,
    recorder: Recorder,
    picture: Kept,
}

impl Job {
    fn run(mut self, frames: &Receiver<ReceivedFrame>) -> (Recorder, Option<String>) {
        let result = frames.iter().try_for_each(|frame| self.work(&frame)).and_then(|()| self.close());
        // Ending the session is the one thing left to do when a disk is full; the sink counts what it cannot hand over.
        let failure = result.err().inspect(|_| self.control.stop());
        (self.recorder, failure)
    }

    fn work(&mut self, frame: &ReceivedFrame) -> Result<(), String> {
        if let Some(stream) = &mut self.outputs.stream {
            stream.write_all(&frame.data).map_err(|error| format!("cannot write the stream: {error}"))?;
        }
        let fate = if self.outputs.decode { self.decode(frame) } else { Fate::NotDecoded };
        if fate == Fate::Failed {
            self.control.want_keyframe(frame.generation, frame.number);
        }
        let line = self.recorder.add(frame, fate);
        if let Some(trace) = &mut self.outputs.trace {
            let written = serde_json::to_writer(&mut *trace, &line).map_err(io::Error::from);
            let written = written.and_then(|()| trace.write_all(b"\n"));
            written.map_err(|error| format!("cannot write the trace: {error}"))?;
        }
        Ok(())
    }

    fn decode(&mut self, frame: &ReceivedFrame) -> Fate {
        match self.decoder.decode(frame.generation, frame.idr, &frame.data) {
            Decoded::Picture(picture) => {
                let decoded_ns = monotonic_ns();
                if let Some((_, middle_ns)) = &self.outputs.png {
                    let kept = &mut self.picture;
                    let age_ns = decoded_ns - *kept.first_ns.get_or_insert(decoded_ns);
                    let had_ns = kept.taken_ns.map(|taken_ns| taken_ns - kept.first_ns.unwrap_or(taken_ns));
                    let settled = matches!((had_ns, middle_ns), (Some(had), Some(middle)) if had >= *middle);
                    let due = had_ns.is_none_or(|had| age_ns - had >= KEEP_EVERY);
                    if !settled && due {
                        kept.picture.copy(&picture);
                        kept.taken_ns = Some(decoded_ns);
                    }
                }
                let (luma, stride, width, height) = luma(&picture);
                Fate::Decoded { decoded_ns, stamp: stamp::read(luma, stride, width, height) }
            }
            Decoded::Failed => Fate::Failed,
            Decoded::Skipped => Fate::Skipped,
        }
    }

    fn close(&mut self) -> Result<(), String> {
        for (file, name) in [(&mut self.outputs.stream, "stream"), (&mut self.outputs.trace, "trace")] {
            if let Some(file) = file {
                file.flush().map_err(|error| format!("cannot write the {name}: {error}"))?;
            }
        }
        match &self.outputs.png {
            Some((path, _)) if !self.picture.picture.is_empty() => {
                let written = self.picture.picture.write_png(path);
                written.map_err(|error| format!("cannot write {}: {error}", path.display()))
            }
            _ => Ok(()),
        }
    }
}
