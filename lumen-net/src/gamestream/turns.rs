//! Whose handshake is next. Each one costs a signature, of which lumend gives a few a second, whoever asks; and clients
//! shake hands for every picture of an app list at once. So handshakes take turns here, rather than fail there, and one
//! machine's leave room for others'. Machines from which a paired client has been heard have a share that strangers cannot
//! take from them.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use super::door::network;

/// Of all machines together: with [`KNOWN`] a little less than lumend gives (`lumend/src/signer.rs`).
const ALL: Pace = Pace { interval: Duration::from_millis(100), burst: 32 };
/// Of those together that are known, beside what they have with all.
const KNOWN: Pace = Pace { interval: Duration::from_millis(150), burst: 16 };
/// Of one machine.
const ONE: Pace = Pace { interval: Duration::from_millis(125), burst: 32 };
/// Machines that are remembered; those that have been quiet are forgotten before there are more.
const KEPT: usize = 64;

/// Machines that are known at a time: the ones that were heard last.
const KNOWN_KEPT: usize = 64;

/// No turn is given out that is farther away: nobody waits that long.
const FARTHEST: Duration = Duration::from_secs(10);

/// So many at once, and then one each interval.
#[derive(Clone, Copy)]
struct Pace {
    interval: Duration,
    burst: u32,
}

/// The turns of all.
#[derive(Default)]
pub struct Turns(Mutex<Book>);

/// For all together, for the known ones and for each machine: when there would be no more bursts owed.
#[derive(Default)]
struct Book {
    all: Option<Instant>,
    known: Option<Instant>,
    each: BTreeMap<IpAddr, Instant>,
    /// Whence a paired client was heard, the last one at the end.
    friends: VecDeque<IpAddr>,
}

impl Turns {
    /// Waits for the turn of a machine's next handshake, first among its own, then among all. False if that would take
    /// longer than this.
    pub async fn wait(&self, address: IpAddr, patience: Duration) -> bool {
        let now = Instant::now();
        let latest = now + patience;
        let Some(turn) = self.book().one(now, network(address)).filter(|turn| *turn <= latest) else { return false };
        sleep_until(turn.into()).await;
        let Some(turn) = self.book().all(Instant::now(), latest, network(address)) else { return false };
        sleep_until(turn.into()).await;
        true
    }

    /// A paired client has been heard from there.
    pub fn know(&self, address: IpAddr) {
        self.book().know(network(address));
    }

    /// Somebody is paired no more: who still is will be heard again.
    pub fn forget_known(&self) {
        self.book().friends.clear();
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// A machine's next turn; none if it has more to come than it will live to see.
    fn one(&mut self, now: Instant, network: IpAddr) -> Option<Instant> {
        if self.each.len() >= KEPT {
            self.each.retain(|_, due| *due > now);
        }
        let (turn, due) = ONE.next(self.each.get(&network).copied(), now);
        if turn > now + FARTHEST {
            return None;
        }
        // Where there are too many to remember, what all may have together is all that counts.
        if self.each.len() < KEPT || self.each.contains_key(&network) {
            self.each.insert(network, due);
        }
        Some(turn)
    }

    /// The next turn among all, or, for a machine that is known, among those, whichever is earlier. One after `latest`
    /// is not given out: nobody would take it, and those that come after a flood would wait for it all the same.
    fn all(&mut self, now: Instant, latest: Instant, network: IpAddr) -> Option<Instant> {
        let (of_all, of_known) = (ALL.next(self.all, now), KNOWN.next(self.known, now));
        let is_known = of_known.0 < of_all.0 && self.friends.contains(&network);
        let (book, (turn, due)) = if is_known { (&mut self.known, of_known) } else { (&mut self.all, of_all) };
        (turn <= latest).then(|| {
            *book = Some(due);
            turn
        })
    }

    fn know(&mut self, network: IpAddr) {
        self.friends.retain(|friend| *friend != network);
        if self.friends.len() >= KNOWN_KEPT {
            self.friends.pop_front();
        }
        self.friends.push_back(network);
    }
}

impl Pace {
    /// The next turn, and what is due after it.
    fn next(self, due: Option<Instant>, now: Instant) -> (Instant, Instant) {
        let due = due.map_or(now, |due| due.max(now));
        let turn = due.checked_sub(self.interval * (self.burst - 1)).map_or(now, |turn| turn.max(now));
        (turn, due + self.interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(number: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, number])
    }

    /// Seconds from `begun` to each of a machine's next turns.
    fn turns(book: &mut Book, begun: Instant, number: u8, count: usize) -> Vec<f64> {
        let turn = |_| book.one(begun, machine(number)).map(|turn| (turn - begun).as_secs_f64());
        (0..count).map_while(turn).collect()
    }

    #[test]
    fn a_burst_goes_through_and_then_it_is_one_at_a_time() {
        let (mut book, begun) = (Book::default(), Instant::now());
        let first = turns(&mut book, begun, 1, 35);
        assert_eq!(first[..32], [0.0; 32]);
        assert_eq!(first[32..], [0.125, 0.25, 0.375]);
        assert_eq!(turns(&mut book, begun, 2, 32), [0.0; 32], "another's is its own");
        assert_eq!(turns(&mut book, begun + Duration::from_secs(60), 1, 32), [0.0; 32]);
    }

    #[test]
    fn nobody_queues_for_ever() {
        let (mut book, begun) = (Book::default(), Instant::now());
        let taken = turns(&mut book, begun, 1, 1_000).len();
        assert_eq!(taken, 32 + 80, "so many at once, and eight a second");
        // What was not given is not waited for either.
        assert_eq!(turns(&mut book, begun + FARTHEST, 1, 1), [0.125]);
    }

    #[test]
    fn all_together_have_less_than_lumend_gives() {
        let (mut book, begun) = (Book::default(), Instant::now());
        let within = |book: &mut Book, number: u8| {
            (0..1_000).filter_map(|_| book.all(begun, begun + FARTHEST, machine(number))).count()
        };
        book.know(machine(1));
        let (strangers, friends) = (within(&mut book, 2), within(&mut book, 1));
        // lumend: 64, and 20 a second.
        assert!((200..=64 + 200).contains(&(strangers + friends)), "{strangers} and {friends}");
    }

    #[test]
    fn strangers_do_not_take_the_turns_of_those_that_are_known() {
        let (mut book, begun) = (Book::default(), Instant::now());
        let latest = begun + FARTHEST;
        book.know(machine(1));
        while book.all(begun, latest, machine(2)).is_some() {}
        assert_eq!([0; 16].map(|_| book.all(begun, latest, machine(1))), [Some(begun); 16]);
        assert_eq!(book.all(begun, latest, machine(1)), Some(begun + KNOWN.interval));
        assert_eq!(book.all(begun, latest, machine(3)), None, "a stranger still");
        // Where nobody is in the way there is all that a stranger would have, and more.
        let (mut book, some) = (Book::default(), 32 + 16);
        book.know(machine(1));
        assert!((0..some).all(|_| book.all(begun, latest, machine(1)) == Some(begun)));
        (0..=u8::MAX).for_each(|number| book.know(machine(number)));
        assert!(book.friends.len() == KNOWN_KEPT && !book.friends.contains(&machine(1)));
    }

    #[test]
    fn a_flood_is_over_when_it_stops() {
        let (mut book, begun) = (Book::default(), Instant::now());
        // A thousand handshakes a second for ten seconds, from more machines than anybody remembers.
        let mut now = begun;
        for _ in 0..10_000 {
            now += Duration::from_millis(1);
            let _ = book.all(now, now + FARTHEST, machine(2));
        }
        let turn = book.all(now, now + FARTHEST + ALL.interval, machine(3));
        assert!(turn.is_some(), "the next is owed no more than what somebody waits for");
        let later = now + FARTHEST;
        let turn = book.all(later, later + FARTHEST, machine(3)).map(|turn| turn - later);
        assert!(turn.is_some_and(|wait| wait <= 2 * ALL.interval), "{turn:?}");
    }

    #[test]
    fn machines_that_are_quiet_are_forgotten() {
        let (mut book, begun) = (Book::default(), Instant::now());
        for number in 0..=u8::MAX {
            assert_eq!(turns(&mut book, begun + Duration::from_secs(u64::from(number)), number, 1).len(), 1);
        }
        assert!(book.each.len() <= KEPT);
    }
}
