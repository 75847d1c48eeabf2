mod launcher;
mod reach {
    use std::os::fd::{FromRawFd, OwnedFd};
    pub fn pidfd_open(pid: u32) -> std::io::Result<OwnedFd> {
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if fd < 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
    }
}
fn main() -> std::process::ExitCode {
    let a: Vec<_> = std::env::args().collect();
    launcher::run(std::path::Path::new(&a[1]), &a[2])
}
