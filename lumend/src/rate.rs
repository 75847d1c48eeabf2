//! Token buckets: how lumend keeps what others can make it do within bounds.

const SECOND: u64 = 1_000_000_000;

/// A bucket that begins full. Times are nanoseconds of any clock that does not run backwards.
#[derive(Clone, Debug)]
pub struct Rate {
    burst: u64,
    per_second: u64,
    /// In billionths.
    tokens: u64,
    refilled_at: u64,
}

impl Rate {
    /// Allows `burst` at once and `per_second` in the long run.
    pub const fn new(now: u64, burst: u32, per_second: u32) -> Self {
        let (burst, per_second) = (burst as u64, per_second as u64);
        Self { burst, per_second, tokens: burst * SECOND, refilled_at: now }
    }

    /// How much is allowed at `now`.
    pub fn left(&self, now: u64) -> u64 {
        self.tokens_at(now) / SECOND
    }

    /// Spends what [`Self::left`] has allowed.
    pub fn spend(&mut self, now: u64, amount: u64) {
        self.tokens = self.tokens_at(now).saturating_sub(amount.saturating_mul(SECOND));
        self.refilled_at = self.refilled_at.max(now);
    }

    /// Spends one; false if there is none.
    pub fn take(&mut self, now: u64) -> bool {
        let allowed = self.left(now) > 0;
        if allowed {
            self.spend(now, 1);
        }
        allowed
    }

    fn tokens_at(&self, now: u64) -> u64 {
        let grown = now.saturating_sub(self.refilled_at).saturating_mul(self.per_second);
        self.tokens.saturating_add(grown).min(self.burst * SECOND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_spent_and_refills() {
        let mut rate = Rate::new(0, 20, 5);
        assert_eq!((0..100).filter(|_| rate.take(0)).count(), 20);
        assert!(rate.take(SECOND));
        assert_eq!((0..100).filter(|_| rate.take(2 * SECOND)).count(), 9);
        assert_eq!(rate.left(1000 * SECOND), 20, "never more than a burst");
        rate.spend(1000 * SECOND, 15);
        assert_eq!(rate.left(0), 5, "a clock that stands still refills nothing");
    }
}
