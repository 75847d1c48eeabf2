//! The input planes: what they are handed, what they say, and the devices that are kept for them.

use std::collections::btree_map::Entry;
use std::io;
use std::os::fd::OwnedFd;

use ipc::{
    DeviceId, FromInput, Generation, Hands, InputWiring, PlaneKind, RingFds, RingGeometry, SessionId, ToInput, ToNet,
};
use tracing::{info, warn};

use super::Daemon;
use super::hear::REASON;
use super::sound::no_memory;
use crate::grumbles::printable;
use crate::keep::Keep;
use crate::machine::{Ends, Event, Exit, PlaneId, Stage};
use crate::plumb::ring;
use crate::uinput;

/// What net is handed: the ends that events go into and that haptics come out of.
struct Far {
    events: RingFds<OwnedFd>,
    haptics: RingFds<OwnedFd>,
}

impl Daemon {
    pub(super) fn wire_input(&mut self, now: u64, ends: Ends) {
        let Ends { net, plane, session, generation } = ends;
        let made =
            self.parts.desktop.hands(session).and_then(|hands| {
                self.input_wiring(now, session, generation, hands).map_err(|error| no_memory(&error))
            });
        match made {
            Ok((Far { events, haptics }, wiring)) => {
                self.tell(net, ToNet::WireInput { session, generation, events, haptics });
                self.tell(plane, ToInput::Wire(wiring));
            }
            Err(reason) => {
                let kind = PlaneKind::Input;
                self.queue.push_back(Event::CannotWireBranch { session, kind, generation, reason });
            }
        }
    }

    /// The plane has all that it needs but rings.
    pub(super) fn move_input(&mut self, ends: Ends) {
        let Ends { net, plane, session, generation } = ends;
        let rings = ring("lumen-events", RingGeometry::INPUT)
            .and_then(|events| ring("lumen-haptics", RingGeometry::HAPTICS).map(|haptics| (events, haptics)));
        match rings {
            Ok(((far_events, events), (far_haptics, haptics))) => {
                self.tell(net, ToNet::WireInput { session, generation, events: far_events, haptics: far_haptics });
                // What is left in the ring before is the plane's own to take.
                let kept = self.keeps.get_mut(&session).map_or(Ok(()), |keep| keep.ring(generation, &events));
                if let Err(error) = kept {
                    warn!(session = session.0, "session {session}: {}", no_memory(&error));
                }
                self.tell(plane, ToInput::Rings { generation, events, haptics });
            }
            Err(error) => {
                let (kind, reason) = (PlaneKind::Input, no_memory(&error));
                self.queue.push_back(Event::CannotWireBranch { session, kind, generation, reason });
            }
        }
    }

    fn input_wiring(
        &mut self,
        now: u64,
        session: SessionId,
        generation: Generation,
        hands: Hands<OwnedFd>,
    ) -> io::Result<(Far, InputWiring<OwnedFd>)> {
        let keep = match self.keeps.entry(session) {
            Entry::Occupied(kept) => kept.into_mut(),
            Entry::Vacant(place) => place.insert(Keep::new(now)),
        };
        let (producer, events) = ring("lumen-events", RingGeometry::INPUT)?;
        let before = keep.rings()?;
        keep.ring(generation, &events)?;
        let (consumer, haptics) = ring("lumen-haptics", RingGeometry::HAPTICS)?;
        let client = self.machine.session(session).map(|session| session.client);
        let (state, kept) = (keep.state()?, keep.kept()?);
        // Last, since a connection that is handed over has to reach its plane.
        let hands = keep.hands(hands)?;
        let wiring = InputWiring {
            session,
            generation,
            permissions: client.map_or(lumen_core::Permissions::NONE, |client| self.parts.clients.permissions(client)),
            hands,
            uinput: self.parts.supply.available(),
            events,
            before,
            haptics,
            state,
            kept,
        };
        Ok((Far { events: producer, haptics: consumer }, wiring))
    }

    pub(super) fn input_says(&mut self, plane: PlaneId, word: FromInput) -> Result<(), String> {
        match word {
            FromInput::Hello(hello) => return self.greeted(plane, hello),
            FromInput::Leaving(leaving) => {
                self.devices_go(plane);
                self.leaves(plane, leaving);
                return Ok(());
            }
            _ => self.has_greeted(plane)?,
        }
        let session = self.branch_of(plane, PlaneKind::Input);
        let event = match word {
            FromInput::Hello(_) | FromInput::Leaving(_) => return Ok(()),
            FromInput::Pong(token) => Event::Pong { plane, token },
            FromInput::Want(device) => return self.wanted(plane, session, device),
            FromInput::Dropped(device) => {
                if let Some(keep) = session.and_then(|session| self.keeps.get_mut(&session)) {
                    keep.dropped(device);
                }
                return Ok(());
            }
            FromInput::Wired { generation, backends, next } => {
                if let Some(session) = session {
                    if let Some(keep) = self.keeps.get_mut(&session) {
                        keep.next = next;
                        keep.wired(generation);
                    }
                    if self.is_news(generation.0 > 1) {
                        let text = format!("hands by {:?}, generation {generation}", backends.hands);
                        info!(session = session.0, generation = generation.0, "session {session}: {text}");
                    }
                    self.books.entry(session).or_default().hands = Some(backends);
                }
                Event::Wired { plane, generation }
            }
            FromInput::Failed { generation, reason } => {
                let reason = printable(&reason, REASON);
                self.devices_go(plane);
                self.tell_of_failure(plane, PlaneKind::Input, &reason);
                Event::Failed { plane, generation, reason }
            }
            FromInput::Stats { generation, stats } => {
                if let Some(session) = session
                    && self
                        .machine
                        .session(session)
                        .and_then(|s| s.input.as_ref())
                        .is_some_and(|b| generation <= b.generation)
                {
                    self.books.entry(session).or_default().input_reports(generation, stats);
                }
                return Ok(());
            }
        };
        self.queue.push_back(event);
        Ok(())
    }

    /// A plane that has been wired wants a device: it gets an open /dev/uinput, and lumend keeps another handle on it.
    fn wanted(&mut self, plane: PlaneId, session: Option<SessionId>, device: DeviceId) -> Result<(), String> {
        // One that has been replaced meanwhile is not served any more.
        let Some(session) = session else { return Ok(()) };
        let input = self.machine.session(session).and_then(|session| session.input.as_ref());
        let wired = input.is_some_and(|branch| branch.stage != Stage::New);
        let Some(keep) = self.keeps.get_mut(&session).filter(|_| wired) else {
            return Err("it wants a device before it has been wired".into());
        };
        let supply = &mut self.parts.supply;
        let fd = match keep.grant(ipc::event::now_ns(), device, || supply.take()) {
            Ok(fd) => Some(fd),
            Err(error) => {
                if self.news.take(ipc::event::now_ns()) {
                    warn!(session = session.0, plane = "input", "session {session}: no {device}: {error}");
                }
                None
            }
        };
        self.tell(plane, ToInput::Device { device, fd });
        Ok(())
    }

    /// A plane that ends in order takes its devices on a compositor along, and so nobody is to inherit them.
    pub(super) fn devices_go(&mut self, plane: PlaneId) {
        if let Some(keep) = self.keep_of(plane) {
            keep.leaves();
        }
    }

    /// A plane is dead: what it held is its heir's, if that comes soon. One that broke a rule, or was given up and lives,
    /// leaves nothing: on its connection there may be more than devices, a lock or a keyboard that nobody knows of.
    /// One that ended in order, although nobody told it to, has taken its devices along.
    pub(super) fn devices_stay(&mut self, plane: PlaneId, exit: &Exit, now: u64) {
        let Some(reach) = self.planes.get(&plane).filter(|reach| reach.kind == PlaneKind::Input) else { return };
        let Some(keep) = reach.session.and_then(|session| self.keeps.get_mut(&session)) else { return };
        if reach.abandoned {
            let supply = &mut self.parts.supply;
            keep.strayed(uinput::blank, || supply.take().ok());
        } else if reach.broke {
            keep.broke(uinput::blank);
        } else if matches!(exit, Exit::Stopped | Exit::Reopen) {
            keep.leaves();
        } else {
            keep.died(now);
        }
    }

    fn keep_of(&mut self, plane: PlaneId) -> Option<&mut Keep> {
        let reach = self.planes.get(&plane).filter(|reach| reach.kind == PlaneKind::Input)?;
        self.keeps.get_mut(&reach.session?)
    }

    /// What was kept for sessions that have ended goes back to where it came from, once no process of theirs has it.
    pub(super) fn clear_keeps(&mut self, now: u64) {
        self.keeps.values_mut().for_each(|keep| keep.tick(now));
        let (machine, planes) = (&self.machine, &self.planes);
        let over = |id: &mut SessionId| {
            let held = planes.values().any(|reach| reach.kind == PlaneKind::Input && reach.session == Some(*id));
            machine.session(*id).is_none() && !held
        };
        let mut ids: Vec<_> = self.keeps.keys().copied().collect();
        ids.retain_mut(over);
        for keep in ids.into_iter().filter_map(|id| self.keeps.remove(&id)).collect::<Vec<_>>() {
            keep.into_fds().for_each(|fd| self.parts.supply.give_back(fd));
        }
    }
}
