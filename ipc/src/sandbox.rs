//! How a plane locks itself down, in two steps: [`restrict`] at once, while it has one thread, and [`seccomp`] when its
//! threads exist and its libraries are loaded, before the first byte from outside.
//!
//! [`table`] says what is allowed, to whom, and why.

mod caps;
mod landlock;
pub(crate) mod manager;
pub mod profile;
mod seccomp;
pub mod table;

pub use self::seccomp::FILTERS;

use std::io;

use nix::sys::resource::{Resource, setrlimit};

use crate::PlaneKind;

/// Why a plane could not be locked down. It then refuses to run.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("this kernel refuses {what}: {error}")]
    Kernel { what: &'static str, error: io::Error },
    #[error("Landlock failed: {0}")]
    Landlock(String),
    #[error("the system call filter does not compile: {0}")]
    Filter(seccompiler::BackendError),
    #[error("the system call filter cannot be installed: {0}")]
    Install(seccompiler::Error),
    #[error("no system call filter exists for this processor; x86_64 and aarch64 have one")]
    Architecture,
}

/// What [`restrict`] could do here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Restricted {
    /// Landlock ABI in force, 0 where the kernel has none.
    pub landlock_abi: u32,
}

/// The half that threads inherit: no new privileges, no capabilities, resource limits, Landlock.
///
/// Must be called before other threads exist.
pub fn restrict(kind: PlaneKind) -> Result<Restricted, SandboxError> {
    let kernel = |what| move |errno: nix::Error| SandboxError::Kernel { what, error: errno.into() };
    nix::sys::prctl::set_no_new_privs().map_err(kernel("no_new_privs"))?;
    caps::drop_all().map_err(|error| SandboxError::Kernel { what: "to drop capabilities", error })?;
    let limits = table::limits(kind);
    for (resource, wanted) in [
        (Resource::RLIMIT_NOFILE, limits.descriptors),
        (Resource::RLIMIT_DATA, limits.data),
        (Resource::RLIMIT_STACK, table::STACK),
        (Resource::RLIMIT_AS, limits.address_space),
        (Resource::RLIMIT_FSIZE, limits.file),
        (Resource::RLIMIT_CORE, 0),
    ] {
        lower(resource, wanted).map_err(kernel("resource limits"))?;
    }
    Ok(Restricted { landlock_abi: landlock::restrict(table::readable(kind))? })
}

/// The last half, for all threads at once: the system call filters of [`table`].
pub fn seccomp(kind: PlaneKind) -> Result<(), SandboxError> {
    for program in seccomp::programs(kind, std::process::id())? {
        seccompiler::apply_filter_all_threads(&program).map_err(SandboxError::Install)?;
    }
    Ok(())
}

/// The Landlock ABI that [`restrict`] gets from this kernel, 0 where it has none. Asked by a thread that does it to itself,
/// and ends.
pub fn landlock_abi() -> Result<u32, SandboxError> {
    let asked = std::thread::spawn(|| landlock::restrict(&[])).join();
    asked.unwrap_or_else(|_| Err(SandboxError::Landlock("the thread that asked has panicked".into())))
}

/// A limit is only ever lowered: whoever started us may have set a tighter one.
fn lower(resource: Resource, wanted: u64) -> nix::Result<()> {
    let (soft, hard) = nix::sys::resource::getrlimit(resource)?;
    setrlimit(resource, wanted.min(soft), wanted.min(hard))
}
