//! Once warm, the media thread allocates nothing: not for a frame, a parity code, a probe or a report.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use ipc::FromNet;
use lumen_core::hello::ClientMessage;
use lumen_core::packet::{Kind, Probe};
use lumen_net::media::MediaCommand;
use lumen_net::native::Limits;

#[path = "plane/client.rs"]
#[allow(dead_code, reason = "each test binary uses its part of the harness")]
mod client;
#[path = "plane/host.rs"]
#[allow(dead_code, reason = "each test binary uses its part of the harness")]
mod host;
#[path = "plane/moonlight.rs"]
mod moonlight;
#[path = "support/pinned.rs"]
mod pinned;
#[path = "support/rings.rs"]
mod rings;
#[path = "plane/rtp.rs"]
#[allow(dead_code, reason = "each test binary uses its part of the harness")]
mod rtp;
#[path = "plane/thread.rs"]
#[allow(dead_code, reason = "each test binary uses its part of the harness")]
mod thread;

use client::{Client, Identity, Media};
use host::Host;
use thread::MediaThread;

/// The system's allocator, counting what the thread of this name asks for.
struct Counting;

static MEDIA_ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// Asks the kernel, because the standard library may itself allocate to answer.
fn on_media_thread() -> bool {
    let mut name = [0_u8; 16];
    // SAFETY: PR_GET_NAME writes at most 16 bytes, which is the size of `name`.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    name.starts_with(b"media\0")
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if on_media_thread() {
            MEDIA_ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Both in one test: the counter knows threads by name only.
#[test]
fn the_media_thread_allocates_nothing_once_warm() {
    frames_of_a_native_client();
    frames_of_gamestream_clients();
}

fn frames_of_gamestream_clients() {
    let media = MediaThread::start();
    let mut guests = [None, Some([1; 16])].map(|key| media.start_guest(1 + u32::from(key.is_some()), key));
    let mut stream_for_a_while = |first: bool| {
        for round in 0..80 {
            for guest in &mut guests {
                for (bytes, permille) in [(60_000, 0), (300, 5), (9_000, 30), (30_000, 0)] {
                    let idr = first && round == 0 && bytes == 60_000;
                    let payload = guest.encoder.frame(bytes, idr);
                    assert!(guest.rtp.frame().data == payload);
                    media.tell(MediaCommand::Loss { session: guest.id, permille });
                }
                media.tell(MediaCommand::Keyframe { session: guest.id });
                guest.rtp.ping();
                guest.rtp.send(b"nobody's");
            }
        }
        for guest in &guests {
            media.expect_stats(guest.id, |_| true);
        }
    };
    stream_for_a_while(true);
    let warm = MEDIA_ALLOCATIONS.load(Ordering::Relaxed);
    stream_for_a_while(false);
    assert_eq!(MEDIA_ALLOCATIONS.load(Ordering::Relaxed) - warm, 0);
}

fn frames_of_a_native_client() {
    let mut host = Host::threads(Limits::default());
    let identity = Identity::new();
    host.permit(identity.fingerprint());
    let client = Client::connect(&host, Some(&identity)).unwrap();
    let (mut stream, welcome, mut encoder) = client.begin(&mut host, 1);
    let mut media = Media::new(&host, &welcome);
    client.say(&mut stream, &ClientMessage::Start);
    media.send_probe();
    media.expect(Kind::Pong);

    // Below 255 shards: the code for larger frames is a library's, and not asked to keep its memory.
    let sizes = [60_000, 300, 9_000, 30_000];
    let mut number = 0;
    let mut stream_for_a_while = |host: &mut Host| {
        for round in 0..80 {
            for bytes in sizes {
                let payload = encoder.frame(bytes, number == 0);
                // A loss would call for parity that was never made before: a socket buffer of this test that overflows
                // is not what is tested.
                let probe = media.reassembler.probe(0);
                let probe = media.probe(&Probe { received: probe.highest, ..probe });
                media.send(&probe);
                media.expect_frame(number, &payload);
                number += 1;
            }
            if round % 40 == 0 {
                host.expect(|message| matches!(message, FromNet::Stats { .. }).then_some(()));
            }
        }
    };
    stream_for_a_while(&mut host);
    let warm = MEDIA_ALLOCATIONS.load(Ordering::Relaxed);
    assert!(warm > 0, "the counter counts nothing");
    stream_for_a_while(&mut host);
    assert_eq!(MEDIA_ALLOCATIONS.load(Ordering::Relaxed) - warm, 0);
    host.stop();
}
