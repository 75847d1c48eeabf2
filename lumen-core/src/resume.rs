//! What a client comes back to its session with, after its connection or the host's network plane was lost.
//! PROTOCOL.md §18.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// 32 uniformly random bytes, told to one client for one session and good for one return. Never printed; wiped when
/// dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumeToken(pub [u8; 32]);

impl ResumeToken {
    /// What is kept of it where it is checked: the token cannot be had from that.
    pub fn digest(&self) -> TokenDigest {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, &self.0).as_ref());
        TokenDigest(bytes)
    }
}

/// How a client asks to have its session again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resume {
    pub token: ResumeToken,
    /// Number of its oldest input event that the host has not acknowledged: it has none before that any more.
    pub first_event: u32,
}

impl Drop for ResumeToken {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl ZeroizeOnDrop for ResumeToken {}

impl fmt::Debug for ResumeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResumeToken(..)")
    }
}

/// SHA-256 of a [`ResumeToken`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenDigest([u8; 32]);

#[cfg(test)]
mod tests {
    use super::*;

    /// That the memory is overwritten is the library's to promise; that a token is dropped with it, this type's.
    #[test]
    fn secrets_are_wiped_when_dropped() {
        fn is_wiped<T: ZeroizeOnDrop>() -> bool {
            std::mem::needs_drop::<T>()
        }
        assert!(is_wiped::<ResumeToken>() && is_wiped::<crate::seal::MediaSecret>());
    }

    #[test]
    fn a_token_is_known_by_its_digest_and_not_printed() {
        let token = ResumeToken([0x5a; 32]);
        assert_eq!(token.digest(), ResumeToken([0x5a; 32]).digest());
        assert_ne!(token.digest(), ResumeToken([0x5b; 32]).digest());
        assert_ne!(token.digest().0, token.0);
        assert_eq!(format!("{token:?}"), "ResumeToken(..)");
    }
}
