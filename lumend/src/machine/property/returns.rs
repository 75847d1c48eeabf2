//! The part of the world that native clients are who come back: what each has been told, and what it tries.

use std::collections::BTreeMap;

use ipc::{AskId, Face, Fingerprint, PlaneKind, SessionId};
use lumen_core::{RawMode, ResumeToken};

use super::world::{FRIEND, OTHER, World};
use crate::machine::policy::{LET_GO_AFTER, RETURN_WITHIN};
use crate::machine::{Action, Event, Machine, Mint, Stage, Wiring};

/// What one session's client has.
#[derive(Debug)]
struct Client {
    client: Fingerprint,
    /// The present network plane has the session by the answer to this.
    answered: Option<AskId>,
    /// It has said that it has this.
    known: Option<ResumeToken>,
    /// It may have this.
    sent: Option<ResumeToken>,
    spent: Vec<ResumeToken>,
    /// It has said `Start`.
    started: bool,
}

#[derive(Default, Debug)]
pub struct Returns {
    clients: BTreeMap<SessionId, Client>,
    /// What came with requests that are not answered.
    tried: BTreeMap<AskId, ResumeToken>,
    /// What the request that is being made has a right to.
    due: Option<SessionId>,
    /// Times that a client had its session again.
    pub count: u32,
}

/// A different token each time, and from a poor source now and then none.
pub fn mint(poor: bool) -> Mint {
    let mut number = 0u64;
    Box::new(move || {
        number += 1;
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        let none = poor && number.is_multiple_of(61);
        (!none).then_some(ResumeToken(bytes))
    })
}

impl Returns {
    pub fn fresh_net(&mut self) {
        self.tried.clear();
        self.clients.values_mut().for_each(|client| client.answered = None);
    }

    pub fn tries(&mut self, ask: AskId, token: ResumeToken) {
        self.tried.insert(ask, token);
    }

    /// The token that a client has.
    pub fn known(&self, client: Fingerprint) -> Option<ResumeToken> {
        self.clients.values().find(|held| held.client == client)?.known.clone()
    }

    /// The session that a token is good for.
    fn session_of(&self, machine: &Machine, client: Fingerprint, token: &ResumeToken) -> Option<SessionId> {
        let good = |held: &Client| held.known.is_some() && [&held.known, &held.sent].contains(&&Some(token.clone()));
        let mut all = self.clients.iter().filter(|(id, _)| machine.session(**id).is_some());
        all.find(|(_, held)| held.client == client && good(held)).map(|(&id, _)| id)
    }

    /// Net welcomes a client: as one that comes back only if it has proven to be.
    pub fn welcomed(world: &mut World, session: SessionId, ask: AskId, resumed: bool, token: Option<&ResumeToken>) {
        let client = world.machine.session(session).expect("welcomed to nothing").client;
        let tried = world.returns.tried.remove(&ask);
        let held = world.returns.clients.get_mut(&session);
        match (resumed, tried) {
            (true, Some(tried)) => {
                let held = held.expect("resumed and never begun");
                assert_eq!(held.client, client, "another's session");
                assert!(!held.spent.contains(&tried), "a token that was spent");
                held.uses(tried);
                (held.sent, held.answered, held.started) = (token.cloned(), Some(ask), false);
                world.returns.count += 1;
            }
            (true, None) => panic!("resumed without a token"),
            (false, _) => {
                assert!(held.is_none(), "a session that was begun before");
                let (sent, answered) = (token.cloned(), Some(ask));
                let held = Client { client, answered, known: None, sent, spent: Vec::new(), started: false };
                world.returns.clients.insert(session, held);
            }
        }
        let plane = world.net().expect("welcomed by nobody");
        world.owed.push(Event::Started { plane, session, ask });
    }

    /// What the world knows about an event that it is about to tell.
    pub fn note(&mut self, event: &Event, machine: &Machine) {
        match event {
            Event::Started { session, ask, .. } => {
                let held = self.clients.get_mut(session).filter(|held| held.answered == Some(*ask) && !held.started);
                if let Some(held) = held {
                    held.started = true;
                    held.spent.extend(std::mem::replace(&mut held.known, held.sent.take()));
                }
            }
            // Whatever a connection says after its end is no news.
            Event::Gone { session, ask, .. } => {
                if let Some(held) = self.clients.get_mut(session)
                    && ask.is_none_or(|ask| held.answered == Some(ask))
                {
                    held.answered = None;
                }
            }
            Event::Ask { client, wish, .. } => {
                let token = wish.resume.as_ref();
                self.due = token.and_then(|token| self.session_of(machine, *client, token));
            }
            _ => {}
        }
    }

    /// What holds after an event.
    pub fn after(world: &mut World, event: &Event) {
        let machine = &world.machine;
        for session in machine.sessions().filter(|session| session.back.is_waiting()) {
            assert!(session.ask.is_none() && session.back.is_possible(), "{session:?}");
            assert!(!matches!(session.wiring, Wiring::Ends | Wiring::Whole), "who looks at it? {session:?}");
            assert!(session.audio.iter().chain(&session.input).all(|branch| !branch.is_with_net()), "{session:?}");
            assert!(session.patience.is_some_and(|at| at <= world.now + RETURN_WITHIN), "for ever? {session:?}");
        }
        // Who has a right to a session gets that and no other, or is refused; nobody else gets one that was begun.
        if let Event::Ask { plane, ask, .. } = event
            && world.net() == Some(*plane)
        {
            let given = machine.sessions().find(|s| s.ask == Some(*ask) || s.back.is_by(*ask)).map(|s| s.id);
            let due = world.returns.due.take();
            assert!(given == due || given.is_none() || due.is_none(), "{given:?} instead of {due:?}");
            assert!(given.is_some() || !world.open_asks.contains(ask), "neither served nor refused");
            if let (Some(held), Some(tried)) = (
                given.filter(|_| due.is_some()).and_then(|id| world.returns.clients.get_mut(&id)),
                world.returns.tried.get(ask),
            ) {
                held.uses(tried.clone());
                held.answered = None;
            }
            let begun = given.is_some_and(|id| world.returns.clients.contains_key(&id));
            let welcomed = !world.open_asks.contains(ask);
            assert!(begun == due.is_some() || welcomed || given.is_none(), "{given:?} without a right to it");
        }
    }

    /// Clients that lose their sessions and try this and that.
    pub fn play(world: &mut World, op: u8, pick: u16) {
        let ids = world.returns.clients.keys().copied().filter(|id| world.machine.session(*id).is_some());
        let id = World::pick(ids, pick);
        let Some((client, held)) = id.and_then(|id| world.returns.clients.get(&id)).map(|held| (held.client, held))
        else {
            return;
        };
        let foreign = if client == FRIEND { OTHER } else { FRIEND };
        let (known, sent) = (held.known.clone(), held.sent.clone());
        let stale = World::pick(held.spent.iter().cloned(), pick);
        match op {
            0..=3 => world.come_back(client, known),
            4 => world.come_back(client, sent),
            5 => world.come_back(client, stale),
            6 => world.come_back(foreign, known.or(sent)),
            7 => world.come_back(client, Some(ResumeToken([pick as u8; 32]))),
            // Twice: the first try seemed to hang.
            8 => {
                world.come_back(client, known.clone());
                world.come_back(client, known);
            }
            9 => {
                if let Some(plane) = world.net() {
                    let exit = crate::machine::Exit::Crashed("signal 9".into());
                    world.feed(Event::Exited { plane, exit });
                }
            }
            // What a connection before has to say.
            10 => {
                if let (Some(plane), Some(session)) = (world.net(), id) {
                    let ask = AskId(u32::from(pick % 40));
                    world.feed(Event::Gone { plane, session, ask: Some(ask), reason: "silence".into() });
                }
            }
            _ => {
                if let (Some(plane), Some(session)) = (world.net(), id) {
                    let ask = AskId(u32::from(pick % 40));
                    world.feed(Event::Started { plane, session, ask });
                }
            }
        }
    }
}

impl Client {
    /// It asks with `token`, which is one of its two; the other is worth nothing from now on.
    fn uses(&mut self, token: ResumeToken) {
        if self.sent.as_ref() == Some(&token) {
            self.spent.extend(self.known.replace(token));
            self.sent = None;
        } else {
            assert_eq!(self.known.as_ref(), Some(&token), "not what it was told");
            self.spent.extend(self.sent.take());
        }
    }
}

impl World {
    /// A client asks for a session with what it has, which may be nothing.
    pub fn come_back(&mut self, client: Fingerprint, token: Option<ResumeToken>) {
        let mode = RawMode { width: 1280, height: 720, refresh_mhz: 60_000 };
        self.ask_with(client, Some(mode), Face::Lumen, None, token);
    }

    /// The client of the only session comes back with the token that it has.
    pub fn return_of(&mut self, client: Fingerprint) {
        let token = self.returns.known(client).expect("it was never here");
        self.come_back(client, Some(token));
    }

    /// The same with the one that it may not have got.
    pub fn return_with_sent(&mut self, client: Fingerprint) {
        let held = self.returns.clients.values().find(|held| held.client == client).expect("it was never here");
        let token = held.sent.clone();
        self.come_back(client, token);
    }

    /// Lets everything that is owed happen.
    pub fn deliver_all(&mut self) {
        while !self.owed.is_empty() {
            let event = self.owed.remove(0);
            self.deliver(event);
        }
    }

    /// Ends the network plane and brings up the next.
    pub fn lose_net(&mut self) {
        let plane = self.net().expect("there is none");
        self.feed(Event::Exited { plane, exit: crate::machine::Exit::Crashed("signal 9".into()) });
        while self.net().is_none() {
            self.deliver_all();
            if self.net().is_none() {
                self.now = self.machine.deadline().expect("nothing is due");
                self.feed(Event::Tick);
            }
        }
    }
}

/// Orders that only clients who come back cause.
pub fn check(world: &mut World, action: &Action) {
    match action {
        Action::InputFrom { net, session, generation } => {
            world.hears(*net, PlaneKind::Net);
            world.branches.net_has(*net, *session, PlaneKind::Input, *generation);
        }
        Action::LetGo(plane) => {
            assert!(!world.hears(*plane, PlaneKind::Input).wired.is_empty(), "before it was wired");
            // It may have ended at the same time.
            let session = world.planes[plane].session.and_then(|id| world.machine.session(id));
            if let Some(session) = session {
                assert!(session.back.is_waiting(), "its client holds what it holds");
                assert_eq!(session.input.as_ref().map(|branch| branch.stage), Some(Stage::Kept));
                let since = session.patience.expect("it waits") - RETURN_WITHIN;
                assert!(world.now >= since + LET_GO_AFTER, "too soon");
            }
        }
        other => panic!("{other:?} is no order for one who comes back"),
    }
}
