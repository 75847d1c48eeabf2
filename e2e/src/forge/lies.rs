//! What planes write into the memory that they share with a peer. Where things lie there is `ipc::mailbox::core`'s and
//! `ipc::ring::core`'s.

use anyhow::{Context, Result, ensure};
use ipc::ring::CONTROL_BYTES;

use crate::inject::Held;
use crate::memory::{Region, regions};

/// Writes into memory as the process that is held has it mapped.
pub type Lie = fn(&mut Held, &Shared) -> Result<()>;

/// Of a ring's or a mailbox's first page: what one side writes lies in lines of its own.
const LINE: u64 = 128;
/// A header's words: generation and frame, flags and length, four times.
const FIRST: u64 = 1;
const LAST: u64 = 2;
const UNKNOWN: u64 = 1 << 20;
const HEADER_BYTES: u64 = 48;

/// One memfd as one process has it mapped.
#[derive(Clone, Debug)]
pub struct Shared {
    pub inode: u64,
    /// The page of positions.
    control: u64,
    /// Where chunks lie, of a ring.
    data: Option<Region>,
}

impl Shared {
    /// All that a process has mapped of memfds with this name.
    pub fn named(pid: i32, name: &str) -> Result<Vec<Self>> {
        let name = format!("/memfd:{name} (deleted)");
        let regions: Vec<Region> = regions(pid)?.into_iter().filter(|region| region.name == name).collect();
        let controls = regions.iter().filter(|region| region.offset == 0);
        let with_data = |control: &Region| {
            let rest =
                regions.iter().find(|other| other.inode == control.inode && other.offset == CONTROL_BYTES as u64);
            Self { inode: control.inode, control: control.start, data: rest.cloned() }
        };
        Ok(controls.map(with_data).collect())
    }

    /// What two processes have in common.
    pub fn between(liar: i32, peer: i32, name: &str) -> Result<Self> {
        let theirs = Self::named(peer, name)?;
        let mut common =
            Self::named(liar, name)?.into_iter().filter(|own| theirs.iter().any(|other| other.inode == own.inode));
        common.next_back().with_context(|| format!("{liar} and {peer} share no {name}"))
    }
}

/// The mailbox's: `latest`, `returned`, then sequence and time of each buffer.
pub fn slot(held: &mut Held, at: &Shared) -> Result<()> {
    held.poke(at.control, 1 + 4)
}

pub fn older(held: &mut Held, at: &Shared) -> Result<()> {
    for buffer in 0..4 {
        held.poke(at.control + 2 * LINE + 16 * buffer, 0)?;
    }
    held.poke(at.control, 1)
}

pub fn returned(held: &mut Held, at: &Shared) -> Result<()> {
    held.poke(at.control + LINE, u64::MAX)
}

/// The ring's: `tail`, `wanted`, `head`.
pub struct Ring;

impl Ring {
    pub fn far(held: &mut Held, at: &Shared) -> Result<()> {
        held.poke(at.control, u64::MAX - 15)
    }

    pub fn back(held: &mut Held, at: &Shared) -> Result<()> {
        let tail = held.peek(at.control)?;
        ensure!(tail >= 16, "nothing has been written yet");
        held.poke(at.control, tail - 16)
    }

    pub fn read(held: &mut Held, at: &Shared) -> Result<()> {
        held.poke(at.control + 2 * LINE, u64::MAX - 15)
    }

    pub fn huge(held: &mut Held, at: &Shared) -> Result<()> {
        Self::chunk(held, at, FIRST | LAST, u32::MAX)
    }

    pub fn flags(held: &mut Held, at: &Shared) -> Result<()> {
        Self::chunk(held, at, FIRST | LAST | UNKNOWN, 0)
    }

    pub fn middle(held: &mut Held, at: &Shared) -> Result<()> {
        Self::chunk(held, at, LAST, 0)
    }

    /// Commits a chunk that consists of nothing but its header.
    fn chunk(held: &mut Held, at: &Shared, flags: u64, length: u32) -> Result<()> {
        let data = at.data.as_ref().context("no ring")?;
        let tail = held.peek(at.control)?;
        // The data area is mapped twice in a row, each half as long as the ring.
        let header = data.start + tail % data.len() as u64;
        for word in 0..HEADER_BYTES / 8 {
            held.poke(header + 8 * word, 0)?;
        }
        held.poke(header + 8, flags | u64::from(length) << 32)?;
        held.poke(at.control, tail + HEADER_BYTES)
    }
}
