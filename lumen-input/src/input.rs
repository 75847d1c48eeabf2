//! The plane: one loop over the link, the ring of events, the backends and one timer.

// How the kernel's devices plug in (`uinput.rs`, `state.rs`, `haptics.rs`):
//
//   let held = State::attach(wiring.state.as_fd())?;   // Result<State, ShmError>; the route's: held(), set_held(&Held)
//   let state = State::attach(wiring.state.as_fd())?;  // a second mapping, uinput's own: pads, effects
//   let uinput = Uinput::new(wiring.kept, state, hands); // hands: bool, keyboard, mouse and touch screen too, not only pads
//   route: held state's keys, buttons, contacts are lifted through `Inject::inject` before the first event
//   impl Inject for Uinput                              // fds: non-blocking, all read by dispatch
//   uinput.wants(&mut self) -> impl Iterator<Item = DeviceId>    // each once: FromInput::Want
//   uinput.dropped(&mut self) -> impl Iterator<Item = DeviceId>  // each once: FromInput::Dropped
//   uinput.device(DeviceId, Option<OwnedFd>)            // the answer to Want
//   uinput.rumbles(&mut self, now_ns) -> impl Iterator<Item = Rumble> // due now, changes and repeats
//   uinput.pads() -> u32                                // plugged in
//   State::held(&self) -> Held, State::set_held(&mut self, &Held)

use ipc::plane::{Exit, PlaneError, Startup};

/// Runs the plane until its link closes.
pub fn run(startup: Startup) -> Result<Exit, PlaneError> {
    let _link = startup.seal()?;
    Ok(Exit::Stopped)
}
