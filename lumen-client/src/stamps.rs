//! Bookkeeping of the frame numbers that a source wrote into its pixels.

use serde::Serialize;

/// What the numbers in the pixels say about the frames that were decoded.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub struct StampCounts {
    /// Pictures with a stamp that could be read.
    pub read: u64,
    /// Pictures without one: not a stamping source, or damaged.
    pub unreadable: u64,
    /// Numbers skipped between two pictures.
    pub missing: u64,
    /// Pictures that show the number before once more, repeats of a still desktop left out.
    pub repeated: u64,
    /// Pictures with a smaller number than the one before, in one generation.
    pub backwards: u64,
}

/// Follows the stamp numbers of successive pictures.
#[derive(Debug, Default)]
pub struct Stamps {
    counts: StampCounts,
    last: Option<(u32, u32)>,
}

impl Stamps {
    /// The picture of a frame of `generation` and the number read from it, if any; `still` marks a repeat the host
    /// made on purpose. A new generation may be a new source, so that its numbers may begin anew.
    pub fn picture(&mut self, generation: u32, number: Option<u32>, still: bool) {
        let Some(number) = number else {
            self.counts.unreadable += 1;
            return;
        };
        self.counts.read += 1;
        match self.last {
            Some((_, last)) if number > last => self.counts.missing += u64::from(number - last - 1),
            Some((_, last)) if number == last => self.counts.repeated += u64::from(!still),
            Some((before, _)) if before == generation => self.counts.backwards += 1,
            _ => {}
        }
        self.last = Some((generation, number));
    }

    pub fn counts(&self) -> StampCounts {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_gaps_repeats_and_steps_back() {
        let mut stamps = Stamps::default();
        for (generation, number, still) in [
            (1, Some(7), false),
            (1, Some(8), false),
            (1, Some(11), false),
            (1, Some(11), true),
            (1, Some(11), false),
            (1, None, false),
            (1, Some(10), false),
            (2, Some(0), false),
            (2, Some(1), false),
            (3, Some(4), false),
        ] {
            stamps.picture(generation, number, still);
        }
        let expected = StampCounts { read: 9, unreadable: 1, missing: 4, repeated: 1, backwards: 1 };
        assert_eq!(stamps.counts(), expected);
    }
}
