//! What a client's launch says of its session, and the names and secrets by which the session is known on the wire.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipc::SessionId;
use lumen_core::{AudioLayout, Mode};

use crate::branches::Tally;

/// Characters of a ping's payload (moonlight-common-c, Limelight-internal.h: SS_PING): sixteen, no more, no less.
pub const PING_BYTES: usize = 16;

/// How many of [`LETTERS`] there are: a power of two, so that a random byte picks each as often as any other.
const LETTERS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// What `/launch` or `/resume` said, once lumend has granted it.
pub struct Launch {
    pub session: SessionId,
    /// Who asked.
    pub peer: IpAddr,
    /// What it gets.
    pub mode: Mode,
    /// What it asked for.
    pub audio: AudioLayout,
    /// `rikey`: the session's one key.
    pub key: [u8; 16],
    /// `rikeyid`: where the IVs of its sound begin.
    pub key_id: i32,
    /// `corever` was 1 or more: its RTSP is sealed, and it can do control encryption v2.
    pub sealed: bool,
}

/// A session's secrets as the network tells them apart. Never printed.
pub struct Guest {
    pub launch: Launch,
    /// Comes back in the pings that say where sound goes.
    pub audio_ping: [u8; PING_BYTES],
    /// Comes back in the pings that say where pictures go.
    pub video_ping: [u8; PING_BYTES],
    /// Comes back in ENet's CONNECT. Never 0, which is what clients say that were told none.
    pub connect_data: u32,
    /// The session's name in RTSP.
    pub rtsp_session: [u8; PING_BYTES],
    /// What its branches will have done.
    pub tally: Arc<Tally>,
}

/// How far a session has got.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum GuestPhase {
    /// It may speak RTSP.
    Launched,
    /// Its ANNOUNCE has been taken; it is being wired.
    Tuned,
    /// Its control stream is up and has proven that it holds the key.
    Live,
    /// The host has ended it; it is being told.
    Ending,
}

impl Guest {
    /// Draws what has to be unguessable. An error if the kernel gives no random bytes.
    pub fn new(launch: Launch) -> Result<Self, &'static str> {
        Ok(Self {
            launch,
            audio_ping: letters()?,
            video_ping: letters()?,
            connect_data: u32::from_le_bytes(random()?).max(1),
            rtsp_session: letters()?,
            tally: Arc::default(),
        })
    }

    /// How the URL of its RTSP begins, without "://".
    pub fn scheme(&self) -> &'static str {
        if self.launch.sealed { "rtspenc" } else { "rtsp" }
    }
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest").field("session", &self.launch.session).finish_non_exhaustive()
    }
}

fn random<const N: usize>() -> Result<[u8; N], &'static str> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "the kernel gives no random bytes")?;
    Ok(bytes)
}

/// Eighty random bits as letters and digits, which need no quoting anywhere.
fn letters() -> Result<[u8; PING_BYTES], &'static str> {
    Ok(random::<PING_BYTES>()?.map(|byte| LETTERS[usize::from(byte) % LETTERS.len()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sixteen_plain_letters_and_differ() {
        let names: Vec<_> = (0..64).map(|_| letters().unwrap()).collect();
        assert!(names.iter().flatten().all(u8::is_ascii_alphanumeric));
        assert!(names.iter().enumerate().all(|(at, name)| !names[..at].contains(name)));
    }
}
