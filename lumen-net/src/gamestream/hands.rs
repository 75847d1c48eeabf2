//! A GameStream client's hands: from its input packets into the input ring, and rumble back.
//!
//! ENet has acknowledged a packet before this host has looked at it, so nothing that comes here is ever sent again. What
//! finds no room waits, bounded; if even that is full, everything is let go of and begins anew, because a lost release
//! would be a key that is held for ever.

use std::collections::VecDeque;

use lumen_core::InputEvent;
use lumen_core::gamestream::input::{GuestHands, Packet, Verdict};
use lumen_core::input::{MAX_PADS, Rumble};

use crate::branches::{Count, Feed, Haptics, Rate, Tally, merged};

/// Events that may wait while there is no plane, or it is behind: what a busy hand does in a second.
const WAITING: usize = 512;
/// As many events as native clients may send.
const EVENTS: Rate = Rate::new(16_000, 2_000);

/// A session's input.
pub struct Hands {
    pub feed: Feed,
    hands: GuestHands,
    waiting: VecDeque<InputEvent>,
    rate: Rate,
    /// Running number of the events; a Moonlight client has none of its own.
    number: u32,
    /// What one packet has become.
    events: Vec<InputEvent>,
}

impl Default for Hands {
    fn default() -> Self {
        Self {
            feed: Feed::default(),
            hands: GuestHands::default(),
            waiting: VecDeque::new(),
            rate: EVENTS,
            number: 0,
            events: Vec::with_capacity(GuestHands::MAX_EVENTS),
        }
    }
}

impl Hands {
    /// Takes in one packet.
    pub fn take(&mut self, packet: &Packet, now_ns: u64, tally: &Tally) -> Verdict {
        let mut events = std::mem::take(&mut self.events);
        let verdict = self.hands.to_events(packet, &mut events);
        if matches!(verdict, Verdict::TooMany) {
            tally.add(Count::InputRejected);
        }
        for event in events.drain(..) {
            if !self.rate.take(now_ns) || !self.place(event, now_ns, tally) {
                tally.add(Count::InputRejected);
                self.begin_anew();
                break;
            }
        }
        events.clear();
        self.events = events;
        self.flush(now_ns, tally);
        verdict
    }

    /// Puts what waits into the ring, as far as it has room.
    pub fn flush(&mut self, now_ns: u64, tally: &Tally) {
        self.feed.flush(now_ns, tally);
        while let Some(&event) = self.waiting.front() {
            if !self.feed(&event, now_ns, tally) {
                return;
            }
            self.waiting.pop_front();
        }
    }

    fn feed(&mut self, event: &InputEvent, now_ns: u64, tally: &Tally) -> bool {
        let placed = self.feed.place(self.number, event, now_ns, tally);
        self.number = self.number.wrapping_add(u32::from(placed));
        placed
    }

    /// False if too much waits already.
    fn place(&mut self, event: InputEvent, now_ns: u64, tally: &Tally) -> bool {
        if self.waiting.is_empty() && self.feed(&event, now_ns, tally) {
            return true;
        }
        if let Some(newest) = self.waiting.back_mut()
            && let Some(both) = merged(newest, &event)
        {
            *newest = both;
            tally.add(Count::InputCoalesced);
            return true;
        }
        let room = self.waiting.len() < WAITING;
        if room {
            self.waiting.push_back(event);
        }
        room
    }

    fn begin_anew(&mut self) {
        self.waiting.clear();
        let mut last = Vec::new();
        self.hands.let_go(&mut last);
        self.waiting.extend(last);
    }
}

/// A session's rumble.
pub struct Rumbles {
    pub haptics: Haptics,
    /// What the client has been told of each pad's motors. They do not forget, so nothing is said twice.
    said: [(u16, u16); MAX_PADS as usize],
    /// The client can do something with it.
    wanted: bool,
}

impl Default for Rumbles {
    fn default() -> Self {
        Self { haptics: Haptics::default(), said: [(0, 0); MAX_PADS as usize], wanted: true }
    }
}

impl Rumbles {
    /// The client's wish, if this is one.
    pub fn heed(&mut self, verdict: Verdict) {
        if let Verdict::Haptics(wanted) = verdict {
            self.wanted = wanted;
        }
    }

    /// Gives states that the client does not know yet to `send`, which says whether it could.
    pub fn send(&mut self, live: bool, now_ns: u64, tally: &Tally, mut send: impl FnMut(&Rumble) -> bool) {
        let said = &mut self.said;
        self.haptics.send(live && self.wanted, now_ns, tally, |rumble| {
            let known = &mut said[usize::from(rumble.pad.get())];
            let news = *known != (rumble.low, rumble.high) && send(rumble);
            if news {
                *known = (rumble.low, rumble.high);
            }
            news
        });
    }
}

#[cfg(test)]
mod tests {
    use lumen_core::input::{Held, PadIndex, PadState};

    use super::*;

    fn key(vk: u8, pressed: bool) -> Packet {
        Packet::Key { vk, pressed, normalised: true }
    }

    #[test]
    fn what_comes_while_there_is_no_plane_waits_in_order() {
        let (mut hands, tally) = (Hands::default(), Tally::default());
        for _ in 0..1_000 {
            hands.take(&Packet::Motion { dx: 1, dy: 0 }, 0, &tally);
        }
        hands.take(&key(0x41, true), 0, &tally);
        assert_eq!(hands.waiting.len(), 2);
        assert_eq!(hands.waiting[0], InputEvent::Motion { dx: 256_000, dy: 0 });
        assert!(matches!(hands.waiting[1], InputEvent::Key { pressed: true, .. }));
    }

    #[test]
    fn too_much_lets_go_of_everything_and_plugs_pads_in_again() {
        let (mut hands, tally) = (Hands::default(), Tally::default());
        let pad = PadIndex::new(3).unwrap();
        let state = Packet::Pad { pad, present: 8, state: PadState::default() };
        hands.take(&state, 0, &tally);
        // Presses and releases are not merged, and nothing says which of them got lost.
        let mut at = 0;
        while hands.waiting.front() != Some(&InputEvent::Held(Held::NOTHING)) {
            hands.take(&key(0x41, at % 2 == 0), 0, &tally);
            at += 1;
            assert!(hands.waiting.len() <= WAITING && at <= WAITING);
        }
        assert_eq!(hands.waiting.back(), Some(&InputEvent::PadRemoved { pad }));
        hands.take(&state, 0, &tally);
        assert!(hands.waiting.iter().any(|event| matches!(event, InputEvent::PadArrived { .. })));
    }

    #[test]
    fn a_rate_beyond_hands_is_cut() {
        let (mut hands, tally) = (Hands::default(), Tally::default());
        for at in 0..100_000 {
            hands.take(&key(0x41 + (at % 20) as u8, at % 2 == 0), 0, &tally);
        }
        assert!(hands.waiting.len() <= WAITING);
        let mut stats = Default::default();
        tally.fill(&mut stats);
        assert!(stats.input_rejected > 90_000);
    }
}
