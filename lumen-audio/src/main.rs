use std::process::ExitCode;

fn main() -> ExitCode {
    ipc::plane::run(ipc::PlaneKind::Audio, lumen_audio::audio::run)
}
