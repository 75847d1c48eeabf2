//! The main of a plane, run as lumend runs it: this program starts itself again with a link on fd 3.
//!
//! Without libtest's harness, whose main thread is not the plane's.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::time::Duration;

use ipc::link::Link;
use ipc::plane::{self, Exit, LINK_FD, PlaneError, Startup};
use ipc::{BUILD, EXIT_REOPEN, FromEncode, Leaving, PlaneKind, ToEncode};

const PART: &str = "LUMEN_PLANE_PART";

/// A bound on hanging, not on speed.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    if let Ok(part) = std::env::var(PART) {
        return plane::run(PlaneKind::Encode, |startup| play(startup, &part));
    }
    says_hello_from_behind_the_lockdown_and_stops_with_its_link();
    ends_in_a_status_one_line_and_a_last_word();
    is_not_started_by_hand();
    tells_its_manager_and_nobody_else();
    println!("test result: ok. 4 passed");
    ExitCode::SUCCESS
}

/// The planes that the checks below start.
fn play(startup: Startup, part: &str) -> Result<Exit, PlaneError> {
    // Alive before the seal, so that it has to reach other threads than its own.
    let (order, orders) = std::sync::mpsc::channel::<()>();
    let other = std::thread::spawn(move || {
        let _ = orders.recv();
        std::fs::File::open("/dev/null").is_err_and(|error| error.raw_os_error() == Some(libc::EPERM))
    });
    // Sealed, it may not look any more.
    let manager = manager();
    let link = startup.seal()?;
    drop(order);
    // Landlock alone would answer EACCES.
    if !other.join().unwrap_or(false) {
        return Err(PlaneError::failed("a thread could open a file"));
    }
    match part {
        "serve" => loop {
            link.wait_readable(PATIENCE)?;
            match link.recv::<ToEncode<_>>()? {
                Some(received) => match received.message {
                    ToEncode::Ping(token) => link.send(FromEncode::Pong(token))?,
                    _ => return Err(PlaneError::protocol("not a ping")),
                },
                None => return Err(PlaneError::failed("nobody speaks")),
            }
        },
        "managed" => {
            if std::env::vars_os().next().is_some() {
                return Err(PlaneError::failed("it has an environment"));
            }
            let manager = manager.ok_or(PlaneError::failed("no socket to the manager"))?;
            let denied = [sent(manager), copied(manager)].map(|answer| answer.raw_os_error() == Some(libc::EPERM));
            link.wait_readable(PATIENCE)?;
            match link.recv::<ToEncode<_>>()? {
                Some(received) if denied == [true; 2] => match received.message {
                    ToEncode::Ping(token) => link.send(FromEncode::Pong(token))?,
                    _ => return Err(PlaneError::protocol("not a ping")),
                },
                _ => return Err(PlaneError::failed(format!("denied: {denied:?}"))),
            }
            Ok(Exit::Stopped)
        }
        "reopen" => Ok(Exit::Reopen),
        "violation" => Err(PlaneError::by(PlaneKind::Capture)("a buffer that does not exist")),
        "protocol" => Err(PlaneError::protocol("wired twice")),
        other => Err(PlaneError::failed(other)),
    }
}

/// The only datagram socket among the first descriptors.
fn manager() -> Option<i32> {
    (0..32).find(|&fd| {
        let (mut kind, mut size) = (0i32, size_of::<i32>() as libc::socklen_t);
        // SAFETY: value and size outlive the call and are as large as they say.
        let done =
            unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_TYPE, (&raw mut kind).cast(), &raw mut size) };
        done == 0 && kind == libc::SOCK_DGRAM
    })
}

/// What a message to where the socket is connected is answered with, were it not written.
fn sent(fd: i32) -> io::Error {
    // SAFETY: all-zero bytes are a message without an address and of nothing.
    let sent = unsafe { libc::sendmsg(fd, &raw const *Box::new(std::mem::zeroed::<libc::msghdr>()), 0) };
    if sent < 0 { io::Error::last_os_error() } else { io::Error::other("sent") }
}

fn copied(fd: i32) -> io::Error {
    // SAFETY: F_DUPFD_CLOEXEC takes a number.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) };
    if copy < 0 { io::Error::last_os_error() } else { io::Error::other("copied") }
}

fn start(part: &str, link: Option<&Link>) -> Child {
    start_under(part, link, None)
}

fn start_under(part: &str, link: Option<&Link>, manager: Option<&std::path::Path>) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("own path"));
    command.env(PART, part).stdin(Stdio::null()).stderr(Stdio::piped());
    command.envs(manager.map(|path| ("NOTIFY_SOCKET", path)));
    let from = link.map(|link| link.as_fd().as_raw_fd());
    // SAFETY: dup2 and close are async-signal-safe, and the link outlives the spawn.
    unsafe {
        command.pre_exec(move || {
            let done = match from {
                Some(fd) => libc::dup2(fd, LINK_FD),
                // It need not be open, and if it is not, that is what is wanted.
                None => libc::close(LINK_FD).max(0),
            };
            if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        });
    }
    command.spawn().expect("the child starts")
}

/// The child's end, and what it said after its `Hello`.
fn run(part: &str) -> (Output, FromEncode) {
    let (ours, theirs) = Link::pair().expect("a link");
    let output = start(part, Some(&theirs)).wait_with_output().expect("the child ends");
    assert!(matches!(next(&ours).0, FromEncode::Hello(_)));
    (output, next(&ours).0)
}

fn next(link: &Link) -> (FromEncode, i32) {
    assert!(link.wait_readable(PATIENCE).expect("a link"), "the plane says nothing");
    let received = link.recv::<FromEncode>().expect("a message").expect("a message");
    (received.message, received.sender.pid)
}

fn says_hello_from_behind_the_lockdown_and_stops_with_its_link() {
    let (ours, theirs) = Link::pair().expect("a link");
    let child = start("serve", Some(&theirs));
    drop(theirs);
    let (message, sender) = next(&ours);
    let FromEncode::Hello(hello) = message else { panic!("{message:?}") };
    assert_eq!((hello.kind, hello.build.as_str()), (PlaneKind::Encode, BUILD));
    assert_eq!(sender, child.id().cast_signed());
    assert!(hello.landlock_abi >= 1, "this kernel has Landlock");
    let status = std::fs::read_to_string(format!("/proc/{sender}/status")).expect("it lives");
    for line in ["NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000"] {
        assert!(status.contains(line), "{line}: {status}");
    }
    ours.send(ToEncode::<OwnedFd>::Ping(7)).expect("sent");
    assert!(matches!(next(&ours).0, FromEncode::Pong(7)));
    drop(ours);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

fn ends_in_a_status_one_line_and_a_last_word() {
    let (output, last) = run("reopen");
    assert_eq!(output.status.code(), Some(EXIT_REOPEN.into()));
    assert!(matches!(last, FromEncode::Leaving(Leaving::Reopen)), "{last:?}");
    for (part, line) in
        [("protocol", "lumen-encode: protocol violation: wired twice\n"), ("it rains", "lumen-encode: it rains\n")]
    {
        let (output, last) = run(part);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(String::from_utf8_lossy(&output.stderr), line);
        let FromEncode::Leaving(Leaving::Failed(reason)) = last else { panic!("{last:?}") };
        assert_eq!(format!("lumen-encode: {reason}\n"), line);
    }
    let (output, last) = run("violation");
    let line = "lumen-encode: the capture plane broke the rules: a buffer that does not exist\n";
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(1), line));
    let reason = "a buffer that does not exist".to_owned();
    let accusation = Leaving::Accuses { peer: PlaneKind::Capture, reason };
    assert!(matches!(last, FromEncode::Leaving(word) if word == accusation));
}

fn tells_its_manager_and_nobody_else() {
    let path = std::env::temp_dir().join(format!("lumen-plane-{}", std::process::id()));
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let told = || {
        let mut text = [0; 100];
        let length = socket.recv(&mut text).expect("a datagram");
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    let (ours, theirs) = Link::pair().expect("a link");
    let child = start_under("managed", Some(&theirs), Some(&path));
    assert!(matches!(next(&ours).0, FromEncode::Hello(_)));
    assert_eq!(told(), "READY=1");
    ours.send(ToEncode::<OwnedFd>::Ping(7)).expect("sent");
    let answer = next(&ours).0;
    assert!(matches!(answer, FromEncode::Pong(7)), "{answer:?}");
    assert_eq!(told(), "WATCHDOG=1");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    std::fs::remove_file(path).expect("removed");
}

fn is_not_started_by_hand() {
    let output = start("serve", None).wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("lumend run"), "{output:?}");
}
