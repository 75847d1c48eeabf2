//! Facts about this machine and secrets of this run, for the network plane, which opens no file of its own.

use std::fs;
use std::io;

/// The same for every network plane of one lumend, so that a fresh one can reset its predecessor's connections.
#[derive(Clone, Debug)]
pub struct Host {
    pub name: String,
    pub boot_id: [u8; 16],
    pub reset_key: [u8; 32],
    pub token_key: [u8; 32],
    pub connection_id_key: u64,
}

impl Host {
    pub fn new() -> io::Result<Self> {
        let mut secrets = [0; 72];
        aws_lc_rs::rand::fill(&mut secrets).map_err(|_| io::Error::other("the kernel gives no random numbers"))?;
        let mut host = Self {
            name: host_name(),
            boot_id: boot_id(),
            reset_key: [0; 32],
            token_key: [0; 32],
            connection_id_key: 0,
        };
        host.reset_key.copy_from_slice(&secrets[..32]);
        host.token_key.copy_from_slice(&secrets[32..64]);
        host.connection_id_key = secrets[64..].iter().fold(0, |key, &byte| key << 8 | u64::from(byte));
        Ok(host)
    }
}

/// At most 64 bytes, as the kernel has it.
fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "lumen".into() } else { name.chars().take(64).collect() }
}

/// All zero where the kernel does not tell: then no client takes this machine's clock for its own.
fn boot_id() -> [u8; 16] {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.trim().chars().filter(|&c| c != '-').collect();
    u128::from_str_radix(&digits, 16).unwrap_or(0).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_has_its_own_secrets_on_the_same_machine() {
        let (one, two) = (Host::new().unwrap(), Host::new().unwrap());
        assert_ne!((one.reset_key, one.connection_id_key), (two.reset_key, two.connection_id_key));
        assert_ne!(one.reset_key, one.token_key);
        assert_eq!(one.boot_id, two.boot_id);
        assert_ne!(one.boot_id, [0; 16]);
    }
}
