//! Seats on a real headless sway: windows that say what is typed into them, and virtual devices as the input plane makes
//! them.

mod devices;

use std::fs::File;
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ipc::event::now_ns;
use nix::sys::stat;
use serde_json::Value;

use self::devices::Devices;
use super::sway_tests::{ONE, PATIENCE, Sway, TWO, USER, mode, settle, wait};
use super::*;
use crate::config::DisplaySource;
use crate::swayipc;

/// `KEY_A`, `KEY_B`, `KEY_C` and `KEY_ENTER` of linux/input-event-codes.h.
const A: u32 = 30;
const B: u32 = 48;
const C: u32 = 46;
const ENTER: u32 = 28;

/// A terminal, and the pipe that its shell writes each line into that is typed.
struct Window {
    /// Sway's number for it.
    id: i64,
    typed: File,
    pipe: PathBuf,
}

impl Window {
    /// Opens it where the first seat's focus is, and waits until it is there.
    fn open(sway: &Sway, on: &str, name: &str) -> Self {
        let pipe = sway.directory.join(name);
        nix::unistd::mkfifo(&pipe, stat::Mode::S_IRWXU).unwrap();
        if nix::unistd::geteuid().is_root() {
            chown(&pipe, Some(USER), Some(USER)).unwrap();
        }
        let typed = File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(&pipe).unwrap();
        let mut events = Windows::watch(sway);
        run(sway, &format!("focus output {on}"));
        run(sway, &format!("exec foot sh -c 'while read -r line; do echo $line >> {}; done'", pipe.display()));
        Self { id: events.next_new(), typed, pipe }
    }

    /// Waits so long for anything to be typed.
    fn has_typed(&self, longest: Duration) -> bool {
        wait(self.typed.as_fd(), longest);
        matches!((&self.typed).read(&mut [0]), Ok(1))
    }

    /// The next line that was typed.
    fn line(&mut self) -> String {
        let mut line = Vec::new();
        let end = Instant::now() + PATIENCE;
        while line.last() != Some(&b'\n') {
            assert!(Instant::now() < end, "nothing is typed into {}, after {line:?}", self.pipe.display());
            wait(self.typed.as_fd(), PATIENCE);
            let mut byte = [0];
            match self.typed.read(&mut byte) {
                Ok(1) => line.push(byte[0]),
                // The writer has closed the pipe and will open it for the next line.
                _ => std::thread::yield_now(),
            }
        }
        String::from_utf8(line).unwrap().trim().to_owned()
    }
}

/// Sway's window events.
struct Windows(UnixStream);

impl Windows {
    fn watch(sway: &Sway) -> Self {
        let mut socket = UnixStream::connect(sway.control()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let payload = b"[\"window\"]";
        socket.write_all(b"i3-ipc").unwrap();
        socket.write_all(&(payload.len() as u32).to_ne_bytes()).unwrap();
        socket.write_all(&2u32.to_ne_bytes()).unwrap();
        socket.write_all(payload).unwrap();
        let mut windows = Self(socket);
        assert_eq!(windows.next(), serde_json::json!({ "success": true }));
        windows
    }

    fn next(&mut self) -> Value {
        let mut header = [0; 14];
        self.0.read_exact(&mut header).unwrap();
        let mut payload = vec![0; u32::from_ne_bytes(header[6..10].try_into().unwrap()) as usize];
        self.0.read_exact(&mut payload).unwrap();
        serde_json::from_slice(&payload).unwrap()
    }

    /// The next window that opens, once it is there with whatever focus it gets.
    fn next_new(&mut self) -> i64 {
        loop {
            let event = self.next();
            if event["change"] == "new" {
                return event["container"]["id"].as_i64().unwrap();
            }
        }
    }
}

fn run(sway: &Sway, command: &str) {
    assert_eq!(sway.ask(&Request::Run(command.to_owned())), Reply::Ran(Ok(())), "{command}");
}

fn seat(sway: &Sway, name: &str) -> swayipc::Seat {
    let Reply::Seats(seats) = sway.ask(&Request::ListSeats) else { panic!("another answer") };
    seats.into_iter().find(|seat| seat.name == name).unwrap_or_else(|| panic!("no seat {name}"))
}

fn connect(sway: &Sway, own: bool) -> Outputs {
    Outputs::connect(now_ns(), &sway.control(), &Terms { display: Display::default(), seats: 2, own }).unwrap()
}

fn acquire(outputs: &mut Outputs, session: SessionId) -> (String, Seat) {
    outputs.acquire(now_ns(), session, mode("1280x720@60"));
    match &settle(outputs)[..] {
        [OutputEvent::Ready { session: ready, name, seat: Some(seat), .. }] if *ready == session => {
            (name.clone(), seat.clone())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn two_sessions_type_and_point_and_nothing_crosses() {
    let sway = Sway::start("seats");
    let mut outputs = connect(&sway, false);
    let (first_output, first_seat) = acquire(&mut outputs, ONE);
    let mut first = Devices::new(&sway, &first_output, &first_seat);
    // The second session's seat is there already: making it now would take the first one's devices.
    let (second_output, second_seat) = acquire(&mut outputs, TWO);
    let mut second = Devices::new(&sway, &second_output, &second_seat);
    assert_eq!((first_seat.name.as_str(), second_seat.name.as_str()), ("lumen-1", "lumen-2"));
    for name in ["lumen-1", "lumen-2"] {
        assert_eq!(seat(&sway, name).devices.len(), 3, "pointer, keyboard and the keyboard of the focus key");
    }

    let mut of_first = Window::open(&sway, &first_output, "first");
    let mut of_second = Window::open(&sway, &second_output, "second");
    let of_host = Window::open(&sway, "HEADLESS-1", "host");
    // What sway does, and why there is a focus key.
    for name in ["seat0", "lumen-1", "lumen-2"] {
        assert_eq!(seat(&sway, name).focus, of_host.id, "a new window takes the focus of {name}");
    }
    first.focus();
    assert_eq!(seat(&sway, "lumen-1").focus, of_first.id);
    assert_eq!(seat(&sway, "lumen-2").focus, of_host.id, "of that seat alone");

    // In turns, key by key, as two people at once.
    for (one, two) in [(A, B), (B, B), (ENTER, ENTER)] {
        first.focus();
        first.key(one);
        second.focus();
        second.key(two);
    }
    assert_eq!((of_first.line(), of_second.line()), ("ab".to_owned(), "bb".to_owned()));
    assert_eq!(seat(&sway, "seat0").focus, of_host.id, "the person at the host notices nothing");

    // Pointing moves the focus of its own seat, within its own output.
    run(&sway, "focus output HEADLESS-1");
    let before = seat(&sway, "lumen-2").focus;
    first.point(0.25, 0.25);
    first.point(0.5, 0.5);
    assert_eq!(seat(&sway, "lumen-1").focus, of_first.id);
    assert_eq!(seat(&sway, "lumen-2").focus, before);

    // A session that comes later moves nobody's devices either.
    outputs.release(now_ns(), TWO);
    assert_eq!(settle(&mut outputs), []);
    drop(second);
    let (_, again) = acquire(&mut outputs, TWO);
    assert_eq!(again, second_seat);
    assert_eq!(seat(&sway, "lumen-1").devices.len(), 3);
    first.focus();
    first.key(C);
    first.key(ENTER);
    assert_eq!(of_first.line(), "c");
}

#[test]
fn on_a_desktop_of_our_own_the_session_has_the_window_that_is_there() {
    let sway = Sway::start("own-seat");
    // As its start script does.
    run(&sway, &format!("{}; {}", seat_command(1), seat_command(2)));
    let window = Window::open(&sway, "HEADLESS-1", "window");
    let mut outputs = connect(&sway, true);
    let (output, its_seat) = acquire(&mut outputs, ONE);
    assert_eq!(output, "HEADLESS-1");
    let mut devices = Devices::new(&sway, &output, &its_seat);
    devices.focus();
    assert_eq!(seat(&sway, &its_seat.name).focus, window.id);
    type_until_heard(&mut devices, &window);
}

/// A window hears nothing until it has asked its seat for the keyboard that is there now, which nobody is told.
fn type_until_heard(devices: &mut Devices, window: &Window) {
    let end = Instant::now() + PATIENCE;
    while !window.has_typed(Duration::from_millis(50)) {
        assert!(Instant::now() < end, "nothing is typed");
        devices.focus();
        devices.key(A);
        devices.key(ENTER);
    }
}

#[test]
fn on_an_existing_output_a_click_brings_the_keyboard() {
    let sway = Sway::start("existing-seat");
    let window = Window::open(&sway, "HEADLESS-1", "window");
    let display = Display { source: DisplaySource::Output("HEADLESS-1".to_owned()), ..Display::default() };
    let mut outputs = Outputs::connect(now_ns(), &sway.control(), &Terms { display, seats: 2, own: false }).unwrap();
    let (output, its_seat) = acquire(&mut outputs, ONE);
    assert_eq!(seat(&sway, "seat0").focus, window.id, "the person at the machine has kept it");
    let end = Instant::now() + PATIENCE;
    let mut heard = false;
    while !heard {
        assert!(Instant::now() < end, "nothing is typed");
        // A click that comes before the window has asked for the seat's keyboard is spent, so each try begins anew.
        let mut devices = Devices::new(&sway, &output, &its_seat);
        devices.point(0.5, 0.5);
        devices.click();
        assert_eq!(seat(&sway, &its_seat.name).focus, window.id);
        devices.key(A);
        devices.key(ENTER);
        heard = window.has_typed(Duration::from_millis(200));
    }
}

#[test]
fn a_configuration_that_is_read_again_is_noticed() {
    let sway = Sway::start("reload");
    let mut outputs = connect(&sway, false);
    let (output, seat_of_one) = acquire(&mut outputs, ONE);
    let old = Devices::new(&sway, &output, &seat_of_one);
    // Sway reloads after it has answered.
    run(&sway, "reload");
    let end = Instant::now() + PATIENCE;
    let mut events = Vec::new();
    while events.is_empty() {
        assert!(Instant::now() < end);
        wait(outputs.as_fd(), PATIENCE);
        events = settle(&mut outputs);
    }
    assert_eq!(events, [OutputEvent::Disturbed { session: ONE }]);
    assert_eq!(seat(&sway, "lumen-1").devices, [], "this is another seat of that name");

    drop(old);
    let mut anew = Devices::new(&sway, &output, &seat_of_one);
    let mut window = Window::open(&sway, &output, "one");
    let host = Window::open(&sway, "HEADLESS-1", "host");
    assert_eq!(seat(&sway, "lumen-1").focus, host.id);
    anew.focus();
    anew.key(A);
    anew.key(ENTER);
    assert_eq!(window.line(), "a");
}

#[test]
fn nobody_elses_virtual_devices_are_moved() {
    let sway = Sway::start("others");
    let theirs = Devices::new(&sway, "HEADLESS-1", &Seat { name: "seat0".to_owned(), focus_key: 0x300 });
    let mut outputs = connect(&sway, false);
    acquire(&mut outputs, ONE);
    assert_eq!(seat(&sway, "seat0").devices.len(), 3);
    drop(theirs);
}
