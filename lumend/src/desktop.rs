//! The desktop that sessions show, whichever it is: the pattern, the sway session around lumend, or sways of its own.
//!
//! The daemon asks for outputs and connections here; what happens to the desktop comes back as the machine's events.

mod bare;
mod found;
mod hands;
mod launched;
mod own;
mod pool;
mod screen;
mod search;

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use ipc::{Hands, RunId, SessionId, Source};
use lumen_core::Mode;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket};
use nix::unistd::geteuid;

use crate::machine::{Attempt, Event};
use crate::outputs::Terms;
use bare::Bare;
use found::Found;
pub use found::environment;
pub use hands::Means;
pub use launched::Program;
use pool::Pool;
use screen::{Place, Screen};

#[derive(Debug)]
enum Kind {
    Pattern(Bare),
    Found(Box<Found>, Bare),
    Own(Pool),
}

#[derive(Debug)]
pub struct Desktop {
    kind: Kind,
    means: Means,
    news: Vec<Event>,
}

impl Desktop {
    pub fn pattern(program: Program, means: Means) -> Self {
        Self { kind: Kind::Pattern(Bare::new(program)), means, news: vec![Event::DesktopUp] }
    }

    /// The session lumend was started in, or the next that comes up for its user.
    pub fn found(now: u64, program: Program, terms: Terms, means: Means) -> Self {
        let found = Found::new(now, terms);
        let up = found.screen.is_up();
        let waits = || Event::DesktopDown { reason: "no sway session runs on the host".into() };
        let news = vec![if up { Event::DesktopUp } else { waits() }];
        Self { kind: Kind::Found(Box::new(found), Bare::new(program)), means, news }
    }

    /// Headless sways of lumend's own, `most` at a time: the first is being started.
    pub fn own(program: Program, terms: Terms, means: Means, most: u32) -> io::Result<Self> {
        Ok(Self { kind: Kind::Own(Pool::start(program, terms, most)?), means, news: Vec::new() })
    }

    /// For people.
    pub fn name(&self) -> String {
        match &self.kind {
            Kind::Pattern(_) => "pattern".into(),
            Kind::Found(found, _) => found.name(),
            Kind::Own(pool) => pool.name(),
        }
    }

    /// Which desktop a session is on, or waits for, where there is more than one. For people.
    pub fn name_of(&self, session: SessionId) -> Option<String> {
        match &self.kind {
            Kind::Pattern(_) | Kind::Found(..) => None,
            Kind::Own(pool) => pool.number(session).map(|number| format!("own {number}")),
        }
    }

    /// True if sessions can be shown now.
    pub fn is_up(&self) -> bool {
        match &self.kind {
            Kind::Pattern(_) => true,
            Kind::Found(found, _) => found.screen.is_up(),
            Kind::Own(pool) => pool.is_up(),
        }
    }

    /// True if lumend is to be thought ready: what it has to start itself has come up.
    pub fn is_settled(&self) -> bool {
        match &self.kind {
            Kind::Pattern(_) | Kind::Found(..) => true,
            Kind::Own(pool) => pool.is_up(),
        }
    }

    /// Why there is no desktop and never will be, once that is known.
    pub fn hopeless(&mut self) -> Option<String> {
        match &mut self.kind {
            Kind::Own(pool) => pool.hopeless(),
            Kind::Pattern(_) | Kind::Found(..) => None,
        }
    }

    /// Ends the desktops of lumend's own and all apps; true once they have ended.
    pub fn stop(&mut self, now: u64) -> bool {
        match &mut self.kind {
            Kind::Own(pool) => pool.stop(now),
            Kind::Found(found, bare) => {
                drop(found.screen.disconnect());
                bare.stop(now)
            }
            Kind::Pattern(bare) => bare.stop(now),
        }
    }

    /// Wants an output for a session, on the desktop where `run` runs if that is one of several; an
    /// [`Event::OutputReady`] or [`Event::OutputFailed`] will answer.
    pub fn acquire(&mut self, now: u64, session: SessionId, attempt: Attempt, mode: Mode, run: Option<RunId>) {
        match &mut self.kind {
            Kind::Pattern(_) => self.news.push(Event::OutputReady { session, attempt, mode }),
            Kind::Found(found, _) if found.screen.is_up() => found.screen.acquire(now, session, attempt, mode),
            // The machine has not heard yet that the desktop is gone; when it has, it will ask again.
            Kind::Found(..) => {}
            Kind::Own(pool) => self.news.extend(pool.acquire(now, session, attempt, mode, run)),
        }
    }

    /// Starts the app of this index in the list that [`Program::new`] was given, for a session that has been acquired an
    /// output. When it has ended, or nothing came of it, there is an [`Event::AppEnded`].
    pub fn start_app(&mut self, session: SessionId, run: RunId, index: u16) {
        let started = match &mut self.kind {
            Kind::Pattern(bare) | Kind::Found(_, bare) => bare.start_app(run, index),
            Kind::Own(pool) => pool.start_app(session, run, index),
        };
        self.news.extend(started.err().map(|reason| Event::AppEnded { run, reason }));
    }

    /// Ends an app and undoes what was prepared for it; [`Event::AppEnded`] says when that is done.
    pub fn stop_app(&mut self, run: RunId) {
        match &mut self.kind {
            Kind::Pattern(bare) | Kind::Found(_, bare) => bare.stop_app(run),
            Kind::Own(pool) => pool.stop_app(run, &mut self.news),
        }
    }

    pub fn release(&mut self, now: u64, session: SessionId) {
        match &mut self.kind {
            Kind::Pattern(_) => {}
            Kind::Found(found, _) => found.screen.release(now, session),
            Kind::Own(pool) => pool.release(now, session),
        }
    }

    /// The sway that a session is on. None with the pattern.
    fn screen(&self, session: SessionId) -> Option<Result<&Screen, String>> {
        match &self.kind {
            Kind::Pattern(_) => None,
            Kind::Found(found, _) => Some(Ok(&found.screen)),
            Kind::Own(pool) => Some(pool.screen(session).ok_or_else(|| "its desktop is gone".into())),
        }
    }

    /// The compositor's name of the output that a session shows, while it has one.
    pub fn output(&self, session: SessionId) -> Option<&str> {
        self.screen(session)?.ok()?.output(session)
    }

    /// What capture opens for this session: always a fresh connection.
    pub fn source(&self, session: SessionId) -> Result<Source<OwnedFd>, String> {
        match self.screen(session) {
            None => Ok(Source::Pattern),
            Some(screen) => screen?.source(session),
        }
    }

    /// What the session's pointer and keyboard act on, over a fresh connection. To be asked for after
    /// [`Event::OutputReady`], which is when the seat exists. The error is for people.
    pub fn hands(&self, session: SessionId) -> Result<Hands<OwnedFd>, String> {
        match self.screen(session) {
            None => self.means.bare(),
            Some(screen) => screen?.hands(session, &self.means),
        }
    }

    /// What to poll, and whether for writing too.
    pub fn sources(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        let (found, bare, own) = match &self.kind {
            Kind::Pattern(bare) => (None, Some(bare), None),
            Kind::Found(found, bare) => (found.screen.source_fd(), Some(bare), None),
            Kind::Own(pool) => (None, None, Some(pool.sources())),
        };
        let bare = bare.into_iter().flat_map(Bare::sources).map(|fd| (fd, false));
        found.into_iter().chain(bare).chain(own.into_iter().flatten())
    }

    pub fn deadline(&self) -> Option<u64> {
        let kind = match &self.kind {
            Kind::Pattern(bare) => bare.deadline(),
            Kind::Found(found, bare) => found.deadline().into_iter().chain(bare.deadline()).min(),
            Kind::Own(pool) => pool.deadline(),
        };
        let news = (!self.news.is_empty()).then_some(0);
        kind.into_iter().chain(news).min()
    }

    /// Moves everything that can move without waiting.
    pub fn dispatch(&mut self, now: u64) -> Vec<Event> {
        let mut news = std::mem::take(&mut self.news);
        match &mut self.kind {
            Kind::Pattern(bare) => bare.dispatch(now, &mut news),
            Kind::Found(found, bare) => {
                found.dispatch(now, &mut news);
                bare.dispatch(now, &mut news);
            }
            Kind::Own(pool) => pool.dispatch(now, &mut news),
        }
        news
    }
}

/// A connected socket, without waiting for a server that does not accept.
///
/// What is in a directory of another user's may be a link of theirs, to where lumend may go and they may not: its own
/// control socket. A plane would be handed that as a desktop's. The directory is opened first, so that it is the one that
/// was judged, whatever its name leads to by then.
pub fn dial(path: &Path) -> io::Result<OwnedFd> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let own = geteuid().as_raw();
    let is_theirs = |metadata: &Metadata| ![0, own].contains(&metadata.uid());
    let open = |flags| File::options().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY | flags).open(parent);
    let (directory, by_link) = match open(libc::O_NOFOLLOW) {
        Ok(directory) => (directory, false),
        // Theirs as well if it is they who say where it leads.
        Err(_) => (open(0)?, is_theirs(&parent.symlink_metadata()?)),
    };
    let theirs = by_link || is_theirs(&directory.metadata()?);
    let path = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(fd.as_raw_fd(), &UnixAddr::new(&path)?)?;
    if theirs && getsockopt(&fd, PeerCredentials)?.uid() == own {
        return Err(io::Error::other("in another user's directory, it leads to a socket of this one's"));
    }
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{chown, lchown, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Directories can only be given away by root, as most test machines have it.
    #[test]
    fn a_link_of_another_user_s_to_one_s_own_socket_is_not_followed() {
        let directory = std::env::temp_dir().join(format!("lumen-dial-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(directory.join("desktop")).unwrap();
        let (control, wayland) = (directory.join("control.sock"), directory.join("desktop/wayland-1"));
        let _listener = UnixListener::bind(&control).unwrap();
        symlink(&control, &wayland).unwrap();
        dial(&wayland).unwrap();
        if geteuid().is_root() {
            chown(directory.join("desktop"), Some(64555), None).unwrap();
            let error = dial(&wayland).unwrap_err().to_string();
            assert!(error.contains("another user's"), "{error}");
            dial(&control).unwrap();

            // Nor where only the way is theirs.
            fs::create_dir(directory.join("ours")).unwrap();
            symlink(&control, directory.join("ours/wayland-1")).unwrap();
            symlink(directory.join("ours"), directory.join("way")).unwrap();
            dial(&directory.join("way/wayland-1")).unwrap();
            lchown(directory.join("way"), Some(64555), None).unwrap();
            assert!(dial(&directory.join("way/wayland-1")).is_err());
        }
        fs::remove_dir_all(directory).unwrap();
    }
}
