//! Moonlight clients that want to be paired, and the one try that a person's PIN gives each. A pairing is accepted only
//! within the window that a PIN has opened for it, and once: what the network plane says outside of that is nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use ipc::{Fingerprint, PairingId};
use serde_json::{Value, json};

use crate::door::VisitorId;

const SECOND: u64 = 1_000_000_000;

/// Clients that wait at a time.
const WAITING: usize = 8;
/// How long a client waits for its PIN: a little longer than the network plane holds its request.
const WAITS: u64 = 185 * SECOND;
/// From the PIN to the proof that the client has the same.
const WINDOW: u64 = 30 * SECOND;

/// What a person has done for a pairing.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Try {
    until: u64,
    visitor: VisitorId,
    /// What the client is to be called, if the person has said so.
    name: Option<String>,
    /// The host's secret is signed once.
    signed: bool,
}

#[derive(Clone, Debug)]
struct Pairing {
    client: Fingerprint,
    peer: SocketAddr,
    /// What the client calls itself.
    suggested: String,
    since: u64,
    tried: Option<Try>,
}

/// A pairing that has succeeded, as far as the network plane can say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Paired {
    pub client: Fingerprint,
    pub suggested: String,
    pub name: Option<String>,
    pub visitor: VisitorId,
}

/// One that will not: who is to be told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lost {
    pub pairing: PairingId,
    pub peer: SocketAddr,
    /// Who has entered the PIN.
    pub visitor: Option<VisitorId>,
    pub reason: &'static str,
}

/// Why a PIN goes to nobody. The text says what to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoPairing {
    #[error("no client waits to be paired: choose this host in Moonlight first")]
    Nobody,
    #[error("more than one client waits: name one with --client; `lumend status` lists them")]
    Many,
    #[error("no client of this number waits to be paired; `lumend status` lists those that do")]
    Unknown,
    #[error("this pairing has had its PIN")]
    Tried,
}

#[derive(Default, Debug)]
pub struct Pairings(BTreeMap<PairingId, Pairing>);

impl Pairings {
    /// A client has begun. The error is why it is not to go on.
    pub fn begin(
        &mut self,
        now: u64,
        id: PairingId,
        client: Fingerprint,
        peer: SocketAddr,
        suggested: String,
    ) -> Result<(), &'static str> {
        if self.0.contains_key(&id) {
            return Err("a pairing of this number is under way");
        }
        if self.0.len() >= WAITING {
            return Err("too many clients wait to be paired");
        }
        self.0.insert(id, Pairing { client, peer, suggested, since: now, tried: None });
        Ok(())
    }

    /// The pairing that a PIN would go to, and its client: the one named, or the one that waits for one.
    pub fn awaiting(&self, named: Option<PairingId>) -> Result<(PairingId, Fingerprint), NoPairing> {
        if let Some(id) = named {
            let pairing = self.0.get(&id).ok_or(NoPairing::Unknown)?;
            return if pairing.tried.is_none() { Ok((id, pairing.client)) } else { Err(NoPairing::Tried) };
        }
        let mut waiting = self.0.iter().filter(|(_, pairing)| pairing.tried.is_none());
        match (waiting.next(), waiting.next()) {
            (Some((&id, pairing)), None) => Ok((id, pairing.client)),
            (None, _) if self.0.is_empty() => Err(NoPairing::Nobody),
            (None, _) => Err(NoPairing::Tried),
            (Some(_), Some(_)) => Err(NoPairing::Many),
        }
    }

    /// Opens the window of a pairing that [`Self::awaiting`] has named.
    pub fn enter(&mut self, now: u64, id: PairingId, visitor: VisitorId, name: Option<String>) {
        if let Some(pairing) = self.0.get_mut(&id).filter(|pairing| pairing.tried.is_none()) {
            pairing.tried = Some(Try { until: now + WINDOW, visitor, name, signed: false });
        }
    }

    /// Whether the host's secret may be signed for a pairing now; by a yes that is used up.
    pub fn may_sign(&mut self, now: u64, id: PairingId) -> bool {
        let tried = self.0.get_mut(&id).and_then(|pairing| pairing.tried.as_mut());
        tried.is_some_and(|tried| now < tried.until && !std::mem::replace(&mut tried.signed, true))
    }

    /// The network plane says that the client has proven that it knows the PIN. None outside of the window, and for a
    /// pairing whose secret it never had signed, without which no client goes so far.
    pub fn paired(&mut self, now: u64, id: PairingId) -> Option<Paired> {
        let open = |tried: &Try| now < tried.until && tried.signed;
        self.0.get(&id).filter(|pairing| pairing.tried.as_ref().is_some_and(open))?;
        let Pairing { client, suggested, tried, .. } = self.0.remove(&id)?;
        let Try { visitor, name, .. } = tried?;
        Some(Paired { client, suggested, name, visitor })
    }

    /// It came to nothing. Who has entered its PIN, if anybody has.
    pub fn failed(&mut self, id: PairingId) -> Option<VisitorId> {
        self.0.remove(&id)?.tried.map(|tried| tried.visitor)
    }

    pub fn deadline(&self) -> Option<u64> {
        self.0.values().map(Pairing::until).min()
    }

    /// Those whose time is up.
    pub fn tick(&mut self, now: u64) -> Vec<Lost> {
        let over: Vec<_> = self.0.iter().filter(|(_, pairing)| now >= pairing.until()).map(|(id, _)| *id).collect();
        let lost = |id| {
            let pairing = self.0.remove(&id)?;
            let reason = match pairing.tried {
                Some(_) => "the client did not finish within 30 s",
                None => "nobody entered its PIN within three minutes",
            };
            Some(pairing.lost(id, reason))
        };
        over.into_iter().filter_map(lost).collect()
    }

    /// The network plane that they were with is gone.
    pub fn clear(&mut self) -> Vec<Lost> {
        let all = std::mem::take(&mut self.0);
        all.into_iter().map(|(id, pairing)| pairing.lost(id, "the network plane was replaced: try again")).collect()
    }

    /// For `lumend status`.
    pub fn json(&self, now: u64) -> Value {
        let pairing = |(id, pairing): (&PairingId, &Pairing)| {
            json!({
                "pairing": id.0,
                "peer": pairing.peer.to_string(),
                "name": pairing.suggested,
                "fingerprint": pairing.client.to_string(),
                "state": if pairing.tried.is_some() { "pairing" } else { "waiting" },
                "left_s": pairing.until().saturating_sub(now) / SECOND,
            })
        };
        self.0.iter().map(pairing).collect()
    }
}

impl Pairing {
    fn until(&self) -> u64 {
        self.tried.as_ref().map_or(self.since + WAITS, |tried| tried.until)
    }

    fn lost(self, pairing: PairingId, reason: &'static str) -> Lost {
        Lost { pairing, peer: self.peer, visitor: self.tried.map(|tried| tried.visitor), reason }
    }
}

#[cfg(test)]
mod tests;
