//! Which reliable packets of a channel the library has, so that nobody can have many kept that wait for an earlier one.
//!
//! What counts is what the library has acknowledged, not what it was given: it passes over a packet for more reasons than
//! are known here, and an idea of the window that runs ahead of its own would bound nothing.

/// How far ahead of the first missing packet another may be. An honest sender's own window of 64 KiB holds at most twice
/// this many of the smallest packets; what is refused it sends again.
const AHEAD: u16 = 1024;
const WORDS: usize = AHEAD as usize / 64;
/// Unreliable packets that may wait for a reliable one: those that follow it in its datagram, and in those that come
/// with it.
const WAITING: u16 = 64;

/// One channel's window.
#[derive(Clone, Debug)]
pub struct Window {
    /// The first that is missing.
    next: u16,
    /// Bit `n`, counted over the words as a ring: `n` modulo [`AHEAD`] of those from `next` on is there.
    there: [u64; WORDS],
    /// Unreliable packets that may be waiting, and the last reliable one that any of them waits for.
    waiting: u16,
    until: u16,
}

impl Default for Window {
    /// Nothing is there; the first packet of a channel is number 1.
    fn default() -> Self {
        Self { next: 1, there: [0; WORDS], waiting: 0, until: 0 }
    }
}

impl Window {
    /// Whether a reliable packet may be passed on: it is in the window, or the library has it already.
    pub fn allows(&self, sequence: u16) -> bool {
        self.is_ahead(sequence) || self.is_behind(sequence)
    }

    /// Whether an unreliable packet that comes after this reliable one may be passed on, and if so, counted.
    pub fn follows(&mut self, after: u16) -> bool {
        if self.is_behind(after) {
            return true;
        }
        if !self.is_ahead(after) || self.waiting >= WAITING {
            return false;
        }
        if self.waiting == 0 || after.wrapping_sub(self.next) > self.until.wrapping_sub(self.next) {
            self.until = after;
        }
        self.waiting += 1;
        true
    }

    /// The library has this packet.
    pub fn note(&mut self, sequence: u16) {
        if !self.is_ahead(sequence) {
            return;
        }
        *self.word(sequence) |= bit(sequence);
        while *self.word(self.next) & bit(self.next) != 0 {
            let next = self.next;
            *self.word(next) &= !bit(next);
            self.next = next.wrapping_add(1);
        }
        if self.is_behind(self.until) {
            self.waiting = 0;
        }
    }

    fn is_ahead(&self, sequence: u16) -> bool {
        sequence.wrapping_sub(self.next) < AHEAD
    }

    /// Whether everything up to this packet is there.
    fn is_behind(&self, sequence: u16) -> bool {
        (1..=0x8000).contains(&self.next.wrapping_sub(sequence))
    }

    fn word(&mut self, sequence: u16) -> &mut u64 {
        &mut self.there[usize::from(sequence % AHEAD) / 64]
    }
}

fn bit(sequence: u16) -> u64 {
    1 << (sequence % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_in_order_are_never_refused_however_many() {
        let mut window = Window::default();
        for number in 1..=200_000_u32 {
            let sequence = number as u16;
            assert!(window.allows(sequence) && !window.is_behind(sequence), "{number}");
            window.note(sequence);
            assert!(window.is_behind(sequence));
        }
    }

    #[test]
    fn a_gap_is_waited_for_but_not_for_ever() {
        let mut window = Window::default();
        window.note(1);
        for sequence in 3..2 + AHEAD {
            assert!(window.allows(sequence));
            window.note(sequence);
        }
        assert!(!window.allows(2 + AHEAD) && !window.is_behind(3));
        window.note(2);
        assert!(window.allows(2 + AHEAD) && window.is_behind(1 + AHEAD));
    }

    #[test]
    fn few_wait_for_what_is_missing() {
        let mut window = Window::default();
        assert!((0..1_000).all(|_| window.follows(0)), "what waits for nothing is not counted");
        let passed = (0..1_000).filter(|at| window.follows(1 + at % 5)).count();
        assert_eq!(passed, usize::from(WAITING));
        (1..5).for_each(|sequence| window.note(sequence));
        assert!(window.follows(4) && !window.follows(5), "some may still wait for number 5");
        window.note(5);
        assert!(window.follows(6) && !window.follows(6 + AHEAD));
    }

    proptest::proptest! {
        /// Against a set of everything that has come.
        #[test]
        fn it_knows_what_is_missing(
            start in 0..u16::MAX,
            offsets in proptest::collection::vec(0..2_000_u16, 0..3_000),
        ) {
            let mut window = Window { next: start, ..Window::default() };
            let (mut come, mut next) = (std::collections::BTreeSet::new(), 0_u16);
            for offset in offsets {
                let sequence = start.wrapping_add(offset);
                let allowed = offset < next || offset - next < AHEAD;
                proptest::prop_assert_eq!(window.allows(sequence), allowed);
                if allowed {
                    window.note(sequence);
                    come.insert(offset);
                }
                while come.contains(&next) {
                    next += 1;
                }
                proptest::prop_assert_eq!(window.next, start.wrapping_add(next));
            }
        }
    }
}
