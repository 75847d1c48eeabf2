//! What the media thread does when a session's time for it has come.

use std::io;

use ipc::event::now_ns;

use super::socket::Outlet;
use super::{Media, MediaEvent};
use crate::session::SILENCE_NS;

/// An idle packet leaves when nothing else has for this long, so that a native client soon notices a dead host.
pub const IDLE_NS: u64 = 50_000_000;

pub const REPORT_NS: u64 = 1_000_000_000;

/// What a session can wait for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Allowance for its next packets.
    Pace,
    Idle,
    Report,
    /// The client's next probe or ping.
    Silence,
    /// The encoder may be asked for another keyframe.
    Keyframe,
}

impl Wait {
    pub const ALL: [Self; 5] = [Self::Pace, Self::Idle, Self::Report, Self::Silence, Self::Keyframe];
    pub const KINDS: usize = Self::ALL.len();

    pub fn key(self, slot: usize) -> usize {
        slot * Self::KINDS + self as usize
    }

    pub fn of(key: usize) -> (Self, usize) {
        (Self::ALL[key % Self::KINDS], key / Self::KINDS)
    }
}

impl Media {
    pub(super) fn on_deadlines(&mut self) -> io::Result<()> {
        let now = now_ns();
        while let Some(key) = self.deadlines.pop_due(now) {
            let (wait, slot) = Wait::of(key);
            if wait == Wait::Pace {
                self.pump(slot)?;
                continue;
            }
            let Some(session) = &mut self.sessions[slot] else { continue };
            match wait {
                Wait::Pace => {}
                Wait::Idle => {
                    let quiet_since = session.last_sent_ns();
                    if let Some(socket) = self.sockets.of(session.face()).filter(|_| quiet_since + IDLE_NS <= now) {
                        session.send_idle(Outlet { socket, counters: &self.counters }, now);
                    }
                    self.deadlines.set(key, session.last_sent_ns().max(now - IDLE_NS / 2) + IDLE_NS);
                }
                Wait::Report => {
                    let event = MediaEvent::Stats { session: session.id(), stats: session.stats(now) };
                    self.deadlines.set(key, now + REPORT_NS);
                    self.report(event);
                }
                Wait::Silence => {
                    let over = session.silent_at_ns();
                    let event = MediaEvent::Silent { session: session.id(), generation: session.generation() };
                    // Soon enough for a first probe to shorten it; and again, should the report be lost in a full queue.
                    let next = now + SILENCE_NS;
                    self.deadlines.set(key, if over > now { over.min(next) } else { next });
                    if over <= now {
                        self.report(event);
                    }
                }
                Wait::Keyframe => session.keyframe_due(now),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart() {
        for slot in 0..4 {
            for wait in Wait::ALL {
                assert!(Wait::of(wait.key(slot)) == (wait, slot));
            }
        }
    }
}
