//! Strangers that want to be paired: phases in any order, with PINs that a person enters for whoever waits.

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use ipc::{FromNet, PairingId, Pin};
use tokio::sync::oneshot::Receiver;

use crate::gamestream::certificate::Certificate;
use crate::gamestream::http::{Answer, Reply};
use crate::gamestream::pairing::{Caller, HostCertificate, Pairings, SignSecret};
use crate::gamestream::request::{Begin, Page, Phase};

/// As many answers as can wait at a time, and more.
const HELD: usize = 16;

/// A client's certificate that was recorded, as PEM.
static CERTIFICATE: LazyLock<Certificate> = LazyLock::new(|| {
    let hex = include_str!("../gamestream/pairing/recorded.txt").lines();
    let hex = hex.filter_map(|line| line.strip_prefix("clientcert ")).next().unwrap_or_default();
    let digit = |at: usize| hex.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let pem: Vec<u8> = (0..hex.len()).step_by(2).filter_map(digit).collect();
    Certificate::from_pem(&pem).expect("the recorded certificate")
});

/// Signs all.
struct Signs;

impl SignSecret for Signs {
    fn sign(&self, _: PairingId, _: [u8; 16]) -> Option<Vec<u8>> {
        Some(vec![7; 256])
    }
}

/// The host's pairings.
pub struct Strangers {
    pairings: Pairings,
    host: HostCertificate,
    now: Instant,
    begun: Vec<PairingId>,
    held: Vec<Receiver<Reply>>,
}

impl Strangers {
    pub fn new() -> Self {
        let host = HostCertificate { der: vec![1; 700], signature: vec![2; 256] };
        Self { pairings: Pairings::default(), host, now: Instant::now(), begun: Vec::new(), held: Vec::new() }
    }

    /// The first phase, with a good certificate.
    pub fn begin(&mut self, from: u8, salt: [u8; 16]) {
        let Page::Pair { id, .. } = Page::parse("/pair?phrase=pairchallenge&uniqueid=1") else { return };
        let begin = Begin { salt, certificate: CERTIFICATE.clone(), name: "Moonlight".into() };
        self.phase(from, id, Phase::Begin(Box::new(begin)));
    }

    /// What a client asks for, whatever it is.
    pub fn asks(&mut self, from: u8, target: &str) {
        if let Page::Pair { id, phase } = Page::parse(target) {
            self.phase(from, id, phase);
        }
    }

    fn phase(&mut self, from: u8, id: crate::gamestream::request::GuestId, phase: Phase) {
        let peer = SocketAddr::from(([192, 0, 2, from % 4], 1));
        let (answer, reply) = Answer::new();
        let mut said = Vec::new();
        match phase {
            Phase::Begin(begin) => {
                let taken = self.pairings.begin(self.now, peer, id, *begin, answer, &mut said);
                assert_eq!(taken, said.iter().any(|said| matches!(said, FromNet::Pairing { .. })));
            }
            phase => {
                let caller = Caller::new(peer, id);
                self.pairings.phase(&caller, phase, &self.host, &Signs, answer, &mut said);
            }
        }
        self.held.push(reply);
        if self.held.len() > HELD {
            self.held.remove(0);
        }
        self.told(&said);
    }

    /// A person enters a PIN for one of those that have begun.
    pub fn pin(&mut self, which: u8, pin: u16) {
        let Some(id) = self.begun.get(usize::from(which) % self.begun.len().max(1)).copied() else { return };
        let Some(pin) = Pin::new(&format!("{:04}", pin % 10_000)) else { return };
        let mut said = Vec::new();
        self.pairings.pin(self.now, id, &pin, &self.host, &mut said);
        self.told(&said);
    }

    /// Time passes, and some hang up.
    pub fn pass(&mut self, seconds: u8, hang_up: bool) {
        self.now += Duration::from_secs(seconds.into());
        if hang_up {
            self.held.clear();
        }
        let mut said = Vec::new();
        self.pairings.sweep(self.now, &mut said);
        self.told(&said);
    }

    /// Nobody here knows what the host has drawn at random, so that nobody is paired; and each attempt ends once.
    fn told(&mut self, said: &[FromNet]) {
        for said in said {
            match said {
                FromNet::Pairing { pairing, .. } => self.begun.push(*pairing),
                FromNet::PairingFailed { pairing, .. } => {
                    // A PIN for an attempt that is over is answered like this too.
                    self.begun.retain(|begun| begun != pairing);
                }
                _ => panic!("a stranger is paired"),
            }
        }
        assert!(self.begun.len() <= 16, "attempts pile up");
    }
}

impl Default for Strangers {
    fn default() -> Self {
        Self::new()
    }
}
