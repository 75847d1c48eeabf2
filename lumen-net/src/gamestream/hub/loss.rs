//! What a client's reports say of the loss on its path.

use lumen_core::gamestream::control::FecStatus;

/// Frames between two reports that are believed: what is left out was either sent without loss, or while nothing came.
const MOST_FRAMES: u32 = 1_000;

/// Loss in thousandths, from reports of those blocks alone of which packets were missing.
#[derive(Default, Debug)]
pub struct Loss {
    /// Packets lost since the last [`Self::permille`], in how many of how many blocks.
    lost: u32,
    packets: u32,
    reports: u32,
    /// Blocks of a frame, lately.
    blocks: u32,
    newest: Option<u32>,
    /// The newest frame that the interval before this knew of.
    before: Option<u32>,
    permille: u32,
}

impl Loss {
    pub fn report(&mut self, status: &FecStatus) {
        self.lost += u32::from(status.lost());
        self.packets += u32::from(status.packets());
        self.reports += 1;
        self.blocks = u32::from(status.blocks).clamp(1, 4);
        // Frame numbers only ever grow; one that is far behind is another's, or a lie.
        if self.newest.is_none_or(|newest| status.frame.wrapping_sub(newest) < u32::MAX / 2) {
            self.newest = Some(status.frame);
        }
    }

    /// Ends an interval, and says what the loss is if it differs from what was said before. It rises at once, and falls
    /// by a quarter an interval.
    pub fn permille(&mut self) -> Option<u32> {
        let frames = match (self.before, self.newest) {
            (Some(before), Some(newest)) => newest.wrapping_sub(before).min(MOST_FRAMES),
            _ => 0,
        };
        // Frames that nobody reported on came whole, and were as large as the others.
        let blocks = (frames * self.blocks).max(self.reports).max(1);
        let sent = u64::from(self.packets) * u64::from(blocks) / u64::from(self.reports.max(1));
        let seen = (u64::from(self.lost) * 1_000).checked_div(sent).unwrap_or(0).min(1_000) as u32;
        let said = self.permille;
        self.permille = seen.max(said * 3 / 4);
        (self.lost, self.packets, self.reports) = (0, 0, 0);
        self.before = self.newest;
        (self.permille != said).then_some(self.permille)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(frame: u32, lost: u16) -> FecStatus {
        FecStatus {
            frame,
            highest_received: 0,
            next_contiguous: 0,
            missing_before_highest: lost,
            data: 80,
            parity: 20,
            received_data: 80,
            received_parity: 20 - lost,
            percentage: 25,
            block: 0,
            blocks: 1,
        }
    }

    #[test]
    fn frames_without_a_report_count_as_whole() {
        let mut loss = Loss::default();
        loss.report(&status(1, 0));
        assert_eq!(loss.permille(), None);
        // Of sixty frames ten have lost 6 packets of 100 each.
        (0..10).for_each(|at| loss.report(&status(7 + at * 6, 6)));
        assert_eq!(loss.permille(), Some(10));
    }

    #[test]
    fn loss_is_forgotten_step_by_step() {
        let mut loss = Loss::default();
        loss.report(&status(1, 20));
        assert_eq!(loss.permille(), Some(200));
        assert_eq!((loss.permille(), loss.permille()), (Some(150), Some(112)));
        while loss.permille().is_some() {}
        assert_eq!(loss.permille, 0);
    }

    proptest::proptest! {
        #[test]
        fn lies_stay_in_bounds(
            reports in proptest::collection::vec((proptest::num::u32::ANY, proptest::array::uniform7(proptest::num::u16::ANY), proptest::num::u8::ANY), 0..50),
        ) {
            let mut loss = Loss::default();
            for (frame, [highest_received, next_contiguous, missing, data, parity, received, more], blocks) in reports {
                loss.report(&FecStatus {
                    frame, highest_received, next_contiguous, missing_before_highest: missing, data, parity,
                    received_data: received, received_parity: more, percentage: blocks, block: 0, blocks,
                });
                proptest::prop_assert!(loss.permille().is_none_or(|permille| permille <= 1_000));
            }
        }
    }
}
