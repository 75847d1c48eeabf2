//! Finding a sway that started after lumend, and so is in nobody's environment: by its sockets in the runtime directory
//! of its user, where the process at the end of the one and of the other is the same.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;

use super::dial;

/// Sockets of each kind that are tried: there are as many as compositors run, and have crashed.
const MOST: usize = 32;

/// Control and Wayland socket of a sway that answers in `directory`. Of several, the one whose Wayland socket has the
/// first name.
pub fn sway_in(directory: &Path) -> Option<(PathBuf, PathBuf)> {
    let controls = sockets(directory, |name| name.starts_with("sway-ipc.") && name.ends_with(".sock"));
    let controls: Vec<_> = controls.into_iter().filter_map(|path| Some((listener(&path).ok()?, path))).collect();
    if controls.is_empty() {
        return None;
    }
    sockets(directory, |name| name.starts_with("wayland-") && !name.ends_with(".lock")).into_iter().find_map(
        |wayland| {
            let process = listener(&wayland).ok()?;
            let (_, control) = controls.iter().find(|(owner, _)| *owner == process)?;
            Some((control.clone(), wayland))
        },
    )
}

fn sockets(directory: &Path, is_one: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_str().is_some_and(&is_one));
    let mut paths: Vec<_> = named.map(|entry| entry.path()).take(MOST).collect();
    paths.sort();
    paths
}

/// The process that listens on a socket.
fn listener(path: &Path) -> io::Result<i32> {
    let connection: OwnedFd = dial(path)?;
    Ok(getsockopt(&connection, PeerCredentials)?.pid())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn sockets_of_one_process_are_a_pair_and_dead_ones_are_none() {
        let directory = std::env::temp_dir().join(format!("lumen-search-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let listen = |name: &str| UnixListener::bind(directory.join(name)).unwrap();
        assert_eq!(sway_in(&directory), None);
        let wayland = listen("wayland-1");
        assert_eq!(sway_in(&directory), None, "another compositor");
        drop(listen("sway-ipc.0.1.sock"));
        fs::write(directory.join("wayland-1.lock"), "").unwrap();
        assert_eq!(sway_in(&directory), None, "a sway that has crashed");
        let control = listen("sway-ipc.0.2.sock");
        let found = (directory.join("sway-ipc.0.2.sock"), directory.join("wayland-1"));
        assert_eq!(sway_in(&directory), Some(found));
        drop(wayland);
        assert_eq!(sway_in(&directory), None);
        drop(control);
        assert_eq!(sway_in(&directory.join("nothing")), None);
        fs::remove_dir_all(directory).unwrap();
    }
}
