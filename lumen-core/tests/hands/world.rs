//! A client with its outbox, a host with its inbox and what it has injected, and a path between them.

use lumen_core::InputEvent;
use lumen_core::input::hands::Hands;
use lumen_core::input::inbox::{Inbox, Order};
use lumen_core::input::outbox::Outbox;
use lumen_core::input::{Axis, Button, KeyCode, MAX_INPUT_DATAGRAM};

use crate::net::{Net, Path, Random};

const MS: u64 = 1_000_000;
const TICK_NS: u64 = MS / 4;
/// What a client does while anything is down, and twice after.
const HELD_EVERY_NS: u64 = 200 * MS;
/// A host that acknowledges leaves this long between two answers.
const ACK_EVERY_NS: u64 = 2 * MS;

pub struct Setup {
    pub seed: u64,
    pub up: Path,
    pub down: Path,
    /// How often the host has no place for an event.
    pub busy_permille: u64,
}

pub struct World {
    random: Random,
    pub up: Net,
    down: Net,
    busy_permille: u64,
    now_ns: u64,
    pub outbox: Outbox,
    inbox: Inbox,
    /// Whether the host has anywhere to put events.
    pub wired: bool,
    owed: Option<u64>,
    next_ack_ns: u64,
    client_hands: Hands,
    pub host_hands: Hands,
    next_held_ns: u64,
    held_more: u8,
    /// By number: what was pushed, and when. Merged events change what their number stands for.
    sent: Vec<(InputEvent, u64)>,
    /// What the host has injected, in its order.
    pub seen: Vec<InputEvent>,
    /// Longest time from an event to its injection, of events that were not merged.
    pub slowest_ns: u64,
    pub client_motion: i64,
    pub host_motion: i64,
}

impl World {
    pub fn new(setup: Setup) -> Self {
        Self {
            random: Random::new(setup.seed),
            up: Net::new(setup.up, setup.seed ^ 1),
            down: Net::new(setup.down, setup.seed ^ 2),
            busy_permille: setup.busy_permille,
            now_ns: MS,
            outbox: Outbox::new(),
            inbox: Inbox::default(),
            wired: true,
            owed: None,
            next_ack_ns: 0,
            client_hands: Hands::default(),
            host_hands: Hands::default(),
            next_held_ns: 0,
            held_more: 0,
            sent: Vec::new(),
            seen: Vec::new(),
            slowest_ns: 0,
            client_motion: 0,
            host_motion: 0,
        }
    }

    /// Hands do something every so often.
    pub fn play(&mut self, for_ns: u64, every_ns: u64) {
        let end_ns = self.now_ns + for_ns;
        let mut next_ns = self.now_ns;
        while self.now_ns < end_ns {
            while next_ns <= self.now_ns {
                let event = self.any_event();
                self.push(event);
                next_ns += every_ns;
            }
            self.tick();
        }
    }

    /// Time passes and hands rest.
    pub fn run(&mut self, for_ns: u64) {
        let end_ns = self.now_ns + for_ns;
        while self.now_ns < end_ns {
            self.tick();
        }
    }

    /// Time passes until the host has everything and the client knows, nothing is to be said of what is held, and at most
    /// so long.
    pub fn settle(&mut self, at_most_ns: u64) {
        let end_ns = self.now_ns + at_most_ns;
        while self.now_ns < end_ns && !(self.outbox.unacknowledged() == 0 && self.resting()) {
            self.tick();
        }
    }

    /// The user takes hands off everything; releases that find no room are left to what is said of what is held.
    pub fn let_go(&mut self) {
        let releases: Vec<_> = self.client_hands.lift_all().collect();
        releases.into_iter().for_each(|event| _ = self.push(event));
        (self.held_more, self.next_held_ns) = (2, self.now_ns);
    }

    /// False if there is no room for the event.
    pub fn push(&mut self, event: InputEvent) -> bool {
        self.client_hands.apply(&event);
        let Ok(seq) = self.outbox.push(self.now_ns, event) else { return false };
        if let InputEvent::Motion { dx, .. } = event {
            self.client_motion += i64::from(dx);
        }
        match self.sent.get_mut(seq as usize) {
            None => {
                assert_eq!(seq as usize, self.sent.len());
                self.sent.push((event, self.now_ns));
            }
            Some(merged) => merged.0 = joined(merged.0, event),
        }
        self.transmit();
        true
    }

    /// The host has injected exactly what was sent, all of it once the client has nothing unacknowledged.
    pub fn assert_exactly_once(&self) {
        let missing = self.sent.len() - self.seen.len();
        assert_eq!(self.outbox.unacknowledged(), 0, "{missing} not injected");
        assert_eq!(self.seen.len(), self.sent.len());
        for (number, (seen, (sent, _))) in self.seen.iter().zip(&self.sent).enumerate() {
            assert_eq!(seen, sent, "number {number}");
        }
        assert_eq!(self.inbox.counts().accepted, self.sent.len() as u64);
    }

    fn resting(&self) -> bool {
        self.client_hands.is_empty() && self.held_more == 0
    }

    fn any_event(&mut self) -> InputEvent {
        let dx = self.random.below(1000) as i32 - 300;
        let pressed = self.random.chance(500);
        match self.random.below(10) {
            0 | 1 => {
                let code = 30 + self.random.below(8) as u16;
                InputEvent::Key { code: KeyCode::new(code).unwrap(), pressed }
            }
            2 => InputEvent::Button { button: Button::ALL[self.random.below(5) as usize], pressed },
            3 => InputEvent::Scroll { axis: Axis::Vertical, amount: dx },
            4 => InputEvent::Position { x: self.random.below(65_536) as u16, y: 7 },
            _ => InputEvent::Motion { dx, dy: 1 },
        }
    }

    fn tick(&mut self) {
        self.now_ns += TICK_NS;
        while let Some(packet) = self.up.receive(self.now_ns) {
            self.hear(&packet);
        }
        if self.now_ns >= self.next_ack_ns
            && let Some(client_ns) = self.owed.take()
        {
            let mut answer = Vec::new();
            self.inbox.ack(client_ns, &mut answer);
            self.down.send(self.now_ns, &answer);
            self.next_ack_ns = self.now_ns + ACK_EVERY_NS;
        }
        while let Some(packet) = self.down.receive(self.now_ns) {
            assert_eq!(self.outbox.acknowledge(self.now_ns, &packet), Some(()));
        }
        self.tell_held();
        self.transmit();
    }

    fn tell_held(&mut self) {
        if !self.client_hands.is_empty() {
            self.held_more = 2;
        }
        if self.held_more > 0 && self.now_ns >= self.next_held_ns {
            self.next_held_ns = self.now_ns + HELD_EVERY_NS;
            // What found no room has not been said.
            if self.push(InputEvent::Held(self.client_hands.held())) && self.client_hands.is_empty() {
                self.held_more -= 1;
            }
        }
    }

    fn transmit(&mut self) {
        let mut out = Vec::new();
        let due = self.outbox.deadline().is_some_and(|due_ns| due_ns <= self.now_ns);
        let mut sent = false;
        while self.outbox.poll(self.now_ns, &mut out) {
            assert!(out.len() <= MAX_INPUT_DATAGRAM);
            self.up.send(self.now_ns, &out);
            sent = true;
        }
        assert_eq!(sent, due, "a deadline without work, or work without a deadline");
    }

    fn hear(&mut self, packet: &[u8]) {
        let datagram = Inbox::datagram(packet).unwrap();
        self.owed = Some(self.owed.unwrap_or(0).max(datagram.client_ns));
        for numbered in datagram.events() {
            match self.inbox.offer(numbered.seq) {
                Order::Next => {}
                Order::Duplicate => continue,
                Order::Gap => break,
            }
            if !self.wired || self.random.chance(self.busy_permille) {
                break;
            }
            self.inject(numbered.event.unwrap());
            self.inbox.accept();
        }
    }

    fn inject(&mut self, event: InputEvent) {
        let (sent, at_ns) = self.sent[self.seen.len()];
        if sent == event {
            self.slowest_ns = self.slowest_ns.max(self.now_ns - at_ns);
        }
        match event {
            InputEvent::Held(held) => drop(self.host_hands.lift(&held)),
            InputEvent::Motion { dx, .. } => self.host_motion += i64::from(dx),
            _ => {}
        }
        self.host_hands.apply(&event);
        self.seen.push(event);
    }
}

/// What an event is that another became part of.
fn joined(waiting: InputEvent, event: InputEvent) -> InputEvent {
    match (waiting, event) {
        (InputEvent::Motion { dx, dy }, InputEvent::Motion { dx: x, dy: y }) => {
            InputEvent::Motion { dx: dx + x, dy: dy + y }
        }
        (InputEvent::Scroll { axis, amount }, InputEvent::Scroll { amount: more, .. }) => {
            InputEvent::Scroll { axis, amount: amount + more }
        }
        _ => event,
    }
}
