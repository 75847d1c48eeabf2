//! What goes right, and everything that may go wrong.

use ipc::{Generation, PlaneKind, SessionId};

use super::branches::Branches;
use super::guests::Guests;
use super::returns::Returns;
use super::world::{FRIEND, NATIVE, STRANGER, Sim, World, format};
use crate::machine::{Event, Exit, Output, Wiring};

impl World {
    pub fn play(&mut self, op: u8, pick: u16) {
        // Net falls less often than the others: all sessions fall with it.
        let spared = |sim: &Sim| sim.kind == PlaneKind::Net && !pick.is_multiple_of(8);
        let plane = Self::pick(self.planes.iter().filter(|(_, sim)| !spared(sim)).map(|(id, _)| *id), pick);
        let session = Self::pick(self.sessions.keys().copied(), pick);
        let kind = PlaneKind::ALL[pick as usize % PlaneKind::ALL.len()];
        let generation = Generation(u32::from(pick % 5));
        match (op, plane) {
            (0..=19, _) if !self.owed.is_empty() => {
                let event = self.owed.remove(pick as usize % self.owed.len());
                self.deliver(event);
            }
            (20..=24, _) => self.ask(FRIEND, 1280),
            (25, _) => self.ask(STRANGER, 1280),
            (26, _) => self.ask(FRIEND, 1281),
            (27..=30, Some(plane)) => {
                let peer = [PlaneKind::Capture, PlaneKind::Encode, PlaneKind::Net][pick as usize / 5 % 3];
                let accuses = Exit::Accuses { peer, reason: "it lies".into() };
                let exits = [Exit::Crashed("signal 9".into()), Exit::Reopen, Exit::Stopped, accuses];
                let exit = exits[pick as usize % exits.len()].clone();
                if pick.is_multiple_of(2) {
                    self.feed(Event::LinkClosed(plane));
                }
                self.feed(Event::Exited { plane, exit });
            }
            (31, Some(plane)) => self.feed(Event::LinkClosed(plane)),
            (32, Some(plane)) => self.feed(Event::Broken { plane, reason: "garbage".into() }),
            (33, Some(plane)) => self.feed(Event::Failed { plane, generation, reason: "no".into() }),
            (34, Some(plane)) => {
                self.planes.get_mut(&plane).unwrap().guilty = true;
                self.feed(Event::Opened { plane, generation, format: format() });
            }
            (35, Some(plane)) => {
                self.planes.get_mut(&plane).unwrap().guilty = true;
                self.feed(Event::Wired { plane, generation });
            }
            (36, _) => {
                if let (Some(plane), Some(session)) = (self.net(), session) {
                    let ask =
                        self.machine.session(session).filter(|_| pick.is_multiple_of(2)).and_then(|s| s.back.by());
                    self.feed(Event::Gone { plane, session, ask, reason: "bye".into() });
                }
            }
            (37, _) => {
                if let (Some(plane), Some(ask)) = (self.net(), Self::pick(self.open_asks.iter().copied(), pick)) {
                    self.feed(Event::Withdrawn { plane, ask });
                }
            }
            (38, _) if pick.is_multiple_of(2) => self.feed(Event::DesktopDown { reason: "crashed".into() }),
            (38, _) => {
                if let Some(session) = session {
                    self.lose_output(session);
                }
            }
            (39, _) => self.feed(Event::DesktopUp),
            (40, _) => {
                self.feed(Event::Permit { client: FRIEND, standing: (!pick.is_multiple_of(4)).then_some(NATIVE) })
            }
            (41, _) => {
                if let Some(session) = session {
                    self.feed(Event::Stop(session));
                }
            }
            (42, _) => {
                let failed = self.machine.net().failed;
                let kind = if kind == PlaneKind::Net && !failed { PlaneKind::Audio } else { kind };
                self.feed(Event::Restart { kind, session: session.filter(|_| kind != PlaneKind::Net) });
            }
            (43, _) => {
                if let Some(session) = session {
                    self.feed(Event::Idr(session));
                }
            }
            (44, _) if pick.is_multiple_of(2) => {
                let opening = self.machine.sessions().find(|s| s.wiring == Wiring::Opening);
                let opening = opening.map(|s| (s.id, s.generation, s.capture.current));
                if let Some((session, generation, capture)) = opening {
                    // The order was not carried out: capture has heard nothing and will not answer.
                    self.owed.retain(|event| {
                        !matches!(event, Event::Opened { plane, generation: g, .. }
                            if *g == generation && Some(*plane) == capture)
                    });
                    self.feed(Event::CannotOpen { session, generation, reason: "no socket".into() });
                }
            }
            (45, _) if pick.is_multiple_of(8) => {
                if let Some(session) = session {
                    self.feed(Event::CannotWire { session, reason: "no memory".into() });
                }
            }
            (44..=46, _) => {
                self.now += u64::from(pick) * 20_000;
                self.feed(Event::Tick);
            }
            (47..=59, _) => Branches::play(self, op - 47, pick),
            (83.., _) => Returns::play(self, op - 83, pick),
            (63.., _) => Guests::play(self, op - 63, pick),
            (60..=62, _) => {
                self.now = self.machine.deadline().unwrap_or(self.now).max(self.now);
                self.feed(Event::Tick);
            }
            _ => {}
        }
    }

    /// The desktop that a session is on crashes, and no other.
    pub fn lose_output(&mut self, session: SessionId) {
        let others: Vec<_> = self.machine.sessions().filter(|s| s.id != session).cloned().collect();
        self.feed(Event::OutputLost { session, reason: "crashed".into() });
        for other in others {
            let now = self.machine.session(other.id).expect("another session ended");
            // One that waited for outputs to be given back may have its turn now.
            let same = now.output == other.output || other.output == Output::Wanted;
            assert!(same && now.generation == other.generation, "another session noticed: {now:?}");
        }
    }
}
