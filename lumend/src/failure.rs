//! How lumend gives up: one line for people and an exit code for scripts.

use std::io;

use ipc::ctl::CtlError;
use nix::errno::Errno;

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

    /// A list of clients without which lumend does not start.
    pub fn of_list(error: ClientsError) -> Self {
        let exit = if let ClientsError::Io { error, .. } = &error { exit_of(error) } else { UNUSABLE };
        Self::new(exit, error)
    }
}

/// What a directory or a disk has said: some of it passes by itself, and then the next start succeeds.
fn exit_of(error: &io::Error) -> u8 {
    use Errno::{EAGAIN, EBUSY, EDQUOT, EINTR, EIO, EMFILE, ENFILE, ENOMEM, ENOSPC, ESTALE, ETIMEDOUT};
    match error.raw_os_error().map(Errno::from_raw) {
        Some(EAGAIN | EBUSY | EDQUOT | EINTR | EIO | EMFILE | ENFILE | ENOMEM | ENOSPC | ESTALE | ETIMEDOUT) => FAILED,
        _ => UNUSABLE,
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
        let (PlaceError::Directory { error: cause, .. } | PlaceError::User { error: cause, .. }) = &error;
        Self::new(exit_of(cause), error)
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        let exit = if let IdentityError::State { error, .. } = &error { exit_of(error) } else { UNUSABLE };
        Self::new(exit, error)
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
failed!(DoorError, MissingBinary, NoManager, BindError, io::Error);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_tried_again() {
        let cases =
            [(Errno::EIO, FAILED), (Errno::ENOSPC, FAILED), (Errno::EACCES, UNUSABLE), (Errno::EROFS, UNUSABLE)];
        for (errno, exit) in cases {
            let path = || "/a".into();
            let error = || io::Error::from(errno);
            let place = PlaceError::Directory { path: path(), option: "state", error: error() };
            let failures = [
                Failure::from(place),
                Failure::from(IdentityError::State { path: path(), error: error() }),
                Failure::of_list(ClientsError::Io { path: path(), error: error() }),
            ];
            assert_eq!(failures.map(|failure| failure.exit), [exit; 3], "{errno}");
        }
        assert_eq!(Failure::of_list(ClientsError::Full).exit, UNUSABLE);
        assert_eq!(Failure::from(IdentityError::Exposed { path: "/a".into() }).exit, UNUSABLE);
    }
}
