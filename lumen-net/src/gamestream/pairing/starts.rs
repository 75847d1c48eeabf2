//! How often pairings begin: each one puts a question before a person.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::gamestream::door::network;

const SPAN: Duration = Duration::from_secs(60);
/// Starts of one machine in a span.
const OF_ONE: usize = 6;
/// Starts of all in a span: what is remembered.
const OF_ALL: usize = 48;

/// The starts of the last minute.
#[derive(Default)]
pub struct Starts(Vec<(IpAddr, Instant)>);

impl Starts {
    /// Counts a start; false if there have been too many.
    pub fn take(&mut self, now: Instant, from: IpAddr) -> bool {
        self.0.retain(|(_, at)| now.saturating_duration_since(*at) < SPAN);
        let from = network(from);
        let its = self.0.iter().filter(|(address, _)| *address == from).count();
        let room = its < OF_ONE && self.0.len() < OF_ALL;
        if room {
            self.0.push((from, now));
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_machine_cannot_ask_for_ever_nor_for_all() {
        let (begun, mut starts) = (Instant::now(), Starts::default());
        let address = |number: u8| IpAddr::from([10, 0, 0, number]);
        for second in 0..OF_ONE as u64 {
            assert!(starts.take(begun + Duration::from_secs(second), address(1)));
        }
        assert!(!starts.take(begun + Duration::from_secs(59), address(1)));
        assert!(starts.take(begun + Duration::from_secs(59), address(2)));
        assert!(starts.take(begun + SPAN, address(1)), "the first is a minute ago");
        assert!(!starts.take(begun + SPAN, address(1)));
        let later = begun + 3 * SPAN;
        let taken = (0..=u8::MAX).filter(|number| starts.take(later, address(*number))).count();
        assert_eq!((taken, starts.0.len()), (OF_ALL, OF_ALL));
    }
}
