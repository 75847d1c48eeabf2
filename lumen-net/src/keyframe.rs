//! Which of a client's keyframe wishes are worth passing on.

use lumen_core::packet::Probe;

/// Between two keyframes asked of the encoder: about a round trip in a house, and three frames.
const KEYFRAME_GAP_NS: u64 = 50_000_000;

/// An IDR that was asked for and has not come for so long was never heard of.
const LOST_NS: u64 = 500_000_000;

/// Clients repeat a keyframe wish until it is served; the encoder should hear it once.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyframeGate {
    asked_ns: Option<u64>,
    /// The newest IDR that began to leave: its frame number.
    newest_idr: Option<u32>,
    /// An IDR has begun to leave since one was asked for, or since the generation began.
    served: bool,
    /// A demand waits for the gap to pass.
    waiting: bool,
}

/// What to do about a demand for a keyframe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Demand {
    /// Tell the encoder.
    Ask,
    /// See at this time, by [`KeyframeGate::due`].
    Later(u64),
    /// An IDR that has not left yet serves it.
    Served,
}

impl KeyframeGate {
    /// A frame that is an IDR begins to leave.
    pub fn sent_idr(&mut self, frame: u32) {
        self.newest_idr = Some(frame);
        (self.served, self.waiting) = (true, false);
    }

    /// A new generation: its frames count from 0 and begin with an IDR.
    pub fn new_generation(&mut self) {
        *self = Self::default();
    }

    /// Whether the keyframe wish in `probe` has to be passed to the encoder now.
    pub fn ask(&mut self, now_ns: u64, probe: &Probe) -> bool {
        if self.asked_within(now_ns, KEYFRAME_GAP_NS) || !probe.wants_idr(self.newest_idr) {
            return false;
        }
        self.tell(now_ns)
    }

    /// A keyframe is wanted, and nobody says for which loss: a GameStream client says it once and then waits for long,
    /// so that nothing but an IDR which leaves from now on will do.
    pub fn demand(&mut self, now_ns: u64) -> Demand {
        // Without a time, it is the generation's first frame that has not left.
        let under_way = !self.served && (self.asked_ns.is_none() || self.asked_within(now_ns, LOST_NS));
        match self.asked_ns {
            _ if under_way => Demand::Served,
            Some(asked) if self.asked_within(now_ns, KEYFRAME_GAP_NS) => {
                self.waiting = true;
                Demand::Later(asked + KEYFRAME_GAP_NS)
            }
            _ => {
                self.tell(now_ns);
                Demand::Ask
            }
        }
    }

    /// Whether a demand that had to wait, and was not served meanwhile, has to be passed to the encoder now.
    pub fn due(&mut self, now_ns: u64) -> bool {
        self.waiting && self.tell(now_ns)
    }

    fn tell(&mut self, now_ns: u64) -> bool {
        self.asked_ns = Some(now_ns);
        (self.served, self.waiting) = (false, false);
        true
    }

    fn asked_within(&self, now_ns: u64, time_ns: u64) -> bool {
        self.asked_ns.is_some_and(|asked| now_ns.saturating_sub(asked) < time_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

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

    #[test]
    fn a_demand_is_served_by_the_next_idr_and_by_no_earlier_one() {
        let mut gate = KeyframeGate::default();
        assert_eq!(gate.demand(1_000 * MS), Demand::Served, "the generation's first frame is to leave yet");
        gate.sent_idr(0);
        assert_eq!(gate.demand(1_001 * MS), Demand::Ask, "perhaps that very frame was lost");
        assert_eq!(gate.demand(1_010 * MS), Demand::Served, "asked for, and has not left");
        gate.sent_idr(2);
        assert_eq!(gate.demand(1_020 * MS), Demand::Later(1_051 * MS), "another loss, too soon for another IDR");
        assert!(gate.due(1_051 * MS));
        assert!(!gate.due(1_052 * MS), "once");
        assert_eq!(gate.demand(1_060 * MS), Demand::Served);
        assert_eq!(gate.demand(1_551 * MS), Demand::Ask, "the encoder has not heard of it");
    }

    #[test]
    fn a_demand_that_waits_is_forgotten_when_an_idr_leaves() {
        let mut gate = KeyframeGate::default();
        gate.sent_idr(0);
        assert_eq!(gate.demand(100 * MS), Demand::Ask);
        gate.sent_idr(1);
        assert_eq!(gate.demand(120 * MS), Demand::Later(150 * MS));
        gate.sent_idr(2);
        assert!(!gate.due(150 * MS));
        assert_eq!(gate.demand(130 * MS), Demand::Later(150 * MS));
        gate.new_generation();
        assert!(!gate.due(150 * MS));
    }
}
