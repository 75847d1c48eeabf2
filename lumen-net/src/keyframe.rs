//! Which of a client's keyframe wishes are worth passing on.

use lumen_core::packet::Probe;

/// Between two keyframes asked of the encoder: about a round trip in a house, and three frames.
const KEYFRAME_GAP_NS: u64 = 50_000_000;

/// Clients repeat a keyframe wish until it is served; the encoder should hear it once.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyframeGate {
    asked_ns: Option<u64>,
    /// The newest IDR that began to leave: its frame number.
    newest_idr: Option<u32>,
}

impl KeyframeGate {
    /// A frame that is an IDR begins to leave.
    pub fn sent_idr(&mut self, frame: u32) {
        self.newest_idr = Some(frame);
    }

    /// A new generation: its frames count from 0 and begin with an IDR.
    pub fn new_generation(&mut self) {
        *self = Self::default();
    }

    /// Whether the keyframe wish in `probe` has to be passed to the encoder now.
    pub fn ask(&mut self, now_ns: u64, probe: &Probe) -> bool {
        let recent = self.asked_ns.is_some_and(|asked| now_ns.saturating_sub(asked) < KEYFRAME_GAP_NS);
        if recent || !probe.wants_idr(self.newest_idr) {
            return false;
        }
        self.asked_ns = Some(now_ns);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyframe_wish_passes_once_until_it_is_served_or_grows_old() {
        let wish = |frame| Probe { keyframe_wanted: Some(frame), ..Probe::default() };
        let mut gate = KeyframeGate::default();
        gate.sent_idr(0);
        assert!(!gate.ask(900_000_000, &Probe::default()));
        assert!(gate.ask(1_000_000_000, &wish(7)));
        assert!(!gate.ask(1_010_000_000, &wish(7)), "asked a moment ago");
        gate.sent_idr(9);
        assert!(!gate.ask(1_100_000_000, &wish(7)), "frame 9 has served it");
        assert!(gate.ask(1_200_000_000, &wish(12)), "a later loss");
        assert!(gate.ask(1_260_000_000, &wish(12)), "still not served");
        gate.new_generation();
        assert!(gate.ask(1_261_000_000, &wish(0)));
    }
}
