//! When a probe is due.

/// Between probes until media has been seen: each also opens the way through a NAT.
const SEARCHING: u64 = 20_000_000;
/// Between probes afterwards. They carry loss, clock and wishes.
const SETTLED: u64 = 100_000_000;
/// Between probes that repeat a keyframe wish: a round trip, or a lost probe, apart.
const WISHING: u64 = 20_000_000;
/// Time without any packet after which the host counts as lost; it sends one at least every 50 ms.
const SILENCE: u64 = 5_000_000_000;

/// The probing side of a session as a pure machine: nanoseconds of one clock in, decisions out.
#[derive(Debug)]
pub(crate) struct Prober {
    next_ns: u64,
    heard_ns: u64,
    heard: bool,
    wish: Option<Wish>,
    /// The reassembler waits for an IDR; it says itself for which.
    broken: bool,
    wishes: u64,
}

/// A keyframe that is wanted: any IDR of this generation after `frame`, or of a later generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Wish {
    generation: u32,
    frame: u32,
}

impl Prober {
    pub(crate) fn new(now_ns: u64) -> Self {
        Self { next_ns: now_ns, heard_ns: now_ns, heard: false, wish: None, broken: false, wishes: 0 }
    }

    /// Begins to look for the host anew: it has another process there, which knows nothing of this client's address.
    pub(crate) fn search(&mut self, now_ns: u64) {
        *self = Self { wishes: self.wishes, ..Self::new(now_ns) };
    }

    /// An authentic packet has come.
    pub(crate) fn heard(&mut self, now_ns: u64) {
        self.heard = true;
        self.heard_ns = now_ns;
    }

    /// Nothing can be decoded until an IDR after `frame` comes. A wish that is already out grows instead of counting
    /// twice.
    pub(crate) fn want_keyframe(&mut self, now_ns: u64, generation: u32, frame: u32) {
        let wish = Wish { generation, frame };
        match &mut self.wish {
            Some(out) if out.generation > generation => {}
            Some(out) if out.generation == generation => out.frame = out.frame.max(frame),
            _ => {
                self.wish = Some(wish);
                self.wishes += 1;
                self.next_ns = now_ns;
            }
        }
    }

    /// A frame is missing, and only an IDR helps. Further frames missing before one comes belong to the same wish.
    pub(crate) fn broken(&mut self, now_ns: u64) {
        self.wishes += u64::from(!self.broken);
        self.broken = true;
        self.next_ns = now_ns;
    }

    /// A frame was delivered, so that nothing is missing any more.
    pub(crate) fn resumed(&mut self) {
        self.broken = false;
    }

    /// Times a keyframe was wanted.
    pub(crate) fn wishes(&self) -> u64 {
        self.wishes
    }

    /// An IDR has been delivered.
    pub(crate) fn keyframe(&mut self, generation: u32, frame: u32) {
        self.wish.take_if(|wish| (generation, frame) > (wish.generation, wish.frame));
    }

    /// The wish to put in a probe of `generation`.
    pub(crate) fn wish(&self, generation: u32) -> Option<u32> {
        self.wish.filter(|wish| wish.generation == generation).map(|wish| wish.frame)
    }

    /// Whether a probe is due; if so the next one is scheduled, soon if it would carry a wish.
    pub(crate) fn due(&mut self, now_ns: u64, wishing: bool) -> bool {
        if now_ns < self.next_ns {
            return false;
        }
        let period = if !self.heard {
            SEARCHING
        } else if wishing || self.wish.is_some() {
            WISHING
        } else {
            SETTLED
        };
        self.next_ns = now_ns + period;
        true
    }

    pub(crate) fn next_ns(&self) -> u64 {
        self.next_ns
    }

    /// When the host was heard last.
    pub(crate) fn heard_ns(&self) -> u64 {
        self.heard_ns
    }

    /// Whether the host has been silent for too long, and if so whether it was ever heard.
    pub(crate) fn silent(&self, now_ns: u64) -> Option<bool> {
        (now_ns.saturating_sub(self.heard_ns) >= SILENCE).then_some(self.heard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times of the probes in milliseconds, with the clock stepped by one.
    fn probes(prober: &mut Prober, milliseconds: std::ops::Range<u64>) -> Vec<u64> {
        milliseconds.filter(|ms| prober.due(ms * 1_000_000, false)).collect()
    }

    #[test]
    fn searches_fast_and_settles() {
        let mut prober = Prober::new(0);
        assert_eq!(probes(&mut prober, 0..50), [0, 20, 40]);
        prober.heard(50_000_000);
        assert_eq!(probes(&mut prober, 50..300), [60, 160, 260]);
    }

    #[test]
    fn repeats_a_wish_until_it_is_served() {
        let mut prober = Prober::new(0);
        prober.heard(0);
        assert_eq!(probes(&mut prober, 0..5), [0]);
        prober.want_keyframe(5_000_000, 1, 7);
        assert_eq!(prober.wish(1), Some(7));
        assert_eq!(probes(&mut prober, 5..50), [5, 25, 45]);
        prober.want_keyframe(50_000_000, 1, 9);
        prober.keyframe(1, 8);
        assert_eq!(prober.wish(1), Some(9), "the wish grew, so an older IDR does not serve it");
        assert_eq!(prober.wish(2), None);
        prober.keyframe(1, 10);
        assert_eq!(prober.wish(1), None);
        assert_eq!(prober.wishes(), 1);
        assert_eq!(probes(&mut prober, 60..300), [65, 165, 265]);
    }

    #[test]
    fn a_new_generation_serves_every_wish() {
        let mut prober = Prober::new(0);
        prober.want_keyframe(0, 1, 700);
        prober.keyframe(2, 0);
        assert_eq!((prober.wish(1), prober.wish(2)), (None, None));
    }

    #[test]
    fn one_hole_is_one_wish() {
        let mut prober = Prober::new(0);
        prober.heard(0);
        assert!(prober.due(0, false));
        prober.broken(7);
        prober.broken(9);
        assert!(prober.due(9, true) && !prober.due(9 + WISHING - 1, true) && prober.due(9 + WISHING, true));
        prober.resumed();
        prober.broken(50_000_000);
        assert_eq!(prober.wishes(), 2);
    }

    #[test]
    fn notices_silence() {
        let mut prober = Prober::new(0);
        assert_eq!(prober.silent(4_999_000_000), None);
        assert_eq!(prober.silent(5_000_000_000), Some(false));
        prober.heard(5_000_000_000);
        assert_eq!(prober.silent(9_000_000_000), None);
        assert_eq!(prober.silent(10_000_000_000), Some(true));
    }
}
