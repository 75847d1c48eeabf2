//! The memory of running processes, as the kernel shows it to root and to debuggers.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};

/// One mapping of a process.
#[derive(Clone, Debug)]
pub struct Region {
    pub start: u64,
    pub end: u64,
    pub readable: bool,
    pub executable: bool,
    /// Where in the file it begins.
    pub offset: u64,
    pub inode: u64,
    /// What is mapped: a path, `[heap]`, or nothing.
    pub name: String,
}

impl Region {
    pub const fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

/// All mappings of a process, from `/proc/PID/maps`.
pub fn regions(pid: i32) -> Result<Vec<Region>> {
    let text = fs::read_to_string(format!("/proc/{pid}/maps")).with_context(|| format!("maps of {pid}"))?;
    text.lines().map(|line| region(line).with_context(|| format!("not a mapping: {line}"))).collect()
}

/// `start-end rwxp offset device inode name`.
fn region(line: &str) -> Option<Region> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let rights = words.next()?.as_bytes();
    let offset = u64::from_str_radix(words.next()?, 16).ok()?;
    let inode = words.nth(1)?.parse().ok()?;
    let name = words.collect::<Vec<_>>().join(" ");
    Some(Region {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        readable: rights.first() == Some(&b'r'),
        executable: rights.get(2) == Some(&b'x'),
        offset,
        inode,
        name,
    })
}

/// Bytes that are looked for, and what they are a piece of.
#[derive(Clone, Debug)]
pub struct Needle {
    pub what: String,
    pub bytes: Vec<u8>,
}

/// All that is looked for, by its first two bytes: at few places of a memory more than these have to be compared.
pub struct Needles {
    all: Vec<Needle>,
    /// For each pair of bytes whether anything begins so.
    begins: Box<[bool; 1 << 16]>,
    longest: usize,
}

impl Needles {
    pub fn new(all: Vec<Needle>) -> Result<Self> {
        let mut begins = Box::new([false; 1 << 16]);
        for needle in &all {
            ensure!(needle.bytes.len() >= 2, "{} is too short", needle.what);
            begins[pair(&needle.bytes, 0)] = true;
        }
        let longest = all.iter().map(|needle| needle.bytes.len()).max().unwrap_or(1);
        Ok(Self { all, begins, longest })
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// What is found in these bytes.
    fn within(&self, bytes: &[u8], mut found: impl FnMut(&Needle)) {
        let places = (0..bytes.len().saturating_sub(1)).filter(|at| self.begins[pair(bytes, *at)]);
        for at in places {
            for needle in self.all.iter().filter(|needle| bytes[at..].starts_with(&needle.bytes)) {
                found(needle);
            }
        }
    }
}

fn pair(bytes: &[u8], at: usize) -> usize {
    usize::from(bytes[at]) << 8 | usize::from(bytes[at + 1])
}

/// How much is read at a time.
const CHUNK: usize = 1 << 20;
const PAGE: u64 = 4096;

/// Where in a process something was found, and how much was looked at.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// What, and where: at most once each.
    pub found: BTreeSet<(String, String)>,
    pub bytes: u64,
}

impl Search {
    /// Looks through every mapping that can be read, and every memfd that is open, mapped or not.
    pub fn of(pid: i32, needles: &Needles) -> Result<Self> {
        let mut search = Self::default();
        let memory = File::open(format!("/proc/{pid}/mem")).with_context(|| format!("memory of {pid}"))?;
        // The kernel's own pages, which are the same for all, and those of devices cannot be read.
        let regions = regions(pid)?.into_iter().filter(|region| region.readable && region.name != "[vvar]");
        for region in regions {
            search.range(&memory, region.start, region.end, &region.name, needles);
        }
        for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
            let path = entry?.path();
            let Ok(target) = fs::read_link(&path) else { continue };
            let target = target.to_string_lossy().into_owned();
            if target.starts_with("/memfd:") {
                let file = File::open(&path).with_context(|| target.clone())?;
                search.range(&file, 0, file.metadata()?.len(), &target, needles);
            }
        }
        Ok(search)
    }

    /// Reads `[start, end)`, each time with what a needle might have begun in the chunk before.
    fn range(&mut self, file: &File, start: u64, end: u64, place: &str, needles: &Needles) {
        let overlap = needles.longest as u64 - 1;
        let mut buffer = vec![0; CHUNK];
        let mut at = start;
        while at < end {
            // Where a page in the middle has nothing behind it, page by page.
            let from = at.saturating_sub(overlap).max(start);
            let whole = (from, (end - from).min(CHUNK as u64));
            let page = (at, (end - at).min(PAGE));
            let mut read = |(from, length): (u64, u64)| {
                file.read_exact_at(&mut buffer[..length as usize], from).ok().map(|()| (from, length))
            };
            let Some((from, length)) = read(whole).or_else(|| read(page)) else {
                at += PAGE;
                continue;
            };
            self.bytes += from + length - at;
            at = from + length;
            let chunk = &buffer[..length as usize];
            if chunk.iter().all(|byte| *byte == 0) {
                continue;
            }
            needles.within(chunk, |needle| {
                self.found.insert((needle.what.clone(), place.to_owned()));
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_read_as_the_kernel_writes_it() {
        let region = region("7f00-8f00 r-xp 00001000 fe:01 42    /usr/lib/a b.so").unwrap();
        assert_eq!((region.start, region.end, region.readable, region.executable), (0x7f00, 0x8f00, true, true));
        assert_eq!((region.offset, region.inode), (0x1000, 42));
        assert_eq!(region.name, "/usr/lib/a b.so");
    }

    #[test]
    fn what_lies_across_two_reads_is_found_and_what_is_cut_short_is_not() {
        let path = std::env::temp_dir().join(format!("lumen-search-{}", std::process::id()));
        let mut bytes = vec![7; 3 * CHUNK + 100];
        bytes[CHUNK - 5..CHUNK + 5].copy_from_slice(b"0123456789");
        bytes[3 * CHUNK + 95..].copy_from_slice(b"abcde");
        fs::write(&path, &bytes).unwrap();
        let needle = |what: &str, bytes: &[u8]| Needle { what: what.into(), bytes: bytes.to_vec() };
        let needles = [needle("across", b"0123456789"), needle("short", b"abcdef"), needle("last", b"bcde")];
        let needles = Needles::new(needles.to_vec()).unwrap();
        let mut search = Search::default();
        search.range(&File::open(&path).unwrap(), 0, bytes.len() as u64, "file", &needles);
        fs::remove_file(path).unwrap();
        let found: Vec<&str> = search.found.iter().map(|(what, _)| what.as_str()).collect();
        assert_eq!(found, ["across", "last"]);
        assert_eq!(search.bytes, bytes.len() as u64);
    }
}
