use std::net::IpAddr;
use std::os::fd::AsFd;

use ipc::ring::{ChunkFlags, ChunkHeader, Ring, RingProducer};
use ipc::shm::sealed_memfd;
use ipc::{Generation, RingFds, RingGeometry};
use lumen_core::input::{PadIndex, Rumble};
use lumen_core::{AudioLayout, Mode};

use super::*;
use crate::gamestream::guest::Launch;

const NOW: u64 = 1_000_000_000;

fn seat() -> Seat {
    let launch = Launch {
        session: SessionId(1),
        peer: IpAddr::from([192, 0, 2, 1]),
        mode: Mode::new(1280, 720, 60_000).unwrap(),
        audio: AudioLayout::Stereo,
        key: [1; 16],
        key_id: 7,
        sealed: true,
    };
    Seat::new(Guest::new(launch).unwrap(), 1, NOW)
}

/// A haptics ring with one state in it.
fn rumbling() -> Inflow {
    let geometry = RingGeometry::HAPTICS;
    let memory = sealed_memfd("test-ring", Ring::memory_size(&geometry)).unwrap();
    let (data, credit) = (Event::new().unwrap(), Event::new().unwrap());
    let clone = |event: &Event| event.try_clone().unwrap();
    let mut producer = RingProducer::attach(memory.as_fd(), clone(&data), clone(&credit), geometry).unwrap();
    let rumble = Rumble { pad: PadIndex::new(0).unwrap(), low: 1, high: 2 };
    let header = ChunkHeader { flags: ChunkFlags::LAST, ..ChunkHeader::default() };
    producer.reserve().unwrap().commit(header, &rumble.encode()).unwrap();
    let fds = RingFds { memory, data: data.into_fd(), credit: credit.into_fd(), geometry };
    Inflow::attach(Generation(1), fds).unwrap()
}

/// A state that stays due with nobody to tell it to would have the hub turn for nothing, as fast as it can.
#[tokio::test(flavor = "current_thread")]
async fn rumble_of_a_client_that_has_not_come_is_forgotten() {
    let mut seat = seat();
    seat.rumbles.haptics.wire(rumbling());
    seat.rumbles.haptics.take().unwrap();
    assert!(seat.due_ns() <= NOW);
    seat.rumble(NOW, |_| unreachable!("there is nobody to send it to"));
    assert!(seat.due_ns() > NOW);
}
