//! The rings that events come from: that of the network plane that is there, and before it those in which network planes, or
//! planes of hands, that are no more have left something.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ipc::event::Event as Wake;
use ipc::ring::RingConsumer;
use ipc::shm::{ShmError, Violation};
use ipc::{MAX_BEFORE, RingFds};

pub struct Inflow {
    events: RingConsumer,
    /// Oldest first: what is left in them comes before all in `events`.
    before: VecDeque<Before>,
}

/// A ring that another has taken the place of.
struct Before {
    ring: RingConsumer,
    /// The network plane lives, and may not have let go of it yet.
    open: bool,
}

impl Inflow {
    /// `before`: of dead planes, oldest first. They may have been in bad hands: those that make no sense are left out.
    ///
    /// # Errors
    /// Memory that cannot be mapped.
    pub fn new(events: RingFds<OwnedFd>, before: Vec<RingFds<OwnedFd>>) -> Result<Self, ShmError> {
        let before = before.into_iter().map(resumed).collect::<Result<Vec<_>, _>>()?;
        let before = before.into_iter().flatten().map(|ring| Before { ring, open: true }).collect();
        Ok(Self { events: attached(events)?, before })
    }

    /// Goes on with the ring of another network plane, once what the one before has left is taken.
    ///
    /// # Errors
    /// Memory that cannot be mapped.
    pub fn move_to(&mut self, events: RingFds<OwnedFd>) -> Result<(), ShmError> {
        let ring = std::mem::replace(&mut self.events, attached(events)?);
        self.before.iter_mut().for_each(|before| before.open = false);
        // Of so many network planes in a row a compositor has taken nothing. What is oldest goes, as in lumend: the end of
        // what a client did leaves nothing down that was pressed in it, and a gap in its middle would.
        while self.before.len() >= MAX_BEFORE {
            self.before.pop_front();
        }
        self.before.push_back(Before { ring, open: false });
        Ok(())
    }

    /// What to wait for.
    pub fn fds<'a>(&'a self, fds: &mut Vec<BorrowedFd<'a>>) {
        fds.push(self.events.data().as_fd());
        fds.extend(self.before.iter().map(|before| before.ring.data().as_fd()));
    }

    /// Takes back wake-ups; `rung`: also that of the network plane that is there.
    pub fn drain(&self, rung: bool) {
        if rung {
            self.events.data().drain();
        }
        for before in &self.before {
            before.ring.data().drain();
        }
    }

    /// The ring that the next event is in, if there is one.
    ///
    /// # Errors
    /// The network plane that is there breaks the ring's rules.
    pub fn ring(&mut self) -> Result<Option<&mut RingConsumer>, Violation> {
        // The newest is asked first: net has written its last into a ring when it has begun with the next.
        let mut begun = self.events.peek()?.is_some();
        for at in (0..self.before.len()).rev() {
            let Before { ring, open } = &mut self.before[at];
            // What is dead may have left anything.
            match ring.peek().map(|chunk| chunk.is_some()) {
                Ok(true) => begun = true,
                Ok(false) if *open && !begun => {}
                Ok(false) | Err(_) => drop(self.before.remove(at)),
            }
        }
        let ring = self.before.front_mut().map_or(&mut self.events, |before| &mut before.ring);
        Ok(begun.then_some(ring))
    }

    /// Takes nothing more from the oldest, if there is one besides that of the network plane that is there.
    pub fn give_up_oldest(&mut self) -> bool {
        self.before.pop_front().is_some()
    }
}

fn attached(ring: RingFds<OwnedFd>) -> Result<RingConsumer, ShmError> {
    let RingFds { memory, data, credit, geometry } = ring;
    RingConsumer::attach(memory.as_fd(), Wake::from_fd(data), Wake::from_fd(credit), geometry)
}

/// None if it makes no sense.
fn resumed(ring: RingFds<OwnedFd>) -> Result<Option<RingConsumer>, ShmError> {
    let RingFds { memory, data, credit, geometry } = ring;
    let ring = RingConsumer::resume(memory.as_fd(), Wake::from_fd(data), Wake::from_fd(credit), geometry);
    Ok(ring?.ok())
}

#[cfg(test)]
mod tests {
    use ipc::RingGeometry;
    use ipc::ring::{ChunkFlags, ChunkHeader, Ring, RingProducer};
    use ipc::shm::sealed_memfd;

    use super::*;

    /// A ring with one chunk in it, which says its number, and net's end of it.
    fn holding(number: u32) -> (RingProducer, RingFds<OwnedFd>) {
        let geometry = RingGeometry::INPUT;
        let memory = sealed_memfd("events", Ring::memory_size(&geometry)).unwrap();
        let (data, credit) = (Wake::new().unwrap(), Wake::new().unwrap());
        let clone = |event: &Wake| event.try_clone().unwrap();
        let mut net = RingProducer::attach(memory.as_fd(), clone(&data), clone(&credit), geometry).unwrap();
        let header = ChunkHeader { frame: number, flags: ChunkFlags::LAST, ..ChunkHeader::default() };
        net.reserve().unwrap().commit(header, &[1]).unwrap();
        (net, RingFds { memory, data: data.into_fd(), credit: credit.into_fd(), geometry })
    }

    /// Takes everything.
    fn taken(inflow: &mut Inflow) -> Vec<u32> {
        std::iter::from_fn(|| {
            let ring = inflow.ring().unwrap()?;
            let number = ring.peek().unwrap()?.header().frame;
            ring.release();
            Some(number)
        })
        .collect()
    }

    #[test]
    fn of_too_many_rings_the_oldest_are_given_up() {
        let last = MAX_BEFORE as u32 + 3;
        let (nets, mut rings): (Vec<_>, std::collections::VecDeque<_>) = (1..=last).map(holding).unzip();
        let mut inflow = Inflow::new(rings.pop_front().unwrap(), Vec::new()).unwrap();
        rings.into_iter().for_each(|ring| inflow.move_to(ring).unwrap());
        let newest: Vec<_> = (3..=last).collect();
        assert_eq!((taken(&mut inflow), newest.len()), (newest, MAX_BEFORE + 1));
        drop(nets);
    }
}
