//! The real binary with a log that nobody reads: it serves, and says later what was lost.

use std::fs;
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use nix::unistd::Pid;

/// A bound on hanging, not on speed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whom it becomes if the test is root's: a number of this test's own.
const USER: u32 = 64557;

/// lumend under a manager that never starts a plane.
struct Host {
    child: Child,
    directory: PathBuf,
    _planes: Vec<OwnedFd>,
}

impl Host {
    fn start(log: impl Into<Stdio>) -> Self {
        let directory = std::env::temp_dir().join(format!("lumend-log-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(directory.join("run/planes")).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        for own in ["run", "run/planes"].map(|name| directory.join(name)) {
            fs::set_permissions(&own, fs::Permissions::from_mode(0o700)).unwrap();
            if nix::unistd::geteuid().is_root() {
                chown(&own, Some(USER), Some(USER)).unwrap();
            }
        }
        let kinds = ["capture", "encode", "net", "input", "audio", "launcher"];
        let planes = kinds.map(|kind| listener(&directory.join(format!("run/planes/{kind}.sock")))).into();
        let config = directory.join("lumen.toml");
        let text = format!(
            "[listen]\naddress = \"127.0.0.1\"\nport = {}\n[run]\nuid = {USER}\n[gamestream]\nenabled = false\n\
             [discovery]\nenabled = false\n",
            free_port_pair()
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lumend"));
        command.args(["run", "--desktop", "pattern", "--config"]).arg(config);
        command.arg("--runtime").arg(directory.join("run")).arg("--state").arg(directory.join("state"));
        command.env_remove("JOURNAL_STREAM").env_remove("NOTIFY_SOCKET").env_remove("LUMEN_LOG");
        let child = command.stdin(Stdio::null()).stderr(log).spawn().unwrap();
        Self { child, directory, _planes: planes }
    }

    /// Whether `lumend status` is answered, once lumend listens.
    fn has_status(&self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let mut asked: Option<Child> = None;
        while Instant::now() < deadline {
            let child = asked.get_or_insert_with(|| {
                let mut ask = Command::new(env!("CARGO_BIN_EXE_lumend"));
                ask.arg("status").arg("--runtime").arg(self.directory.join("run"));
                ask.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
            });
            match child.try_wait().unwrap() {
                Some(status) if status.success() => return true,
                // It does not listen yet.
                Some(_) => asked = None,
                None => {}
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if let Some(mut child) = asked {
            let _ = child.kill();
            let _ = child.wait();
        }
        false
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A free UDP port whose successor is free too.
fn free_port_pair() -> u16 {
    let firsts = (0..100).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
    let mut firsts = firsts.filter(|&first| first < u16::MAX);
    firsts.find(|first| UdpSocket::bind(("127.0.0.1", first + 1)).is_ok()).expect("two free ports side by side")
}

fn listener(path: &Path) -> OwnedFd {
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(fd.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
    listen(&fd, Backlog::new(4).unwrap()).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
    fd
}

#[test]
fn a_log_that_nobody_reads_stops_nobody() {
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    let flags = OFlag::from_bits_retain(fcntl(writer.as_fd(), FcntlArg::F_GETFL).unwrap());
    fcntl(&writer, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).unwrap();
    let mut full = 0;
    while let Ok(length) = writer.write(&[b'x'; 4096]) {
        full += length;
    }
    // As lumend would find it.
    fcntl(&writer, FcntlArg::F_SETFL(flags)).unwrap();

    let mut host = Host::start(writer);
    assert!(host.has_status(), "no status while nobody reads the log");
    reader.read_exact(&mut vec![0; full]).unwrap();
    kill(Pid::from_raw(host.child.id().cast_signed()), Signal::SIGTERM).unwrap();
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || {
        let mut log = String::new();
        let _ = done.send(reader.read_to_string(&mut log).map(|_| log));
    });
    let log = is_done.recv_timeout(PATIENCE).expect("it lives").unwrap();
    assert!(host.child.wait().unwrap().success());
    let mut lines = log.lines();
    let lost = lines.next().unwrap_or_default();
    assert!(lost.contains(" of the log w") && lost.ends_with(" lost"), "{log}");
    assert!(lines.last().unwrap_or_default().ends_with(" INFO stopped"), "{log}");
}
