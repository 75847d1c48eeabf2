//! A seat of its own for every session, on sway: numbers, and the requests that make them, without a socket.
//!
//! What sway does with seats, read in its sources of 1.7 to 1.12 and seen on 1.7:
//! * `seat NAME ...` makes the seat, and no command removes one. Every such command deals all input devices out anew,
//!   virtual ones too: one that no seat names goes to the seat with `fallback`, whoever made it and for which seat. So
//!   all seats are made at once, before there is any device of Lumen's; `seat NAME cursor ...` deals nothing out.
//! * A window that opens where the first seat's focus is takes the keyboard focus of *every* seat, and with it their
//!   cursors. Nothing in sway's configuration keeps a seat out of that. A binding runs for the seat of the keyboard that
//!   triggers it, though: so each seat has a key that no keyboard has, bound to `focus output` of its session's output,
//!   which the input plane presses before it types or clicks.
//! * A new seat has the first seat's focus, before the window that has it can have asked for the seat's keyboard; wlroots
//!   never tells that window afterwards. So the first seat looks away while seats are made, and theirs is the workspace;
//!   there a window that is older than the seat gets the focus when it is clicked, or entered from outside. A desktop of
//!   lumend's own has its seats before its windows.
//! * Reading the configuration again removes seats that it does not name, and every binding: all has to be told anew.
//!   With the wlroots of sway 1.7 every window that lets go of a removed seat is disconnected; docs/config.md says how
//!   people keep the seats.

use std::collections::{BTreeMap, VecDeque};

use ipc::SessionId;

use super::{Seat, is_plain};
use crate::swayipc::{self, Output, Reply, Request};

/// A job that takes longer has failed.
const WITHIN: u64 = 3_000_000_000;

/// Evdev code of the key of seat 0, which does not exist: just above `KEY_MAX` of linux/input-event-codes.h.
const FOCUS_KEYS: u32 = 0x300;

/// Whose focus new windows follow and new seats begin with.
const FIRST_SEAT: &str = "seat0";

/// From an evdev code to xkb's.
const XKB_OFFSET: u32 = 8;

/// What the seats have to tell.
#[derive(Debug, PartialEq, Eq)]
pub enum SeatEvent {
    /// The session's seat exists and its cursor is on the output. None if it could not be made.
    Settled { session: SessionId, seat: Option<Seat> },
    /// The session's seat is settled again, but what devices there were on it are elsewhere now.
    Disturbed { session: SessionId },
}

#[derive(Clone, Debug)]
enum Job {
    /// Make all seats.
    Make,
    /// Place a session's seat on this output.
    Settle {
        session: SessionId,
        output: String,
        again: bool,
    },
    Free(u32),
}

#[derive(Debug)]
enum Step {
    Survey,
    Create { before: Vec<swayipc::Seat> },
    Check { before: Vec<swayipc::Seat> },
    Repair,
    Look { session: SessionId, output: String, again: bool },
    Place { session: SessionId, again: bool },
    Free,
}

/// The seats of one connection.
#[derive(Debug)]
pub struct Seats {
    /// Seats to make: sessions that there can be at a time. 0: no session needs one.
    count: u32,
    made: bool,
    taken: BTreeMap<SessionId, Taken>,
    queue: VecDeque<Job>,
    running: Option<(Step, u64)>,
    requests: VecDeque<Request>,
    events: VecDeque<SeatEvent>,
}

#[derive(Debug)]
struct Taken {
    number: u32,
    output: String,
}

impl Seats {
    pub fn new(count: u32) -> Self {
        Self {
            count,
            made: false,
            taken: BTreeMap::new(),
            queue: VecDeque::new(),
            running: None,
            requests: (count > 0).then_some(Request::WatchReloads).into_iter().collect(),
            events: VecDeque::new(),
        }
    }

    /// The session's output is there: a [`SeatEvent::Settled`] answers.
    pub fn settle(&mut self, now: u64, session: SessionId, output: &str) {
        let taken: Vec<_> = self.taken.values().map(|taken| taken.number).collect();
        let free = (1..=self.count).find(|number| !taken.contains(number));
        let number = self.taken.get(&session).map(|taken| taken.number).or(free);
        let Some(number) = number.filter(|_| is_plain(output)) else {
            return self.events.push_back(SeatEvent::Settled { session, seat: None });
        };
        self.taken.insert(session, Taken { number, output: output.to_owned() });
        if !self.made {
            self.made = true;
            self.queue.push_back(Job::Make);
        }
        self.queue.push_back(Job::Settle { session, output: output.to_owned(), again: false });
        self.advance(now);
    }

    /// The session has ended: its number is free.
    pub fn release(&mut self, now: u64, session: SessionId) {
        if let Some(Taken { number, .. }) = self.taken.remove(&session) {
            self.queue.push_back(Job::Free(number));
            self.advance(now);
        }
    }

    /// Sway has read its configuration again.
    pub fn reloaded(&mut self, now: u64) {
        self.made = !self.taken.is_empty();
        if self.made {
            self.queue.push_back(Job::Make);
        }
        for (&session, Taken { output, .. }) in &self.taken {
            self.queue.push_back(Job::Settle { session, output: output.clone(), again: true });
        }
        self.advance(now);
    }

    pub fn next_request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    pub fn next_event(&mut self) -> Option<SeatEvent> {
        self.events.pop_front()
    }

    pub fn deadline(&self) -> Option<u64> {
        self.running.as_ref().map(|(_, deadline)| *deadline)
    }

    /// The time named by [`Self::deadline`] has come: sway is stuck, and so is the connection.
    pub fn on_deadline(&self, now: u64) -> Result<(), &'static str> {
        if self.deadline().is_some_and(|deadline| now >= deadline) { Err("sway does not answer") } else { Ok(()) }
    }

    /// The answer to the oldest request that [`Self::next_request`] gave out and that has none yet.
    pub fn on_reply(&mut self, now: u64, reply: Reply) -> Result<(), &'static str> {
        if reply == Reply::Watching {
            return Ok(());
        }
        let Some((step, _)) = self.running.take() else { return Err("sway answers what nobody asked") };
        match (step, reply) {
            (Step::Survey, Reply::Seats(before)) => self.create(now, before),
            // A sway that knows no seats says so again when the seat is placed.
            (Step::Create { before }, Reply::Ran(_)) => self.ask(now, Request::ListSeats, Step::Check { before }),
            (Step::Check { before }, Reply::Seats(after)) => self.repair(now, &before, &after),
            (Step::Look { session, output, again }, Reply::Outputs(outputs)) => {
                self.place(now, session, &output, again, &outputs);
            }
            (Step::Place { session, again }, Reply::Ran(outcome)) => self.placed(session, again, outcome.is_ok()),
            (Step::Repair | Step::Free, Reply::Ran(_)) => {}
            _ => return Err("sway answers out of order"),
        }
        self.advance(now);
        Ok(())
    }

    fn advance(&mut self, now: u64) {
        while self.running.is_none() {
            match self.queue.pop_front() {
                None => return,
                Some(Job::Make) => self.ask(now, Request::ListSeats, Step::Survey),
                Some(Job::Settle { session, .. }) if !self.taken.contains_key(&session) => {}
                Some(Job::Settle { session, output, again }) => {
                    self.ask(now, Request::ListOutputs, Step::Look { session, output, again });
                }
                // Taken by another session since: its binding has replaced this one, or will.
                Some(Job::Free(number)) if self.taken.values().any(|taken| taken.number == number) => {}
                Some(Job::Free(number)) => {
                    let code = focus_key(number) + XKB_OFFSET;
                    self.ask(now, Request::Run(format!("unbindcode --inhibited {code}")), Step::Free);
                }
            }
        }
    }

    fn ask(&mut self, now: u64, request: Request, step: Step) {
        self.requests.push_back(request);
        self.running = Some((step, now + WITHIN));
    }

    fn create(&mut self, now: u64, before: Vec<swayipc::Seat>) {
        let missing = (1..=self.count).filter(|&number| before.iter().all(|seat| seat.name != name(number)));
        let mut commands: Vec<_> = missing.map(making).collect();
        if commands.is_empty() {
            return;
        }
        // A failure of these two is none: there was no window to look away from.
        let focus = before.iter().find(|seat| seat.name == FIRST_SEAT).map_or(0, |seat| seat.focus);
        if focus > 0 {
            commands.insert(0, "focus parent".to_owned());
            commands.push(format!("[con_id={focus}] focus"));
        }
        self.ask(now, Request::Run(commands.join("; ")), Step::Create { before });
    }

    /// On a sway that has never had a keyboard of the kernel's no seat is the fallback yet, and virtual devices, such
    /// as a VNC server's, were on their seat for being made there. The seat that has lost them is made what sway would
    /// have made it with the first keyboard.
    fn repair(&mut self, now: u64, before: &[swayipc::Seat], after: &[swayipc::Seat]) {
        let has = |seats: &[swayipc::Seat], name: &str| {
            seats.iter().any(|seat| seat.name == name && !seat.devices.is_empty())
        };
        let lost = before.iter().filter(|seat| !seat.devices.is_empty() && is_plain(&seat.name));
        let mut lost = lost.filter(|seat| !has(after, &seat.name));
        if after.iter().all(|seat| seat.devices.is_empty())
            && let Some(seat) = lost.next()
        {
            self.ask(now, Request::Run(format!("seat {} fallback true", seat.name)), Step::Repair);
        }
    }

    fn place(&mut self, now: u64, session: SessionId, output: &str, again: bool, outputs: &[Output]) {
        let Some(number) = self.taken.get(&session).map(|taken| taken.number) else { return };
        let mut commands =
            vec![format!("bindcode --no-warn --inhibited {} focus output {output}", focus_key(number) + XKB_OFFSET)];
        let active = || outputs.iter().filter(|output| output.active);
        if let Some(shown) = active().find(|shown| shown.name == output) {
            // Sway counts from the corner of the whole layout.
            let left = active().map(|output| output.rect.x).min().unwrap_or(0);
            let top = active().map(|output| output.rect.y).min().unwrap_or(0);
            let (x, y) = (shown.rect.x - left + shown.rect.width / 2, shown.rect.y - top + shown.rect.height / 2);
            commands.push(format!("seat {} cursor set {x} {y}", name(number)));
        }
        self.ask(now, Request::Run(commands.join("; ")), Step::Place { session, again });
    }

    fn placed(&mut self, session: SessionId, again: bool, done: bool) {
        let Some(Taken { number, .. }) = self.taken.get(&session) else { return };
        self.events.push_back(match again {
            true => SeatEvent::Disturbed { session },
            false => {
                let seat = Seat { name: name(*number), focus_key: focus_key(*number) };
                SeatEvent::Settled { session, seat: done.then_some(seat) }
            }
        });
    }
}

/// The command that makes a seat. One setting has to be named, and this is the default. Not `fallback`: sway would take it
/// that somebody has said where devices go, and give the next keyboard that is plugged in to no seat.
pub fn making(number: u32) -> String {
    format!("seat {} shortcuts_inhibitor enable", name(number))
}

fn name(number: u32) -> String {
    format!("lumen-{number}")
}

const fn focus_key(number: u32) -> u32 {
    FOCUS_KEYS + number
}

#[cfg(test)]
mod tests;
