//! An open /dev/uinput: its ioctls, and the events that go in and come out. The only unsafe code of the crate.
//!
//! Plain numbers in, errors of the kernel out; nothing here knows what a pad is. Layouts are linux/uinput.h's.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_int, c_ulong};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Bytes of a `struct input_event` on a 64-bit kernel: two words of time, type, code, value.
const EVENT_BYTES: usize = 24;

/// The kernel queues this many events for the reader of a uinput descriptor (UINPUT_BUFFER_SIZE of its uinput.h).
const QUEUE: usize = 16;

/// Requests that the kernel keeps open at a time for one device (UINPUT_NUM_REQUESTS); their ids are below this.
pub const REQUESTS: u32 = 16;

const fn code(direction: c_ulong, number: c_ulong, bytes: usize) -> c_ulong {
    direction << 30 | (bytes as c_ulong) << 16 | (b'U' as c_ulong) << 8 | number
}

const NONE: c_ulong = 0;
const WRITE: c_ulong = 1;
const READ: c_ulong = 2;
const SYSNAME_BYTES: usize = 64;

const UI_DEV_CREATE: c_ulong = code(NONE, 1, 0);
const UI_DEV_DESTROY: c_ulong = code(NONE, 2, 0);
const UI_DEV_SETUP: c_ulong = code(WRITE, 3, size_of::<libc::uinput_setup>());
const UI_ABS_SETUP: c_ulong = code(WRITE, 4, size_of::<libc::uinput_abs_setup>());
const UI_GET_SYSNAME: c_ulong = code(READ, 44, SYSNAME_BYTES);
const UI_SET_PHYS: c_ulong = code(WRITE, 108, size_of::<*const u8>());
const UI_BEGIN_FF_UPLOAD: c_ulong = code(READ | WRITE, 200, size_of::<libc::uinput_ff_upload>());
const UI_END_FF_UPLOAD: c_ulong = code(WRITE, 201, size_of::<libc::uinput_ff_upload>());
const UI_BEGIN_FF_ERASE: c_ulong = code(READ | WRITE, 202, size_of::<libc::uinput_ff_erase>());
const UI_END_FF_ERASE: c_ulong = code(WRITE, 203, size_of::<libc::uinput_ff_erase>());

/// What a device is declared to be able to do, one ioctl a kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bit {
    Event,
    Key,
    Relative,
    Absolute,
    Force,
    Property,
}

impl Bit {
    const fn request(self) -> c_ulong {
        let number = match self {
            Self::Event => 100,
            Self::Key => 101,
            Self::Relative => 102,
            Self::Absolute => 103,
            Self::Force => 107,
            Self::Property => 110,
        };
        code(WRITE, number, size_of::<c_int>())
    }
}

/// One event as the kernel takes and gives it, without its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    pub kind: u16,
    pub code: u16,
    pub value: i32,
}

/// Who a device says it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    pub bus: u16,
    pub vendor: u16,
    pub product: u16,
    pub version: u16,
    /// At most 79 bytes are used.
    pub name: &'static str,
}

/// An upload that a reader of the device waits for.
pub struct Upload {
    raw: libc::uinput_ff_upload,
}

impl Upload {
    pub fn effect(&self) -> &libc::ff_effect {
        &self.raw.effect
    }
}

/// An erasure that a reader of the device waits for.
pub struct Erase {
    raw: libc::uinput_ff_erase,
}

impl Erase {
    /// As the kernel numbers them, from 0.
    pub fn effect(&self) -> u32 {
        self.raw.effect_id
    }
}

/// An open /dev/uinput, with or without a device yet. The device lives until it is destroyed or the last copy of the
/// descriptor, lumend's among them, is closed.
#[derive(Debug)]
pub struct Node(OwnedFd);

impl Node {
    pub fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    pub fn set(&self, bit: Bit, value: u16) -> Result<(), Errno> {
        // SAFETY: the UI_SET_*BIT family takes an int by value.
        Errno::result(unsafe { libc::ioctl(self.0.as_raw_fd(), bit.request(), c_int::from(value)) }).map(drop)
    }

    /// Declares an axis and its range.
    pub fn axis(&self, axis: u16, minimum: i32, maximum: i32, flat: i32) -> Result<(), Errno> {
        self.set(Bit::Absolute, axis)?;
        let absinfo = libc::input_absinfo { value: 0, minimum, maximum, fuzz: 0, flat, resolution: 0 };
        let setup = libc::uinput_abs_setup { code: axis, absinfo };
        // SAFETY: UI_ABS_SETUP reads one uinput_abs_setup.
        Errno::result(unsafe { libc::ioctl(self.0.as_raw_fd(), UI_ABS_SETUP, &raw const setup) }).map(drop)
    }

    /// Where the device says it is plugged in.
    pub fn phys(&self, phys: &CStr) -> Result<(), Errno> {
        // SAFETY: UI_SET_PHYS copies a NUL-terminated string.
        Errno::result(unsafe { libc::ioctl(self.0.as_raw_fd(), UI_SET_PHYS, phys.as_ptr()) }).map(drop)
    }

    /// Makes the device of what was declared. `effects`: how many force-feedback effects it stores.
    pub fn create(&self, identity: &Identity, effects: u32) -> Result<(), Errno> {
        let id = libc::input_id {
            bustype: identity.bus,
            vendor: identity.vendor,
            product: identity.product,
            version: identity.version,
        };
        let mut setup = libc::uinput_setup { id, name: [0; libc::UINPUT_MAX_NAME_SIZE], ff_effects_max: effects };
        // The last byte stays the NUL that ends the name.
        for (slot, byte) in setup.name[..libc::UINPUT_MAX_NAME_SIZE - 1].iter_mut().zip(identity.name.bytes()) {
            *slot = byte as libc::c_char;
        }
        // SAFETY: UI_DEV_SETUP reads one uinput_setup.
        Errno::result(unsafe { libc::ioctl(self.0.as_raw_fd(), UI_DEV_SETUP, &raw const setup) })?;
        // SAFETY: UI_DEV_CREATE takes no argument.
        Errno::result(unsafe { libc::ioctl(self.0.as_raw_fd(), UI_DEV_CREATE) }).map(drop)
    }

    /// True once there is a device behind the descriptor.
    pub fn is_created(&self) -> bool {
        let mut name = [0u8; SYSNAME_BYTES];
        // SAFETY: UI_GET_SYSNAME writes at most the number of bytes that its code names, which is the array's size.
        unsafe { libc::ioctl(self.0.as_raw_fd(), UI_GET_SYSNAME, name.as_mut_ptr()) >= 0 }
    }

    /// Takes the device away from whoever reads it, although lumend still has the descriptor.
    pub fn destroy(&self) -> Result<(), Errno> {
        // SAFETY: UI_DEV_DESTROY takes no argument.
        Errno::result(unsafe { libc::ioctl(self.0.as_raw_fd(), UI_DEV_DESTROY) }).map(drop)
    }

    /// The upload of this number, if one waits.
    pub fn begin_upload(&self, request: u32) -> Result<Upload, Errno> {
        // SAFETY: all-zero bytes are a valid uinput_ff_upload, which is integers.
        let mut raw: libc::uinput_ff_upload = unsafe { std::mem::zeroed() };
        raw.request_id = request;
        // SAFETY: UI_BEGIN_FF_UPLOAD reads and fills one uinput_ff_upload.
        Errno::result(unsafe { libc::ioctl(self.0.as_raw_fd(), UI_BEGIN_FF_UPLOAD, &raw mut raw) })?;
        Ok(Upload { raw })
    }

    /// Lets the uploader go on: with success, or with EINVAL.
    pub fn end_upload(&self, mut upload: Upload, accepted: bool) -> Result<(), Errno> {
        upload.raw.retval = if accepted { 0 } else { -libc::EINVAL };
        // SAFETY: UI_END_FF_UPLOAD reads one uinput_ff_upload.
        Errno::result(unsafe { libc::ioctl(self.0.as_raw_fd(), UI_END_FF_UPLOAD, &raw const upload.raw) }).map(drop)
    }

    /// The erasure of this number, if one waits.
    pub fn begin_erase(&self, request: u32) -> Result<Erase, Errno> {
        let mut raw = libc::uinput_ff_erase { request_id: request, retval: 0, effect_id: 0 };
        // SAFETY: UI_BEGIN_FF_ERASE reads and fills one uinput_ff_erase.
        Errno::result(unsafe { libc::ioctl(self.0.as_raw_fd(), UI_BEGIN_FF_ERASE, &raw mut raw) })?;
        Ok(Erase { raw })
    }

    /// Lets the eraser go on.
    pub fn end_erase(&self, erase: Erase) -> Result<(), Errno> {
        // SAFETY: UI_END_FF_ERASE reads one uinput_ff_erase.
        Errno::result(unsafe { libc::ioctl(self.0.as_raw_fd(), UI_END_FF_ERASE, &raw const erase.raw) }).map(drop)
    }

    /// Injects events, in one call.
    pub fn write(&self, events: &[Event], buffer: &mut Vec<u8>) -> Result<(), Errno> {
        buffer.clear();
        for event in events {
            // The kernel puts its own time.
            buffer.extend([0; EVENT_BYTES - 8]);
            buffer.extend(event.kind.to_ne_bytes());
            buffer.extend(event.code.to_ne_bytes());
            buffer.extend(event.value.to_ne_bytes());
        }
        nix::unistd::write(&self.0, buffer).map(drop)
    }

    /// What the device was told by its readers, a queue of the kernel's at most: readers may write faster than anyone
    /// can listen, and what is left is there when the descriptor is waited for next. Appends nothing if there is
    /// nothing.
    ///
    /// Never blocks: the descriptor is non-blocking. That poll has seen something to read is no promise, as a queue that
    /// runs over is an empty one to the kernel.
    pub fn read(&self, out: &mut Vec<Event>) -> Result<(), Errno> {
        let mut waiting = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut waiting, PollTimeout::ZERO)?;
        if waiting[0].revents().is_some_and(|ready| ready.contains(PollFlags::POLLIN)) {
            let mut bytes = [0; QUEUE * EVENT_BYTES];
            let len = match nix::unistd::read(&self.0, &mut bytes) {
                Err(Errno::EAGAIN | Errno::EINTR) => 0,
                read => read?,
            };
            out.extend(bytes[..len].as_chunks::<EVENT_BYTES>().0.iter().map(parse));
        }
        Ok(())
    }
}

impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn parse(bytes: &[u8; EVENT_BYTES]) -> Event {
    let [.., k0, k1, c0, c1, v0, v1, v2, v3] = *bytes;
    Event {
        kind: u16::from_ne_bytes([k0, k1]),
        code: u16::from_ne_bytes([c0, c1]),
        value: i32::from_ne_bytes([v0, v1, v2, v3]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers that the sandbox allows, as the C header gives them on a 64-bit machine.
    #[test]
    fn the_requests_are_the_headers() {
        assert_eq!(UI_DEV_CREATE, 0x5501);
        assert_eq!(UI_DEV_DESTROY, 0x5502);
        assert_eq!(UI_DEV_SETUP, 0x405c_5503);
        assert_eq!(UI_ABS_SETUP, 0x401c_5504);
        assert_eq!(UI_GET_SYSNAME, 0x8040_552c);
        assert_eq!(UI_SET_PHYS, 0x4008_556c);
        assert_eq!(UI_BEGIN_FF_UPLOAD, 0xc068_55c8);
        assert_eq!(UI_END_FF_UPLOAD, 0x4068_55c9);
        assert_eq!(UI_BEGIN_FF_ERASE, 0xc00c_55ca);
        assert_eq!(UI_END_FF_ERASE, 0x400c_55cb);
        assert_eq!(Bit::Event.request(), 0x4004_5564);
        assert_eq!(Bit::Property.request(), 0x4004_556e);
    }

    #[test]
    fn an_event_reads_back_as_written() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let events = [Event { kind: 3, code: 0x11, value: -1 }, Event { kind: 0, code: 0, value: 0 }];
        Node::new(writer).write(&events, &mut Vec::new()).unwrap();
        let mut back = Vec::new();
        Node::new(reader).read(&mut back).unwrap();
        assert_eq!(back, events);
    }

    #[test]
    fn who_tells_more_than_can_be_heard_at_once_is_heard_in_turns() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let event = Event { kind: 0x15, code: 0, value: 1 };
        Node::new(writer).write(&[event; QUEUE + 3], &mut Vec::new()).unwrap();
        let reader = Node::new(reader);
        for expected in [QUEUE, 3] {
            let mut heard = Vec::new();
            reader.read(&mut heard).unwrap();
            assert_eq!(heard.len(), expected);
        }
    }
}
