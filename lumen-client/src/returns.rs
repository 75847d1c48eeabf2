//! Times that the host was lost and came back.

use serde::Serialize;

/// How many are told one by one.
const KEPT: usize = 1000;

/// A host that is back, before its first frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Back {
    /// When it was taken for lost, and when it had said `Welcome` again; our CLOCK_MONOTONIC, nanoseconds.
    pub lost_ns: u64,
    pub redialled_ns: u64,
    pub same_session: bool,
}

/// One return, from the last frame before it to the first after it.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Return {
    /// Seconds from the first packet to the first frame after it.
    pub at_s: f64,
    /// Milliseconds without a frame; of those until the loss was noticed, and from there until the host had said
    /// `Welcome`.
    pub gap_ms: f64,
    pub noticed_ms: f64,
    pub redial_ms: f64,
    /// Another session means that the host had given up this one.
    pub same_session: bool,
}

/// All of a run.
#[derive(Clone, Default, Debug)]
pub struct Returns {
    /// To the session that was lost.
    pub resumes: u64,
    /// To another.
    pub restarts: u64,
    /// The first thousand.
    pub list: Vec<Return>,
}

impl Returns {
    pub(crate) fn add(&mut self, back: Back, last_frame_ns: u64, frame_ns: u64, first_ns: u64) {
        match back.same_session {
            true => self.resumes += 1,
            false => self.restarts += 1,
        }
        let ms = |from_ns: u64, to_ns: u64| to_ns.saturating_sub(from_ns) as f64 / 1e6;
        if self.list.len() < KEPT {
            self.list.push(Return {
                at_s: frame_ns.saturating_sub(first_ns) as f64 / 1e9,
                gap_ms: ms(last_frame_ns, frame_ns),
                noticed_ms: ms(last_frame_ns, back.lost_ns),
                redial_ms: ms(back.lost_ns, back.redialled_ns),
                same_session: back.same_session,
            });
        }
    }

    /// Milliseconds; none without a return.
    pub fn longest_ms(&self) -> Option<f64> {
        self.list.iter().map(|one| one.gap_ms).max_by(f64::total_cmp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_from_frame_to_frame_and_the_list_is_bounded() {
        let mut returns = Returns::default();
        let back = |same_session| Back { lost_ns: 1_100_000_000, redialled_ns: 1_150_000_000, same_session };
        returns.add(back(true), 1_000_000_000, 1_200_000_000, 200_000_000);
        let expected = Return { at_s: 1.0, gap_ms: 200.0, noticed_ms: 100.0, redial_ms: 50.0, same_session: true };
        assert_eq!((returns.list.as_slice(), returns.longest_ms()), (&[expected][..], Some(200.0)));
        (0..2000).for_each(|_| returns.add(back(false), 0, 1, 0));
        assert_eq!((returns.resumes, returns.restarts, returns.list.len()), (1, 2000, KEPT));
    }
}
