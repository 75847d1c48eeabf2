//! The command's share of sound: what was asked for, made ready before there is a host, and set going when there is.

use lumen_core::AudioLayout;

use super::{Failure, buffered, created};
use crate::SoundSink;
#[cfg(feature = "play")]
use crate::audio::Speakers;
use crate::audio::{SoundOutputs, SoundReport, SoundWorker};
use crate::cli::SoundArgs;
use crate::session::Session;

/// Files that are open and speakers that are connected.
pub(super) struct Ready {
    asked: Option<AudioLayout>,
    outputs: SoundOutputs,
    #[cfg(feature = "play")]
    speakers: Option<Speakers>,
}

/// Sound that is being worked on; nothing of it where the host gives none.
pub(super) struct Running {
    worker: Option<SoundWorker>,
    #[cfg(feature = "play")]
    speakers: Option<Speakers>,
}

/// What has come of it.
#[derive(Default)]
pub(super) struct Heard {
    pub report: Option<SoundReport>,
    /// What could not be written.
    pub failure: Option<String>,
    /// Why the speakers fell silent; no reason for the session to fail.
    pub silence: Option<String>,
}

impl Ready {
    pub(super) fn new(arguments: &SoundArgs) -> Result<Self, Failure> {
        let (wav, trace) = (created(&arguments.audio_out)?, buffered(&arguments.audio_trace)?);
        let outputs = SoundOutputs { wav, trace, playback: None };
        Ok(Self {
            asked: arguments.layout(),
            outputs,
            #[cfg(feature = "play")]
            speakers: arguments.play.then(Speakers::open).transpose()?,
        })
    }

    /// Sets going what the session has sound for.
    pub(super) fn start(self, session: &Session) -> Result<(Running, Option<Box<dyn SoundSink>>), Failure> {
        #[cfg_attr(not(feature = "play"), allow(unused_mut))]
        let mut outputs = self.outputs;
        #[cfg(feature = "play")]
        if let (Some(speakers), Some(layout)) = (&self.speakers, session.sound()) {
            outputs.playback = Some(speakers.play(layout));
        }
        let (worker, sink) = match (session.sound(), self.asked) {
            (Some(layout), _) => {
                let started = SoundWorker::start(layout, outputs, session.same_clock(), session.control())?;
                (Some(started.0), Some(started.1))
            }
            // Files of no sound, but what they were to be.
            (None, Some(asked)) => {
                outputs.discard(asked).map_err(Failure::Written)?;
                (None, None)
            }
            (None, None) => (None, None),
        };
        let running = Running {
            worker,
            #[cfg(feature = "play")]
            speakers: self.speakers,
        };
        Ok((running, sink))
    }
}

impl Running {
    /// Waits for what was delivered; the sink must be gone.
    pub(super) fn finish(self) -> Heard {
        let mut heard = Heard::default();
        if let Some(worked) = self.worker.and_then(SoundWorker::finish) {
            heard.report = Some(worked.report);
            heard.failure = worked.failure;
        }
        #[cfg(feature = "play")]
        {
            heard.silence = self.speakers.and_then(Speakers::finish);
        }
        heard
    }
}
