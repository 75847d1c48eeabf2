//! What a plane writes to stderr, for lumend's log: whole lines, fit for a terminal, and no more than people read.
//!
//! A plane gets the end of a pipe, not lumend's own stderr: that may be a terminal, which is also a keyboard.

use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsFd, BorrowedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::rate::Rate;

/// Bytes that are heard at once, and in the long run. A plane that writes more fills its pipe and waits.
const BURST: u32 = 16 * 1024;
const PER_SECOND: u32 = 1024;

/// Most bytes of a line; the rest of a longer one makes lines of its own.
const LINE: usize = 500;

#[derive(Debug)]
pub struct Grumbles {
    /// None at its end.
    pipe: Option<PipeReader>,
    rate: Rate,
    /// The beginning of a line.
    begun: Vec<u8>,
}

impl Grumbles {
    /// The plane's end is its stderr.
    pub fn pipe(now: u64) -> io::Result<(Self, PipeWriter)> {
        let (pipe, theirs) = io::pipe()?;
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok((Self { pipe: Some(pipe), rate: Rate::new(now, BURST, PER_SECOND), begun: Vec::new() }, theirs))
    }

    /// To be polled; none while nothing more is heard. That passes by the time of the plane's next ping.
    pub fn source(&self, now: u64) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().filter(|_| self.rate.left(now) > 0).map(AsFd::as_fd)
    }

    /// The lines that are there and allowed.
    pub fn hear(&mut self, now: u64) -> Vec<String> {
        let mut lines = Vec::new();
        let mut part = [0; 4096];
        while let Some(pipe) = &mut self.pipe {
            let room = part.len().min(usize::try_from(self.rate.left(now)).unwrap_or(usize::MAX));
            if room == 0 {
                break;
            }
            match pipe.read(&mut part[..room]) {
                Ok(0) => self.pipe = None,
                Ok(length) => {
                    self.rate.spend(now, length as u64);
                    self.take(&part[..length], &mut lines);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.pipe = None,
            }
        }
        if self.pipe.is_none() {
            self.end_line(&mut lines);
        }
        lines
    }

    fn take(&mut self, bytes: &[u8], lines: &mut Vec<String>) {
        for &byte in bytes {
            match byte {
                b'\n' => self.end_line(lines),
                byte => self.begun.push(byte),
            }
            if self.begun.len() >= LINE {
                self.end_line(lines);
            }
        }
    }

    fn end_line(&mut self, lines: &mut Vec<String>) {
        let line = printable(&String::from_utf8_lossy(&self.begun), LINE);
        self.begun.clear();
        if !line.trim().is_empty() {
            lines.push(line);
        }
    }
}

/// A plane's words, fit for a terminal.
pub fn printable(text: &str, most: usize) -> String {
    text.chars().take(most).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn lines_come_whole_and_harmless() {
        let (mut grumbles, mut theirs) = Grumbles::pipe(0).unwrap();
        theirs.write_all(b"one\n\ntw").unwrap();
        assert_eq!(grumbles.hear(0), ["one"]);
        theirs.write_all(b"o\x1b[2J\xff\nthe end").unwrap();
        assert_eq!(grumbles.hear(0), ["two [2J\u{fffd}"]);
        drop(theirs);
        assert_eq!(grumbles.hear(0), ["the end"]);
        assert!(grumbles.source(0).is_none() && grumbles.hear(0).is_empty());
    }

    #[test]
    fn a_flood_is_heard_in_measure() {
        let (mut grumbles, mut theirs) = Grumbles::pipe(0).unwrap();
        theirs.write_all(&[b'x'; 60_000]).unwrap();
        let heard = |grumbles: &mut Grumbles, now| grumbles.hear(now).iter().map(String::len).sum::<usize>();
        assert!((BURST as usize - LINE..=BURST as usize).contains(&heard(&mut grumbles, 0)));
        assert!(grumbles.source(0).is_none() && grumbles.source(SECOND).is_some());
        assert!((1..=2 * PER_SECOND as usize).contains(&heard(&mut grumbles, SECOND)));
    }
}
