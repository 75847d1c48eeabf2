//! Lumen's capture plane. Started by lumend.

use std::process::ExitCode;

fn main() -> ExitCode {
    ipc::plane::run(ipc::PlaneKind::Capture, lumen_capture::capture::run)
}
