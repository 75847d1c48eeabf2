//! An encoder that is made before there is anything to encode, for the standby of a session: when it is wired, nothing has
//! to be allocated any more.

use ipc::EncodeSettings;
use lumen_core::Mode;

use crate::encoder::{Coding, EncodeError, Settings, open};
use crate::{Encoder, I420};

/// A running encoder without pictures.
pub(crate) struct Prepared {
    mode: Mode,
    settings: EncodeSettings,
    encoder: Box<dyn Encoder>,
}

impl Prepared {
    /// Starts it and has it encode a black picture for nobody, so that all its memory has been touched.
    pub(crate) fn new(mode: Mode, settings: EncodeSettings) -> Result<Self, EncodeError> {
        let mut encoder = open(settings.backend, Settings::new(mode, &settings))?;
        encoder.encode(&I420::new(mode), Coding::Idr, &mut |_| {})?;
        Ok(Self { mode, settings, encoder })
    }

    /// The encoder, if it is what a wiring asks for.
    pub(crate) fn fitting(self, mode: Mode, settings: &EncodeSettings) -> Option<Box<dyn Encoder>> {
        (self.mode == mode && self.settings == *settings).then_some(self.encoder)
    }
}
