//! stderr, which may be a terminal that somebody has stopped or a pipe that nobody reads: a line that it does not take at
//! once is lost, and how many were is said before the next one that it takes.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;

use libc::{O_NOCTTY, O_NONBLOCK};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::write;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// Bytes of a line, PIPE_BUF: what a pipe that is writable at all takes whole. The rest of a longer one is cut off.
const LONGEST: usize = 4096;
/// What is there instead of the rest.
const CUT: &[u8] = "…\n".as_bytes();

/// Takes one line with each call of `write`, and says of each that it is written.
#[derive(Debug)]
pub struct Lines<F> {
    fd: F,
    way: Way,
    lost: u64,
    /// A part of a line was taken: the next one begins on a line of its own.
    torn: bool,
}

/// How not to wait. O_NONBLOCK is not set on the descriptor that was given: it would be on that of the shell, too.
#[derive(Debug)]
enum Way {
    /// A pipe or a terminal, opened a second time for this.
    Own(File),
    /// A socket has a flag for each message.
    Message,
    /// A file, or a pipe or terminal of another user: it is asked first. Between the answer and the line another program
    /// may fill the pipe.
    Asked,
}

impl<F: AsFd> Lines<F> {
    pub fn new(fd: F) -> Self {
        let number = fd.as_fd().as_raw_fd();
        let kind = fstat(&fd).map_or(SFlag::empty(), |stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT);
        let way = match kind {
            SFlag::S_IFSOCK => Way::Message,
            SFlag::S_IFIFO | SFlag::S_IFCHR => OpenOptions::new()
                .write(true)
                .custom_flags(O_NONBLOCK | O_NOCTTY)
                .open(format!("/proc/self/fd/{number}"))
                .map_or(Way::Asked, Way::Own),
            _ => Way::Asked,
        };
        Self { fd, way, lost: 0, torn: false }
    }

    /// True if all of it was taken.
    fn put(&mut self, bytes: &[u8]) -> bool {
        let taken = match &self.way {
            Way::Own(file) => write(file, bytes),
            Way::Message => {
                let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                send(self.fd.as_fd().as_raw_fd(), bytes, flags)
            }
            Way::Asked if is_writable(&self.fd) => write(&self.fd, bytes),
            Way::Asked => Err(Errno::EAGAIN),
        };
        let taken = taken.unwrap_or(0);
        // Of nothing, a line that was torn before is torn still.
        self.torn = if taken == 0 { self.torn } else { taken < bytes.len() };
        taken == bytes.len()
    }

    /// What comes before the next line, if anything does.
    fn before(&self) -> String {
        let mut text = String::from(if self.torn { "\n" } else { "" });
        if self.lost > 0 {
            // Its only error would be that of a string.
            let _ = SystemTime.format_time(&mut Writer::new(&mut text));
            text.push_str(&format!("  WARN {}\n", super::lost(self.lost)));
        }
        text
    }
}

impl<F: AsFd> Write for Lines<F> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let before = self.before();
        if !before.is_empty() {
            if !self.put(before.as_bytes()) {
                self.lost += 1;
                return Ok(line.len());
            }
            self.lost = 0;
        }
        if !self.put(&bounded(line)) {
            self.lost += 1;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn is_writable(fd: &impl AsFd) -> bool {
    let mut polled = [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)];
    poll(&mut polled, PollTimeout::ZERO).is_ok()
        && polled[0].revents().is_some_and(|events| events.contains(PollFlags::POLLOUT))
}

/// No longer than [`LONGEST`], and a line still, of whole characters.
fn bounded(line: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if line.len() <= LONGEST {
        return line.into();
    }
    let is_inside = |&end: &usize| line[end] & 0xc0 == 0x80;
    let end = (0..=LONGEST - CUT.len()).rev().find(|end| !is_inside(end)).unwrap_or(0);
    [&line[..end], CUT].concat().into()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;
    use std::time::Duration;

    use nix::fcntl::{FcntlArg, OFlag, fcntl};

    use super::*;

    /// A bound on hanging, not on speed.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// Writes lines until one is lost, and ten more; returns how many were taken. Fails if a line is waited for.
    fn fill<F: AsFd + Send + 'static>(mut lines: Lines<F>) -> (Lines<F>, usize) {
        let (done, is_done) = mpsc::channel();
        std::thread::spawn(move || {
            let mut taken = 0;
            while lines.lost == 0 && taken < 100_000 {
                lines.write_all(b"a line of the log that is to be told from another\n").unwrap();
                taken += 1;
            }
            for _ in 0..10 {
                lines.write_all(b"one more\n").unwrap();
            }
            let _ = done.send((lines, taken - 1));
        });
        is_done.recv_timeout(PATIENCE).expect("a line is waited for")
    }

    /// What is there to read, once the writing end is closed.
    fn rest(mut reader: impl Read) -> Vec<String> {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn tells_eleven<F: AsFd + Send + 'static>(lines: Lines<F>, mut reader: impl Read) {
        let (mut lines, taken) = fill(lines);
        assert_eq!(lines.lost, 11);
        // Of a socket, lines may be in several buffers, of which each counts until all of it is read.
        let mut read = vec![0; 1 << 20];
        let mut length = 0;
        while read[..length].iter().filter(|&&byte| byte == b'\n').count() < taken {
            length += reader.read(&mut read[length..]).unwrap();
        }
        lines.write_all(b"it is read again\n").unwrap();
        assert_eq!(lines.lost, 0);
        lines.write_all(b"as before\n").unwrap();
        drop(lines);
        let rest = rest(reader);
        let told = rest.iter().position(|line| line.ends_with("  WARN 11 lines of the log were lost")).unwrap();
        assert_eq!(rest[told + 1..], ["it is read again", "as before"]);
    }

    #[test]
    fn a_full_pipe_is_not_waited_for_and_what_was_lost_is_told() {
        let (reader, writer) = io::pipe().unwrap();
        let lines = Lines::new(writer);
        assert!(matches!(lines.way, Way::Own(_)));
        let flags = OFlag::from_bits_retain(fcntl(&lines.fd, FcntlArg::F_GETFL).unwrap());
        assert!(!flags.contains(OFlag::O_NONBLOCK), "others write to it, too");
        tells_eleven(lines, reader);
    }

    #[test]
    fn a_pipe_that_cannot_be_opened_again_is_asked() {
        let (reader, writer) = io::pipe().unwrap();
        let mut lines = Lines::new(writer);
        lines.way = Way::Asked;
        tells_eleven(lines, reader);
    }

    #[test]
    fn a_full_socket_is_not_waited_for() {
        let (reader, writer) = UnixStream::pair().unwrap();
        let lines = Lines::new(writer);
        assert!(matches!(lines.way, Way::Message));
        tells_eleven(lines, reader);
    }

    #[test]
    fn a_file_takes_all() {
        let path = std::env::temp_dir().join(format!("lumen-log-{}", std::process::id()));
        let mut lines = Lines::new(File::create(&path).unwrap());
        lines.write_all(b"first\n").unwrap();
        lines.write_all(b"second\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "first\nsecond\n");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_line_that_was_torn_is_ended_before_the_next() {
        let (reader, writer) = io::pipe().unwrap();
        let mut lines = Lines::new(writer);
        lines.put(b"half a li");
        (lines.torn, lines.lost) = (true, 1);
        lines.write_all(b"whole\n").unwrap();
        drop(lines);
        let rest = rest(reader);
        assert!(rest[0] == "half a li" && rest[1].ends_with("  WARN 1 line of the log was lost"), "{rest:?}");
        assert_eq!(rest[2], "whole");
    }

    #[test]
    fn a_line_is_no_longer_than_a_pipe_takes_and_has_whole_characters() {
        for shift in 0..4 {
            let line = format!("{}{}\n", "x".repeat(shift), "🦀".repeat(2000));
            let cut = String::from_utf8(bounded(line.as_bytes()).into_owned()).unwrap();
            assert!(cut.len() <= LONGEST && cut.len() > LONGEST - 4 && cut.ends_with("🦀…\n"));
        }
        assert_eq!(&*bounded(b"short\n"), b"short\n");
    }
}
