//! The name of a certificate: SHA-256 over its DER.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

/// SHA-256 of a certificate's DER, printed as 64 lowercase hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Fingerprint(pub [u8; 32]);

/// The text is not a fingerprint. It is never taken for "no fingerprint".
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a fingerprint is 64 hex digits (colons allowed between bytes), as `lumend fingerprint` prints it")]
pub struct MalformedFingerprint;

impl Fingerprint {
    /// Fingerprint of a certificate given as DER.
    pub fn of(der: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, der).as_ref());
        Self(bytes)
    }
}

impl FromStr for Fingerprint {
    type Err = MalformedFingerprint;

    /// Reads 64 hex digits in either case, bare or as `ab:cd:…`.
    fn from_str(text: &str) -> Result<Self, MalformedFingerprint> {
        let digits: Vec<u8> = if text.contains(':') {
            if text.len() != 95 || text.split(':').any(|byte| byte.len() != 2) {
                return Err(MalformedFingerprint);
            }
            text.bytes().filter(|byte| *byte != b':').collect()
        } else {
            text.bytes().collect()
        };
        if digits.len() != 64 {
            return Err(MalformedFingerprint);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let high = (pair[0] as char).to_digit(16).ok_or(MalformedFingerprint)?;
            let low = (pair[1] as char).to_digit(16).ok_or(MalformedFingerprint)?;
            *byte = (high << 4 | low) as u8;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_it_reads() {
        let plain = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
        let colons = plain.as_bytes().chunks(2).map(|b| String::from_utf8(b.to_vec()).unwrap()).collect::<Vec<_>>();
        assert_eq!(plain.parse::<Fingerprint>().unwrap().to_string(), plain);
        assert_eq!(colons.join(":").to_uppercase().parse::<Fingerprint>().unwrap().to_string(), plain);
    }

    #[test]
    fn a_malformed_one_is_an_error() {
        let good = "ab".repeat(32);
        for text in ["", "ab", &good[1..], &format!("{good}0"), &format!("{}g", &good[1..]), &":".repeat(95), "é"] {
            assert_eq!(text.parse::<Fingerprint>(), Err(MalformedFingerprint), "{text}");
        }
    }

    #[test]
    fn is_sha256() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Fingerprint::of(b"").to_string(), empty);
    }
}
