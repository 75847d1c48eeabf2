//! One wiring: from a connection to PipeWire to packets in the ring.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use ipc::link::{Link, LinkError};
use ipc::plane::PlaneError;
use ipc::{AudioWiring, FromAudio, Generation, RingFds, SinkChoice};
use lumen_core::AudioLayout;

use crate::client::Client;
use crate::default::{Override, Undoing, session_of, sink_name};
use crate::desktop::Desktop;
use crate::slots::Slots;
use crate::stream::{Capture, DESCRIPTION, Kind, Progress, Shared};
use crate::track::Track;
use crate::trouble::Trouble;

/// A desktop without a sink may be one that is still starting.
const SINKLESS_NS: u64 = 300_000_000;
/// When to try again after the session manager gave our stream up.
const RETRY_NS: u64 = 1_000_000_000;
/// A wiring counts as done after this time even if nothing can be captured yet: silence flows.
const TOLD_NS: u64 = 2_000_000_000;

/// A running session's sound.
pub struct Session {
    session: u32,
    generation: Generation,
    layout: AudioLayout,
    choice: SinkChoice,
    // Before the desktop whose connection it uses.
    capture: Option<Capture>,
    desktop: Desktop,
    undoing: Undoing,
    default: Override,
    /// Somebody else has changed the default since: we do not argue.
    yielded: bool,
    slots: Shared,
    track: Track,
    began_ns: u64,
    sinkless_ns: Option<u64>,
    retry_ns: u64,
    told: bool,
}

impl Session {
    /// Connects, and begins to send silence.
    pub fn open(client: &Client, wiring: AudioWiring<OwnedFd>, now_ns: u64) -> Result<Self, Trouble> {
        let track = Track::new(&wiring, now_ns)?;
        let desktop = Desktop::connect(client, wiring.pipewire)?;
        let session = wiring.session.0;
        // A dead plane of this very session had its own sink: there is nothing to wait for.
        let heir = wiring.undo.iter().any(|record| record.ours == sink_name(session));
        Ok(Self {
            session,
            generation: wiring.generation,
            layout: wiring.layout,
            choice: wiring.sink,
            capture: None,
            desktop,
            undoing: Undoing::new(wiring.undo),
            default: Override::None,
            yielded: false,
            slots: Arc::new(Mutex::new(Slots::new(wiring.layout.channels(), wiring.packet, now_ns))),
            track,
            began_ns: now_ns,
            sinkless_ns: heir.then(|| now_ns.saturating_sub(SINKLESS_NS)),
            retry_ns: 0,
            told: false,
        })
    }

    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The network plane has been replaced: packets go into another ring, as soon as they come.
    pub fn move_to(
        &mut self,
        generation: Generation,
        ring: &RingFds<OwnedFd>,
        link: &Link,
        now_ns: u64,
    ) -> Result<(), Trouble> {
        let stats = self.track.stats(&self.slots, now_ns);
        link.send(FromAudio::Stats { generation: self.generation, stats })?;
        self.track.move_to(generation, ring)?;
        (self.generation, self.told) = (generation, false);
        Ok(())
    }

    /// When to call [`turn`](Self::turn) next, in CLOCK_MONOTONIC nanoseconds: never later than the next slot.
    pub fn deadline(&self) -> u64 {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).due().min(self.track.stats_ns())
    }

    /// Sends what is due, and reacts to what the desktop has said. A slot comes round often enough for everything
    /// else that waits for a time.
    pub fn turn(&mut self, link: &Link, now_ns: u64) -> Result<(), Trouble> {
        self.track.turn(&self.slots, now_ns)?;
        if now_ns >= self.track.stats_ns() {
            let stats = self.track.stats(&self.slots, now_ns);
            link.send(FromAudio::Stats { generation: self.generation, stats })?;
        }
        self.desktop.turn(now_ns)?;
        if self.desktop.settled() {
            self.follow(link, now_ns)?;
        }
        Ok(())
    }

    /// lumend has the record, and says what to put back.
    pub fn recorded(&mut self, previous: Option<String>, now_ns: u64) -> Result<(), Trouble> {
        Ok(self.default.go_ahead(&self.desktop, previous, now_ns)?)
    }

    /// Begins to put the default back if it is ours.
    pub fn leave(&mut self) {
        self.yielded = true;
        self.undoing.extend(self.default.end());
    }

    /// True once nothing is left changed, and said so.
    pub fn has_left(&mut self, link: &Link, now_ns: u64) -> Result<bool, Trouble> {
        self.desktop.turn(now_ns)?;
        self.forget(link, now_ns)?;
        Ok(self.undoing.is_over())
    }

    /// Tells lumend which records it can forget.
    fn forget(&mut self, link: &Link, now_ns: u64) -> Result<(), Trouble> {
        for record in self.undoing.turn(&self.desktop, now_ns)? {
            match link.send(FromAudio::Undone(record.ours)) {
                // Nobody is there any more to hear it; the exit status says it too.
                Ok(()) | Err(LinkError::Closed) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Brings the stream in line with what there is to capture.
    fn follow(&mut self, link: &Link, now_ns: u64) -> Result<(), Trouble> {
        self.forget(link, now_ns)?;
        if !self.desktop.settled() {
            return Ok(());
        }
        let failed = self.capture.as_ref().is_some_and(|capture| capture.progress() == Progress::Failed);
        if failed {
            self.capture = None;
            self.retry_ns = now_ns + RETRY_NS;
        }
        if let Some(kind) = self.wanted(now_ns) {
            if self.capture.as_ref().is_some_and(|capture| *capture.kind() != kind) {
                self.undoing.extend(self.default.end());
                self.capture = None;
            }
            if self.capture.is_none() && now_ns >= self.retry_ns {
                let core = self.desktop.core();
                let capture = Capture::start(core, kind, self.layout, &self.slots)
                    .map_err(|error| PlaneError::failed(format!("PipeWire takes no stream: {error}")))?;
                self.capture = Some(capture);
            }
        }
        self.claim(link)?;
        self.tell(link, now_ns)
    }

    /// What should be captured; none while that is not clear.
    fn wanted(&mut self, now_ns: u64) -> Option<Kind> {
        let own = || Some(Kind::Own(sink_name(self.session)));
        match self.choice {
            SinkChoice::Own => own(),
            SinkChoice::Monitor => Some(Kind::Monitor),
            SinkChoice::Auto => {
                // Sessions that find only each other's sinks agree on the oldest.
                let foreign = |name: &str| session_of(name).is_none_or(|other| other < self.session);
                if self.desktop.has_sink(foreign) {
                    self.sinkless_ns = None;
                    return Some(Kind::Monitor);
                }
                let since = *self.sinkless_ns.get_or_insert(now_ns);
                if self.desktop.managed() && now_ns >= since + SINKLESS_NS {
                    return own();
                }
                self.capture.as_ref().map(|capture| capture.kind().clone())
            }
        }
    }

    /// Makes our own sink the default, by way of lumend's disk, and notices when it is no longer.
    fn claim(&mut self, link: &Link) -> Result<(), Trouble> {
        let Some(Kind::Own(ours)) = self.capture.as_ref().map(Capture::kind) else { return Ok(()) };
        if !self.desktop.managed() || !self.desktop.settled() || !self.undoing.is_over() {
            return Ok(());
        }
        match self.default {
            Override::None if !self.yielded && self.desktop.has_sink(|name| name == ours) => {
                let record = self.default.ask(&self.desktop, ours);
                link.send(FromAudio::Record(record))?;
            }
            Override::Made(_) if self.desktop.answered() && !self.default.stands(&self.desktop) => self.leave(),
            _ => {}
        }
        Ok(())
    }

    fn tell(&mut self, link: &Link, now_ns: u64) -> Result<(), Trouble> {
        if self.told {
            return Ok(());
        }
        let negotiated = self.capture.as_ref().is_some_and(|capture| capture.progress() == Progress::Negotiated);
        let sink = match self.capture.as_ref().map(Capture::kind) {
            Some(Kind::Own(_)) if self.default.stands(&self.desktop) => Some(DESCRIPTION.to_owned()),
            Some(Kind::Monitor) if negotiated => self.desktop.current_sink(),
            _ => None,
        };
        let late = now_ns >= self.began_ns + TOLD_NS;
        if let Some(sink) = sink.or_else(|| late.then(|| "none".to_owned())) {
            let backend = self.desktop.version();
            link.send(FromAudio::Wired { generation: self.generation, backend, sink })?;
            self.told = true;
        }
        Ok(())
    }
}
