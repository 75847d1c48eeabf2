//! Shared memory: memfds that nobody can shrink, and mappings that check this before they trust a size.
//!
//! lumend makes every memfd, sealed and at its final size; planes only map. A mapping's bytes may be changed by the
//! process at the other end at any time. Nothing in this crate depends, for memory safety, on two reads of the same
//! shared byte agreeing, and neither may its users: sizes come over the link, pictures and payloads are just data.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, munmap};
use nix::unistd::{SysconfVar, ftruncate, sysconf};

/// Something a peer did that no correct peer does. The plane that sees it gives up with this reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the peer broke the shared-memory protocol: {0}")]
pub struct Violation(pub &'static str);

/// Why handed memory was not taken into use.
#[derive(Debug, thiserror::Error)]
pub enum ShmError {
    #[error("the memory is not sealed against shrinking and growing")]
    NotSealed,
    #[error("the memory has {actual} bytes where {expected} were told")]
    Size { expected: usize, actual: u64 },
    #[error("impossible geometry: {0}")]
    Geometry(&'static str),
    #[error("cannot map shared memory: {0}")]
    Io(#[from] io::Error),
}

impl From<Errno> for ShmError {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

const SEALS: SealFlag = SealFlag::F_SEAL_SHRINK.union(SealFlag::F_SEAL_GROW).union(SealFlag::F_SEAL_SEAL);

/// Makes a memfd of `size` bytes rounded up to whole pages, all zero, that can neither shrink, grow nor be executed.
///
/// Zero bytes are the initial state of every structure in this crate, so a fresh memfd needs no further set-up.
pub fn sealed_memfd(name: &str, size: usize) -> io::Result<OwnedFd> {
    let noexec = MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let fd = match memfd_create(name, flags | noexec) {
        // Kernels before 6.3 do not know the flag.
        Err(Errno::EINVAL) => memfd_create(name, flags)?,
        other => other?,
    };
    let rounded = round_to_pages(size).and_then(|size| libc::off_t::try_from(size).ok());
    ftruncate(&fd, rounded.ok_or(io::ErrorKind::InvalidInput)?)?;
    fcntl(&fd, FcntlArg::F_ADD_SEALS(SEALS))?;
    Ok(fd)
}

fn round_to_pages(size: usize) -> Option<usize> {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|page| usize::try_from(page).ok())?;
    size.max(1).checked_next_multiple_of(page)
}

/// Checks that `fd` is a memfd sealed at exactly `len` bytes rounded up to pages, and returns the rounded size.
///
/// Without the seals a peer could shrink the file under a mapping, and the next access would be a fatal SIGBUS.
pub(crate) fn verify(fd: BorrowedFd<'_>, len: usize) -> Result<NonZeroUsize, ShmError> {
    let seals = match fcntl(fd, FcntlArg::F_GET_SEALS) {
        Ok(bits) => SealFlag::from_bits_retain(bits),
        Err(_) => return Err(ShmError::NotSealed),
    };
    if !seals.contains(SEALS) {
        return Err(ShmError::NotSealed);
    }
    let rounded = round_to_pages(len).and_then(NonZeroUsize::new).ok_or(ShmError::Geometry("size out of range"))?;
    let actual = file_size(fd)?;
    if actual != rounded.get() as u64 {
        return Err(ShmError::Size { expected: rounded.get(), actual });
    }
    Ok(rounded)
}

/// fstat as its own system call: the C library may make it one that takes a path, which a sealed plane may not use.
fn file_size(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: on every 64-bit Linux the kernel writes the C library's `struct stat`, which outlives the call.
    Errno::result(unsafe { libc::syscall(libc::SYS_fstat, fd.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: filled by the successful call, and all zeroes before it, which is valid for integers.
    let stat = unsafe { stat.assume_init() };
    Ok(u64::try_from(stat.st_size).unwrap_or(0))
}

/// A structure that may lie in memory which a hostile process writes.
///
/// # Safety
///
/// Every field is an atomic (or padding), so that every bit pattern is a value and every access tolerates a
/// concurrent write.
pub(crate) unsafe trait SharedLayout {}

/// A sealed memfd, mapped shared from its start. Unmapped on drop.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
    mapped: NonZeroUsize,
    writable: bool,
}

// SAFETY: the mapping belongs to this value alone and is not tied to the thread that made it.
unsafe impl Send for Mapping {}
// SAFETY: shared access hands out `&[u8]` and references to atomics; writes need `&mut self`.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes for reading.
    pub fn read_only(fd: BorrowedFd<'_>, len: usize) -> Result<Self, ShmError> {
        Self::new(fd, len, len, false)
    }

    /// Maps `len` bytes for reading and writing.
    pub fn read_write(fd: BorrowedFd<'_>, len: usize) -> Result<Self, ShmError> {
        Self::new(fd, len, len, true)
    }

    /// Maps the first `len` bytes of a memfd of `whole` bytes for reading and writing.
    pub(crate) fn read_write_start(fd: BorrowedFd<'_>, whole: usize, len: usize) -> Result<Self, ShmError> {
        Self::new(fd, whole, len, true)
    }

    fn new(fd: BorrowedFd<'_>, whole: usize, len: usize, writable: bool) -> Result<Self, ShmError> {
        let file = verify(fd, whole)?;
        let mapped = round_to_pages(len).and_then(NonZeroUsize::new).filter(|mapped| *mapped <= file);
        let mapped = mapped.ok_or(ShmError::Geometry("size out of range"))?;
        let write = if writable { ProtFlags::PROT_WRITE } else { ProtFlags::empty() };
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing; `verify` has made sure that
        // the file spans it and can never shrink.
        let base = unsafe { mmap(None, mapped, ProtFlags::PROT_READ | write, MapFlags::MAP_SHARED, fd.as_fd(), 0)? };
        Ok(Self { base: base.cast(), len, mapped, writable })
    }

    /// The told length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn as_ptr(&self) -> *const u8 {
        self.base.as_ptr()
    }

    /// The bytes. Read them only while the mailbox says that they are this side's; a peer that writes meanwhile spoils
    /// the picture, so use them as plain data: never as lengths, indices or anything read twice.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `len` bytes are mapped readable for as long as `self`, and the seals keep the file behind them.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }

    /// The bytes for drawing into; `None` of a read-only mapping.
    pub fn as_mut_slice(&mut self) -> Option<&mut [u8]> {
        // SAFETY: as for `as_slice`; the mapping is writable and `&mut self` excludes every other reference to it in
        // this process.
        self.writable.then(|| unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.len) })
    }

    /// Touches every page, so that no page fault happens on the frame path.
    pub fn prefault(&self) {
        prefault(self.base, self.mapped.get(), self.writable);
    }

    /// The structure at the start of a writable mapping.
    pub(crate) fn shared<T: SharedLayout>(&self) -> &T {
        assert!(self.writable && size_of::<T>() <= self.mapped.get() && self.base.cast::<T>().is_aligned());
        // SAFETY: size, alignment and writability are asserted, any bit pattern is a valid `T` and every access to it
        // is atomic (`SharedLayout`).
        unsafe { self.base.cast::<T>().as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped, and every reference into it borrowed `self`. Failure would mean that it
        // is not mapped, which leaves nothing to do.
        let _ = unsafe { munmap(self.base.cast::<c_void>(), self.mapped.get()) };
    }
}

/// Populates `[base, base + len)`, which the caller has mapped.
pub(crate) fn prefault(base: NonNull<u8>, len: usize, writable: bool) {
    let advice = if writable { MmapAdvise::MADV_POPULATE_WRITE } else { MmapAdvise::MADV_POPULATE_READ };
    // SAFETY: populating changes no contents. Kernels before 5.14 refuse the advice: then the first frames pay for
    // their page faults, which is slower but not wrong.
    let _ = unsafe { madvise(base.cast::<c_void>(), len, advice) };
}
