//! Pairings against a client of the test's own, in every order but the right one too.

use std::cell::Cell;
use std::sync::LazyLock;

use tokio::sync::oneshot::Receiver;

use super::*;
use crate::gamestream::moonlight::{Attempt, Identity, text_of};
use crate::gamestream::request::Page;

const PIN: &str = "4711";
const NAME: &str = "0123456789ABCDEF";

static HOST: LazyLock<Identity> = LazyLock::new(Identity::new);
static CLIENTS: LazyLock<Vec<Identity>> = LazyLock::new(|| (0..3).map(|_| Identity::new()).collect());

/// A host's pairings, with a lumend that signs.
struct Host {
    pairings: Pairings,
    certificate: HostCertificate,
    signs: bool,
    signed: Cell<u32>,
    now: Instant,
    said: Vec<FromNet>,
}

impl SignSecret for Host {
    fn sign(&self, _: PairingId, secret: [u8; 16]) -> Option<Vec<u8>> {
        self.signed.set(self.signed.get() + 1);
        self.signs.then(|| HOST.sign(&secret))
    }
}

fn peer(host: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], 50_000))
}

impl Host {
    fn new() -> Self {
        Self {
            pairings: Pairings::default(),
            certificate: HostCertificate::new(HOST.certificate.clone()).unwrap(),
            signs: true,
            signed: Cell::new(0),
            now: Instant::now(),
            said: Vec::new(),
        }
    }

    /// Sends a phase; the answer, if there is one at once.
    fn say(&mut self, from: SocketAddr, name: &str, query: &str) -> Receiver<Reply> {
        let (answer, reply) = Answer::new();
        let Page::Pair { id, phase } = Page::parse(&format!("/pair?uniqueid={name}&uuid=1&{query}")) else {
            panic!("{query} is no phase");
        };
        let mut said = std::mem::take(&mut self.said);
        match phase {
            Phase::Begin(begin) => {
                self.pairings.begin(self.now, from, id, *begin, answer, &mut said);
            }
            phase => {
                let mut pairings = std::mem::take(&mut self.pairings);
                pairings.phase(&Caller::new(from, id), phase, &self.certificate, self, answer, &mut said);
                self.pairings = pairings;
            }
        }
        self.said = said;
        reply
    }

    fn begin(&mut self, from: SocketAddr, attempt: &Attempt<'_>) -> (PairingId, Receiver<Reply>) {
        let held = self.say(from, NAME, &attempt.begin());
        match self.said.pop() {
            Some(FromNet::Pairing { pairing, .. }) => (pairing, held),
            other => panic!("{other:?}"),
        }
    }

    fn pin(&mut self, pairing: PairingId, pin: &str) {
        let mut said = std::mem::take(&mut self.said);
        self.pairings.pin(self.now, pairing, &Pin::new(pin).unwrap(), &self.certificate, &mut said);
        self.said = said;
    }

    /// Begins, with the PIN entered.
    fn keyed(&mut self, from: SocketAddr, attempt: &Attempt<'_>) -> PairingId {
        let (pairing, mut held) = self.begin(from, attempt);
        self.pin(pairing, PIN);
        let plain = crate::gamestream::moonlight::unhex(text_of(&now(&mut held), "plaincert").unwrap());
        assert_eq!(pem::parse(plain).unwrap().contents(), HOST.certificate);
        pairing
    }

    /// As far as the client's response being known; the host's `pairingsecret`.
    fn answered(&mut self, from: SocketAddr, attempt: &mut Attempt<'_>) -> (PairingId, String) {
        let pairing = self.keyed(from, attempt);
        let reply = now(&mut self.say(from, NAME, &attempt.challenge()));
        let response = attempt.response(text_of(&reply, "challengeresponse").unwrap());
        let reply = now(&mut self.say(from, NAME, &response));
        (pairing, text_of(&reply, "pairingsecret").unwrap().to_owned())
    }

    fn failed(&mut self) -> (PairingId, String) {
        match self.said.pop() {
            Some(FromNet::PairingFailed { pairing, reason }) => (pairing, reason),
            other => panic!("{other:?}"),
        }
    }
}

/// The answer that is there.
fn now(reply: &mut Receiver<Reply>) -> String {
    match reply.try_recv() {
        Ok(Reply::Xml(text)) => text,
        other => panic!("{other:?}"),
    }
}

fn refused(mut reply: Receiver<Reply>) {
    let text = now(&mut reply);
    assert_eq!(text_of(&text, "paired"), Some("0"), "{text}");
}

#[test]
fn a_client_that_knows_the_pin_is_paired_once_lumend_says_so() {
    let (mut host, client) = (Host::new(), &CLIENTS[0]);
    let mut attempt = Attempt::new(client, PIN);
    let (pairing, secret) = host.answered(peer(1), &mut attempt);
    assert_eq!(attempt.host_is(&HOST, &secret), (true, true));
    let mut reply = host.say(peer(1), NAME, &attempt.secret());
    assert!(matches!(host.said.pop(), Some(FromNet::Paired { pairing: done }) if done == pairing));
    assert!(reply.try_recv().is_err(), "before lumend has written it down");
    host.pairings.allowed(&CLIENTS[1].fingerprint());
    assert!(reply.try_recv().is_err());
    host.pairings.allowed(&client.fingerprint());
    assert_eq!(text_of(&now(&mut reply), "paired"), Some("1"));
    assert!(host.said.is_empty() && host.pairings.attempts.is_empty() && host.signed.get() == 1);
}

#[test]
fn a_wrong_pin_pairs_nobody_and_has_no_second_try() {
    let (mut host, client) = (Host::new(), &CLIENTS[0]);
    let mut attempt = Attempt::new(client, "0000");
    let (pairing, secret) = host.answered(peer(1), &mut attempt);
    assert_eq!(attempt.host_is(&HOST, &secret), (true, false), "the client can tell");
    let mut reply = host.say(peer(1), NAME, &attempt.secret());
    assert_eq!(text_of(&now(&mut reply), "paired"), Some("0"));
    assert_eq!(host.failed(), (pairing, "wrong PIN".into()));
    refused(host.say(peer(1), NAME, &attempt.secret()));
    host.pin(pairing, PIN);
    assert_eq!(host.failed().0, pairing);
    assert!(host.said.is_empty() && host.pairings.attempts.is_empty());
}

#[test]
fn the_pin_alone_is_not_enough() {
    let (mut host, client) = (Host::new(), &CLIENTS[0]);
    // It shows a certificate whose key it does not have.
    let mut attempt = Attempt::new(client, PIN);
    host.answered(peer(1), &mut attempt);
    refused(host.say(peer(1), NAME, &attempt.secret_signed_by(&CLIENTS[1])));
    assert_eq!(host.failed().1, "wrong PIN");
    // Nor does it get through with no signature at all.
    let mut attempt = Attempt::new(client, PIN);
    host.answered(peer(1), &mut attempt);
    let secret = attempt.secret();
    let unsigned = &secret[..secret.find("secret=").unwrap() + 7 + 32];
    refused(host.say(peer(1), NAME, unsigned));
    assert_eq!(host.failed().1, "wrong PIN");
}

#[test]
fn no_phase_can_be_left_out_repeated_or_changed_in_order() {
    let client = &CLIENTS[0];
    // How many phases after the first go well, and which is tried then: 2, 3 or 4.
    for (well, then) in [(0, 3), (0, 4), (1, 2), (1, 4), (2, 2), (2, 3)] {
        let mut host = Host::new();
        let mut attempt = Attempt::new(client, PIN);
        let pairing = host.keyed(peer(1), &attempt);
        let (challenge, secret) = (attempt.challenge(), attempt.secret());
        let mut response = format!("serverchallengeresp={}", "00".repeat(32));
        if well > 0 {
            let reply = now(&mut host.say(peer(1), NAME, &challenge));
            response = attempt.response(text_of(&reply, "challengeresponse").unwrap());
        }
        if well > 1 {
            now(&mut host.say(peer(1), NAME, &response));
        }
        let phases = [&challenge, &response, &secret];
        refused(host.say(peer(1), NAME, phases[then - 2]));
        assert_eq!(host.failed().0, pairing, "{well} {then}");
        for phase in phases {
            refused(host.say(peer(1), NAME, phase));
        }
        assert!(host.said.is_empty() && host.pairings.attempts.is_empty());
    }
}

#[test]
fn nothing_is_answered_before_the_pin() {
    let (mut host, client) = (Host::new(), &CLIENTS[0]);
    let attempt = Attempt::new(client, PIN);
    let (pairing, mut held) = host.begin(peer(1), &attempt);
    for early in [&attempt.challenge(), &format!("serverchallengeresp={}", "00".repeat(32)), &attempt.secret()] {
        refused(host.say(peer(1), NAME, early));
    }
    assert!(host.said.is_empty() && held.try_recv().is_err(), "it still waits");
    assert_eq!(host.signed.get(), 0);
    host.pin(pairing, PIN);
    assert!(text_of(&now(&mut held), "plaincert").is_some());
}

#[test]
fn a_replay_after_the_end_is_nothing() {
    let (mut host, client) = (Host::new(), &CLIENTS[0]);
    let mut attempt = Attempt::new(client, PIN);
    host.answered(peer(1), &mut attempt);
    let _reply = host.say(peer(1), NAME, &attempt.secret());
    assert!(matches!(host.said.pop(), Some(FromNet::Paired { .. })));
    // While lumend is at it, and after.
    refused(host.say(peer(1), NAME, &attempt.secret()));
    host.pairings.allowed(&client.fingerprint());
    refused(host.say(peer(1), NAME, &attempt.secret()));
    refused(host.say(peer(1), NAME, &attempt.challenge()));
    assert!(host.said.is_empty());
}

#[test]
fn clients_pair_side_by_side() {
    let mut host = Host::new();
    // Two at one address, behind whose router they share a name too, and one elsewhere.
    let mut attempts: Vec<Attempt<'_>> = CLIENTS.iter().map(|client| Attempt::new(client, PIN)).collect();
    let from = [peer(1), peer(1), peer(2)];
    let begun: Vec<_> = attempts.iter().zip(from).map(|(attempt, from)| host.begin(from, attempt)).collect();
    for (at, (pairing, mut held)) in begun.into_iter().enumerate().rev() {
        host.pin(pairing, PIN);
        assert!(text_of(&now(&mut held), "plaincert").is_some());
        let attempt = &mut attempts[at];
        let reply = now(&mut host.say(from[at], NAME, &attempt.challenge()));
        let response = attempt.response(text_of(&reply, "challengeresponse").unwrap());
        if at > 0 {
            now(&mut host.say(from[at], NAME, &response));
            let mut reply = host.say(from[at], NAME, &attempt.secret());
            assert!(matches!(host.said.pop(), Some(FromNet::Paired { pairing: done }) if done == pairing));
            host.pairings.allowed(&CLIENTS[at].fingerprint());
            assert_eq!(text_of(&now(&mut reply), "paired"), Some("1"));
        }
    }
    assert_eq!(host.pairings.attempts.len(), 1);
}

#[test]
fn phases_from_elsewhere_are_not_the_clients() {
    let (mut host, client) = (Host::new(), &CLIENTS[0]);
    let attempt = Attempt::new(client, PIN);
    host.keyed(peer(1), &attempt);
    refused(host.say(peer(2), NAME, &attempt.challenge()));
    refused(host.say(peer(1), "another", &attempt.challenge()));
    assert!(host.said.is_empty());
    let reply = now(&mut host.say(peer(1), NAME, &attempt.challenge()));
    assert!(text_of(&reply, "challengeresponse").is_some(), "the client's own is still good");
}

#[test]
fn time_runs_out() {
    let (mut host, client) = (Host::new(), &CLIENTS[0]);
    let attempt = Attempt::new(client, PIN);
    let (pairing, held) = host.begin(peer(1), &attempt);
    let mut said = Vec::new();
    host.pairings.sweep(host.now + FOR_THE_PIN - Duration::from_millis(1), &mut said);
    assert!(said.is_empty());
    host.pairings.sweep(host.now + FOR_THE_PIN, &mut said);
    host.said = said;
    assert_eq!(host.failed().0, pairing);
    refused(held);
    host.pin(pairing, PIN);
    assert_eq!(host.failed().0, pairing, "too late");

    let pairing = host.keyed(peer(1), &attempt);
    let mut said = Vec::new();
    host.pairings.sweep(host.now + FOR_THE_REST, &mut said);
    host.said = said;
    assert_eq!(host.failed().0, pairing);
    refused(host.say(peer(1), NAME, &attempt.challenge()));
}

#[test]
fn a_client_that_hangs_up_or_gives_up_is_forgotten() {
    let (mut host, client) = (Host::new(), &CLIENTS[0]);
    let attempt = Attempt::new(client, PIN);
    let (gone, held) = host.begin(peer(1), &attempt);
    drop(held);
    host.pin(gone, PIN);
    assert_eq!(host.failed().0, gone);
    let (gone, held) = host.begin(peer(1), &attempt);
    drop(held);
    let mut said = Vec::new();
    host.pairings.sweep(host.now, &mut said);
    host.said = said;
    assert_eq!(host.failed().0, gone);
    // One that sees a wrong PIN itself says so by /unpair.
    let pairing = host.keyed(peer(1), &attempt);
    let Page::Unpair { id } = Page::parse(&format!("/unpair?uniqueid={NAME}")) else { panic!() };
    let mut said = Vec::new();
    host.pairings.give_up(&Caller::new(peer(1), id), "given up", &mut said);
    host.said = said;
    assert_eq!(host.failed().0, pairing);
    refused(host.say(peer(1), NAME, &attempt.challenge()));
}

#[test]
fn a_client_that_begins_again_has_one_attempt() {
    let (mut host, client) = (Host::new(), &CLIENTS[0]);
    let (old, new) = (Attempt::new(client, "0000"), Attempt::new(client, PIN));
    let (first, held) = host.begin(peer(1), &old);
    let _second = host.say(peer(1), NAME, &new.begin());
    refused(held);
    assert!(
        matches!(&host.said[..], [FromNet::PairingFailed { pairing, .. }, FromNet::Pairing { .. }] if *pairing == first)
    );
    assert_eq!(host.pairings.attempts.len(), 1);
}

#[test]
fn no_more_wait_than_a_person_can_survey() {
    let mut host = Host::new();
    let held: Vec<_> = (0..3).map(|at| host.say(peer(1), NAME, &Attempt::new(&CLIENTS[at], PIN).begin())).collect();
    assert_eq!(host.said.len(), 2, "of one address");
    refused(held.into_iter().next_back().unwrap());
    let mut host = Host::new();
    let held: Vec<_> =
        (0..12).map(|from| host.say(peer(from), NAME, &Attempt::new(&CLIENTS[0], PIN).begin())).collect();
    assert_eq!((host.said.len(), held.len()), (WAITING, 12));
    // Nor does one client ask for ever.
    let mut host = Host::new();
    let attempt = Attempt::new(&CLIENTS[0], PIN);
    let begun = (0..100).filter(|_| {
        host.said.clear();
        let _held = host.say(peer(1), NAME, &attempt.begin());
        host.said.iter().any(|said| matches!(said, FromNet::Pairing { .. }))
    });
    assert_eq!(begun.count(), 6);
}

#[test]
fn without_a_signature_there_is_no_third_phase() {
    let (mut host, client) = (Host::new(), &CLIENTS[0]);
    host.signs = false;
    let mut attempt = Attempt::new(client, PIN);
    let pairing = host.keyed(peer(1), &attempt);
    let reply = now(&mut host.say(peer(1), NAME, &attempt.challenge()));
    let response = attempt.response(text_of(&reply, "challengeresponse").unwrap());
    refused(host.say(peer(1), NAME, &response));
    assert_eq!(host.failed(), (pairing, "lumend did not sign".into()));
}

#[test]
fn lumend_can_end_an_attempt_and_forget_a_client() {
    let (mut host, client) = (Host::new(), &CLIENTS[0]);
    let attempt = Attempt::new(client, PIN);
    let (pairing, held) = host.begin(peer(1), &attempt);
    host.pairings.drop_one(pairing, "not now");
    refused(held);
    let pairing = host.keyed(peer(1), &attempt);
    let mut said = Vec::new();
    host.pairings.forbidden(&client.fingerprint(), &mut said);
    host.said = said;
    assert_eq!(host.failed().0, pairing);
}
