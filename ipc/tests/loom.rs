//! Every interleaving, and every order the memory model allows, of the mailbox and ring protocols.
//!
//! Run with `RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test -p ipc --release --test loom`. Buffers and
//! ring bytes are loom cells, so an access that the protocol does not order is an error; a wait that nobody ends is a
//! deadlock, which loom reports as well.
#![cfg(loom)]

use ipc::mailbox::FrameMeta;
use ipc::{mailbox, ring};
use loom::cell::UnsafeCell;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

/// What an eventfd does.
#[derive(Default)]
struct Event {
    signalled: Mutex<bool>,
    changed: Condvar,
}

impl Event {
    fn signal(&self) {
        *self.signalled.lock().unwrap() = true;
        self.changed.notify_one();
    }

    /// Waits and drains.
    fn wait(&self) {
        let mut signalled = self.signalled.lock().unwrap();
        while !*signalled {
            signalled = self.changed.wait(signalled).unwrap();
        }
        *signalled = false;
    }
}

fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

#[derive(Default)]
struct Desk {
    shared: mailbox::core::Shared,
    wake: Event,
    buffers: [UnsafeCell<u64>; 3],
}

#[test]
fn mailbox_hands_over_whole_frames_and_always_the_last() {
    const FRAMES: u64 = 4;
    check(5, || {
        let desk = Arc::new(Desk::default());
        let writer = thread::spawn({
            let desk = desk.clone();
            move || {
                let mut state = mailbox::core::Writer::new(3);
                for sequence in 1..=FRAMES {
                    let index = state.acquire(&desk.shared).unwrap().expect("three buffers never run out");
                    desk.buffers[index as usize].with_mut(|pixels| unsafe { *pixels = sequence });
                    let meta = FrameMeta { sequence, captured_ns: 10 * sequence };
                    if state.publish(&desk.shared, index, meta).unwrap() {
                        desk.wake.signal();
                    }
                }
                assert_eq!(state.published(), FRAMES);
                state.skipped()
            }
        });
        let mut state = mailbox::core::Reader::new(3);
        let mut taken = 0;
        let mut newest = 0;
        while newest < FRAMES {
            let Some((index, meta)) = state.take(&desk.shared).unwrap() else {
                desk.wake.wait();
                continue;
            };
            assert!(meta.sequence > newest && meta.captured_ns == 10 * meta.sequence);
            desk.buffers[index as usize].with(|pixels| assert_eq!(unsafe { *pixels }, meta.sequence));
            state.release(&desk.shared, index);
            newest = meta.sequence;
            taken += 1;
        }
        assert_eq!(writer.join().unwrap() + taken, FRAMES);
    });
}

/// Bytes of one cell of the ring below: its chunks are one cell each.
const CELL: u64 = 16;

#[derive(Default)]
struct Pipe {
    shared: ring::core::Shared,
    data: Event,
    credit: Event,
    cells: [UnsafeCell<u64>; 2],
}

fn cell(position: u64) -> usize {
    (position / CELL % 2) as usize
}

/// The producer asks for credit of `frame` cells at a time, as for whole frames, and commits them one by one.
fn ring_model(frames: u64, frame: u64) {
    let pipe = Arc::new(Pipe::default());
    let producer = thread::spawn({
        let pipe = pipe.clone();
        move || {
            let mut state = ring::core::Producer::new(2 * CELL);
            for _ in 0..frames {
                while !state.credit(&pipe.shared, frame * CELL).unwrap() {
                    pipe.credit.wait();
                }
                for _ in 0..frame {
                    let position = state.tail();
                    pipe.cells[cell(position)].with_mut(|bytes| unsafe { *bytes = position });
                    if state.commit(&pipe.shared, CELL).unwrap() {
                        pipe.data.signal();
                    }
                }
            }
        }
    });
    let mut state = ring::core::Consumer::new(2 * CELL);
    while state.head() < frames * frame * CELL {
        if state.available(&pipe.shared).unwrap() == 0 {
            pipe.data.wait();
            continue;
        }
        let position = state.head();
        pipe.cells[cell(position)].with(|bytes| assert_eq!(unsafe { *bytes }, position));
        if state.release(&pipe.shared, CELL) {
            pipe.credit.signal();
        }
    }
    assert_eq!(state.available(&pipe.shared), Ok(0));
    producer.join().unwrap();
}

#[test]
fn ring_of_single_chunks_loses_neither_bytes_nor_wakes() {
    check(4, || ring_model(4, 1));
}

#[test]
fn ring_of_whole_frames_loses_neither_bytes_nor_wakes() {
    check(3, || ring_model(3, 2));
}
