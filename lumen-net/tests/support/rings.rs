//! Rings as lumend makes them, with the test at the other end.

use std::os::fd::{AsFd, OwnedFd};

use ipc::event::Event;
use ipc::ring::{Ring, RingConsumer, RingProducer};
use ipc::shm::sealed_memfd;
use ipc::{RingFds, RingGeometry};

/// A ring's descriptors twice: for who is tested and for the test.
pub fn ring(geometry: RingGeometry) -> (RingFds<OwnedFd>, RingFds<OwnedFd>) {
    let memory = sealed_memfd("test-ring", Ring::memory_size(&geometry)).unwrap();
    let (data, credit) = (Event::new().unwrap().into_fd(), Event::new().unwrap().into_fd());
    let twin = RingFds {
        memory: memory.try_clone().unwrap(),
        data: data.try_clone().unwrap(),
        credit: credit.try_clone().unwrap(),
        geometry,
    };
    (RingFds { memory, data, credit, geometry }, twin)
}

pub fn producer(RingFds { memory, data, credit, geometry }: RingFds<OwnedFd>) -> RingProducer {
    RingProducer::attach(memory.as_fd(), Event::from_fd(data), Event::from_fd(credit), geometry).unwrap()
}

pub fn consumer(RingFds { memory, data, credit, geometry }: RingFds<OwnedFd>) -> RingConsumer {
    RingConsumer::attach(memory.as_fd(), Event::from_fd(data), Event::from_fd(credit), geometry).unwrap()
}
