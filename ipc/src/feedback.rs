//! What net tells encode about the stream it sends: the payload of the feedback ring's chunks.

/// One message, eight bytes in the ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Feedback {
    /// Make the next frame an IDR.
    Idr,
    /// Aim for this bitrate from the next frame on, in kbit/s.
    BitrateKbps(u32),
}

impl Feedback {
    /// `u32` kind, `u32` value, little-endian.
    pub fn encode(self) -> [u8; 8] {
        let (kind, value) = match self {
            Self::Idr => (1, 0),
            Self::BitrateKbps(kbps) => (2, kbps),
        };
        (kind | u64::from(value) << 32).to_le_bytes()
    }

    /// `None` of anything but a whole known message.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let word = u64::from_le_bytes(bytes.try_into().ok()?);
        match (word as u32, (word >> 32) as u32) {
            (1, 0) => Some(Self::Idr),
            (2, kbps) => Some(Self::BitrateKbps(kbps)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_refuses_the_rest() {
        for message in [Feedback::Idr, Feedback::BitrateKbps(0), Feedback::BitrateKbps(u32::MAX)] {
            assert_eq!(Feedback::decode(&message.encode()), Some(message));
        }
        let stray_value = [1, 0, 0, 0, 1, 0, 0, 0];
        for bytes in [&[] as &[u8], &[1; 7], &[1; 9], &[0; 8], &[3; 8], &stray_value] {
            assert_eq!(Feedback::decode(bytes), None, "{bytes:?}");
        }
    }
}
