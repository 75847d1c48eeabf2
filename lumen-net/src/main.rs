//! The network plane: started by lumend, with its link as descriptor 3.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    ipc::plane::run(ipc::PlaneKind::Net, lumen_net::plane::run)
}
