//! Sessions whose native client has lost them, and will come back: the network plane died, or its connection did.
//!
//! Such a session keeps all that it has apart from the network plane: its output, capture and encode, and the planes of
//! its branches, which go on. Its client proves by a token that the session is its own. A token is spent once the client
//! is known to have the next: one that was on its way when the network plane died again may never have arrived.

use ipc::{AskId, EndCode, Face, Fingerprint, SessionId, Wish};
use lumen_core::{ResumeToken, TokenDigest};

use super::branch::Stage;
use super::event::{Action, PlaneId};
use super::policy::{LET_GO_AFTER, PATIENCE, RETURN_WITHIN};
use super::session::{Asked, Session};
use super::{Machine, policy};
use crate::rate::Rate;

/// Where tokens come from; none where the kernel gives no random bytes.
pub type Mint = Box<dyn FnMut() -> Option<ResumeToken>>;

/// How a session's client comes back to it.
#[derive(Clone, Default, Debug)]
pub struct Return {
    /// Of the token that the client has: it has said `Start` since.
    known: Option<TokenDigest>,
    /// Of the one that was sent last, if it is not known to have arrived.
    sent: Option<TokenDigest>,
    /// The request by whose answer net has the session.
    answered: Option<AskId>,
    /// Whoever asked has said `Start`.
    started: bool,
    /// Nobody has the session: it ends then.
    until: Option<u64>,
    /// What its hands hold is lifted then.
    let_go_at: Option<u64>,
}

impl Return {
    /// True while the session waits for its client.
    pub fn is_waiting(&self) -> bool {
        self.until.is_some()
    }

    /// Its client has been here before: whatever is lost now, it may come back.
    pub fn is_possible(&self) -> bool {
        self.known.is_some()
    }

    /// The session is with net by the answer to this request.
    #[cfg(test)]
    pub fn is_by(&self, ask: AskId) -> bool {
        self.answered == Some(ask)
    }

    /// Net has the session by the answer to which request.
    #[cfg(test)]
    pub fn by(&self) -> Option<AskId> {
        self.answered
    }

    /// When what its hands hold is lifted.
    pub fn deadline(&self) -> Option<u64> {
        self.let_go_at
    }

    /// A request is answered; what its client gets to come back with.
    pub(super) fn answer(&mut self, ask: AskId, mint: &mut Mint) -> Option<ResumeToken> {
        self.answered = Some(ask);
        let token = mint();
        self.sent = token.as_ref().map(ResumeToken::digest);
        token
    }
}

/// How often clients may come back: all sessions twice at once.
pub fn returns(now: u64) -> Rate {
    Rate::new(now, policy::RETURN_BURST, policy::RETURNS_PER_SECOND)
}

impl Session {
    /// Takes the session away from net, of which `net` can still hear; every other plane keeps what it has.
    fn cut_off(&mut self, net: Option<PlaneId>, out: &mut Vec<Action>) {
        self.net_wired = false;
        (self.back.answered, self.back.started) = (None, false);
        let id = self.id;
        self.audio.iter_mut().chain(&mut self.input).for_each(|branch| branch.cut_off(id, net, out));
    }
}

impl Machine {
    /// The session that a request is to have back. What stands in its way is not said: who has a token that is worth
    /// nothing learns no more than that.
    fn returning(&self, client: Fingerprint, wish: &Wish) -> Option<SessionId> {
        let digest = wish.resume.as_ref()?.digest();
        let its = |session: &&Session| {
            let back = &session.back;
            session.face == Face::Lumen
                && session.client == client
                && back.is_possible()
                && [back.known, back.sent].contains(&Some(digest))
        };
        self.sessions.values().find(its).map(|session| session.id)
    }

    /// True if the request is that of a client which has its session again, or is refused for coming too often.
    pub(super) fn came_back(&mut self, plane: PlaneId, asked: Asked, wish: &Wish, now: u64) -> bool {
        let Asked { ask, client, peer, face } = asked;
        let stands = self.allowed.get(&client).is_some_and(|standing| standing.face == face && standing.view);
        let Some(id) = self.returning(client, wish).filter(|_| stands) else { return false };
        if !self.returns.take(now) {
            let reason = "too many clients come back at once; try again in a second".into();
            self.out.push(Action::Refuse { plane, ask, code: EndCode::Full, reason });
            return true;
        }
        self.take_from_net(id, now);
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        if let Some(ask) = session.ask.replace(ask) {
            let reason = "its client has asked anew".into();
            self.out.push(Action::Refuse { plane, ask, code: EndCode::Stopped, reason });
        }
        session.peer = peer;
        // It has the one that was sent last: the one before is spent.
        let used = wish.resume.as_ref().map(ResumeToken::digest);
        session.back.known = used.or(session.back.known);
        session.back.sent = None;
        (session.back.until, session.back.let_go_at) = (None, None);
        session.patience = Some(now + PATIENCE);
        true
    }

    /// A session of this client that waits for it, and can make room for the one that it asks for instead.
    pub(super) fn waits_for(&self, client: Fingerprint) -> Option<SessionId> {
        let its = |session: &&Session| session.client == client && session.back.is_waiting();
        self.sessions.values().find(its).map(|session| session.id)
    }

    /// A client has said `Start`: it has its token.
    pub(super) fn started(&mut self, id: SessionId, ask: AskId) {
        let session = self.sessions.get_mut(&id).filter(|session| session.back.answered == Some(ask));
        if let Some(back) = session.map(|session| &mut session.back)
            && !std::mem::replace(&mut back.started, true)
        {
            back.known = back.sent.take();
        }
    }

    /// Net has lost the client of a session, if it has not been told of another since.
    pub(super) fn gone(&mut self, id: SessionId, ask: Option<AskId>, now: u64) {
        let Some(session) = self.sessions.get(&id) else { return };
        let back = &session.back;
        // A session that net has not been told of yet cannot be gone.
        let present = session.ask.is_none() && !back.is_waiting() && ask.is_none_or(|ask| back.answered == Some(ask));
        match present {
            // It came back, and was lost before it had the next token.
            true if back.is_possible() && !back.started => self.orphan(id, now),
            true => self.drop_session(id, now),
            false => {}
        }
    }

    /// Nobody waits any more for the answer to a request.
    pub(super) fn withdrawn(&mut self, ask: AskId, now: u64) {
        let Some(session) = self.sessions.values_mut().find(|session| session.ask == Some(ask)) else { return };
        session.ask = None;
        let id = session.id;
        match session.back.is_possible() {
            true => self.orphan(id, now),
            false => self.drop_session(id, now),
        }
    }

    /// The network plane is gone, and with it all requests. Clients who can come back have some time to do so; nobody is
    /// left to tell the others.
    pub(super) fn without_net(&mut self, now: u64) {
        let ids: Vec<_> = self.sessions.keys().copied().collect();
        for id in ids {
            match self.sessions.get(&id).is_some_and(|session| session.back.is_possible()) {
                true => self.orphan(id, now),
                false => self.drop_session(id, now),
            }
        }
    }

    fn orphan(&mut self, id: SessionId, now: u64) {
        self.take_from_net(id, now);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.ask = None;
        let until = *session.back.until.get_or_insert(now + RETURN_WITHIN);
        session.back.let_go_at = Some(now + LET_GO_AFTER);
        session.patience = Some(until);
    }

    fn take_from_net(&mut self, id: SessionId, now: u64) {
        let ready = self.ready(id);
        if let Some(session) = self.sessions.get_mut(&id).filter(|session| session.net_wired) {
            session.retire(ready, now, &mut self.out);
            session.cut_off(ready.net, &mut self.out);
        }
    }

    /// A client that is away may be holding keys that it has let go of meanwhile: they are not held for long.
    pub(super) fn tick_returns(&mut self, now: u64) {
        let due = |session: &&mut Session| session.back.let_go_at.is_some_and(|at| now >= at);
        let mut planes = Vec::new();
        for session in self.sessions.values_mut().filter(due) {
            session.back.let_go_at = None;
            let hands = session.input.as_ref().filter(|branch| branch.stage == Stage::Kept);
            planes.extend(hands.and_then(|branch| branch.slot.current));
        }
        let ready = planes.into_iter().filter(|&plane| self.is_ready(plane)).collect::<Vec<_>>();
        self.out.extend(ready.into_iter().map(Action::LetGo));
    }
}
