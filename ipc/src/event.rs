//! Wake-ups between processes, and the clock they all share.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{read, write};

/// One direction of wake-ups: an eventfd made by lumend. Its flags belong to both sides; nobody changes them.
///
/// The waiter drains *before* it looks at what the event announces. Whoever looks first and drains afterwards can
/// swallow a wake-up whose news it has not seen.
#[derive(Debug)]
pub struct Event(OwnedFd);

impl Event {
    /// A new event, not signalled, non-blocking and close-on-exec.
    pub fn new() -> io::Result<Self> {
        Ok(Self(EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?.into()))
    }

    /// Takes over an eventfd that came over a link.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    pub fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// A second handle on the same event.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// Wakes the other side. One system call; a full counter means that it is awake already.
    pub fn signal(&self) {
        let _ = write(&self.0, &1u64.to_ne_bytes());
    }

    /// Forgets all signals so far; true if there were any.
    pub fn drain(&self) -> bool {
        read(&self.0, &mut [0; 8]).is_ok()
    }

    /// Waits until signalled, without draining; false if `timeout` went by first.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<bool> {
        wait_readable(self.0.as_fd(), timeout)
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits for one descriptor to become readable or to hang up; false if `timeout` went by first.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<bool> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        let left = deadline.map(|deadline| TimeSpec::from(deadline.saturating_duration_since(Instant::now())));
        match ppoll(&mut [PollFd::new(fd, PollFlags::POLLIN)], left, None) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
    }
}

/// CLOCK_MONOTONIC in nanoseconds: the one clock of every timestamp that crosses a process border.
pub fn now_ns() -> u64 {
    // The kernel has had this clock since 2.6; there is no error to report.
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |now| (now.tv_sec() as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_add_up_to_one_wake() {
        let event = Event::new().unwrap();
        let other = Event::from_fd(event.try_clone().unwrap().into_fd());
        assert!(!event.drain());
        assert!(!event.wait(Some(Duration::ZERO)).unwrap());
        other.signal();
        other.signal();
        assert!(event.wait(None).unwrap());
        assert!(event.drain());
        assert!(!event.drain());
    }

    #[test]
    fn a_full_counter_does_not_block_the_signaller() {
        let event = Event::new().unwrap();
        write(&event.0, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        event.signal();
        assert!(event.drain());
    }

    #[test]
    fn the_clock_moves_forward() {
        let before = now_ns();
        assert!(before > 0);
        assert!(now_ns() >= before);
    }
}
