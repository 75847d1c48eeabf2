//! The offset between the host's clock and the client's, with a bound on its error.

/// What the two rates may differ by: 100 parts in a million, twice the tolerance of a common crystal.
const DRIFT_PPM: u64 = 100;

/// Estimates host clock minus client clock.
///
/// On one machine (equal boot ids) it is zero, exactly. Otherwise it is that of the exchange with the least round trip:
/// the true offset then lies within half that round trip, plus what the clocks may have drifted apart since.
#[derive(Clone, Debug)]
pub struct ClockOffset {
    same_clock: bool,
    best: Option<Sample>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    offset_ns: i64,
    round_trip_ns: u64,
    at_ns: u64,
}

impl Sample {
    fn error_ns(&self, now_ns: u64) -> u64 {
        self.round_trip_ns / 2 + now_ns.saturating_sub(self.at_ns) / 1_000_000 * DRIFT_PPM
    }
}

/// The four times of one probe and its pong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exchange {
    /// Client's clock.
    pub client_sent_ns: u64,
    /// Host's clock.
    pub host_received_ns: u64,
    /// Host's clock.
    pub host_sent_ns: u64,
    /// Client's clock.
    pub client_received_ns: u64,
}

impl ClockOffset {
    /// `host` and `client` are boot ids; zeros mean unknown.
    pub fn new(host: [u8; 16], client: [u8; 16]) -> Self {
        Self { same_clock: host == client && host != [0; 16], best: None }
    }

    /// Takes in one exchange and returns its round trip without the host's own delay. Times that cannot be (a pong
    /// before its probe) are ignored: the host is authentic, but its clock is its own affair.
    pub fn sample(&mut self, exchange: Exchange) -> Option<u64> {
        let Exchange { client_sent_ns, host_received_ns, host_sent_ns, client_received_ns } = exchange;
        let total = client_received_ns.checked_sub(client_sent_ns)?;
        let round_trip_ns = total.checked_sub(host_sent_ns.checked_sub(host_received_ns)?)?;
        let there = i128::from(host_received_ns) - i128::from(client_sent_ns);
        let back = i128::from(host_sent_ns) - i128::from(client_received_ns);
        let offset_ns = i64::try_from((there + back) / 2).ok()?;
        let sample = Sample { offset_ns, round_trip_ns, at_ns: client_received_ns };
        if self.best.is_none_or(|best| sample.error_ns(client_received_ns) <= best.error_ns(client_received_ns)) {
            self.best = Some(sample);
        }
        Some(round_trip_ns)
    }

    /// Host clock minus client clock in nanoseconds, or `None` before the first exchange.
    pub fn offset_ns(&self) -> Option<i64> {
        if self.same_clock { Some(0) } else { self.best.map(|best| best.offset_ns) }
    }

    /// The offset is at most this wrong at `now_ns` (client's clock).
    pub fn error_ns(&self, now_ns: u64) -> Option<u64> {
        if self.same_clock { Some(0) } else { self.best.map(|best| best.error_ns(now_ns)) }
    }

    /// Least round trip among the exchanges in use, in nanoseconds.
    pub fn round_trip_ns(&self) -> Option<u64> {
        self.best.map(|best| best.round_trip_ns)
    }

    /// A time of the host on the client's clock.
    pub fn to_client_ns(&self, host_ns: u64) -> Option<u64> {
        host_ns.checked_add_signed(self.offset_ns()?.checked_neg()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: [u8; 16] = [1; 16];
    const CLIENT: [u8; 16] = [2; 16];
    const TRUTH: i64 = -5_000_000_000;

    /// An exchange begun at `at` on the client's clock, with these one-way delays.
    fn exchange(at: u64, there: u64, back: u64) -> Exchange {
        let host_received_ns = (at + there).checked_add_signed(TRUTH).unwrap();
        Exchange {
            client_sent_ns: at,
            host_received_ns,
            host_sent_ns: host_received_ns + 70_000,
            client_received_ns: at + there + 70_000 + back,
        }
    }

    #[test]
    fn one_machine_has_one_clock() {
        let clock = ClockOffset::new(HOST, HOST);
        assert_eq!((clock.offset_ns(), clock.error_ns(0), clock.to_client_ns(7)), (Some(0), Some(0), Some(7)));
        assert_eq!(ClockOffset::new([0; 16], [0; 16]).offset_ns(), None, "unknown boot ids prove nothing");
    }

    #[test]
    fn the_error_bound_holds_however_lopsided_the_path() {
        let mut clock = ClockOffset::new(HOST, CLIENT);
        let delays = [(9, 1), (30, 30), (2, 3), (1, 40), (2, 2), (50, 1)];
        for (step, (there, back)) in delays.into_iter().enumerate() {
            let at = 10_000_000_000 + step as u64 * 100_000_000;
            let sample = exchange(at, there * 100_000, back * 100_000);
            assert_eq!(clock.sample(sample), Some((there + back) * 100_000));
            let wrong = clock.offset_ns().unwrap().abs_diff(TRUTH);
            assert!(wrong <= clock.error_ns(sample.client_received_ns).unwrap());
        }
        assert_eq!(clock.round_trip_ns(), Some(400_000), "the least round trip decides");
        assert_eq!(clock.offset_ns(), Some(TRUTH));
    }

    #[test]
    fn an_old_sample_gives_way_once_drift_outweighs_it() {
        let mut clock = ClockOffset::new(HOST, CLIENT);
        clock.sample(exchange(10_000_000_000, 100_000, 100_000));
        clock.sample(exchange(11_000_000_000, 500_000, 500_000));
        assert_eq!(clock.round_trip_ns(), Some(200_000));
        clock.sample(exchange(30_000_000_000, 500_000, 500_000));
        assert_eq!(clock.round_trip_ns(), Some(1_000_000));
    }

    #[test]
    fn impossible_times_change_nothing() {
        let mut clock = ClockOffset::new(HOST, CLIENT);
        let good = exchange(10_000_000_000, 1, 1);
        assert_eq!(clock.sample(Exchange { client_received_ns: good.client_sent_ns - 1, ..good }), None);
        assert_eq!(clock.sample(Exchange { host_sent_ns: good.host_received_ns - 1, ..good }), None);
        assert_eq!(clock.sample(Exchange { host_sent_ns: u64::MAX, host_received_ns: 0, ..good }), None);
        assert_eq!(clock.offset_ns(), None);
    }
}
