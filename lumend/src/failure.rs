//! How lumend gives up: one line for people and an exit code for scripts.

use ipc::ctl::CtlError;

use crate::clients::{ClientsError, FindError};
use crate::config::ConfigError;
use crate::door::DoorError;
use crate::identity::IdentityError;
use crate::places::PlaceError;
use crate::reach::{MissingBinary, NoManager};
use crate::sockets::BindError;

/// Exit code for what the person at the terminal has mistyped, a configuration file included.
const USAGE: u8 = 2;
const FAILED: u8 = 1;
/// For what would not be done.
const REFUSED: u8 = 4;

#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub exit: u8,
    message: String,
}

impl Failure {
    pub fn new(exit: u8, message: impl ToString) -> Self {
        Self { exit, message: message.to_string() }
    }
}

impl From<CtlError> for Failure {
    fn from(error: CtlError) -> Self {
        Self::new(error.exit(), error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(USAGE, error)
    }
}

impl From<FindError> for Failure {
    fn from(error: FindError) -> Self {
        Self::new(REFUSED, error)
    }
}

impl From<ClientsError> for Failure {
    fn from(error: ClientsError) -> Self {
        Self::new(error.exit(), error)
    }
}

/// The world is not as lumend needs it.
macro_rules! failed {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::new(FAILED, error)
            }
        })*
    };
}
failed!(DoorError, IdentityError, PlaceError, MissingBinary, NoManager, BindError, std::io::Error);
