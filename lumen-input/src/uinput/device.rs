//! A device of the kernel's: how it is made of a /dev/uinput that lumend handed over, and how events reach it.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ipc::{DeviceId, SessionId};
use nix::errno::Errno;

use super::codes::{EV_SYN, SYN_REPORT};
use super::node::{Event, Identity, Node};

/// Why there is no device.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the {device}: {errno}")]
pub struct NoDevice {
    pub device: DeviceId,
    pub errno: Errno,
}

/// What a kind of device is.
pub trait Kind {
    const IDENTITY: Identity;
    /// Force-feedback effects it stores.
    const EFFECTS: u32 = 0;

    /// Declares what it can do.
    fn declare(node: &Node) -> Result<(), Errno>;
}

/// A device, and the events of the report under way.
#[derive(Debug)]
pub struct Device {
    node: Node,
    report: Vec<Event>,
    buffer: Vec<u8>,
}

impl Device {
    /// Makes a device, or takes over the one that a plane before this one has made. True with it in the second case.
    pub fn open<K: Kind>(fd: OwnedFd, session: SessionId, device: DeviceId) -> Result<(Self, bool), NoDevice> {
        let node = Node::new(fd);
        // A plane may have died between getting the descriptor and making the device.
        let inherited = node.is_created();
        if !inherited {
            make::<K>(&node, session, device).map_err(|errno| NoDevice { device, errno })?;
        }
        Ok((Self { node, report: Vec::new(), buffer: Vec::new() }, inherited))
    }

    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Adds to the report under way.
    pub fn put(&mut self, kind: u16, code: u16, value: i32) {
        self.report.push(Event { kind, code, value });
    }

    /// Ends the report and hands it to the kernel; nothing happens if it is empty.
    pub fn report(&mut self) {
        if self.report.is_empty() {
            return;
        }
        self.put(EV_SYN, SYN_REPORT, 0);
        // It fails only where the device was taken away, and then nobody waits for the report.
        let _ = self.node.write(&self.report, &mut self.buffer);
        self.report.clear();
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.node.as_fd()
    }
}

fn make<K: Kind>(node: &Node, session: SessionId, device: DeviceId) -> Result<(), Errno> {
    let place = match device {
        DeviceId::Keyboard => "keyboard".to_owned(),
        DeviceId::Mouse => "mouse".to_owned(),
        DeviceId::Touch => "touch".to_owned(),
        DeviceId::Pad(pad) => format!("pad-{}", pad.get()),
    };
    let phys = CString::new(format!("lumen/session-{}/{place}", session.0)).map_err(|_| Errno::EINVAL)?;
    K::declare(node)?;
    node.phys(&phys)?;
    node.create(&K::IDENTITY, K::EFFECTS)
}
