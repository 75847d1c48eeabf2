//! The main of a plane, run as lumend runs it: this program starts itself again with a link on fd 3.
//!
//! Without libtest's harness, whose main thread is not the plane's.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::time::Duration;

use ipc::link::Link;
use ipc::plane::{self, Exit, LINK_FD, PlaneError, Startup};
use ipc::{BUILD, EXIT_REOPEN, FromEncode, PlaneKind, ToEncode};

const PART: &str = "LUMEN_PLANE_PART";

/// A bound on hanging, not on speed.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    if let Ok(part) = std::env::var(PART) {
        return plane::run(PlaneKind::Encode, |startup| play(startup, &part));
    }
    says_hello_from_behind_the_lockdown_and_stops_with_its_link();
    ends_in_a_status_and_one_line();
    is_not_started_by_hand();
    println!("test result: ok. 3 passed");
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
                    _ => return Err(PlaneError::peer("not a ping")),
                },
                None => return Err(PlaneError::failed("nobody speaks")),
            }
        },
        "reopen" => Ok(Exit::Reopen),
        "violation" => Err(PlaneError::peer("a buffer that does not exist")),
        other => Err(PlaneError::failed(other)),
    }
}

fn start(part: &str, link: Option<&Link>) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("own path"));
    command.env(PART, part).stdin(Stdio::null()).stderr(Stdio::piped());
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

fn run(part: &str) -> Output {
    let (_ours, theirs) = Link::pair().expect("a link");
    start(part, Some(&theirs)).wait_with_output().expect("the child ends")
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

fn ends_in_a_status_and_one_line() {
    assert_eq!(run("reopen").status.code(), Some(EXIT_REOPEN.into()));
    for (part, line) in [
        ("violation", "lumen-encode: peer violation: a buffer that does not exist\n"),
        ("it rains", "lumen-encode: it rains\n"),
    ] {
        let output = run(part);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(String::from_utf8_lossy(&output.stderr), line);
    }
}

fn is_not_started_by_hand() {
    let output = start("serve", None).wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("lumend run"), "{output:?}");
}
