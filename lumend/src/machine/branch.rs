//! A branch of a session: its sound, or its hands. Each has a plane and generations of its own, so that whatever
//! befalls it is not felt by the picture, nor by the other branch.
//!
//! A plane is wired once in its life: what is wired anew is a fresh plane.

use ipc::{DefaultSink, Face, Fingerprint, Generation, PlaneKind, SessionId};
use lumen_core::audio::PacketTime;
use lumen_core::{AudioLayout, Permissions};

use super::event::{Action, Ends, PlaneId};
use super::process::Slot;
use super::session::{Output, Session};
use super::{Machine, policy};

/// What a client wished for, within what is configured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Demand {
    Sound {
        layout: AudioLayout,
        packet: PacketTime,
        /// In a sink of its own, not heard at the machine.
        own_sink: bool,
    },
    Hands,
}

/// How far a branch's generation has got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Nobody has heard of it; the plane, if there is one, has not been wired yet.
    New,
    /// Nobody has heard of it; the plane has been wired and does its work, but nobody is at the other end of its rings.
    Kept,
    /// Net and the plane hold their ends; the plane sets itself up.
    Wiring,
    /// Net and the plane hold the ends of new rings; the plane is about to say so.
    Moving,
    /// The plane has answered: sound comes, hands act.
    Wired,
}

#[derive(Clone, Debug)]
pub struct Branch {
    pub demand: Demand,
    pub slot: Slot,
    /// The branch's own: it begins at 1 and only grows.
    pub generation: Generation,
    pub stage: Stage,
    /// Not to be wired before then: what it needs was not there.
    pub wire_at: Option<u64>,
    /// What stands in the way, for people.
    pub obstacle: Option<String>,
}

impl Demand {
    pub const fn kind(self) -> PlaneKind {
        match self {
            Self::Sound { .. } => PlaneKind::Audio,
            Self::Hands => PlaneKind::Input,
        }
    }
}

impl Branch {
    /// A branch whose plane is to be started at `now`.
    pub fn new(demand: Demand, now: u64) -> Self {
        let mut slot = Slot::new(demand.kind());
        slot.retry_at = Some(now);
        Self { demand, slot, generation: Generation(1), stage: Stage::New, wire_at: None, obstacle: None }
    }

    /// Takes the generation back and begins the next. Only net is told: the plane is gone, or is about to be told to
    /// go. Does nothing to a generation that nobody has heard of.
    pub fn retire(&mut self, session: SessionId, net: Option<PlaneId>, out: &mut Vec<Action>) {
        if self.is_with_net() {
            self.take_from_net(session, net, out);
            self.let_go();
        }
        self.stage = Stage::New;
    }

    /// The same, but the plane goes on, if it has been wired.
    pub fn cut_off(&mut self, session: SessionId, net: Option<PlaneId>, out: &mut Vec<Action>) {
        if self.is_with_net() {
            self.take_from_net(session, net, out);
            self.let_go();
            self.stage = Stage::Kept;
        }
    }

    /// True while net holds ends of the generation.
    pub fn is_with_net(&self) -> bool {
        matches!(self.stage, Stage::Wiring | Stage::Moving | Stage::Wired)
    }

    fn take_from_net(&self, session: SessionId, net: Option<PlaneId>, out: &mut Vec<Action>) {
        if let Some(net) = net {
            let (kind, generation) = (self.demand.kind(), self.generation);
            out.push(Action::RetireBranch { net, kind, session, generation });
        }
    }

    /// Nobody holds the generation any more; the next begins.
    fn let_go(&mut self) {
        self.generation = Generation(self.generation.0 + 1);
        self.stage = Stage::New;
    }

    /// An order to wire was not carried out, so that nobody has heard of the generation. It is spent all the same.
    fn cannot_wire(&mut self, generation: Generation, reason: String, again_at: u64) -> bool {
        let stage = match self.stage {
            Stage::Wiring => Stage::New,
            Stage::Moving => Stage::Kept,
            Stage::New | Stage::Kept | Stage::Wired => return false,
        };
        let ours = self.generation == generation;
        if ours {
            self.let_go();
            self.stage = stage;
            self.wire_at = Some(again_at);
            self.obstacle = Some(reason);
        }
        ours
    }

    /// Wires `net` and `plane`, which can both hear; a plane that has been wired before gets new rings alone. `undo` is
    /// asked for what dead planes have left only if it is going to be told.
    fn wire(
        &mut self,
        session: SessionId,
        net: PlaneId,
        plane: PlaneId,
        undo: impl FnOnce() -> Vec<DefaultSink>,
    ) -> Action {
        let ends = Ends { net, plane, session, generation: self.generation };
        if self.stage == Stage::Kept {
            self.stage = Stage::Moving;
            return Action::Rings { ends, kind: self.demand.kind() };
        }
        self.stage = Stage::Wiring;
        match self.demand {
            Demand::Sound { layout, packet, own_sink } => {
                Action::WireAudio { ends, layout, packet, own_sink, undo: undo() }
            }
            Demand::Hands => Action::WireInput(ends),
        }
    }
}

impl Session {
    fn branches_mut(&mut self) -> impl Iterator<Item = &mut Branch> {
        self.audio.iter_mut().chain(&mut self.input)
    }

    /// What net is told of the client's sound.
    pub fn layout(&self) -> Option<AudioLayout> {
        match self.audio.as_ref()?.demand {
            Demand::Sound { layout, .. } => Some(layout),
            Demand::Hands => None,
        }
    }
}

impl Machine {
    /// Wires what can be wired now; called after anything has changed.
    pub(super) fn settle_branches(&mut self, id: SessionId, now: u64) {
        if let Some(session) = self.sessions.get_mut(&id) {
            for branch in session.branches_mut() {
                branch.wire_at = branch.wire_at.filter(|&at| now < at);
            }
        }
        for kind in [PlaneKind::Audio, PlaneKind::Input] {
            let (Some(net), Some(plane)) = (self.ready_net(), self.may_be_wired(id, kind)) else { continue };
            let others = self.heirs().filter(|&heir| heir != id).collect();
            if let Some(branch) = self.sessions.get_mut(&id).and_then(|session| session.branch_mut(kind)) {
                let ledger = &mut self.ledger;
                self.out.push(branch.wire(id, net, plane, || ledger.hand_over(plane, &others)));
            }
        }
    }

    /// The plane of a branch to which nothing is missing any more.
    fn may_be_wired(&self, id: SessionId, kind: PlaneKind) -> Option<PlaneId> {
        let session = self.sessions.get(&id).filter(|session| session.net_wired)?;
        let branch = session.branch(kind)?;
        let plane = branch.slot.current.filter(|&plane| self.is_ready(plane))?;
        if branch.is_with_net() || branch.wire_at.is_some() {
            return None;
        }
        if branch.stage == Stage::Kept {
            return Some(plane);
        }
        // The one before may still be lifting keys, on memory that the two would share, or putting a default back.
        let alone =
            !self.processes.iter().any(|(&id, p)| id != plane && p.kind == kind && p.session == Some(session.id));
        let free = match kind {
            PlaneKind::Audio => !self.default_sink_is_moving() && !self.ledger.is_held(id),
            // The hands act on an output.
            _ => session.output == Output::Ready,
        };
        (alone && free).then_some(plane)
    }

    /// Sessions that put back themselves what their planes have left changed, with the next plane.
    pub(super) fn heirs(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.sessions.values().filter(|session| session.audio.is_some()).map(|session| session.id)
    }

    /// A plane that made another sink the default, or was started to put one back, is at it: what is the default now
    /// will not be in a moment.
    fn default_sink_is_moving(&self) -> bool {
        self.ledger.holders().any(|plane| {
            self.janitor.slot.current == Some(plane) || self.processes.get(&plane).is_some_and(|p| p.is_leaving())
        })
    }

    pub(super) fn branch_wired(&mut self, plane: PlaneId, kind: PlaneKind, generation: Generation, now: u64) {
        let Some(id) = self.session_of(plane, kind) else { return };
        let Some(branch) = self.sessions.get_mut(&id).and_then(|session| session.branch_mut(kind)) else { return };
        // What it was asked before the network plane was replaced, and may have been replaced again since.
        if generation < branch.generation && branch.stage != Stage::New {
            return;
        }
        if generation != branch.generation || !matches!(branch.stage, Stage::Wiring | Stage::Moving) {
            return self.kill(plane, "it answered what it was not asked".into(), now);
        }
        branch.stage = Stage::Wired;
        branch.obstacle = None;
        let native = self.sessions.get(&id).is_some_and(|session| session.face == Face::Lumen);
        if let Some(net) = self.ready_net().filter(|_| native && kind == PlaneKind::Input) {
            self.out.push(Action::InputFrom { net, session: id, generation });
        }
    }

    /// It cannot do what it was wired for, and says so: a fresh one tries again later, and the session goes on.
    pub(super) fn branch_failed(
        &mut self,
        plane: PlaneId,
        kind: PlaneKind,
        generation: Generation,
        reason: String,
        now: u64,
    ) {
        let Some(id) = self.session_of(plane, kind) else { return };
        let branch = self.sessions.get(&id).and_then(|session| session.branch(kind));
        if branch.is_none_or(|branch| generation > branch.generation || branch.stage == Stage::New) {
            return self.kill(plane, "it answered what it was not asked".into(), now);
        }
        self.replace_branch(id, kind, reason, Some(now + policy::WIRE_AGAIN), now);
    }

    /// Net has let go of a branch's ends, because the plane at the other broke the rules.
    pub(super) fn branch_broken(
        &mut self,
        id: SessionId,
        kind: PlaneKind,
        generation: Generation,
        reason: String,
        now: u64,
    ) {
        if kind == PlaneKind::Encode {
            return self.picture_broken(id, generation, &reason, now);
        }
        let Some(branch) = self.sessions.get_mut(&id).and_then(|session| session.branch_mut(kind)) else { return };
        if generation != branch.generation || !branch.is_with_net() {
            return;
        }
        branch.let_go();
        if let Some(plane) = branch.slot.current {
            self.kill(plane, format!("the network plane says: {reason}"), now);
        }
    }

    pub(super) fn cannot_wire_branch(
        &mut self,
        id: SessionId,
        kind: PlaneKind,
        generation: Generation,
        reason: String,
        now: u64,
    ) {
        let Some(branch) = self.sessions.get_mut(&id).and_then(|session| session.branch_mut(kind)) else { return };
        let again_at = now + policy::WIRE_AGAIN;
        if generation < branch.generation && matches!(branch.stage, Stage::Kept | Stage::Moving) {
            // Net was replaced before this was known: the plane may never have been wired.
            return self.replace_branch(id, kind, reason, Some(again_at), now);
        }
        let fresh = branch.stage == Stage::Wiring;
        if branch.cannot_wire(generation, reason, again_at)
            && let Some(plane) = branch.slot.current.filter(|_| fresh)
        {
            self.ledger.release(plane);
        }
    }

    /// Sends a branch's plane away, with no blame, and plans a fresh one: at `again_at`, or as soon as is fit.
    pub(super) fn replace_branch(
        &mut self,
        id: SessionId,
        kind: PlaneKind,
        reason: String,
        again_at: Option<u64>,
        now: u64,
    ) {
        let net = self.ready_net();
        let Some(branch) = self.sessions.get_mut(&id).and_then(|session| session.branch_mut(kind)) else { return };
        branch.retire(id, net, &mut self.out);
        let old = branch.slot.current;
        branch.slot.replace(&reason, again_at, now);
        branch.obstacle = Some(reason);
        if let Some(plane) = old {
            self.close(plane, now);
        }
    }

    /// What the hands were connected to is gone.
    pub(super) fn hands_lost(&mut self, id: SessionId, why: &str, now: u64) {
        let input = self.sessions.get(&id).and_then(|session| session.input.as_ref());
        if input.is_some_and(|branch| branch.stage != Stage::New) {
            self.replace_branch(id, PlaneKind::Input, why.into(), None, now);
        }
    }

    /// A person changed what a client's hands may do.
    pub(super) fn permissions(&mut self, client: Fingerprint, permissions: Permissions) {
        let sessions = self.sessions.values().filter(|session| session.client == client);
        let wired = sessions.filter_map(|session| session.input.as_ref()).filter(|branch| branch.stage != Stage::New);
        let planes: Vec<_> = wired.filter_map(|branch| branch.slot.current).filter(|&p| self.is_ready(p)).collect();
        self.out.extend(planes.into_iter().map(|plane| Action::PermitInput { plane, permissions }));
    }

    /// A plane is about to change the default sink.
    pub(super) fn record(&mut self, plane: PlaneId, record: DefaultSink, now: u64) {
        let Some(id) = self.session_of(plane, PlaneKind::Audio) else { return };
        let audio = self.sessions.get(&id).and_then(|session| session.audio.as_ref());
        if audio.is_none_or(|branch| branch.stage == Stage::New) {
            return self.kill(plane, "it would change the default sink before it has been wired".into(), now);
        }
        match self.ledger.record(plane, id, record, now) {
            Ok(previous) => self.out.push(Action::Record { plane, previous, records: self.ledger.records() }),
            Err(reason) => self.kill(plane, reason.into(), now),
        }
    }

    /// The record could not be written, so nothing may be changed: a later plane tries again.
    pub(super) fn cannot_record(&mut self, plane: PlaneId, reason: String, now: u64) {
        if let Some(id) = self.session_of(plane, PlaneKind::Audio) {
            self.replace_branch(id, PlaneKind::Audio, reason, Some(now + policy::WIRE_AGAIN), now);
        }
    }

    /// A default sink has been put back, or is somebody else's.
    pub(super) fn undone(&mut self, plane: PlaneId, ours: &str) {
        if self.ledger.undone(plane, ours) {
            self.out.push(Action::KeepRecords(self.ledger.records()));
        }
    }
}
