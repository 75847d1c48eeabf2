//! The client's side of pairing: five phases, and what the client itself finds out in them.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use aws_lc_rs::cipher::{AES_128, DecryptingKey, DecryptionContext, EncryptingKey, UnboundCipherKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::http::PATIENCE;
use super::identity::{signature_of, signed_by};
use super::moonlight::Moonlight;
use super::xml::Xml;

/// As long as a host holds the first request for a person.
const PERSON: Duration = Duration::from_secs(200);

/// How a pairing went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    Paired,
    /// The client has found out that the host was given another PIN.
    WrongPin,
    /// The host says `paired` 0 in this phase.
    Denied(u8),
}

/// Pairs with a PIN that the host is told in the meantime. Afterwards the host is pinned.
pub fn pair(client: &mut Moonlight, pin: &str) -> Result<Outcome> {
    let outcome = phases(client, pin);
    if !matches!(outcome, Ok(Outcome::Paired)) {
        // Every client does this when it fails, whatever the answer.
        let _ = client.unpair();
    }
    outcome
}

fn phases(client: &mut Moonlight, pin: &str) -> Result<Outcome> {
    let salt = random()?;
    let key = Key::new(&salt, pin)?;
    let certificate = hex(client.identity().pem().as_bytes());
    let first = phase(client, &[("phrase", "getservercert"), ("salt", &hex(&salt)), ("clientcert", &certificate)])?;
    let Some(first) = first else { return Ok(Outcome::Denied(1)) };
    let host = CertificateDer::from_pem_slice(&unhex(&first.must("plaincert")?)?)?;

    let challenge = random()?;
    let Some(second) = phase(client, &[("clientchallenge", &hex(&key.encrypt(&challenge)?))])? else {
        return Ok(Outcome::Denied(2));
    };
    let answer = key.decrypt(&unhex(&second.must("challengeresponse")?)?)?;
    ensure!(answer.len() == 48, "{} bytes instead of a hash and a challenge", answer.len());
    let (host_hash, host_challenge) = answer.split_at(32);

    let secret = random()?;
    let mine = hash(&[host_challenge, &signature_of(client.identity().certificate())?, &secret]);
    let Some(third) = phase(client, &[("serverchallengeresp", &hex(&key.encrypt(&mine)?))])? else {
        return Ok(Outcome::Denied(3));
    };
    let host_secret = unhex(&third.must("pairingsecret")?)?;
    ensure!(host_secret.len() > 16, "no signature behind the host's secret");
    let (host_secret, signature) = host_secret.split_at(16);
    ensure!(signed_by(&host, host_secret, signature)?, "the host does not hold its certificate's key");
    if hash(&[&challenge, &signature_of(&host)?, host_secret]) != host_hash {
        return Ok(Outcome::WrongPin);
    }

    let mut mine = secret.to_vec();
    mine.extend(client.identity().sign(&secret)?);
    if phase(client, &[("clientpairingsecret", &hex(&mine))])?.is_none() {
        return Ok(Outcome::Denied(4));
    }
    client.pin(host)?;
    let fifth = client.page("pair", &[("devicename", "roth"), ("updateState", "1"), ("phrase", "pairchallenge")])?;
    Ok(if fifth.text("paired").as_deref() == Some("1") { Outcome::Paired } else { Outcome::Denied(5) })
}

/// One phase over HTTP; none if the host says `paired` 0.
pub fn phase(client: &Moonlight, query: &[(&str, &str)]) -> Result<Option<Xml>> {
    let all = [&[("devicename", "roth"), ("updateState", "1")], query].concat();
    let patience = if query[0].1 == "getservercert" { PERSON } else { PATIENCE };
    let xml = client.http("pair", &all, patience)?.good()?;
    let paired = xml.must("paired")?;
    Ok((paired == "1").then_some(xml))
}

/// AES-128-ECB without padding, with the key that salt and PIN make.
pub struct Key([u8; 16]);

impl Key {
    pub fn new(salt: &[u8; 16], pin: &str) -> Result<Self> {
        Ok(Self(hash(&[salt, pin.as_bytes()])[..16].try_into()?))
    }

    fn cipher(&self) -> Result<UnboundCipherKey> {
        UnboundCipherKey::new(&AES_128, &self.0).map_err(|_| anyhow!("no AES"))
    }

    pub fn encrypt(&self, plain: &[u8]) -> Result<Vec<u8>> {
        let mut bytes = plain.to_vec();
        let key = EncryptingKey::ecb(self.cipher()?).map_err(|_| anyhow!("no ECB"))?;
        key.encrypt(&mut bytes).map_err(|_| anyhow!("not whole blocks"))?;
        Ok(bytes)
    }

    pub fn decrypt(&self, sealed: &[u8]) -> Result<Vec<u8>> {
        let mut bytes = sealed.to_vec();
        let key = DecryptingKey::ecb(self.cipher()?).map_err(|_| anyhow!("no ECB"))?;
        key.decrypt(&mut bytes, DecryptionContext::None).map_err(|_| anyhow!("not whole blocks"))?;
        Ok(bytes)
    }
}

pub fn hash(parts: &[&[u8]]) -> Vec<u8> {
    digest(&SHA256, &parts.concat()).as_ref().to_vec()
}

pub fn random() -> Result<[u8; 16]> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| anyhow!("no random bytes"))?;
    Ok(bytes)
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

pub fn unhex(text: &str) -> Result<Vec<u8>> {
    ensure!(text.len().is_multiple_of(2) && text.is_ascii(), "not hexadecimal: {text}");
    let pairs = (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16));
    pairs.collect::<Result<_, _>>().context("not hexadecimal")
}
