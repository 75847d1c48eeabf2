//! The audio plane.

use ipc::plane::{Exit, PlaneError, Startup};

/// Runs the plane until its link closes.
pub fn run(startup: Startup) -> Result<Exit, PlaneError> {
    let _link = startup.seal()?;
    Ok(Exit::Stopped)
}
