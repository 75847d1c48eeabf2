//! The ring's bytes: one control page, and a data area mapped twice in a row so that every chunk is contiguous.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use super::chunk::HEADER_WORDS;
use super::core::Shared;
use super::geometry::CONTROL_BYTES;
use crate::msg::RingGeometry;
use crate::shm::{Mapping, SharedLayout, ShmError, prefault};

// SAFETY: every field is an atomic integer or padding.
unsafe impl SharedLayout for Shared {}

/// Both views of one ring's memory.
#[derive(Debug)]
pub(super) struct Memory {
    control: Mapping,
    /// Start of `2 * capacity` mapped bytes, the second half repeating the first.
    data: NonNull<u8>,
    capacity: NonZeroUsize,
    writable: bool,
}

// SAFETY: the mappings belong to this value alone and are not tied to the thread that made them.
unsafe impl Send for Memory {}

impl Memory {
    /// Maps a ring of `geometry`, the data area writable for its producer only.
    pub(super) fn attach(fd: BorrowedFd<'_>, geometry: &RingGeometry, writable: bool) -> Result<Self, ShmError> {
        geometry.check()?;
        let capacity = NonZeroUsize::new(geometry.capacity as usize).ok_or(ShmError::Geometry("empty ring"))?;
        let whole = CONTROL_BYTES + capacity.get();
        // Only the positions: through a mapping of the whole the consumer could write the data area as well.
        let control = Mapping::read_write_start(fd, whole, size_of::<Shared>())?;
        control.prefault();
        let twice = NonZeroUsize::new(2 * capacity.get()).ok_or(ShmError::Geometry("empty ring"))?;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: reserves address space of the kernel's choice, which overlaps nothing.
        let data = unsafe { mmap_anonymous(None, twice, ProtFlags::PROT_NONE, flags)? }.cast::<u8>();
        // From here on `drop` unmaps the reservation if a step fails.
        let memory = Self { control, data, capacity, writable };
        let write = if writable { ProtFlags::PROT_WRITE } else { ProtFlags::empty() };
        for half in [0, capacity.get()] {
            let at = NonZeroUsize::new(data.as_ptr() as usize + half);
            // SAFETY: replaces one half of the reservation above, nothing else; the file spans
            // `CONTROL_BYTES + capacity` bytes and is sealed at that size.
            unsafe {
                mmap(
                    at,
                    capacity,
                    ProtFlags::PROT_READ | write,
                    MapFlags::MAP_SHARED | MapFlags::MAP_FIXED,
                    fd,
                    CONTROL_BYTES as libc::off_t,
                )?;
            }
        }
        prefault(data, 2 * capacity.get(), writable);
        Ok(memory)
    }

    pub(super) fn control(&self) -> &Shared {
        self.control.shared()
    }

    /// Address of the byte at `position`, with at least `capacity` bytes mapped from there.
    fn at(&self, position: u64) -> NonNull<u8> {
        let offset = position as usize & (self.capacity.get() - 1);
        // SAFETY: the offset is below the capacity, and twice the capacity is mapped.
        unsafe { self.data.add(offset) }
    }

    /// The header at `position`. Asserts alignment, which positions made of whole spans have.
    fn words(&self, position: u64) -> &[AtomicU64; HEADER_WORDS] {
        let header = self.at(position).cast::<[AtomicU64; HEADER_WORDS]>();
        assert!(header.is_aligned());
        // SAFETY: aligned, and mapped for `capacity` bytes, which is more than a header. Atomics may be written by
        // the other process at any time. Stores happen only through `write`, which asserts that they may.
        unsafe { header.as_ref() }
    }

    /// Copies a header out, each word once.
    pub(super) fn read_header(&self, position: u64) -> [u64; HEADER_WORDS] {
        self.words(position).each_ref().map(|word| word.load(Ordering::Relaxed))
    }

    /// Appends `len` bytes at `position` to `out`, which must have room for them.
    pub(super) fn read(&self, position: u64, len: usize, out: &mut Vec<u8>) {
        assert!(len <= self.capacity.get() && len <= out.capacity() - out.len());
        let payload = self.at(position);
        // SAFETY: source and room are asserted and disjoint (`out` is private memory); the copy initialises exactly
        // the bytes that the new length adds. A peer that writes meanwhile changes which bytes arrive, no more.
        unsafe {
            out.as_mut_ptr().add(out.len()).copy_from_nonoverlapping(payload.as_ptr(), len);
            out.set_len(out.len() + len);
        }
    }

    /// Writes a header and, after it, its payload.
    pub(super) fn write(&mut self, position: u64, header: [u64; HEADER_WORDS], payload: &[u8]) {
        assert!(self.writable && size_of_val(&header) + payload.len() <= self.capacity.get());
        for (word, value) in self.words(position).iter().zip(header) {
            word.store(value, Ordering::Relaxed);
        }
        let target = self.at(position + size_of_val(&header) as u64);
        // SAFETY: at most `capacity` bytes from a mapped, writable address; `payload` is private memory.
        unsafe { target.as_ptr().copy_from_nonoverlapping(payload.as_ptr(), payload.len()) };
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: exactly the address range that `attach` reserved; no reference into it outlives `self`.
        let _ = unsafe { munmap(self.data.cast::<c_void>(), 2 * self.capacity.get()) };
    }
}
