//! The keymap that every session's keyboard has, compiled once from the names in `[input]`.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use xkbcommon::xkb;

use crate::config::Input;

/// Why there is no keymap. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeymapError {
    #[error("xkb has no keymap of layout {layout:?} and variant {variant:?}; is xkb-data installed?")]
    Unknown { layout: String, variant: String },
    #[error("the keymap cannot be kept in memory: {0}")]
    Io(#[from] io::Error),
}

/// A compiled keymap (xkb v1 text, with its final NUL), in memory that nobody can change any more.
#[derive(Debug)]
pub struct Keymap {
    memory: OwnedFd,
    /// Bytes, the NUL included.
    bytes: u32,
}

/// Compiles what the configuration names, with xkb's own defaults for empty names.
pub fn compile(input: &Input) -> Result<Keymap, KeymapError> {
    let unknown = || KeymapError::Unknown { layout: input.layout.clone(), variant: input.variant.clone() };
    let mut context = xkb::Context::new(xkb::CONTEXT_NO_ENVIRONMENT_NAMES);
    // What it would print, many lines of it, is one line here.
    context.set_log_level(xkb::LogLevel::Critical);
    let options = (!input.options.is_empty()).then(|| input.options.clone());
    let flags = xkb::KEYMAP_COMPILE_NO_FLAGS;
    let names = (input.model.as_str(), input.layout.as_str(), input.variant.as_str());
    let keymap = xkb::Keymap::new_from_names(&context, "evdev", names.0, names.1, names.2, options, flags);
    let text = keymap.ok_or_else(unknown)?.get_as_string(xkb::KEYMAP_FORMAT_TEXT_V1);
    let mut bytes = text.into_bytes();
    bytes.push(0);
    let length = u32::try_from(bytes.len()).map_err(|_| unknown())?;
    Ok(Keymap { memory: sealed(&bytes)?, bytes: length })
}

/// A memfd of these bytes and zeros up to a whole page, sealed against every change.
fn sealed(bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let noexec = MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);
    let fd = match memfd_create("lumen-keymap", flags | noexec) {
        // Kernels before 6.3 do not know the flag.
        Err(Errno::EINVAL) => memfd_create("lumen-keymap", flags)?,
        other => other?,
    };
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    // Whoever maps shared memory of this project expects whole pages.
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)?.and_then(|page| u64::try_from(page).ok());
    file.set_len((bytes.len() as u64).next_multiple_of(page.unwrap_or(4096)))?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

impl Keymap {
    /// For one plane: a descriptor that can only be read, with a position of its own.
    pub fn hand_over(&self) -> io::Result<ipc::Keymap<OwnedFd>> {
        let memory = File::open(format!("/proc/self/fd/{}", self.memory.as_raw_fd()))?;
        Ok(ipc::Keymap { memory: memory.into(), bytes: self.bytes })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn text(input: &Input) -> String {
        let mut keymap = compile(input).unwrap().hand_over().map(|keymap| (File::from(keymap.memory), keymap.bytes));
        let (memory, length) = keymap.as_mut().unwrap();
        let mut bytes = Vec::new();
        memory.read_to_end(&mut bytes).unwrap();
        assert!(bytes.len().is_multiple_of(4096) && bytes.len() >= *length as usize);
        bytes.truncate(*length as usize);
        assert_eq!(bytes.pop(), Some(0));
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn names_become_a_keymap_that_xkb_reads_again() {
        let german = Input { layout: "de".into(), ..Input::default() };
        let (german, default) = (text(&german), text(&Input::default()));
        assert!(german.contains("udiaeresis") && !default.contains("udiaeresis"));
        let context = xkb::Context::new(xkb::CONTEXT_NO_FLAGS);
        let format = xkb::KEYMAP_FORMAT_TEXT_V1;
        assert!(xkb::Keymap::new_from_string(&context, german, format, xkb::KEYMAP_COMPILE_NO_FLAGS).is_some());
    }

    #[test]
    fn nobody_can_write_to_it() {
        let keymap = compile(&Input::default()).unwrap();
        let handed = File::from(keymap.hand_over().unwrap().memory);
        assert!((&handed).write_all(b"x").is_err() && handed.set_len(1).is_err());
        let ours = File::from(keymap.memory);
        assert!((&ours).write_all(b"x").is_err() && ours.set_len(0).is_err());
    }

    #[test]
    fn a_layout_that_does_not_exist_is_named() {
        let error = compile(&Input { layout: "atlantis".into(), ..Input::default() }).unwrap_err();
        assert!(error.to_string().contains("atlantis"), "{error}");
    }
}
