//! One client's stream: its output, the two planes of its picture and the generation that wires them; and its branches.

use std::net::SocketAddr;

use ipc::{AskId, Fingerprint, FrameFormat, Generation, PlaneKind, SessionId};
use lumen_core::Mode;

use super::branch::Branch;
use super::event::{Action, Attempt, PlaneId};
use super::policy::PATIENCE;
use super::process::Slot;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// To be acquired as soon as there is a desktop.
    Wanted,
    Acquiring(Attempt),
    Ready,
}

/// How far a generation has got. Each step has told one more plane about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wiring {
    /// Nobody has heard of it.
    New,
    /// Capture looks at its source.
    Opening,
    /// Capture has answered with the pool's format.
    Opened(FrameFormat),
    /// Net and encode hold their ends; encode makes its encoder.
    Consumers,
    /// Everybody holds their ends: frames flow.
    Whole,
}

/// The planes that may be sent to right now, of one session.
#[derive(Clone, Copy, Default, Debug)]
pub struct Ready {
    pub net: Option<PlaneId>,
    pub capture: Option<PlaneId>,
    pub encode: Option<PlaneId>,
}

#[derive(Clone, Debug)]
pub struct Session {
    pub id: SessionId,
    pub client: Fingerprint,
    pub peer: SocketAddr,
    pub mode: Mode,
    pub bitrate_kbps: u32,
    /// The request that the first wiring answers; none once it is answered.
    pub ask: Option<AskId>,
    pub generation: Generation,
    pub wiring: Wiring,
    pub output: Output,
    /// Not to be opened before then: the last try found no desktop to connect to.
    pub open_at: Option<u64>,
    pub capture: Slot,
    pub encode: Slot,
    /// Its sound; none if the client or the configuration wants none.
    pub audio: Option<Branch>,
    /// Its hands.
    pub input: Option<Branch>,
    /// It ends if it is not whole by then.
    pub patience: Option<u64>,
    /// Has streamed before: a failure may pass, so it is worth a restart.
    pub was_whole: bool,
    /// What stood in the way last, for the person who reads why it ended.
    pub obstacle: String,
}

impl Session {
    pub fn new(id: SessionId, ask: AskId, client: Fingerprint, peer: SocketAddr, mode: Mode, now: u64) -> Self {
        Self {
            id,
            client,
            peer,
            mode,
            bitrate_kbps: 0,
            ask: Some(ask),
            generation: Generation(1),
            wiring: Wiring::New,
            output: Output::Wanted,
            open_at: None,
            capture: Slot::new(PlaneKind::Capture),
            encode: Slot::new(PlaneKind::Encode),
            audio: None,
            input: None,
            patience: Some(now + PATIENCE),
            was_whole: false,
            obstacle: String::new(),
        }
    }

    pub fn slot(&self, kind: PlaneKind) -> Option<&Slot> {
        match kind {
            PlaneKind::Capture => Some(&self.capture),
            PlaneKind::Encode => Some(&self.encode),
            PlaneKind::Input | PlaneKind::Audio => self.branch(kind).map(|branch| &branch.slot),
            PlaneKind::Net => None,
        }
    }

    pub fn slot_mut(&mut self, kind: PlaneKind) -> Option<&mut Slot> {
        match kind {
            PlaneKind::Capture => Some(&mut self.capture),
            PlaneKind::Encode => Some(&mut self.encode),
            PlaneKind::Input | PlaneKind::Audio => self.branch_mut(kind).map(|branch| &mut branch.slot),
            PlaneKind::Net => None,
        }
    }

    /// Every slot that the session has.
    pub fn slots(&self) -> impl Iterator<Item = &Slot> {
        let branches = self.audio.iter().chain(&self.input).map(|branch| &branch.slot);
        [&self.capture, &self.encode].into_iter().chain(branches)
    }

    /// None of a plane of the picture's, and of a branch that is not wanted.
    pub fn branch(&self, kind: PlaneKind) -> Option<&Branch> {
        match kind {
            PlaneKind::Audio => self.audio.as_ref(),
            PlaneKind::Input => self.input.as_ref(),
            PlaneKind::Capture | PlaneKind::Encode | PlaneKind::Net => None,
        }
    }

    pub fn branch_mut(&mut self, kind: PlaneKind) -> Option<&mut Branch> {
        match kind {
            PlaneKind::Audio => self.audio.as_mut(),
            PlaneKind::Input => self.input.as_mut(),
            PlaneKind::Capture | PlaneKind::Encode | PlaneKind::Net => None,
        }
    }

    /// Takes the generation back from everyone who has heard of it and can still hear, and begins the next. Does
    /// nothing to a generation that nobody has heard of.
    pub fn retire(&mut self, ready: Ready, now: u64, out: &mut Vec<Action>) {
        let (consumers, capture) = match self.wiring {
            Wiring::New => return,
            Wiring::Opening | Wiring::Opened(_) => (false, true),
            Wiring::Consumers | Wiring::Whole => (true, true),
        };
        // The producer first: the others then find their queues empty, not torn.
        let holders =
            [ready.capture.filter(|_| capture), ready.encode.filter(|_| consumers), ready.net.filter(|_| consumers)];
        for plane in holders.into_iter().flatten() {
            out.push(Action::Retire { plane, session: self.id, generation: self.generation });
        }
        if self.wiring == Wiring::Whole {
            self.patience = Some(now + PATIENCE);
        }
        self.generation = Generation(self.generation.0 + 1);
        self.wiring = Wiring::New;
    }

    /// An `Open` did not reach capture. Its generation is spent all the same, so that none is ever opened twice.
    pub fn cannot_open(&mut self, generation: Generation, reason: String, again_at: u64) {
        if self.generation == generation && self.wiring == Wiring::Opening {
            self.generation = Generation(generation.0 + 1);
            self.wiring = Wiring::New;
            self.open_at = Some(again_at);
            self.obstacle = reason;
        }
    }

    /// Takes every step towards a whole wiring that can be taken now; called after anything has changed.
    pub fn advance(&mut self, ready: Ready, now: u64, out: &mut Vec<Action>) {
        let (session, generation, mode) = (self.id, self.generation, self.mode);
        self.open_at = self.open_at.filter(|&at| now < at);
        if self.wiring == Wiring::New
            && self.output == Output::Ready
            && self.open_at.is_none()
            && let Some(plane) = ready.capture
        {
            out.push(Action::Open { plane, session, generation, mode });
            self.wiring = Wiring::Opening;
        }
        // The desktop may have gone since: then the format is of something that is no more.
        if let Wiring::Opened(format) = self.wiring
            && self.output == Output::Ready
            && let (Some(net), Some(encode)) = (ready.net, ready.encode)
        {
            let (ask, bitrate_kbps) = (self.ask.take(), self.bitrate_kbps);
            let (audio, input) = (self.layout(), self.input.is_some());
            out.push(Action::WireNet {
                plane: net,
                session,
                generation,
                ask,
                mode,
                bitrate_kbps,
                audio,
                input,
                format,
            });
            out.push(Action::WireEncode { plane: encode, session, generation, mode, bitrate_kbps });
            self.wiring = Wiring::Consumers;
        }
    }

    /// The encoder runs: frames may come.
    pub fn wired(&mut self, ready: Ready, out: &mut Vec<Action>) {
        if self.wiring == Wiring::Consumers
            && let Some(plane) = ready.capture
        {
            out.push(Action::WireCapture { plane, session: self.id, generation: self.generation });
            self.wiring = Wiring::Whole;
            self.was_whole = true;
            self.patience = None;
            self.obstacle.clear();
        }
    }
}
