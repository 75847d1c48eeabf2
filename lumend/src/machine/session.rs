//! One client's stream: its output, the two planes of its picture and the generation that wires them; and its branches.

use std::net::SocketAddr;

use ipc::{AskId, Colour, Face, Fingerprint, FrameFormat, Generation, PlaneKind, RunId, SessionId};
use lumen_core::{AudioLayout, Mode, ResumeToken};

use super::branch::Branch;
use super::event::{Action, Attempt, PlaneId};
use super::orphan::{Mint, Return};
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
    /// Everybody holds their ends, and capture may publish already; encode makes its encoder.
    Ends,
    /// The encoder runs: frames flow.
    Whole,
}

/// What capture looks at. It does so until it ends, says that it cannot, or is told to look at something else, so that
/// a generation which begins for another's sake need not open it again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Source {
    pub plane: PlaneId,
    /// The one that it was opened for.
    pub generation: Generation,
    pub format: FrameFormat,
}

/// What a session's picture is to be, beside its mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Picture {
    pub bitrate_kbps: u32,
    /// None: as configured.
    pub colour: Option<Colour>,
    /// Most bytes of an access unit that the client's protocol can carry; none: any.
    pub frame_bytes: Option<u32>,
}

/// What net tells the client of its session, beside mode and picture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// It has its session again.
    pub resumed: bool,
    pub resume: Option<ResumeToken>,
    /// What it is told of its branches.
    pub audio: Option<AudioLayout>,
    pub input: bool,
}

/// The planes that may be sent to right now, of one session.
#[derive(Clone, Copy, Default, Debug)]
pub struct Ready {
    pub net: Option<PlaneId>,
    pub capture: Option<PlaneId>,
    pub encode: Option<PlaneId>,
}

/// Who asks for a session.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub face: Face,
    pub client: Fingerprint,
    pub peer: SocketAddr,
    pub ask: AskId,
}

#[derive(Clone, Debug)]
pub struct Session {
    pub id: SessionId,
    pub face: Face,
    pub client: Fingerprint,
    pub peer: SocketAddr,
    pub mode: Mode,
    /// None until its client has said it: a GameStream client does with its `Tune`, and is not wired before.
    pub picture: Option<Picture>,
    /// The request that the first wiring answers, or `Accept` where the client has more to say; none once it is
    /// answered, which is when net knows the session.
    pub ask: Option<AskId>,
    /// Net has been wired: it can take the ends of branches.
    pub net_wired: bool,
    /// How its client comes back to it, if it is a native one.
    pub back: Return,
    /// The app that its client asked for.
    pub run: Option<RunId>,
    pub generation: Generation,
    pub wiring: Wiring,
    pub output: Output,
    /// None once the output it is on is gone.
    pub source: Option<Source>,
    /// Not to be opened before then: the last try found no desktop to connect to.
    pub open_at: Option<u64>,
    pub capture: Slot,
    pub encode: Slot,
    /// An encoder that waits to take the other's place, where one is configured.
    pub standby: Option<Slot>,
    /// The one of them that was told last what to expect, and that.
    pub prepared: Option<(PlaneId, Mode, Picture)>,
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
    /// A session whose picture's planes are to be started at `now`.
    pub fn new(id: SessionId, asked: Asked, mode: Mode, now: u64) -> Self {
        let Asked { face, client, peer, ask } = asked;
        let slot = |kind| {
            let mut slot = Slot::new(kind);
            slot.retry_at = Some(now);
            slot
        };
        Self {
            id,
            face,
            client,
            peer,
            mode,
            picture: None,
            ask: Some(ask),
            net_wired: false,
            back: Return::default(),
            run: None,
            generation: Generation(1),
            wiring: Wiring::New,
            output: Output::Wanted,
            source: None,
            open_at: None,
            capture: slot(PlaneKind::Capture),
            encode: slot(PlaneKind::Encode),
            standby: None,
            prepared: None,
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

    /// Every slot that the session needs filled.
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
            Wiring::Opening => (false, true),
            Wiring::Opened(_) => (false, self.source.is_some_and(|source| source.generation == self.generation)),
            Wiring::Ends | Wiring::Whole => (true, true),
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

    /// Capture has answered for the output that is there. The desktop may have gone since: then the format is of
    /// something that is no more.
    pub fn format(&self) -> Option<FrameFormat> {
        match self.wiring {
            Wiring::Opened(format) if self.output == Output::Ready => Some(format),
            _ => None,
        }
    }

    /// Takes every step towards a whole wiring that can be taken now; called after anything has changed.
    pub fn advance(&mut self, ready: Ready, now: u64, mint: &mut Mint, out: &mut Vec<Action>) {
        let (session, generation, mode) = (self.id, self.generation, self.mode);
        self.open_at = self.open_at.filter(|&at| now < at);
        if self.wiring == Wiring::New
            && self.output == Output::Ready
            && self.open_at.is_none()
            && let Some(plane) = ready.capture
        {
            self.wiring = match self.source.filter(|source| source.plane == plane) {
                Some(source) => Wiring::Opened(source.format),
                None => {
                    out.push(Action::Open { plane, session, generation, mode });
                    Wiring::Opening
                }
            };
        }
        if let (Some(format), Some(picture)) = (self.format(), self.picture)
            && !self.back.is_waiting()
            && let (Some(net), Some(encode), Some(capture)) = (ready.net, ready.encode, ready.capture)
        {
            let ask = self.ask.take();
            let resumed = ask.is_some() && self.back.is_possible();
            let resume = ask.filter(|_| self.face == Face::Lumen).and_then(|ask| self.back.answer(ask, mint));
            self.net_wired = true;
            let told = Told { resumed, resume, audio: self.layout(), input: self.input.is_some() };
            out.push(Action::WireNet { plane: net, session, generation, ask, mode, picture, told, format });
            out.push(Action::WireEncode { plane: encode, session, generation, mode, picture });
            // The first picture comes while the encoder is being made; should that take longer, it is a newer one.
            out.push(Action::WireCapture { plane: capture, session, generation });
            self.wiring = Wiring::Ends;
        }
    }

    /// The encoder runs.
    pub fn wired(&mut self) {
        self.wiring = Wiring::Whole;
        self.was_whole = true;
        self.patience = None;
        self.obstacle.clear();
    }
}
