//! What the machine may be told and what it may order: two closed enums.

use std::net::SocketAddr;

use ipc::{
    AppId, AskId, DefaultSink, EndCode, Face, Fingerprint, FrameFormat, Generation, PlaneKind, RunId, SessionId,
    Tuning, Wish,
};
use lumen_core::audio::PacketTime;
use lumen_core::{AudioLayout, Mode, Permissions};

use super::session::{Picture, Told};

/// One process of a plane. Never reused, so that late news of a dead process cannot be taken for its heir's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PlaneId(pub u32);

/// How a plane's process ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Exit {
    /// Status 0.
    Stopped,
    /// [`ipc::EXIT_REOPEN`]: it needs a connection that a locked-down process cannot make. Never charged as a crash.
    Reopen,
    /// It says that a peer broke the rules of the memory between them, and so it has ended.
    Accuses { peer: PlaneKind, reason: String },
    /// Anything else, in words.
    Crashed(String),
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stopped => f.write_str("stopped"),
            Self::Reopen => f.write_str("reopen"),
            Self::Accuses { peer, reason } => write!(f, "the {peer} plane broke the rules: {reason}"),
            Self::Crashed(reason) => f.write_str(reason),
        }
    }
}

/// One try to get a session its output, so that a late answer to an earlier try is known for what it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attempt(pub u32);

/// Who holds the ends of a branch's generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ends {
    pub net: PlaneId,
    /// Audio or input.
    pub plane: PlaneId,
    pub session: SessionId,
    pub generation: Generation,
}

/// What a person lets a client have, of what the machine decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The protocol in which it may ask.
    pub face: Face,
    /// It may have sessions.
    pub view: bool,
    /// It may start apps that do not run yet.
    pub launch: bool,
}

#[derive(Clone, Debug)]
pub enum Event {
    /// lumend is up: start the network plane.
    Begin,
    /// A plane has locked itself down and said a proper `Hello`.
    Ready(PlaneId),
    Pong {
        plane: PlaneId,
        token: u64,
    },
    /// A plane closed its link; its exit status will follow, or it will be killed.
    LinkClosed(PlaneId),
    /// A plane broke the rules, or its link is full.
    Broken {
        plane: PlaneId,
        reason: String,
    },
    Exited {
        plane: PlaneId,
        exit: Exit,
    },
    Ask {
        plane: PlaneId,
        ask: AskId,
        peer: SocketAddr,
        client: Fingerprint,
        wish: Wish,
    },
    Withdrawn {
        plane: PlaneId,
        ask: AskId,
    },
    /// A GameStream client has said the rest of what it wants; once, after its `Accept`.
    Tune {
        plane: PlaneId,
        session: SessionId,
        tuning: Tuning,
    },
    /// A client wants what it has running to end.
    Quit {
        plane: PlaneId,
        client: Fingerprint,
    },
    /// An app has ended or could not be started, by itself or after a `StopApp`, and its preparations are undone.
    AppEnded {
        run: RunId,
        /// For people.
        reason: String,
    },
    /// A native client has what the answer to `ask` told it.
    Started {
        plane: PlaneId,
        session: SessionId,
        ask: AskId,
    },
    Gone {
        plane: PlaneId,
        session: SessionId,
        /// By whose answer the client had the session; none if that is not known to matter.
        ask: Option<AskId>,
        reason: String,
    },
    Opened {
        plane: PlaneId,
        generation: Generation,
        format: FrameFormat,
    },
    /// Encode's encoder runs; or the plane of a branch does what it is there for.
    Wired {
        plane: PlaneId,
        generation: Generation,
    },
    /// A plane cannot do what a generation asks of it.
    Failed {
        plane: PlaneId,
        generation: Generation,
        reason: String,
    },
    /// The session's output exists, in this mode: the one asked for, or that of the existing output it streams.
    OutputReady {
        session: SessionId,
        attempt: Attempt,
        mode: Mode,
    },
    OutputFailed {
        session: SessionId,
        attempt: Attempt,
        reason: String,
    },
    /// The session's output, or the desktop it waited for, is gone; no other session's is. It wants another.
    OutputLost {
        session: SessionId,
        reason: String,
    },
    /// lumend could not get the fresh connection that an `Open` needs; the plane has not heard of the generation.
    CannotOpen {
        session: SessionId,
        generation: Generation,
        reason: String,
    },
    /// lumend could not make a generation's memory.
    CannotWire {
        session: SessionId,
        reason: String,
    },
    /// lumend could not get what a branch is to be wired with; neither net nor the plane has heard of the generation.
    CannotWireBranch {
        session: SessionId,
        kind: PlaneKind,
        generation: Generation,
        reason: String,
    },
    /// Net has let go of a generation's ends, of the picture (encode's) or of a branch: the plane at the other end of the
    /// rings broke the rules.
    BranchBroken {
        plane: PlaneId,
        session: SessionId,
        kind: PlaneKind,
        generation: Generation,
        reason: String,
    },
    /// An audio plane waits to make its sink the default until this is on disk.
    Record {
        plane: PlaneId,
        record: DefaultSink,
    },
    CannotRecord {
        plane: PlaneId,
        reason: String,
    },
    /// The sink of this name is the default no more.
    Undone {
        plane: PlaneId,
        ours: String,
    },
    /// lumend could not get the PipeWire connection that an `Undo` needs; the plane has heard nothing.
    CannotUndo {
        plane: PlaneId,
    },
    /// What a session's input plane made is not where it was any more; a fresh one makes it anew.
    HandsLost(SessionId),
    DesktopUp,
    /// The desktop of all sessions is gone, and every output with it.
    DesktopDown {
        reason: String,
    },
    /// A person let a client in, changed what it may have, or turned it away: then it has no standing.
    Permit {
        client: Fingerprint,
        standing: Option<Standing>,
    },
    /// A person changed what an allowed client's hands may do.
    Permissions {
        client: Fingerprint,
        permissions: Permissions,
    },
    /// A person ended a session.
    Stop(SessionId),
    /// The same for what a client has running, and its sessions with it.
    StopRun(RunId),
    /// A person wants a fresh process; `session` is none for net.
    Restart {
        kind: PlaneKind,
        session: Option<SessionId>,
    },
    Idr(SessionId),
    Shutdown,
    /// The time [`super::Machine::deadline`] named has come.
    Tick,
}

/// Orders to the shell around the machine. Those that name a plane are messages or signals to a living process.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    Start {
        plane: PlaneId,
        kind: PlaneKind,
        session: Option<SessionId>,
    },
    /// Close the link: the order to stop.
    Close(PlaneId),
    Kill {
        plane: PlaneId,
        /// For people.
        reason: String,
        /// It broke a rule. False: it did not do in time what it was to do.
        broke: bool,
    },
    Ping {
        plane: PlaneId,
        token: u64,
    },
    Listen(PlaneId),
    Permit {
        plane: PlaneId,
        face: Face,
        client: Fingerprint,
        allowed: bool,
    },
    AcquireOutput {
        session: SessionId,
        attempt: Attempt,
        mode: Mode,
        /// On the desktop where this runs, if it runs already.
        run: Option<RunId>,
    },
    /// Start what the app of this index in the launcher's list names, on the desktop of the session. Answered with
    /// `AppEnded`, once it has ended.
    StartApp {
        session: SessionId,
        run: RunId,
        index: u16,
    },
    StopApp(RunId),
    /// Grant a GameStream client's request: all that can be made before its `Tune` is there.
    Accept {
        plane: PlaneId,
        ask: AskId,
        session: SessionId,
        mode: Mode,
    },
    /// Tell net what a GameStream client has running.
    Running {
        plane: PlaneId,
        client: Fingerprint,
        app: Option<AppId>,
    },
    ReleaseOutput(SessionId),
    Open {
        plane: PlaneId,
        session: SessionId,
        generation: Generation,
        mode: Mode,
    },
    /// Comes first of a generation's three wirings: its memory is made here.
    WireNet {
        plane: PlaneId,
        session: SessionId,
        generation: Generation,
        ask: Option<AskId>,
        mode: Mode,
        picture: Picture,
        told: Told,
        format: FrameFormat,
    },
    WireEncode {
        plane: PlaneId,
        session: SessionId,
        generation: Generation,
        mode: Mode,
        picture: Picture,
    },
    WireCapture {
        plane: PlaneId,
        session: SessionId,
        generation: Generation,
    },
    /// Have a standby make its encoder.
    Prepare {
        plane: PlaneId,
        mode: Mode,
        picture: Picture,
    },
    Retire {
        plane: PlaneId,
        session: SessionId,
        generation: Generation,
    },
    /// Connect to PipeWire, make the ring, tell net first and then the plane.
    WireAudio {
        ends: Ends,
        layout: AudioLayout,
        packet: PacketTime,
        own_sink: bool,
        undo: Vec<DefaultSink>,
    },
    /// Connect to where the hands act, make the rings, tell net first and then the plane.
    WireInput(Ends),
    /// Make a working branch's rings anew, tell net first and then the plane, which has been wired before.
    Rings {
        ends: Ends,
        kind: PlaneKind,
    },
    /// Tell net from which event on the input plane goes on, of which `Wired` has come.
    InputFrom {
        net: PlaneId,
        session: SessionId,
        generation: Generation,
    },
    /// Have an input plane lift everything.
    LetGo(PlaneId),
    /// Tell net that nothing more comes of a branch's generation.
    RetireBranch {
        net: PlaneId,
        kind: PlaneKind,
        session: SessionId,
        generation: Generation,
    },
    PermitInput {
        plane: PlaneId,
        permissions: Permissions,
    },
    /// Write these records, the plane's among them; only when they are on disk, tell it to go ahead.
    Record {
        plane: PlaneId,
        /// What the plane is to put back at the end.
        previous: Option<String>,
        records: Vec<DefaultSink>,
    },
    /// Write these records: some are struck.
    KeepRecords(Vec<DefaultSink>),
    /// The janitor's one order: connect to PipeWire for it.
    Undo {
        plane: PlaneId,
        records: Vec<DefaultSink>,
    },
    Refuse {
        plane: PlaneId,
        ask: AskId,
        code: EndCode,
        reason: String,
    },
    End {
        plane: PlaneId,
        session: SessionId,
        code: EndCode,
        reason: String,
    },
    Idr(PlaneId),
    /// Every plane is gone after a `Shutdown`.
    Finish,
}
