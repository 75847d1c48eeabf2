//! Pairings under way: which client is in which phase of its attempt, and whose turn it is.
//!
//! An attempt belongs to a certificate, which the client shows in the first phase only. The phases after it say nothing
//! but a name that many clients share (`uniqueid`), so they are given to the attempt that began at the same address
//! with the same name and waits for just this phase. Whoever else speaks out of turn ends the attempts of that name
//! that have had their PIN: there is one try, in one order, and no second answer to anything.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ipc::{Fingerprint, FromNet, PairingId, Pin};

use super::certificate::Certificate;
use super::door::network;
use super::http::{Answer, Reply};
use super::pages;
use super::request::{Begin, GuestId, Phase};

mod attempt;
mod starts;
#[cfg(test)]
mod tests;

use attempt::{Answered, Challenged, Keyed};
use starts::Starts;

/// Attempts that wait for a PIN.
const WAITING: usize = 8;
/// Of one address.
const WAITING_OF_ONE: usize = 2;
/// How long a person has to enter the PIN.
const FOR_THE_PIN: Duration = Duration::from_secs(180);
/// From the PIN to the end.
const FOR_THE_REST: Duration = Duration::from_secs(30);

/// What the host answers with.
pub struct HostCertificate {
    pub der: Vec<u8>,
    /// The signature in it.
    pub signature: Vec<u8>,
}

impl HostCertificate {
    /// None if lumend has handed over something else.
    pub fn new(der: Vec<u8>) -> Option<Self> {
        let signature = Certificate::from_der(&der)?.signature;
        Some(Self { der, signature })
    }
}

/// Has lumend sign the secret of a pairing.
pub trait SignSecret {
    /// None if it will not, or not in time.
    fn sign(&self, pairing: PairingId, secret: [u8; 16]) -> Option<Vec<u8>>;
}

/// All attempts, oldest first.
#[derive(Default)]
pub struct Pairings {
    attempts: Vec<Attempt>,
    starts: Starts,
    last: u32,
}

struct Attempt {
    id: PairingId,
    /// Whose later phases are this attempt's.
    from: IpAddr,
    name: GuestId,
    certificate: Certificate,
    stage: Stage,
    until: Instant,
}

enum Stage {
    /// For the PIN; the client's first request is held.
    Waiting {
        salt: [u8; 16],
        held: Answer,
    },
    Keyed(Keyed),
    Challenged(Challenged),
    Answered(Answered),
    /// For lumend to allow the client; its last request is held.
    Verified(Answer),
}

/// What a phase comes to.
enum Next {
    Say(Stage, Reply),
    /// The last phase was right: the answer waits for lumend.
    Hold,
}

impl Pairings {
    /// Begins an attempt. False if too many have begun, and the client is told so.
    pub fn begin(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        name: GuestId,
        begin: Begin,
        held: Answer,
        out: &mut Vec<FromNet>,
    ) -> bool {
        let Begin { salt, certificate, name: device } = begin;
        let from = peer.ip().to_canonical();
        self.sweep(now, out);
        // The client has begun anew: its earlier attempt is not going to be finished.
        let its_own =
            |attempt: &Attempt| attempt.from == from && attempt.certificate.fingerprint == certificate.fingerprint;
        self.end_where(its_own, "the client has begun again", out);
        let waiting = |attempt: &&Attempt| matches!(attempt.stage, Stage::Waiting { .. });
        let near = |attempt: &&Attempt| network(attempt.from) == network(from);
        let its = self.attempts.iter().filter(waiting).filter(near).count();
        let all = self.attempts.iter().filter(waiting).count();
        if its >= WAITING_OF_ONE || all >= WAITING || !self.starts.take(now, from) {
            held.send(pages::unpaired(503, "too many clients are pairing; try again in a minute"));
            return false;
        }
        self.last = self.last.wrapping_add(1);
        let (id, client) = (PairingId(self.last), certificate.fingerprint);
        let stage = Stage::Waiting { salt, held };
        self.attempts.push(Attempt { id, from, name, certificate, stage, until: now + FOR_THE_PIN });
        out.push(FromNet::Pairing { pairing: id, client, peer, name: device });
        true
    }

    /// A person has entered the PIN that this client shows.
    pub fn pin(&mut self, now: Instant, id: PairingId, pin: &Pin, host: &HostCertificate, out: &mut Vec<FromNet>) {
        let Some(at) = self.attempts.iter().position(|attempt| attempt.id == id) else {
            return out.push(failed(id, "this pairing is over"));
        };
        let attempt = self.attempts.remove(at);
        let Stage::Waiting { salt, held } = attempt.stage else {
            // The PIN of an attempt counts once.
            return attempt.end("a second PIN", out);
        };
        if held.is_gone() {
            return out.push(failed(id, "the client has given up"));
        }
        match Keyed::new(&salt, pin) {
            Some(keyed) => {
                held.send(pages::host_certificate(&host.der));
                self.attempts.insert(at, Attempt { stage: Stage::Keyed(keyed), until: now + FOR_THE_REST, ..attempt });
            }
            None => out.push(failed(id, "internal error")),
        }
    }

    /// A later phase of whoever it is.
    pub fn phase(
        &mut self,
        caller: &Caller,
        phase: Phase,
        host: &HostCertificate,
        signer: &impl SignSecret,
        answer: Answer,
        out: &mut Vec<FromNet>,
    ) {
        let fits = |attempt: &Attempt| caller.is_of(attempt) && attempt.stage.takes(&phase);
        let Some(at) = self.attempts.iter().position(fits) else {
            self.give_up(caller, "a phase came out of turn", out);
            return answer.send(pages::unpaired(400, "this is not the phase of pairing that comes next"));
        };
        // Out of the list until it has succeeded: whatever goes wrong, the attempt is over.
        let attempt = self.attempts.remove(at);
        let id = attempt.id;
        let next = match (attempt.stage, phase) {
            (Stage::Keyed(keyed), Phase::Challenge(challenge)) => challenged(keyed, challenge, host),
            (Stage::Challenged(challenged), Phase::Response(response)) => {
                answered(challenged, response, |secret| signer.sign(id, secret))
            }
            (Stage::Answered(answered), Phase::Secret { secret, signature }) => answered
                .verify(&secret, &signature, &attempt.certificate)
                .map(|()| Next::Hold)
                .map_err(|attempt::Wrong| "wrong PIN"),
            _ => Err("internal error"),
        };
        let stage = match next {
            Ok(Next::Say(stage, reply)) => {
                answer.send(reply);
                stage
            }
            Ok(Next::Hold) => {
                out.push(FromNet::Paired { pairing: id });
                Stage::Verified(answer)
            }
            Err(reason) => {
                answer.send(pages::unpaired(200, reason));
                return out.push(failed(id, reason));
            }
        };
        self.attempts.insert(at, Attempt { stage, ..attempt });
    }

    /// The client asks to be forgotten, as clients do when pairing has failed on their side.
    pub fn give_up(&mut self, caller: &Caller, reason: &str, out: &mut Vec<FromNet>) {
        // Not those that wait for their PIN, whose client is known by its open connection; nor those that are done.
        let lost = |attempt: &Attempt| {
            caller.is_of(attempt)
                && matches!(attempt.stage, Stage::Keyed(_) | Stage::Challenged(_) | Stage::Answered(_))
        };
        self.end_where(lost, reason, out);
    }

    /// lumend trusts this client from now on.
    pub fn allowed(&mut self, client: &Fingerprint) {
        let done = |attempt: &mut Attempt| {
            matches!(attempt.stage, Stage::Verified(_)) && attempt.certificate.fingerprint == *client
        };
        for attempt in self.attempts.extract_if(.., done) {
            if let Stage::Verified(answer) = attempt.stage {
                answer.send(pages::paired());
            }
        }
    }

    /// lumend does not trust this client any more.
    pub fn forbidden(&mut self, client: &Fingerprint, out: &mut Vec<FromNet>) {
        self.end_where(|attempt| attempt.certificate.fingerprint == *client, "the client has been removed", out);
    }

    /// lumend, which knows why, ends an attempt.
    pub fn drop_one(&mut self, id: PairingId, reason: &str) {
        self.end_where(|attempt| attempt.id == id, reason, &mut Vec::new());
    }

    /// Ends what has taken too long or has lost its client.
    pub fn sweep(&mut self, now: Instant, out: &mut Vec<FromNet>) {
        let gone = |attempt: &Attempt| matches!(&attempt.stage, Stage::Waiting { held, .. } if held.is_gone());
        self.end_where(gone, "the client has given up", out);
        let late = |attempt: &Attempt| now >= attempt.until;
        let waits = |attempt: &Attempt| matches!(attempt.stage, Stage::Waiting { .. });
        self.end_where(|attempt| late(attempt) && waits(attempt), "no PIN was entered in time", out);
        self.end_where(late, "pairing took too long", out);
    }

    fn end_where(&mut self, which: impl Fn(&Attempt) -> bool, reason: &str, out: &mut Vec<FromNet>) {
        for attempt in self.attempts.extract_if(.., |attempt| which(attempt)) {
            attempt.end(reason, out);
        }
    }
}

/// Who speaks in a phase after the first.
pub struct Caller {
    from: IpAddr,
    name: GuestId,
}

impl Caller {
    pub fn new(peer: SocketAddr, name: GuestId) -> Self {
        Self { from: peer.ip().to_canonical(), name }
    }

    fn is_of(&self, attempt: &Attempt) -> bool {
        (self.from, &self.name) == (attempt.from, &attempt.name)
    }
}

impl Attempt {
    /// Tells the client, if it waits for an answer, and lumend.
    fn end(self, reason: &str, out: &mut Vec<FromNet>) {
        if let Stage::Waiting { held, .. } | Stage::Verified(held) = self.stage {
            held.send(pages::unpaired(503, reason));
        }
        out.push(failed(self.id, reason));
    }
}

impl Stage {
    fn takes(&self, phase: &Phase) -> bool {
        matches!(
            (self, phase),
            (Self::Keyed(_), Phase::Challenge(_))
                | (Self::Challenged(_), Phase::Response(_))
                | (Self::Answered(_), Phase::Secret { .. })
        )
    }
}

fn challenged(keyed: Keyed, challenge: [u8; 16], host: &HostCertificate) -> Result<Next, &'static str> {
    let mut random = [0; 32];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| "the kernel gives no random bytes")?;
    let (host_secret, host_challenge) = random.split_at(16);
    let (Ok(host_secret), Ok(host_challenge)) = (host_secret.try_into(), host_challenge.try_into()) else {
        return Err("internal error");
    };
    let (challenged, reply) =
        keyed.challenge(challenge, &host.signature, host_secret, host_challenge).ok_or("internal error")?;
    Ok(Next::Say(Stage::Challenged(challenged), pages::challenge_response(&reply)))
}

fn answered(
    challenged: Challenged,
    response: [u8; 32],
    sign: impl FnOnce([u8; 16]) -> Option<Vec<u8>>,
) -> Result<Next, &'static str> {
    let secret = challenged.secret();
    let answered = challenged.respond(response).ok_or("internal error")?;
    let signature = sign(secret).ok_or("lumend did not sign")?;
    Ok(Next::Say(Stage::Answered(answered), pages::pairing_secret(&secret, &signature)))
}

fn failed(pairing: PairingId, reason: &str) -> FromNet {
    FromNet::PairingFailed { pairing, reason: reason.to_owned() }
}
