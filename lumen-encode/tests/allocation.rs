//! The frame path asks for no memory: once a generation runs, frames come and go without an allocation.

#[path = "support/rig.rs"]
mod rig;
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use ipc::link::Link;
use lumen_encode::encoder::BUILT_IN;
use rig::{Rig, settings};
use support::{grain, scene};

/// Counts what all threads ask for, the encoders' too, but for the test's own.
struct Counting;

thread_local!(static COUNTED: Cell<bool> = const { Cell::new(true) });
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTED.get() {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller's promise is the callee's condition.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the callee's condition.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn frames_are_encoded_without_allocations() {
    COUNTED.set(false);
    let mode = support::mode(320, 240);
    for &backend in BUILT_IN {
        let (link, theirs) = Link::pair().unwrap();
        let plane = std::thread::spawn(move || lumen_encode::encode::serve(theirs));
        let video = ipc::RingGeometry::video(mode, 8_000);
        let mut rig = Rig::wired(&link, mode, settings(backend, 8_000), video);
        let mut frames = |from: usize, count: usize| {
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            for number in from..from + count {
                rig.publish(|pixels| {
                    scene(mode, number, pixels);
                    grain(number as u64, 32, pixels);
                });
                rig.frame();
            }
            ALLOCATIONS.load(Ordering::Relaxed) - before
        };
        frames(0, 10);
        let counted = frames(10, 200);
        // The statistics, once a second, are a message like any other and may allocate.
        assert!(counted < 40, "{backend:?}: {counted} allocations in 200 frames");
        drop(link);
        plane.join().unwrap().unwrap();
    }
    assert!(ALLOCATIONS.load(Ordering::Relaxed) > 0, "the counter counts nothing");
}
