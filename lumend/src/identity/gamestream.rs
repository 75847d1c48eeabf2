//! The identity that Moonlight clients pin when they pair.

use std::path::Path;

use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::KeyPair as _;
use ipc::Fingerprint;
use rcgen::{CertificateParams, PKCS_RSA_SHA256, RsaKeySize, date_time_ymd};

use super::{GAMESTREAM, IdentityError, Stored};

/// Bytes of the modulus, and of a signature.
const MODULUS: usize = 256;

pub struct GameStreamIdentity {
    key: KeyPair,
    certificate: Vec<u8>,
}

impl GameStreamIdentity {
    /// Reads the identity in `state`, or makes it on the first run.
    pub fn load_or_create(state: &Path) -> Result<Self, IdentityError> {
        let make = || rcgen::KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048);
        // Some clients read it with libraries that know no dates of four-digit years; none looks whether it is over.
        let mut params = CertificateParams::default();
        params.not_after = date_time_ymd(2049, 12, 31);
        let stored = Stored::load_or_create(state, GAMESTREAM, make, params)?;
        let key = KeyPair::from_pkcs8(&stored.key).ok().filter(|key| key.public_modulus_len() == MODULUS);
        let key = key.ok_or_else(|| stored.damaged_key(state))?;
        stored.check(state, key.public_key().as_ref())?;
        Ok(Self { key, certificate: stored.certificate })
    }

    pub fn key(&self) -> &KeyPair {
        &self.key
    }

    /// DER.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// What clients tell this host from others by: as stable as the certificate that they pin.
    pub fn unique_id(&self) -> [u8; 16] {
        let Fingerprint(hash) = Fingerprint::of(&[b"lumen gamestream host", &self.certificate[..]].concat());
        std::array::from_fn(|index| hash[index])
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::{Identity, LUMEN};
    use super::*;
    use crate::durable;

    #[test]
    fn it_is_made_once_beside_the_other_and_kept() {
        let state = std::env::temp_dir().join(format!("lumen-identity-{}-gamestream", std::process::id()));
        let _ = fs::remove_dir_all(&state);
        let first = GameStreamIdentity::load_or_create(&state).unwrap();
        assert!(!state.join(LUMEN.key).exists(), "each has its own files");
        let lumen = Identity::load_or_create(&state).unwrap();
        let second = GameStreamIdentity::load_or_create(&state).unwrap();
        assert_eq!((first.certificate(), first.unique_id()), (second.certificate(), second.unique_id()));
        assert_ne!(lumen.certificate(), second.certificate());

        // A key of the wrong kind or length is nobody's identity.
        let keep = fs::read(state.join(GAMESTREAM.key)).unwrap();
        let long = rcgen::KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072).unwrap().serialize_pem();
        for other in [fs::read(state.join(LUMEN.key)).unwrap(), long.into_bytes()] {
            durable::write(&state.join(GAMESTREAM.key), &other).unwrap();
            let error = GameStreamIdentity::load_or_create(&state).err().unwrap();
            assert!(matches!(error, IdentityError::Damaged { .. }), "{error}");
            assert!(error.to_string().contains(GAMESTREAM.certificate), "{error}");
        }
        let another = rcgen::KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap().serialize_pem();
        durable::write(&state.join(GAMESTREAM.key), another.as_bytes()).unwrap();
        assert!(matches!(GameStreamIdentity::load_or_create(&state), Err(IdentityError::Mismatch { .. })));
        durable::write(&state.join(GAMESTREAM.key), &keep).unwrap();
        assert!(GameStreamIdentity::load_or_create(&state).is_ok());
        fs::remove_dir_all(state).unwrap();
    }
}
