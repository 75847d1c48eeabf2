//! Keys that sessions have had. A client chooses its session's key, and every counter begins anew with the session: one
//! that came twice would encrypt different things with the same nonces, and what was said in the first session could be
//! said again by others in the second.

use std::collections::VecDeque;

use aws_lc_rs::digest::{SHA256, digest};

/// Keys that are remembered: of more sessions than anybody listens to.
const KEPT: usize = 1024;

/// The newest keys, oldest first, as their digests.
#[derive(Default)]
pub struct Keys(VecDeque<[u8; 32]>);

impl Keys {
    /// Whether a session has had this key.
    pub fn has(&self, key: &[u8; 16]) -> bool {
        self.0.contains(&hash(key))
    }

    /// A session gets this key. False if another has had it.
    pub fn take(&mut self, key: &[u8; 16]) -> bool {
        let fresh = !self.has(key);
        if fresh {
            if self.0.len() >= KEPT {
                self.0.pop_front();
            }
            self.0.push_back(hash(key));
        }
        fresh
    }
}

fn hash(key: &[u8; 16]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, key).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_taken_once_and_remembered_for_long() {
        let mut keys = Keys::default();
        let key = |number: usize| (number as u128).to_be_bytes();
        assert!((0..KEPT).all(|number| !keys.has(&key(number)) && keys.take(&key(number))));
        assert!((0..KEPT).all(|number| keys.has(&key(number)) && !keys.take(&key(number))));
        assert!((KEPT..2 * KEPT).all(|number| keys.take(&key(number))));
        assert_eq!(keys.0.len(), KEPT);
    }
}
