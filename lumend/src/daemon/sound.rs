//! The audio planes: what they are handed, what they say, and what they leave to be undone.

use std::io;
use std::os::fd::OwnedFd;

use ipc::event::now_ns;
use ipc::{AudioWiring, DefaultSink, FromAudio, PlaneKind, RingGeometry, SessionId, SinkChoice, ToAudio, ToNet};
use lumen_core::AudioLayout;
use lumen_core::audio::PacketTime;
use tracing::{info, warn};

use super::Daemon;
use super::hear::REASON;
use crate::book::SoundSource;
use crate::grumbles::printable;
use crate::machine::{Ends, Event, PlaneId};
use crate::plumb::ring;

impl Daemon {
    /// The connection comes first: without one nobody needs to hear anything.
    pub(super) fn wire_audio(
        &mut self,
        ends: Ends,
        (layout, packet): (AudioLayout, PacketTime),
        own_sink: bool,
        undo: Vec<DefaultSink>,
    ) {
        let Ends { net, plane, session, generation } = ends;
        let made = self.parts.sound.connect().and_then(|pipewire| {
            let rings = ring("lumen-audio", RingGeometry::AUDIO).map_err(|error| no_memory(&error))?;
            Ok((pipewire, rings))
        });
        match made {
            Ok((pipewire, (consumer, producer))) => {
                let config = &self.parts.config.audio;
                let wiring = AudioWiring {
                    packet,
                    session,
                    generation,
                    layout,
                    bitrate_kbps: layout.bitrate_kbps(),
                    gain_decibels_tenths: config.gain_decibels_tenths,
                    sink: if own_sink { SinkChoice::Own } else { config.sink },
                    pipewire,
                    ring: producer,
                    undo,
                };
                self.tell(net, ToNet::WireAudio { session, generation, ring: consumer });
                self.tell(plane, ToAudio::Wire(wiring));
            }
            Err(reason) => {
                let kind = PlaneKind::Audio;
                self.queue.push_back(Event::CannotWireBranch { session, kind, generation, reason });
            }
        }
    }

    /// The plane has all that it needs but a ring.
    pub(super) fn move_audio(&mut self, ends: Ends) {
        let Ends { net, plane, session, generation } = ends;
        match ring("lumen-audio", RingGeometry::AUDIO) {
            Ok((consumer, producer)) => {
                self.tell(net, ToNet::WireAudio { session, generation, ring: consumer });
                self.tell(plane, ToAudio::Ring { generation, ring: producer });
            }
            Err(error) => {
                let (kind, reason) = (PlaneKind::Audio, no_memory(&error));
                self.queue.push_back(Event::CannotWireBranch { session, kind, generation, reason });
            }
        }
    }

    /// The change is made only after its record is on disk.
    pub(super) fn record(&mut self, plane: PlaneId, previous: Option<String>, records: &[DefaultSink]) {
        match self.parts.sound.write(records) {
            Ok(()) => self.tell(plane, ToAudio::<OwnedFd>::Recorded { previous }),
            Err(reason) => {
                warn!("the default sink stays as it is: {reason}");
                self.queue.push_back(Event::CannotRecord { plane, reason });
            }
        }
    }

    /// A record too many does no harm: a default that is somebody else's by then is left alone.
    pub(super) fn keep_records(&mut self, records: &[DefaultSink]) {
        if let Err(reason) = self.parts.sound.write(records) {
            warn!("{reason}");
        }
    }

    pub(super) fn undo(&mut self, plane: PlaneId, records: Vec<DefaultSink>) {
        match self.parts.sound.connect() {
            Ok(pipewire) => {
                // Without a session manager the tries go on every few seconds too.
                if self.undo_obstacle.as_deref() != Some("") {
                    info!("putting back the default sink that an earlier session has left changed");
                }
                self.undo_obstacle = Some(String::new());
                self.tell(plane, ToAudio::Undo { pipewire, records });
            }
            Err(reason) => {
                if self.undo_obstacle.as_ref() != Some(&reason) {
                    warn!("the default sink cannot be put back yet: {reason}");
                }
                self.undo_obstacle = Some(reason);
                self.queue.push_back(Event::CannotUndo { plane });
            }
        }
    }

    pub(super) fn audio_says(&mut self, plane: PlaneId, word: FromAudio) -> Result<(), String> {
        match word {
            FromAudio::Hello(hello) => return self.greeted(plane, hello),
            FromAudio::Leaving(leaving) => {
                self.leaves(plane, leaving);
                return Ok(());
            }
            _ => self.has_greeted(plane)?,
        }
        let event = match word {
            FromAudio::Hello(_) | FromAudio::Leaving(_) => return Ok(()),
            FromAudio::Pong(token) => Event::Pong { plane, token },
            FromAudio::Record(record) => Event::Record { plane, record },
            FromAudio::Undone(ours) => {
                self.undo_obstacle = None;
                Event::Undone { plane, ours }
            }
            FromAudio::Wired { generation, backend, sink } => {
                if let Some(session) = self.branch_of(plane, PlaneKind::Audio) {
                    let (backend, sink) = (printable(&backend, REASON), printable(&sink, REASON));
                    if self.is_news(generation.0 > 1) {
                        let text = format!("sound of {sink} by {backend}, generation {generation}");
                        info!(session = session.0, generation = generation.0, "session {session}: {text}");
                    }
                    self.books.entry(session).or_default().sound = Some(SoundSource { backend, sink });
                }
                Event::Wired { plane, generation }
            }
            FromAudio::Failed { generation, reason } => {
                let reason = printable(&reason, REASON);
                self.tell_of_failure(plane, PlaneKind::Audio, &reason);
                Event::Failed { plane, generation, reason }
            }
            FromAudio::Stats { generation, stats } => {
                if let Some(session) = self.branch_of(plane, PlaneKind::Audio)
                    && self
                        .machine
                        .session(session)
                        .and_then(|s| s.audio.as_ref())
                        .is_some_and(|b| generation <= b.generation)
                {
                    self.books.entry(session).or_default().audio_reports(generation, stats);
                }
                return Ok(());
            }
        };
        self.queue.push_back(event);
        Ok(())
    }

    /// The session in whose branch `plane` sits.
    pub(super) fn branch_of(&self, plane: PlaneId, kind: PlaneKind) -> Option<SessionId> {
        let id = self.planes.get(&plane)?.session?;
        let branch = self.machine.session(id)?.branch(kind)?;
        (branch.slot.current == Some(plane)).then_some(id)
    }

    /// The tries go on every few seconds, and most end the same way: said once.
    pub(super) fn tell_of_obstacle(&self, session: SessionId, kind: PlaneKind, reason: &str) {
        let branch = self.machine.session(session).and_then(|session| session.branch(kind));
        if branch.is_some_and(|branch| branch.obstacle.as_deref() != Some(reason)) {
            let what = if kind == PlaneKind::Audio { "no sound" } else { "no input" };
            warn!(session = session.0, plane = kind.name(), "session {session}: {what}: {reason}");
        }
    }

    /// Whether a session's being wired is worth a line in the log. What comes `again` may come without end, at the
    /// client's will: it is told at a bounded rate.
    pub(super) fn is_news(&mut self, again: bool) -> bool {
        !again || self.news.take(now_ns())
    }

    /// The same of what a plane says, which may be something else each time.
    pub(super) fn tell_of_failure(&mut self, plane: PlaneId, kind: PlaneKind, reason: &str) {
        if let Some(session) = self.branch_of(plane, kind)
            && self.news.take(now_ns())
        {
            self.tell_of_obstacle(session, kind, reason);
        }
    }
}

pub(super) fn no_memory(error: &io::Error) -> String {
    format!("the host has no memory for the rings: {error}")
}
