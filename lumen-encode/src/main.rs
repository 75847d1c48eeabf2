use std::process::ExitCode;

fn main() -> ExitCode {
    ipc::plane::run(ipc::PlaneKind::Encode, lumen_encode::encode::run)
}
