//! What the network plane may have signed: a closed list. The text that gives a signature its meaning is built here, so
//! that nothing else can be had from a plane in bad hands.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding};
use ipc::{PairingId, SignReply, SignRequest};

use crate::identity::{GameStreamIdentity, Identity};
use crate::rate::Rate;

/// With either key: each has an allowance of its own, so that neither kind of client can keep the other out.
const SIGNATURES_PER_SECOND: u32 = 20;
/// With the native key in a burst: when the network plane dies, all its clients shake hands at once with the next, and again
/// with the one after that. They cost lumend some tens of microseconds each.
const NATIVE_BURST: u32 = 64;
/// With the GameStream key in a burst: Moonlight shakes hands anew for every page, and a list of apps is as many pages as
/// it has pictures. They cost lumend a millisecond each.
const GAMESTREAM_BURST: u32 = 64;

/// Answers the network plane's requests for signatures, with each key no more than twenty a second of them in the long run.
pub struct Signer {
    identity: Identity,
    gamestream: Option<GameStreamIdentity>,
    rate: Rate,
    gamestream_rate: Rate,
}

impl Signer {
    /// `now` in nanoseconds of the clock that [`Signer::sign`] is told. Without a GameStream identity, whatever is
    /// asked of its key is refused.
    pub fn new(identity: Identity, gamestream: Option<GameStreamIdentity>, now: u64) -> Self {
        Self {
            identity,
            gamestream,
            rate: Rate::new(now, NATIVE_BURST, SIGNATURES_PER_SECOND),
            gamestream_rate: Rate::new(now, GAMESTREAM_BURST, SIGNATURES_PER_SECOND),
        }
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    pub fn gamestream(&self) -> Option<&GameStreamIdentity> {
        self.gamestream.as_ref()
    }

    /// Signs what the request names. `may_pair` is asked whether a pairing's secret may be signed now, and by its yes
    /// that is used up: one PIN, one signature.
    pub fn sign(&mut self, now: u64, request: &SignRequest, may_pair: impl FnOnce(PairingId) -> bool) -> SignReply {
        let signed = match request {
            SignRequest::Tls13 { transcript } => self.lumen(now, &tls13_server_message(transcript)),
            SignRequest::Tls13Rsa { transcript } => {
                self.rsa(now, &RSA_PSS_SHA256, &tls13_server_message(transcript), || true)
            }
            SignRequest::Tls12Rsa { client_random, server_random, x, y } => {
                let message = tls12_server_message(client_random, server_random, x, y);
                self.rsa(now, &RSA_PKCS1_SHA256, &message, || true)
            }
            SignRequest::Pairing { pairing, secret } => self.rsa(now, &RSA_PKCS1_SHA256, secret, || may_pair(*pairing)),
        };
        signed.map_or(SignReply::Refused, SignReply::Signed)
    }

    fn lumen(&mut self, now: u64, message: &[u8]) -> Option<Vec<u8>> {
        if !self.rate.take(now) {
            return None;
        }
        let signature = self.identity.key().sign(&SystemRandom::new(), message).ok()?;
        Some(signature.as_ref().to_vec())
    }

    fn rsa(
        &mut self,
        now: u64,
        padding: &'static dyn RsaEncoding,
        message: &[u8],
        may: impl FnOnce() -> bool,
    ) -> Option<Vec<u8>> {
        let key = self.gamestream.as_ref()?.key();
        if !self.gamestream_rate.take(now) || !may() {
            return None;
        }
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(padding, &SystemRandom::new(), message, &mut signature).ok()?;
        Some(signature)
    }
}

/// RFC 8446 §4.4.3: 64 spaces, the context string, a zero byte, the transcript hash.
fn tls13_server_message(transcript: &[u8; 32]) -> Vec<u8> {
    let mut message = vec![b' '; 64];
    message.extend_from_slice(b"TLS 1.3, server CertificateVerify\0");
    message.extend_from_slice(transcript);
    message
}

/// RFC 8422 §5.4: both randoms and the ServerECDHParams: a named curve, secp256r1, and an uncompressed point on it.
fn tls12_server_message(client_random: &[u8; 32], server_random: &[u8; 32], x: &[u8; 32], y: &[u8; 32]) -> Vec<u8> {
    const NAMED_CURVE: u8 = 3;
    const SECP256R1: [u8; 2] = [0, 23];
    const UNCOMPRESSED: u8 = 4;
    let params = [NAMED_CURVE, SECP256R1[0], SECP256R1[1], 65, UNCOMPRESSED];
    [&client_random[..], server_random, &params, x, y].concat()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_ASN1, KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey,
        VerificationAlgorithm,
    };

    use ipc::Fingerprint;

    use super::*;
    use crate::door::VisitorId;
    use crate::pairing::Pairings;

    const SECOND: u64 = 1_000_000_000;
    const TRANSCRIPT: [u8; 32] = [7; 32];

    /// A state directory of one test, removed with it.
    struct State(PathBuf);

    impl State {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("lumen-signer-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }

        fn signer(&self) -> Signer {
            let gamestream = GameStreamIdentity::load_or_create(&self.0).unwrap();
            Signer::new(Identity::load_or_create(&self.0).unwrap(), Some(gamestream), 0)
        }
    }

    impl Drop for State {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn never(_: PairingId) -> bool {
        panic!("no pairing was named")
    }

    fn signed(reply: SignReply) -> Vec<u8> {
        match reply {
            SignReply::Signed(signature) => signature,
            SignReply::Refused => panic!("refused"),
        }
    }

    /// The requests of the RSA key, what each is to have signed, and how.
    fn rsa_requests() -> [(SignRequest, Vec<u8>, &'static dyn VerificationAlgorithm); 3] {
        let (client_random, server_random, x, y) = ([1; 32], [2; 32], [3; 32], [4; 32]);
        let tls13 = [&[b' '; 64][..], b"TLS 1.3, server CertificateVerify", &[0], &TRANSCRIPT].concat();
        let tls12 = [&[1; 32][..], &[2; 32], &[3, 0, 23, 65, 4], &[3; 32], &[4; 32]].concat();
        [
            (SignRequest::Tls13Rsa { transcript: TRANSCRIPT }, tls13, &RSA_PSS_2048_8192_SHA256),
            (SignRequest::Tls12Rsa { client_random, server_random, x, y }, tls12, &RSA_PKCS1_2048_8192_SHA256),
            (SignRequest::Pairing { pairing: PairingId(5), secret: [9; 16] }, vec![9; 16], &RSA_PKCS1_2048_8192_SHA256),
        ]
    }

    #[test]
    fn the_native_key_signs_as_tls_1_3_and_as_nothing_else() {
        let state = State::new("lumen");
        let mut signer = state.signer();
        let public = signer.identity().key().public_key().as_ref().to_vec();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, public);
        let signature = signed(signer.sign(0, &SignRequest::Tls13 { transcript: TRANSCRIPT }, never));
        let expected = [&[b' '; 64][..], b"TLS 1.3, server CertificateVerify", &[0], &TRANSCRIPT].concat();
        assert!(public.verify(&expected, &signature).is_ok());
        assert!(public.verify(&TRANSCRIPT, &signature).is_err());
        for (request, ..) in rsa_requests() {
            let signature = signed(signer.sign(0, &request, |_| true));
            assert!(public.verify(&expected, &signature).is_err(), "{request:?} is not the native key's");
        }
    }

    #[test]
    fn the_gamestream_key_signs_three_things_that_cannot_be_taken_for_each_other() {
        let state = State::new("gamestream");
        let mut signer = state.signer();
        let public = signer.gamestream().unwrap().key().public_key().as_ref().to_vec();
        let requests = rsa_requests();
        for (index, (request, ..)) in requests.iter().enumerate() {
            let signature = signed(signer.sign(0, request, |pairing| pairing == PairingId(5)));
            for (other, (_, message, algorithm)) in requests.iter().enumerate() {
                let verified = UnparsedPublicKey::new(*algorithm, &public).verify(message, &signature);
                assert_eq!(verified.is_ok(), index == other, "{request:?}");
            }
        }
    }

    /// That a pairing can be had without a person's PIN, or go on after a wrong one, was an advisory of another host.
    #[test]
    fn a_pairing_is_signed_only_while_its_window_is_open_and_once() {
        let state = State::new("window");
        let mut signer = state.signer();
        let mut open = Some(PairingId(5));
        let mut sign = |pairing| {
            let request = SignRequest::Pairing { pairing, secret: [9; 16] };
            signer.sign(0, &request, |asked| open.take_if(|open| *open == asked).is_some()) != SignReply::Refused
        };
        assert_eq!([sign(PairingId(4)), sign(PairingId(5)), sign(PairingId(5))], [false, true, false]);
    }

    /// That a failed PIN left the certificate trusted was another host's advisory. A client gets the signature before the
    /// host can know that its PIN was wrong; that is all it gets.
    #[test]
    fn after_a_wrong_pin_nothing_more_is_signed_and_nobody_is_paired() {
        let state = State::new("wrong");
        let (mut signer, mut pairings) = (state.signer(), Pairings::default());
        let (pairing, client) = (PairingId(5), Fingerprint([1; 32]));
        pairings.begin(0, pairing, client, "127.0.0.1:9".parse().unwrap(), "roth".into()).unwrap();
        let request = SignRequest::Pairing { pairing, secret: [9; 16] };
        let mut sign = |pairings: &mut Pairings| signer.sign(0, &request, |asked| pairings.may_sign(0, asked));
        assert_eq!(sign(&mut pairings), SignReply::Refused, "no PIN yet");
        pairings.enter(0, pairing, VisitorId::of_test(1), None);
        signed(sign(&mut pairings));
        assert_eq!(pairings.failed(pairing), Some(VisitorId::of_test(1)));
        assert_eq!((sign(&mut pairings), pairings.paired(0, pairing)), (SignReply::Refused, None));
        // Nor does the same client's next attempt, before it has a PIN of its own.
        pairings.begin(0, PairingId(6), client, "127.0.0.1:9".parse().unwrap(), "roth".into()).unwrap();
        assert_eq!((pairings.may_sign(0, PairingId(6)), pairings.paired(0, PairingId(6))), (false, None));
    }

    #[test]
    fn without_gamestream_its_key_signs_nothing() {
        let state = State::new("off");
        let mut signer = Signer::new(Identity::load_or_create(&state.0).unwrap(), None, 0);
        for (request, ..) in rsa_requests() {
            assert_eq!(signer.sign(0, &request, never), SignReply::Refused);
        }
        signed(signer.sign(0, &SignRequest::Tls13 { transcript: TRANSCRIPT }, never));
    }

    #[test]
    fn twenty_signatures_a_second_and_neither_face_takes_the_others() {
        let state = State::new("rate");
        let (lumen, gamestream) =
            (SignRequest::Tls13 { transcript: TRANSCRIPT }, SignRequest::Tls13Rsa { transcript: TRANSCRIPT });
        let count = |signer: &mut Signer, now, request: &SignRequest| {
            (0..100).filter(|_| signer.sign(now, request, never) != SignReply::Refused).count()
        };
        let mut signer = state.signer();
        let native = [0, SECOND / 2, 100 * SECOND].map(|now| count(&mut signer, now, &lumen));
        assert_eq!(native, [64, 10, 64]);
        assert_eq!(count(&mut signer, 50 * SECOND, &lumen), 0, "a clock that steps back grants nothing");

        let mut signer = state.signer();
        for (second, each) in [(0, 64), (1, 20), (2, 20)] {
            let now = second * SECOND;
            assert_eq!([count(&mut signer, now, &gamestream), count(&mut signer, now, &lumen)], [each, each]);
        }
    }
}
