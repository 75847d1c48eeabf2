//! How lumend gives up: one line for people and an exit code for scripts.

use ipc::ctl::CtlError;

use crate::clients::{ClientsError, FindError};
use crate::config::ConfigError;
use crate::door::DoorError;
use crate::identity::IdentityError;
use crate::places::PlaceError;
use crate::reach::{MissingBinary, NoManager};
use crate::sockets::BindError;

/// Exit code for what only a person can mend, so that a service manager does not try it again: what was mistyped, a
/// configuration file included, and directories, keys and lists of clients that cannot be used.
pub const UNUSABLE: u8 = 2;
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
        Self::new(UNUSABLE, error)
    }
}

impl From<PlaceError> for Failure {
    fn from(error: PlaceError) -> Self {
        Self::new(UNUSABLE, error)
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        Self::new(UNUSABLE, error)
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
failed!(DoorError, MissingBinary, NoManager, BindError, std::io::Error);
