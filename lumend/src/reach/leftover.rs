//! Planes of an earlier lumend, by the processes that a service manager has kept of them. Their links are closed, so that they
//! go; one that does not, because it hangs or is in bad hands, is killed before this lumend uses what that may have too.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use ipc::PlaneKind;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::{error, warn};

use super::pidfd;
use super::served::lives;
use super::strays::{Stray, Strays};

const PREFIX: &str = "lumen-plane-";

/// They go by themselves in milliseconds, in which they put back what they have changed. Nobody is served meanwhile.
const GO_WITHIN: Duration = Duration::from_millis(300);
/// After that the kernel ends them.
const END_WITHIN: Duration = Duration::from_secs(1);

/// Under which a plane is kept, such as `lumen-plane-net-4711`.
pub fn name(kind: PlaneKind, pid: u32) -> String {
    format!("{PREFIX}{}-{pid}", kind.name())
}

/// Whether something was kept under the name of a plane.
pub fn is_name(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// Waits for the end of those that live, and kills them if it does not come; returns those that live even then.
pub fn end(kept: Vec<(String, OwnedFd)>) -> Strays {
    let mut left: Vec<_> = kept.into_iter().filter_map(|(name, fd)| leftover(&name, fd)).collect();
    wait(&mut left, GO_WITHIN);
    for Stray { kind, pid, pidfd, .. } in &left {
        warn!(plane = kind.name(), "{kind} (pid {pid}) of an earlier lumend has not ended with it, and is killed");
        // An error shows below: it lives on.
        let _ = pidfd::kill(pidfd.as_fd());
    }
    wait(&mut left, END_WITHIN);
    let mut strays = Strays::default();
    for stray in left {
        let Stray { kind, pid, .. } = &stray;
        error!(
            plane = kind.name(),
            "{kind} (pid {pid}) of an earlier lumend cannot be killed from here, and lives on; see `lumend status`"
        );
        strays.add(stray);
    }
    strays
}

/// None of anything but a process: whatever is in a store may have been put there by an earlier lumend of another build.
fn leftover(name: &str, fd: OwnedFd) -> Option<Stray> {
    let (kind, pid) = name.strip_prefix(PREFIX)?.split_once('-')?;
    let kind = PlaneKind::ALL.into_iter().find(|known| known.name() == kind)?;
    let pid = pid.parse().ok()?;
    let is_one = pidfd::is_one(fd.as_fd());
    is_one.then_some(Stray { kind, session: None, pid, pidfd: fd, certain: true })
}

/// Until all have ended, or for so long; takes out those that have.
fn wait(left: &mut Vec<Stray>, limit: Duration) {
    let until = Instant::now() + limit;
    loop {
        left.retain(|stray| lives(stray.pidfd.as_fd()));
        let rest = until.saturating_duration_since(Instant::now());
        if left.is_empty() || rest.is_zero() {
            return;
        }
        let mut polled: Vec<_> = left.iter().map(|stray| PollFd::new(stray.pidfd.as_fd(), PollFlags::POLLIN)).collect();
        // Rounded up: a poll that ends a little early would only be repeated. So would one that a signal interrupts.
        let _ = poll(&mut polled, PollTimeout::try_from(rest.as_millis() + 1).unwrap_or(PollTimeout::MAX));
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command, Stdio};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use super::*;

    /// Ends when its stdin is closed, as a plane does with its link.
    fn plane() -> Child {
        Command::new("/bin/cat").stdin(Stdio::piped()).spawn().unwrap()
    }

    fn kept(child: &Child) -> (String, OwnedFd) {
        (name(PlaneKind::Net, child.id()), pidfd::open(child.id()).unwrap())
    }

    #[test]
    fn one_that_goes_by_itself_is_not_killed_and_one_that_hangs_is() {
        let [mut orderly, mut hangs] = [(); 2].map(|()| plane());
        kill(Pid::from_raw(hangs.id().cast_signed()), Signal::SIGSTOP).unwrap();
        drop([&mut orderly, &mut hangs].map(|child| child.stdin.take()));
        let strays = end(vec![kept(&orderly), kept(&hangs)]);
        assert_eq!(strays.for_successor().count(), 0);
        assert_eq!(orderly.wait().unwrap().signal(), None);
        assert_eq!(hangs.try_wait().unwrap().expect("it has ended already").signal(), Some(Signal::SIGKILL as i32));
    }

    #[test]
    fn what_is_no_process_or_has_no_name_of_a_plane_is_let_be() {
        let mut child = plane();
        let file = || OwnedFd::from(File::open("/dev/null").unwrap());
        let (_, process) = kept(&child);
        let odd = vec![
            (name(PlaneKind::Net, child.id()), file()),
            (name(PlaneKind::Net, 1), std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into()),
            (name(PlaneKind::Net, child.id()), File::open(format!("/proc/{}", child.id())).unwrap().into()),
            ("lumen-quic".into(), process.try_clone().unwrap()),
            (format!("{PREFIX}shell-{}", child.id()), process.try_clone().unwrap()),
            (format!("{PREFIX}net-x"), process),
        ];
        assert_eq!(end(odd).for_successor().count(), 0);
        assert!(child.try_wait().unwrap().is_none(), "it was none of lumend's");
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
