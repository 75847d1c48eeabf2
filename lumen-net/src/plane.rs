//! The plane put together: queues, two threads, the seal, and then only what the link says.

use std::sync::Arc;
use std::thread;

use ipc::link::Link;
use ipc::plane::{Exit, PlaneError, Startup};
use lumen_core::fec;
use tokio::runtime::Builder;

use crate::control::Control;
use crate::counters::Counters;
use crate::media::Media;
use crate::native::Limits;
use crate::queue::queue;
use crate::tls;

/// Commands that may wait for the media thread. It takes them at once, so a full queue means that it hangs, and the
/// plane gives up.
const COMMANDS: usize = 64;

/// Reports that may wait for the control thread. When it is full a report is dropped and counted.
const REPORTS: usize = 256;

/// Turns of the control thread's tasks between two looks at its descriptors. While one client floods, its tasks always
/// want another turn, and a ring's wake-up of another client waits for this many, of up to 50 µs each; a look costs 1 µs.
const TURNS: u32 = 6;

/// Runs the plane until its link closes.
pub fn run(startup: Startup) -> Result<Exit, PlaneError> {
    serve(|| startup.seal(), Limits::default())
}

/// Makes threads and descriptors, calls `seal`, and runs on the link it returns until that closes.
pub fn serve(seal: impl FnOnce() -> Result<Link, PlaneError>, limits: Limits) -> Result<Exit, PlaneError> {
    let counters = Arc::new(Counters::default());
    let (to_media, commands) = queue(COMMANDS)?;
    let (reports, from_media) = queue(REPORTS)?;
    let media = Media::new(commands, reports, counters.clone())?;
    let media = thread::Builder::new().name("media".into()).spawn(move || media.run())?;
    let runtime = Builder::new_current_thread().enable_io().enable_time().event_interval(TURNS).build()?;
    tls::warm_up().map_err(PlaneError::failed)?;
    fec::warm_up();

    let link = seal()?;
    let outcome = runtime.block_on(async {
        let control = Control::new(link, to_media, from_media, limits, counters)?;
        control.run().await
    });
    // The control loop and its end of the queue are gone, which is the thread's order to stop.
    let _ = media.join();
    outcome
}
