//! What interrupts a turn of the loop.

use ipc::link::LinkError;
use ipc::plane::PlaneError;

use crate::desktop::Gone;

/// Why a turn ended early.
#[derive(Debug)]
pub enum Trouble {
    /// PipeWire has gone: only a fresh plane can connect anew.
    Gone,
    /// The plane cannot go on, or is told to stop.
    Plane(PlaneError),
}

impl From<Gone> for Trouble {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

impl From<PlaneError> for Trouble {
    fn from(error: PlaneError) -> Self {
        Self::Plane(error)
    }
}

impl From<LinkError> for Trouble {
    fn from(error: LinkError) -> Self {
        Self::Plane(error.into())
    }
}
