//! Facts about this machine, for the network plane, which opens no file of its own.

use std::fs;

/// The same for every network plane.
#[derive(Clone, Debug)]
pub struct Host {
    pub name: String,
    pub boot_id: [u8; 16],
}

impl Host {
    pub fn new() -> Self {
        Self { name: host_name(), boot_id: boot_id() }
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
    fn the_machine_is_told_from_others() {
        let host = Host::new();
        assert_ne!(host.boot_id, [0; 16]);
        assert!(!host.name.is_empty());
    }
}
