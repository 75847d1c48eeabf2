//! Pairing Moonlight clients: between the person with the PIN, the network plane that speaks with the client, and the
//! list of clients on disk.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use ipc::ctl::CtlReply;
use ipc::{Fingerprint, PairingId, Pin, ToNet};
use serde_json::json;
use tracing::{info, warn};

use super::Daemon;
use super::hear::REASON;
use crate::clients::{Client, MAX_NAME};
use crate::door::VisitorId;
use crate::grumbles::printable;
use crate::machine::{Event, Standing};
use crate::pairing::{Lost, Paired};

/// Exit code of a command that was refused, or came to nothing.
const REFUSED: u8 = 4;

/// What the machine has to know of a client; none of one that is turned away.
pub(super) fn standing(client: &Client) -> Option<Standing> {
    let Client { face, rights, enabled, .. } = client;
    enabled.then_some(Standing { face: *face, view: rights.view, launch: rights.launch })
}

impl Daemon {
    /// Tells the machine what the list says of a client now.
    pub(super) fn tell_of_client(&mut self, client: Fingerprint) {
        let standing = self.parts.clients.get(client).and_then(standing);
        self.queue.push_back(Event::Permit { client, standing });
        let permissions = self.parts.clients.permissions(client);
        self.queue.push_back(Event::Permissions { client, permissions });
    }

    /// A person has entered a PIN. None: the answer comes when the pairing has come to an end.
    pub(super) fn pair(
        &mut self,
        now: u64,
        visitor: VisitorId,
        pin: Pin,
        named: Option<PairingId>,
        name: Option<String>,
    ) -> Option<CtlReply> {
        let refused = |error: String| Some(CtlReply::error(REFUSED, error));
        let (pairing, client) = match self.pairings.awaiting(named) {
            Ok(found) => found,
            Err(error) => return refused(error.to_string()),
        };
        if let Err(error) = self.parts.clients.may_pair(client, name.as_deref()) {
            return refused(error.to_string());
        }
        let Some(plane) = self.machine.net().current else {
            return refused("the network plane is being replaced: try again".into());
        };
        self.pairings.enter(now, pairing, visitor, name);
        self.tell(plane, ToNet::<OwnedFd>::Pin { pairing, pin });
        None
    }

    pub(super) fn pairing_began(
        &mut self,
        now: u64,
        pairing: PairingId,
        client: Fingerprint,
        peer: SocketAddr,
        name: &str,
    ) {
        // A dual-stack socket shows IPv4 as IPv6.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let name = printable(name, MAX_NAME);
        match self.pairings.begin(now, pairing, client, peer, name) {
            Ok(()) => {
                if self.news.take(now) {
                    info!(
                        "a client at {} wants to be paired: enter the PIN that it shows with `lumend pair`",
                        peer.ip()
                    );
                }
            }
            Err(reason) => self.drop_pairing(pairing, reason),
        }
    }

    /// On disk first; the client hears of it once the network plane has its `Permit`.
    pub(super) fn paired(&mut self, now: u64, pairing: PairingId) {
        let Some(Paired { client, suggested, name, visitor }) = self.pairings.paired(now, pairing) else {
            if self.news.take(now) {
                warn!("the network plane says that a client is paired for whom nobody has entered a PIN");
            }
            return self.drop_pairing(pairing, "no PIN was entered for it");
        };
        let reply = match self.parts.clients.pair(client, name.as_deref(), &suggested) {
            Ok(()) => {
                let name = self.parts.clients.get(client).map_or("", |client| &client.name);
                info!("client {name:?} ({client}) is paired");
                let reply = CtlReply::ok(json!({ "sha256": client.to_string(), "name": name }));
                self.tell_of_client(client);
                reply
            }
            Err(error) => {
                warn!("a client could not be paired: {error}");
                self.drop_pairing(pairing, "the host could not add it to its list");
                CtlReply::error(error.exit(), error.to_string())
            }
        };
        self.parts.door.answer(visitor, &reply);
    }

    pub(super) fn pairing_failed(&mut self, now: u64, pairing: PairingId, reason: &str) {
        let reason = printable(reason, REASON);
        if self.news.take(now) {
            info!("a client was not paired: {reason}");
        }
        if let Some(visitor) = self.pairings.failed(pairing) {
            self.parts.door.answer(visitor, &CtlReply::error(REFUSED, format!("not paired: {reason}")));
        }
    }

    /// Ends the pairings whose time is up; and, where the network plane is another one, all of them.
    pub(super) fn tend_pairings(&mut self, now: u64) {
        let net = self.machine.net().current;
        let replaced = std::mem::replace(&mut self.pairings_with, net) != net;
        let lost = if replaced { self.pairings.clear() } else { self.pairings.tick(now) };
        for Lost { pairing, peer, visitor, reason } in lost {
            if self.news.take(now) {
                info!("the client at {} was not paired: {reason}", peer.ip());
            }
            if !replaced {
                self.drop_pairing(pairing, reason);
            }
            if let Some(visitor) = visitor {
                self.parts.door.answer(visitor, &CtlReply::error(REFUSED, format!("not paired: {reason}")));
            }
        }
    }

    fn drop_pairing(&mut self, pairing: PairingId, reason: &str) {
        if let Some(plane) = self.machine.net().current {
            self.tell(plane, ToNet::<OwnedFd>::DropPairing { pairing, reason: reason.into() });
        }
    }
}
