//! [`Outputs`] against a real headless sway, of whatever version this machine has.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ipc::event::now_ns;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat;

use super::*;
use crate::config::DisplaySource;
use crate::swayipc::{Output, Reply, Request};

/// Sway refuses to run as root; any other number will do.
pub(super) const USER: u32 = 64555;

/// A bound on hanging, not on speed.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Sway {
    child: Child,
    pub(super) directory: PathBuf,
}

impl Sway {
    pub(super) fn start(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("lumen-outputs-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::DirBuilder::new().mode(0o700).create(&directory).unwrap();
        let config = "xwayland disable\nexec sh -c 'echo ready > \"$XDG_RUNTIME_DIR/ready\"'\n";
        fs::write(directory.join("config"), config).unwrap();
        let pipe = directory.join("ready");
        nix::unistd::mkfifo(&pipe, stat::Mode::S_IRWXU).unwrap();
        let mut command = Command::new("sway");
        if nix::unistd::geteuid().is_root() {
            for path in [&directory, &directory.join("config"), &pipe] {
                chown(path, Some(USER), Some(USER)).unwrap();
            }
            command.uid(USER).gid(USER);
        }
        let mut ready = File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(pipe).unwrap();
        command.arg("-c").arg(directory.join("config")).stdin(Stdio::null()).stderr(Stdio::null());
        command.env_remove("WAYLAND_DISPLAY").env_remove("DISPLAY").env("HOME", &directory);
        command.env("XDG_RUNTIME_DIR", &directory).env("SWAYSOCK", directory.join("sway.sock"));
        command.env("WLR_BACKENDS", "headless").env("WLR_RENDERER", "pixman");
        command.env("WLR_LIBINPUT_NO_DEVICES", "1").env("WLR_HEADLESS_OUTPUTS", "1");
        let sway = Self { child: command.spawn().expect("sway is installed (cargo xtask deps)"), directory };
        wait(ready.as_fd(), PATIENCE);
        assert!(ready.read(&mut [0; 16]).unwrap() > 0, "sway came up");
        sway
    }

    pub(super) fn control(&self) -> PathBuf {
        self.directory.join("sway.sock")
    }

    /// What sway itself says, over a connection of its own.
    pub(super) fn ask(&self, request: &Request) -> Reply {
        let mut socket = UnixStream::connect(self.control()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        socket.write_all(&bytes).unwrap();
        let (mut decoder, mut buffer) = (Decoder::default(), [0; 4096]);
        loop {
            if let Some(reply) = decoder.next().unwrap() {
                return reply;
            }
            let length = socket.read(&mut buffer).unwrap();
            decoder.push(&buffer[..length]);
        }
    }

    fn outputs(&self) -> Vec<Output> {
        let Reply::Outputs(outputs) = self.ask(&Request::ListOutputs) else { panic!("another answer") };
        outputs
    }

    fn refresh_of(&self, name: &str) -> Option<i64> {
        let outputs = self.outputs();
        let output = outputs.iter().find(|output| output.name == name && output.active)?;
        output.current_mode.map(|mode| mode.refresh)
    }
}

impl Drop for Sway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

pub(super) fn wait(fd: BorrowedFd<'_>, longest: Duration) {
    let timeout = PollTimeout::try_from(longest).unwrap();
    poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout).unwrap();
}

/// Runs until nothing is under way. The machine's own deadlines are honoured, so that a hang is an error here.
pub(super) fn settle(outputs: &mut Outputs) -> Vec<OutputEvent> {
    let end = Instant::now() + PATIENCE;
    let mut events = outputs.dispatch(now_ns());
    while let Some(deadline) = outputs.deadline() {
        assert!(Instant::now() < end, "sway and Outputs wait for each other: {outputs:?}");
        wait(outputs.as_fd(), Duration::from_nanos(deadline.saturating_sub(now_ns())));
        events.extend(outputs.dispatch(now_ns()));
    }
    events
}

pub(super) fn mode(text: &str) -> Mode {
    text.parse::<lumen_core::RawMode>().unwrap().try_into().unwrap()
}

fn connect(sway: &Sway, source: DisplaySource, own: bool) -> io::Result<Outputs> {
    let display = Display { source, ..Display::default() };
    Outputs::connect(now_ns(), &sway.control(), &Terms { display, seats: 0, own })
}

pub(super) const ONE: SessionId = SessionId(1);
pub(super) const TWO: SessionId = SessionId(2);

fn name_of(events: &[OutputEvent], wanted: SessionId, in_mode: Mode) -> String {
    match events {
        [OutputEvent::Ready { session, name, mode, .. }] if *session == wanted && *mode == in_mode => name.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn outputs_come_in_the_mode_asked_for_and_go() {
    let sway = Sway::start("come-and-go");
    let mut outputs = connect(&sway, DisplaySource::Virtual, false).unwrap();
    outputs.acquire(now_ns(), ONE, mode("1280x720@59.94"));
    let first = name_of(&settle(&mut outputs), ONE, mode("1280x720@59.94"));
    assert!((sway.refresh_of(&first).unwrap() - 59_940).abs() <= 10);
    assert_eq!(sway.outputs().len(), 2, "beside the one that was there");

    outputs.acquire(now_ns(), TWO, mode("1920x1080@120"));
    let second = name_of(&settle(&mut outputs), TWO, mode("1920x1080@120"));
    assert_ne!(first, second);
    outputs.acquire(now_ns(), ONE, mode("640x480@30"));
    assert_eq!(name_of(&settle(&mut outputs), ONE, mode("640x480@30")), first, "another mode, the same output");

    outputs.release(now_ns(), ONE);
    assert_eq!(settle(&mut outputs), []);
    assert!(sway.refresh_of(&first).is_none_or(|rate| rate == 10_000), "off, gone, or parked");
    assert_eq!(sway.refresh_of(&second), Some(120_000), "another session notices nothing");

    outputs.acquire(now_ns(), ONE, mode("1024x768@60"));
    let again = name_of(&settle(&mut outputs), ONE, mode("1024x768@60"));
    assert_eq!(sway.refresh_of(&again), Some(60_000));
    assert_eq!(sway.outputs().len(), 3, "what was left over is used again");
}

#[test]
fn an_output_refreshes_at_a_multiple_of_the_streams_rate() {
    let sway = Sway::start("multiple");
    let display = Display { refresh_multiple: 2, ..Display::default() };
    let terms = Terms { display, seats: 0, own: false };
    let mut outputs = Outputs::connect(now_ns(), &sway.control(), &terms).unwrap();
    outputs.acquire(now_ns(), ONE, mode("1280x720@60"));
    let name = name_of(&settle(&mut outputs), ONE, mode("1280x720@60"));
    assert_eq!(sway.refresh_of(&name), Some(120_000));
}

#[test]
fn our_own_desktop_lends_its_first_output() {
    let sway = Sway::start("own");
    let mut outputs = connect(&sway, DisplaySource::Virtual, true).unwrap();
    outputs.acquire(now_ns(), ONE, mode("1280x720@60"));
    assert_eq!(name_of(&settle(&mut outputs), ONE, mode("1280x720@60")), "HEADLESS-1");
    outputs.release(now_ns(), ONE);
    assert_eq!(settle(&mut outputs), []);
    assert_eq!(sway.refresh_of("HEADLESS-1"), Some(10_000));
    assert_eq!(sway.outputs().len(), 1);
}

#[test]
fn a_wish_withdrawn_in_the_middle_leaves_nothing_behind() {
    let sway = Sway::start("withdrawn");
    let mut outputs = connect(&sway, DisplaySource::Virtual, false).unwrap();
    outputs.acquire(now_ns(), ONE, mode("1280x720@60"));
    outputs.release(now_ns(), ONE);
    assert_eq!(settle(&mut outputs), []);
    let busy = sway.outputs().iter().filter(|output| output.name != "HEADLESS-1" && output.active).count();
    let parked = sway.refresh_of("HEADLESS-2") == Some(10_000);
    assert!(busy == 0 || parked, "{:?}", sway.outputs());
}

#[test]
fn an_existing_output_is_found_and_a_missing_one_is_a_reason() {
    let sway = Sway::start("existing");
    let source = |name: &str| DisplaySource::Output(name.to_owned());
    let mut outputs = connect(&sway, source("HEADLESS-1"), false).unwrap();
    outputs.acquire(now_ns(), ONE, mode("640x480@30"));
    let had = sway.outputs()[0].current_mode.unwrap();
    let refresh_mhz = if had.refresh == 0 { 60_000 } else { had.refresh as u32 };
    let had = Mode::new(had.width as u16, had.height as u16, refresh_mhz).unwrap();
    assert_eq!(name_of(&settle(&mut outputs), ONE, had), "HEADLESS-1");

    let mut outputs = connect(&sway, source("DP-9"), false).unwrap();
    outputs.acquire(now_ns(), ONE, mode("640x480@30"));
    let events = settle(&mut outputs);
    assert!(matches!(&events[..], [OutputEvent::Failed { reason, .. }] if reason.contains("DP-9")), "{events:?}");
}

#[test]
fn the_end_of_sway_is_told_once() {
    let mut sway = Sway::start("end");
    let mut outputs = connect(&sway, DisplaySource::Virtual, false).unwrap();
    outputs.acquire(now_ns(), ONE, mode("1280x720@60"));
    settle(&mut outputs);
    sway.child.kill().unwrap();
    sway.child.wait().unwrap();
    wait(outputs.as_fd(), PATIENCE);
    assert!(matches!(outputs.dispatch(now_ns())[..], [OutputEvent::Gone { .. }]));
    assert!(connect(&sway, DisplaySource::Virtual, false).is_err());
}
