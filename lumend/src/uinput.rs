//! Where the kernel's input devices come from: descriptors of /dev/uinput, one for each device that a session makes.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use tracing::debug;

const DEVICE: &str = "/dev/uinput";

/// Devices of a session at a time where only root may open /dev/uinput: sixteen pads, keyboard, mouse and touch screen,
/// and a spare. No session can have more, so that none can use up what another needs.
const STOCK: usize = 20;

/// Uapi linux/uinput.h: `UI_DEV_DESTROY`, `_IO('U', 2)`.
const UI_DEV_DESTROY: libc::Ioctl = 0x5502;

/// Opens /dev/uinput, or hands out what was opened while lumend was root.
#[derive(Debug)]
pub struct Supply {
    path: PathBuf,
    /// Opened as root, for a user that may not.
    stock: Option<Vec<OwnedFd>>,
    /// How many there were.
    stocked: usize,
}

impl Supply {
    /// For as many sessions at a time. To be called before privileges are dropped.
    pub fn open(sessions: u32) -> Self {
        Self::of(Path::new(DEVICE), geteuid().is_root(), sessions)
    }

    fn of(path: &Path, root: bool, sessions: u32) -> Self {
        let path = path.to_owned();
        let stocked = STOCK * sessions as usize;
        let stock = root.then(|| {
            let opened: io::Result<Vec<_>> = (0..stocked).map(|_| open(&path)).collect();
            opened.unwrap_or_else(|error| {
                debug!("no kernel input devices: {}: {error}", path.display());
                Vec::new()
            })
        });
        Self { path, stock, stocked }
    }

    /// True if [`Self::take`] can be expected to bring a descriptor.
    pub fn available(&self) -> bool {
        let stocked = self.stock.as_ref().is_some_and(|stock| !stock.is_empty());
        stocked || open(&self.path).is_ok()
    }

    /// A descriptor on which no device has been made. The error says what to do.
    pub fn take(&mut self) -> io::Result<OwnedFd> {
        if let Some(fd) = self.stock.as_mut().and_then(Vec::pop) {
            return Ok(fd);
        }
        open(&self.path).map_err(|error| {
            let way_out = match error.kind() {
                io::ErrorKind::NotFound => "load the kernel's module: modprobe uinput",
                _ => "let lumend's user read and write it, as `lumend install --devices`, said by root, does",
            };
            io::Error::new(error.kind(), format!("cannot open {}: {error}; {way_out}", self.path.display()))
        })
    }

    /// Takes back a descriptor once no plane has it any more. Its device, if it has one still, is destroyed; the
    /// descriptor is used again where there are only so many.
    pub fn give_back(&mut self, fd: OwnedFd) {
        let Some(stock) = &mut self.stock else { return };
        if let Some(fd) = blank(fd).filter(|_| stock.len() < self.stocked) {
            stock.push(fd);
        }
    }
}

/// A descriptor whose device, if it had one, is destroyed. None if it is not uinput's.
pub fn blank(fd: OwnedFd) -> Option<OwnedFd> {
    // SAFETY: the request takes no argument and touches no memory of this process.
    let destroyed = unsafe { libc::ioctl(fd.as_raw_fd(), UI_DEV_DESTROY) } == 0;
    // EINVAL: there was no device.
    (destroyed || io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL)).then_some(fd)
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let opened = File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path);
    opened.map(OwnedFd::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_uinput_is_a_reason_and_what_to_do() {
        for root in [false, true] {
            let mut supply = Supply::of(Path::new("/nonexistent/uinput"), root, 1);
            assert!(!supply.available());
            assert!(supply.take().unwrap_err().to_string().contains("modprobe"));
        }
    }

    /// Any character device will do to see what is opened when.
    #[test]
    fn root_opens_a_stock_and_everybody_else_on_demand() {
        let mut stocked = Supply::of(Path::new("/dev/null"), true, 2);
        assert!(stocked.available());
        let taken: Vec<_> = (0..2 * STOCK).map(|_| stocked.take().unwrap()).collect();
        assert!(stocked.stock.as_ref().unwrap().is_empty());
        taken.into_iter().for_each(|fd| stocked.give_back(fd));
        assert!(stocked.stock.unwrap().is_empty(), "what is not uinput is not kept");

        let mut supply = Supply::of(Path::new("/dev/null"), false, 2);
        assert!(supply.available() && supply.stock.is_none());
        supply.take().unwrap();
    }
}
