//! A host's private keys taken apart, into every shape in which a piece of them could lie around in memory.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use x509_parser::pem::Pem;

use crate::memory::Needle;

/// A number or a string of a private key that must stay secret: the scalar of an elliptic curve; of RSA the private
/// exponent, both primes and what follows from them.
#[derive(Clone, Debug)]
pub struct Secret {
    pub name: String,
    /// Big-endian, without leading zeroes.
    pub bytes: Vec<u8>,
}

/// Bytes of a piece: by chance nothing has them.
const PIECE: usize = 16;
/// In base64 sixteen letters, so that a piece does not reach across the end of a line of PEM more often than not.
const LETTERS: usize = 16;

/// Names of an RSAPrivateKey's numbers, of which the first three are no secret.
const RSA: [&str; 9] = ["version", "n", "e", "d", "p", "q", "dp", "dq", "qi"];

/// The secrets in a PKCS #8 file in PEM, and lines of it that hold nothing else.
pub fn secrets(file: &Path) -> Result<(Vec<Secret>, Vec<Needle>)> {
    let name = file.file_stem().and_then(|stem| stem.to_str()).context("a name")?.to_owned();
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let pem = Pem::iter_from_buffer(text.as_bytes()).next().context("no PEM")??;
    let mut elements = Vec::new();
    walk(&pem.contents, 0, &mut elements);
    let secret: Vec<(String, Element)> = match elements.len() {
        // version, two object identifiers, ECPrivateKey's version, the scalar, the public point.
        6 => vec![(format!("{name}: scalar"), elements[4])],
        // version, an object identifier and null, then RSAPrivateKey.
        12 => RSA.iter().zip(&elements[3..]).skip(3).map(|(part, at)| (format!("{name}: {part}"), *at)).collect(),
        other => anyhow::bail!("{}: a key of {other} elements", file.display()),
    };
    let found =
        secret.iter().map(|(name, at)| Secret { name: name.clone(), bytes: at.number(&pem.contents) }).collect();
    Ok((found, lines(&name, &text, &secret)))
}

/// Lines of the text of which every byte is part of a secret. A line is 64 letters, which are 48 bytes.
fn lines(name: &str, text: &str, secret: &[(String, Element)]) -> Vec<Needle> {
    let mut needles = Vec::new();
    for (index, line) in text.lines().filter(|line| !line.starts_with('-')).enumerate() {
        let (start, end) = (index * 48, index * 48 + line.len() / 4 * 3);
        let within = |(_, at): &&(String, Element)| at.start <= start && end <= at.end;
        if line.len() == 64 && secret.iter().find(within).is_some() {
            needles.push(Needle { what: format!("{name}: line {index} of the file"), bytes: line.as_bytes().to_vec() });
        }
    }
    needles
}

/// Where the content of a DER element lies.
#[derive(Clone, Copy, Debug)]
struct Element {
    start: usize,
    end: usize,
}

impl Element {
    fn number(self, der: &[u8]) -> Vec<u8> {
        let bytes = &der[self.start..self.end];
        bytes[bytes.iter().take_while(|byte| **byte == 0).count()..].to_vec()
    }
}

const OCTETS: u8 = 4;
const CONSTRUCTED: u8 = 0x20;

/// All elements of `der` that hold no others; octet strings are looked into if they hold a sequence.
fn walk(der: &[u8], base: usize, found: &mut Vec<Element>) {
    let mut at = 0;
    while let Some((tag, start, end)) = element(der, at) {
        let content = &der[start..end];
        let nested = tag & CONSTRUCTED != 0 || tag == OCTETS && content.first() == Some(&0x30);
        if nested {
            walk(content, base + start, found);
        } else {
            found.push(Element { start: base + start, end: base + end });
        }
        at = end;
    }
}

/// Tag, start and end of the element at `at`.
fn element(der: &[u8], at: usize) -> Option<(u8, usize, usize)> {
    let (tag, first) = (*der.get(at)?, *der.get(at + 1)?);
    let (length, header) = match first {
        0..0x80 => (usize::from(first), 2),
        _ => {
            let count = usize::from(first & 0x7f);
            let bytes = der.get(at + 2..at + 2 + count)?;
            (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), 2 + count)
        }
    };
    let (start, end) = (at + header, at + header + length);
    (end <= der.len()).then_some((tag, start, end))
}

impl Secret {
    /// The first and the last of it: as it is written, as a machine of the x86 kind calculates with it, in hexadecimal
    /// digits and in base64 wherever it begins there.
    pub fn needles(&self) -> Result<Vec<Needle>> {
        ensure!(self.bytes.len() > PIECE, "{} has {} bytes", self.name, self.bytes.len());
        let mut needles = Vec::new();
        let mut add = |how: &str, bytes: Vec<u8>| needles.push(Needle { what: format!("{} {how}", self.name), bytes });
        for piece in [&self.bytes[..PIECE], &self.bytes[self.bytes.len() - PIECE..]] {
            add("as bytes", piece.to_vec());
            add("in words", piece.iter().rev().copied().collect());
            let hex: String = piece.iter().map(|byte| format!("{byte:02x}")).collect();
            add("in digits", hex.to_uppercase().into_bytes());
            add("in digits", hex.into_bytes());
            for skip in 0..3 {
                let letters = base64(&piece[skip..]);
                add("in base64", letters.as_bytes()[..LETTERS].to_vec());
            }
        }
        Ok(needles)
    }
}

/// Whole groups of three bytes.
fn base64(bytes: &[u8]) -> String {
    const LETTER: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |three: &[u8]| {
        let word = three.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        [18, 12, 6, 0].map(|shift| char::from(LETTER[word >> shift & 63]))
    };
    bytes.chunks_exact(3).flat_map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};

    fn of(key: &KeyPair, name: &str) -> (Vec<Secret>, Vec<Needle>) {
        let path = std::env::temp_dir().join(format!("lumen-secrets-{}-{name}.pem", std::process::id()));
        std::fs::write(&path, key.serialize_pem()).unwrap();
        let secrets = secrets(&path);
        std::fs::remove_file(path).unwrap();
        secrets.unwrap()
    }

    #[test]
    fn a_key_of_either_kind_is_taken_apart() {
        let key = KeyPair::generate().unwrap();
        let (curve, _) = of(&key, "curve");
        assert_eq!(curve.len(), 1);
        assert!((31..=32).contains(&curve[0].bytes.len()) && curve[0].name.ends_with("scalar"));
        let der = key.serialize_der();
        assert!(der.windows(31).any(|window| curve[0].bytes.ends_with(window)));
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let (rsa, lines) = of(&key, "rsa");
        let lengths: Vec<usize> = rsa.iter().map(|secret| secret.bytes.len()).collect();
        assert_eq!(rsa.len(), 6, "{rsa:?}");
        assert!(lengths[0] > 250 && lengths[1..].iter().all(|length| *length > 120), "{lengths:?}");
        assert!(lines.len() > 10, "{lines:?}");
    }

    #[test]
    fn a_piece_is_found_in_each_shape() {
        let secret = Secret { name: "x".into(), bytes: (1..=32).collect() };
        let needles = secret.needles().unwrap();
        let has = |bytes: &[u8]| needles.iter().any(|needle| needle.bytes == bytes);
        assert!(has(&(1..=16).collect::<Vec<u8>>()) && has(&(17..=32).rev().collect::<Vec<u8>>()));
        assert!(has(b"AQIDBAUGBwgJCgsM") && has(b"0102030405060708090a0b0c0d0e0f10"));
    }
}
