//! Requests, page by page: who may see it, and what it answers.

use std::net::SocketAddr;
use std::time::Instant;

use ipc::{AppId, Fingerprint, FromNet};

use super::sessions::Wanted;
use super::{Act, Acts, AskNumbers, FOR_THE_QUIT, Face, Quit};
use crate::counters::Counter;
use crate::gamestream::http::{Answer, Entrance, Reply, Visit};
use crate::gamestream::pages::{self, Verb};
use crate::gamestream::pairing::Caller;
use crate::gamestream::request::{Page, Phase};

/// A request of a paired client, but for what it asks.
pub(super) struct Guest {
    pub client: Fingerprint,
    pub peer: SocketAddr,
    pub local: SocketAddr,
    pub answer: Answer,
}

impl Face {
    /// Answers a request, or sees to it that it will be.
    pub fn visit(&mut self, now: Instant, visit: Visit, asks: &mut AskNumbers, acts: &mut Acts) {
        let Visit { entrance, peer, local, page, answer } = visit;
        let client = self.known(entrance);
        if let (Some(_), Some(listening)) = (client, &self.listening) {
            listening.turns.know(peer.ip());
        }
        match page {
            // Over HTTPS clients ask it to learn whether they are paired, and try HTTP next.
            Page::ServerInfo if client.is_none() && entrance != Entrance::Http => answer.send(unauthorised()),
            Page::ServerInfo => {
                let Some(listening) = &self.listening else { return };
                let running = client.and_then(|client| self.running.get(&client).copied());
                answer.send(pages::server_info(&listening.names, local, client.is_some(), running));
            }
            Page::Pair { phase: Phase::Known, .. } => answer.send(match client {
                Some(_) => pages::paired(),
                None => pages::unpaired(401, "this client is not paired"),
            }),
            Page::Pair { id, phase: Phase::Begin(begin) } => {
                let mut said = Vec::new();
                if !self.pairings.begin(now, peer, id, *begin, answer, &mut said) {
                    self.counters.add(Counter::PairingsRefused);
                }
                acts.extend(said.into_iter().map(Act::Lumend));
            }
            Page::Pair { id, phase } => {
                let Some(listening) = &self.listening else { return };
                let (mut said, caller) = (Vec::new(), Caller::new(peer, id));
                self.pairings.phase(&caller, phase, &listening.certificate, &listening.signer, answer, &mut said);
                acts.extend(said.into_iter().map(Act::Lumend));
            }
            Page::Unpair { id } => {
                let caller = Caller::new(peer, id);
                self.pairing(acts, |pairings, said| pairings.give_up(&caller, "the client has given up", said));
                answer.send(pages::unpaired_at_its_wish());
            }
            Page::Unknown => answer.send(pages::refusal(404, "there is no such page")),
            Page::Malformed(words) => answer.send(pages::refusal(400, words)),
            Page::MalformedPrivate(words) => answer.send(match client {
                Some(_) => pages::refusal(400, words),
                None => unauthorised(),
            }),
            Page::AppList | Page::AppAsset(_) | Page::Launch(_) | Page::Resume(_) | Page::Cancel => match client {
                Some(client) => self.visit_of(now, Guest { client, peer, local, answer }, page, asks, acts),
                None => answer.send(unauthorised()),
            },
        }
    }

    /// Pages for paired clients only.
    fn visit_of(&mut self, now: Instant, guest: Guest, page: Page, asks: &mut AskNumbers, acts: &mut Acts) {
        match page {
            Page::AppList => guest.answer.send(pages::app_list(self.apps.list())),
            Page::AppAsset(app) => guest.answer.send(self.picture(app)),
            Page::Launch(launch) => match launch.app.filter(|app| self.apps.has(*app)) {
                Some(app) => self.ask(now, guest, Wanted { verb: Verb::Launch, app, launch: *launch }, asks, acts),
                None => guest.answer.send(pages::no_session(Verb::Launch, 404, "there is no such app")),
            },
            // What is resumed is what runs, whatever the client remembers.
            Page::Resume(launch) => match self.running.get(&guest.client).copied() {
                Some(app) => self.ask(now, guest, Wanted { verb: Verb::Resume, app, launch: *launch }, asks, acts),
                None => {
                    let reason = "nothing is running any more: start it anew";
                    guest.answer.send(pages::no_session(Verb::Resume, 503, reason));
                }
            },
            _ => self.cancel(now, guest.client, guest.answer, acts),
        }
    }

    fn cancel(&mut self, now: Instant, client: Fingerprint, answer: Answer, acts: &mut Acts) {
        self.withdraw(client, "the client has cancelled it", acts);
        if !self.running.contains_key(&client) && !self.has_session_of(client) {
            return answer.send(pages::cancelled());
        }
        self.quits.push(Quit { client, answer, until: now + FOR_THE_QUIT });
        acts.push(Act::Lumend(FromNet::Quit { client }));
    }

    fn picture(&self, app: AppId) -> Reply {
        self.apps.picture(app).map_or_else(|| pages::refusal(404, "there is no such app"), Reply::Png)
    }

    /// The client, if it is paired and has proven who it is.
    fn known(&self, entrance: Entrance) -> Option<Fingerprint> {
        match entrance {
            Entrance::Https(Some(client)) if self.paired.contains(&client) => Some(client),
            Entrance::Http | Entrance::Https(_) => None,
        }
    }
}

/// What an unpaired client gets; it offers to pair.
pub(super) fn unauthorised() -> Reply {
    pages::refusal(401, "this client is not paired")
}
