//! How much parity a frame gets: the host's view of the loss its client reports, and the least `m` that meets the aim.

use crate::fec::{MAX_CAUCHY_SHARDS, Scheme, Shape};
use crate::packet::{MAX_DATA_SHARDS, MAX_PARITY_SHARDS};

/// A frame may be lost with at most this probability at the reported rate.
const AIM: f64 = 1e-5;
/// No frame leaves with fewer parity shards than this.
pub const LEAST_PARITY: usize = 2;
/// Beyond this the path is not one that parity can mend, and more of it would only add to the congestion.
pub const MOST_LOSS_PERMILLE: u32 = 400;

/// Decides `m` for each `k`, and remembers its answers until the loss changes.
pub struct Protection {
    most: Scheme,
    floor_percent: u8,
    loss_permille: u32,
    /// By `k`; 0 is "not computed yet". Its length is fixed at construction.
    known: Vec<u16>,
}

impl Protection {
    /// `most` is the highest scheme the session may use, `floor_percent` the least parity.
    pub fn new(most: Scheme, floor_percent: u8) -> Self {
        Self { most, floor_percent, loss_permille: 0, known: vec![0; MAX_DATA_SHARDS + 1] }
    }

    /// The loss to defend against, in thousandths of packets.
    pub fn set_loss(&mut self, permille: u32) {
        let permille = permille.min(MOST_LOSS_PERMILLE);
        if permille != self.loss_permille {
            self.loss_permille = permille;
            self.known.fill(0);
        }
    }

    pub fn loss_permille(&self) -> u32 {
        self.loss_permille
    }

    /// The code for a frame of `k` data shards (1 to [`MAX_DATA_SHARDS`]), the longest `len` bytes. `None` where the
    /// session's scheme has no code for it: then the frame goes out bare.
    pub fn shape(&mut self, k: usize, len: usize) -> Option<Shape> {
        let m = self.parity_shards(k);
        let len = len.next_multiple_of(2);
        match self.most {
            Scheme::None => None,
            _ if k + m <= MAX_CAUCHY_SHARDS => Shape::new(Scheme::Cauchy, k, m, len),
            // As much as fits: a session that cannot do scheme 2 is asked to send smaller frames, not naked ones.
            Scheme::Cauchy => Shape::new(Scheme::Cauchy, k, MAX_CAUCHY_SHARDS.saturating_sub(k), len),
            Scheme::Leopard => Shape::new(Scheme::Leopard, k, m, len),
        }
    }

    /// Parity shards that a code of `k` data shards should have, whether or not a scheme can.
    pub(crate) fn parity_shards(&mut self, k: usize) -> usize {
        let Some(known) = self.known.get_mut(k) else { return LEAST_PARITY };
        if *known == 0 {
            let floor = (k * usize::from(self.floor_percent)).div_ceil(100).max(LEAST_PARITY);
            *known = least_parity(k, f64::from(self.loss_permille) / 1000.0).max(floor).min(MAX_PARITY_SHARDS) as u16;
        }
        usize::from(*known)
    }
}

/// The least `m` for which more than `m` of `k + m` packets are lost with probability at most [`AIM`], each being lost
/// with probability `loss`, independently.
fn least_parity(k: usize, loss: f64) -> usize {
    if loss <= 0.0 {
        return 0;
    }
    // The probability falls as `m` grows, so the least is found by halving.
    let (mut least, mut enough) = (0, MAX_PARITY_SHARDS);
    while least < enough {
        let m = (least + enough) / 2;
        if tail(k + m, m, loss) <= AIM { enough = m } else { least = m + 1 }
    }
    enough
}

/// P(X > m) for X binomial over `n` with probability `loss`; 1 where `m` is below the mean, which is never enough.
fn tail(n: usize, m: usize, loss: f64) -> f64 {
    if (m as f64) < n as f64 * loss {
        return 1.0;
    }
    // Beyond the mean each term is smaller than the one before, so the sum ends soon. Logarithms, because the first
    // factor of a large frame is below what a double can hold.
    let (mut lost, last) = (m + 1, n);
    if lost > last {
        return 0.0;
    }
    let choose = ln_factorial(n) - ln_factorial(lost) - ln_factorial(n - lost);
    let mut term = (choose + lost as f64 * loss.ln() + (n - lost) as f64 * (-loss).ln_1p()).exp();
    let mut sum = 0.0;
    while lost <= last && term > sum * 1e-9 {
        sum += term;
        term *= (n - lost) as f64 / (lost + 1) as f64 * loss / (1.0 - loss);
        lost += 1;
    }
    sum
}

/// ln n!, by Stirling's series; good to 1e-9 even for the smallest.
fn ln_factorial(n: usize) -> f64 {
    if n < 16 {
        return (2..=n).map(|factor| (factor as f64).ln()).sum();
    }
    let x = n as f64;
    let series = 1.0 / (12.0 * x) - 1.0 / (360.0 * x.powi(3)) + 1.0 / (1260.0 * x.powi(5));
    x * x.ln() - x + 0.5 * (std::f64::consts::TAU * x).ln() + series
}

/// The host's estimate of loss, from the cumulative counts in probes: fast up, slow down.
///
/// Counts are cumulative, so that lost probes lose nothing and a packet that was only late is taken back by the next
/// report. A rate is believed once it rests on enough packets, and a margin for the smallness of the sample is added.
#[derive(Default, Debug)]
pub struct LossEstimator {
    highest: u64,
    lost: u64,
    /// Smoothed share of packets lost.
    rate: f64,
}

impl LossEstimator {
    /// Packets that a new rate must rest on.
    const ENOUGH: u64 = 48;

    /// A new generation counts from the beginning; the estimate of the path stays.
    pub fn new_generation(&mut self) {
        self.highest = 0;
        self.lost = 0;
    }

    /// Takes in a probe's [`highest`](crate::packet::Probe::highest) and `received`, `sent` being how many packets
    /// this generation has really sent: a client cannot have seen more. Returns the rate to protect against.
    pub fn report(&mut self, highest: u64, received: u64, sent: u64) -> u32 {
        if highest > sent || received > highest {
            return self.permille();
        }
        let expected = highest.saturating_sub(self.highest);
        if expected >= Self::ENOUGH {
            let lost = highest - received;
            let recent = lost.saturating_sub(self.lost).min(expected) as f64 / expected as f64;
            self.highest = highest;
            self.lost = lost;
            // A rise that chance would hardly make is believed by as much as the sample's size deserves; what may be
            // chance moves the estimate little, and down less than up: ten reports a second halve it in two.
            let chance = (self.rate * (1.0 - self.rate) / expected as f64).sqrt();
            let deserved = expected as f64 / (expected + Self::ENOUGH) as f64;
            let weight = match recent - self.rate {
                rise if rise > 2.0 * chance => deserved,
                rise if rise > 0.0 => 0.06,
                _ => 0.03,
            };
            self.rate += (recent - self.rate) * weight;
        }
        self.permille()
    }

    /// Share of packets lost, in thousandths, with a margin of a quarter: no path is as even as a coin.
    pub fn permille(&self) -> u32 {
        ((self.rate * 1250.0).ceil() as u32).min(MOST_LOSS_PERMILLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tail by plain summation, where doubles can hold it.
    fn slow_tail(n: usize, m: usize, loss: f64) -> f64 {
        let mut term = (1.0 - loss).powi(n as i32);
        let mut sum = 0.0;
        for lost in 0..=n {
            if lost > m {
                sum += term;
            }
            term *= (n - lost) as f64 / (lost + 1) as f64 * loss / (1.0 - loss);
        }
        sum
    }

    #[test]
    fn parity_is_the_least_that_meets_the_aim() {
        for k in [1, 2, 5, 17, 67, 150, 400] {
            for loss in [0.001, 0.01, 0.05, 0.1, 0.3] {
                let m = least_parity(k, loss);
                assert!(slow_tail(k + m, m, loss) <= AIM * 1.0001, "{k} at {loss}");
                assert!(slow_tail(k + m - 1, m - 1, loss) > AIM * 0.9999, "{k} at {loss}: {m} is not the least");
            }
        }
        assert_eq!(least_parity(67, 0.0), 0);
        let large = least_parity(MAX_DATA_SHARDS, 0.3);
        assert!((3500..4000).contains(&large), "{large}");
    }

    #[test]
    fn the_floor_holds_and_schemes_follow_the_size() {
        let mut protection = Protection::new(Scheme::Leopard, 20);
        let shape = |protection: &mut Protection, k| protection.shape(k, 1151).map(|s| (s.scheme(), s.m(), s.len()));
        assert_eq!(shape(&mut protection, 1), Some((Scheme::Cauchy, 2, 1152)));
        assert_eq!(shape(&mut protection, 67), Some((Scheme::Cauchy, 14, 1152)));
        assert_eq!(shape(&mut protection, 212), Some((Scheme::Cauchy, 43, 1152)));
        assert_eq!(shape(&mut protection, 213), Some((Scheme::Leopard, 43, 1152)));
        assert_eq!(shape(&mut protection, MAX_DATA_SHARDS), Some((Scheme::Leopard, 1639, 1152)));
        protection.set_loss(100);
        assert_eq!(shape(&mut protection, 67), Some((Scheme::Cauchy, 23, 1152)));
        protection.set_loss(1000);
        assert_eq!(protection.loss_permille(), MOST_LOSS_PERMILLE);
        assert_eq!(shape(&mut protection, MAX_DATA_SHARDS), Some((Scheme::Leopard, MAX_PARITY_SHARDS, 1152)));

        let mut small = Protection::new(Scheme::Cauchy, 20);
        assert_eq!(shape(&mut small, 240), Some((Scheme::Cauchy, 15, 1152)));
        assert_eq!(shape(&mut small, 255), None);
        assert_eq!(shape(&mut Protection::new(Scheme::None, 20), 10), None);
    }

    #[test]
    fn loss_is_believed_quickly_and_forgotten_slowly() {
        let mut estimator = LossEstimator::default();
        assert_eq!(estimator.report(20, 10, 20), 0, "too few packets to tell");
        let one = estimator.report(1000, 950, 1000);
        assert!((50..=63).contains(&one), "{one}");
        let two = estimator.report(2000, 1900, 2000);
        assert!((one..=63).contains(&two), "{two}");
        let quiet = (3..13).map(|step| estimator.report(step * 1000, step * 1000 - 100, step * 1000)).last().unwrap();
        assert!(quiet < two && quiet > two / 2, "{quiet}");
        estimator.new_generation();
        assert_eq!(estimator.permille(), quiet);
    }

    #[test]
    fn late_packets_are_taken_back_and_nonsense_is_ignored() {
        let mut estimator = LossEstimator::default();
        estimator.report(1000, 1000, 1000);
        estimator.report(2000, 1990, 2000);
        let before = estimator.permille();
        assert!(estimator.report(3000, 3000, 3000) <= before);
        let now = estimator.permille();
        assert_eq!(estimator.report(u64::MAX, 0, 3000), now, "more than was sent");
        assert_eq!(estimator.report(3000, 3001, 3000), now, "more received than the highest");
        assert_eq!(estimator.report(100, 0, 3000), now, "an old report that came late");
    }
}
