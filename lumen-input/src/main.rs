use std::process::ExitCode;

fn main() -> ExitCode {
    ipc::plane::run(ipc::PlaneKind::Input, lumen_input::input::run)
}
