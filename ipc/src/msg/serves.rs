//! Which session a plane serves from a message on, for whoever shows that to people.

use super::{AudioWiring, EncodeWiring, InputWiring, SessionId, ToAudio, ToCapture, ToEncode, ToInput, ToNet};

impl<F> ToCapture<F> {
    pub(crate) const fn serves(&self) -> Option<SessionId> {
        match self {
            Self::Open { session, .. } => Some(*session),
            Self::Ping(_) | Self::Wire { .. } | Self::Retire { .. } => None,
        }
    }
}

impl<F> ToEncode<F> {
    pub(crate) const fn serves(&self) -> Option<SessionId> {
        match self {
            Self::Wire(EncodeWiring { session, .. }) => Some(*session),
            _ => None,
        }
    }
}

impl<F> ToAudio<F> {
    pub(crate) const fn serves(&self) -> Option<SessionId> {
        match self {
            Self::Wire(AudioWiring { session, .. }) => Some(*session),
            _ => None,
        }
    }
}

impl<F> ToInput<F> {
    pub(crate) const fn serves(&self) -> Option<SessionId> {
        match self {
            Self::Wire(InputWiring { session, .. }) => Some(*session),
            _ => None,
        }
    }
}

impl<F> ToNet<F> {
    /// It serves all of them.
    pub(crate) const fn serves(&self) -> Option<SessionId> {
        None
    }
}
