//! Which of a client's control messages have been opened.

/// Clients count their messages over all channels, and ENet keeps the order of each channel alone: while one waits for
/// a packet to be sent again, the others go on. So many may overtake one message: 16 s of a mouse that reports a
/// thousand times a second, which is longer than ENet waits for anybody.
const SIZE: u32 = 16 * 1024;
/// A ring of twice the window, so that clearing ahead of the newest never touches what is still inside.
const WORDS: usize = SIZE as usize * 2 / 64;

pub(super) struct Window {
    /// The newest, plus one.
    end: u64,
    seen: Box<[u64; WORDS]>,
}

impl Default for Window {
    fn default() -> Self {
        Self { end: 0, seen: Box::new([0; WORDS]) }
    }
}

impl Window {
    fn place(sequence: u32) -> (usize, u64) {
        (sequence as usize / 64 % WORDS, 1 << (sequence % 64))
    }

    /// Whether a message of this number may be opened: not opened before, and not older than the window.
    pub(super) fn fresh(&self, sequence: u32) -> bool {
        let (word, bit) = Self::place(sequence);
        let age = self.end.saturating_sub(1 + u64::from(sequence));
        u64::from(sequence) >= self.end || age < u64::from(SIZE) && self.seen[word] & bit == 0
    }

    /// Marks an authentic message as opened.
    pub(super) fn accept(&mut self, sequence: u32) {
        let number = u64::from(sequence);
        if number >= self.end {
            // Words that hold no number of the window yet, the new one's included, begin empty.
            let first = self.end.div_ceil(64);
            let last = number / 64;
            for word in first.max(last.saturating_sub(WORDS as u64 - 1))..=last {
                self.seen[word as usize % WORDS] = 0;
            }
            self.end = number + 1;
        }
        let (word, bit) = Self::place(sequence);
        self.seen[word] |= bit;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_is_opened_once_and_none_that_is_too_old(
            steps in prop::collection::vec(prop_oneof![
                (0u32..200).prop_map(|step| (step, false)),
                (0u32..3 * SIZE).prop_map(|step| (step, false)),
                (0u32..2 * SIZE).prop_map(|step| (step, true)),
                (0u32..64).prop_map(|step| (step, true)),
            ], 1..400),
            start in prop_oneof![Just(0), any::<u32>()],
        ) {
            let mut window = Window::default();
            let (mut seen, mut newest) = (HashSet::new(), None::<u32>);
            let mut at = start;
            for (step, back) in steps {
                at = if back { newest.unwrap_or(at).saturating_sub(step) } else { at.saturating_add(step) };
                let old = newest.is_some_and(|newest| newest >= at && newest - at >= SIZE);
                let fresh = !old && !seen.contains(&at);
                prop_assert_eq!(window.fresh(at), fresh, "{} after {:?}", at, newest);
                if fresh {
                    window.accept(at);
                    seen.insert(at);
                    newest = Some(newest.unwrap_or(0).max(at));
                }
            }
        }
    }
}
