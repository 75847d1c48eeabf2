//! Which reliable packets of a channel have come, so that nobody can have many kept that wait for an earlier one.

/// How far ahead of the first missing packet another may be. An honest sender's own window of 64 KiB holds at most twice
/// this many of the smallest packets; what is refused it sends again.
const AHEAD: u16 = 1024;
const WORDS: usize = AHEAD as usize / 64;

/// One channel's window.
#[derive(Clone, Debug)]
pub struct Window {
    /// The first that is missing.
    next: u16,
    /// Bit `n`, counted over the words as a ring: `n` modulo [`AHEAD`] of those from `next` on has come.
    come: [u64; WORDS],
}

impl Default for Window {
    /// Nothing has come; the first packet of a channel is number 1.
    fn default() -> Self {
        Self { next: 1, come: [0; WORDS] }
    }
}

impl Window {
    /// Whether the packet may be passed on: it is in the window, or has come before, which the library knows too.
    pub fn allows(&self, sequence: u16) -> bool {
        sequence.wrapping_sub(self.next) < AHEAD || self.is_behind(sequence)
    }

    /// Whether everything up to this packet has come.
    pub fn is_behind(&self, sequence: u16) -> bool {
        (1..=0x8000).contains(&self.next.wrapping_sub(sequence))
    }

    /// Notes a packet that was allowed and passed on.
    pub fn note(&mut self, sequence: u16) {
        if sequence.wrapping_sub(self.next) >= AHEAD {
            return;
        }
        *self.word(sequence) |= bit(sequence);
        while *self.word(self.next) & bit(self.next) != 0 {
            let next = self.next;
            *self.word(next) &= !bit(next);
            self.next = next.wrapping_add(1);
        }
    }

    fn word(&mut self, sequence: u16) -> &mut u64 {
        &mut self.come[usize::from(sequence % AHEAD) / 64]
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
