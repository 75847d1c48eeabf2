//! The real plane, sealed as in production, before a compositor that is nobody's friend: what it says is bytes.

mod support;

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ipc::plane::EXIT_REOPEN;
use ipc::{FromInput, Hands, ToInput};
use lumen_core::input::Button;
use lumen_input::state::HeldState;
use support::{Net, Plane, button, key, keymap, state};

/// Objects of every connection: the display, and the first that this plane makes.
const DISPLAY: u32 = 1;
const REGISTRY: u32 = 2;

/// A plane that has been handed the other end of this socket.
fn before_a_stranger(state: &OwnedFd) -> (Plane, Net, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let plane = Plane::start();
    let (output, seat) = ("HEADLESS-1".to_owned(), "seat0".to_owned());
    let (socket, keymap) = (theirs.into(), keymap());
    let hands = Hands::Wlroots { socket, inherited: false, output, seat, focus_key: None, keymap };
    let net = plane.wire(hands, state);
    (plane, net, ours)
}

/// A Wayland message: object, opcode, and arguments of whole words.
fn message(object: u32, opcode: u16, arguments: &[u8]) -> Vec<u8> {
    let size = 8 + arguments.len() as u32;
    let words = [object, size << 16 | u32::from(opcode)];
    [&words.map(u32::to_ne_bytes).concat(), arguments].concat()
}

/// A string argument.
fn string(text: &str) -> Vec<u8> {
    let length = text.len() as u32 + 1;
    let mut bytes = [&length.to_ne_bytes()[..], text.as_bytes(), &[0]].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// wl_registry.global
fn global((name, interface, version): (u32, &str, u32)) -> Vec<u8> {
    let arguments = [&name.to_ne_bytes()[..], &string(interface), &version.to_ne_bytes()].concat();
    message(REGISTRY, 0, &arguments)
}

/// wl_callback.done and wl_display.delete_id
fn done(callback: u32) -> Vec<u8> {
    [message(callback, 0, &0_u32.to_ne_bytes()), message(DISPLAY, 1, &callback.to_ne_bytes())].concat()
}

fn reason(plane: &Plane) -> String {
    match plane.answer() {
        FromInput::Failed { reason, .. } => reason,
        other => panic!("instead of Failed: {other:?}"),
    }
}

#[test]
fn a_compositor_that_says_nothing_is_given_up() {
    let (plane, _net, _socket) = before_a_stranger(&state());
    plane.ping();
    assert!(reason(&plane).contains("has no output named HEADLESS-1"));
    plane.ping();
    assert!(plane.stop().success());
}

#[test]
fn nonsense_is_a_reason_and_no_crash() {
    let lie = message(DISPLAY, 0, &[&9_u32.to_ne_bytes()[..], &7_u32.to_ne_bytes(), &string("no")].concat());
    for words in [
        vec![0xFF; 64],
        vec![0; 64],
        // Unknown objects and opcodes, sizes below a header, strings without an end.
        message(77, 0, &[]),
        message(REGISTRY, 9, &[]),
        [&DISPLAY.to_ne_bytes()[..], &[0; 4]].concat(),
        message(REGISTRY, 0, &[&1_u32.to_ne_bytes()[..], &u32::MAX.to_ne_bytes(), &[b'x'; 8]].concat()),
        message(DISPLAY, 1, &0xFFFF_FFFF_u32.to_ne_bytes()),
        // wl_display.error about an object that is not there.
        lie,
    ] {
        let (plane, _net, mut socket) = before_a_stranger(&state());
        socket.write_all(&words).unwrap();
        let mut ended = false;
        // What it does not understand it may also wait for more of, until it has waited long enough.
        match plane.link.wait_readable(support::PATIENCE) {
            Ok(true) => match plane.link.recv::<FromInput>() {
                Ok(Some(received)) => match received.message {
                    FromInput::Failed { reason, .. } => assert!(!reason.is_empty()),
                    FromInput::Stats { .. } => assert!(!reason(&plane).is_empty()),
                    other => panic!("{words:?}: {other:?}"),
                },
                _ => ended = true,
            },
            other => panic!("{words:?}: {other:?}"),
        }
        let status = if ended { plane.end() } else { plane.stop() };
        assert!(status.success() || status.code() == Some(i32::from(EXIT_REOPEN)), "{words:?}: {status:?}");
    }
}

/// A compositor that offers one seat and these outputs, by their names.
struct Stranger {
    socket: UnixStream,
    outputs: Vec<String>,
    requests: Vec<u8>,
}

/// Numbers of the globals; the outputs' begin with [`OUTPUTS`].
const MANAGERS: [(u32, &str, u32); 2] =
    [(1, "zwlr_virtual_pointer_manager_v1", 2), (2, "zwp_virtual_keyboard_manager_v1", 1)];
const SEAT: u32 = 3;
const OUTPUTS: u32 = 10;

impl Stranger {
    fn new(socket: UnixStream, outputs: Vec<String>) -> Self {
        socket.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        Self { socket, outputs, requests: Vec::new() }
    }

    /// Answers what is asked until the plane has something to say.
    fn serve(&mut self, plane: &Plane) -> FromInput {
        let deadline = Instant::now() + support::PATIENCE;
        while !plane.link.wait_readable(Duration::ZERO).unwrap() {
            assert!(Instant::now() < deadline, "the plane says nothing");
            let mut bytes = [0; 4096];
            if let Ok(length) = self.socket.read(&mut bytes) {
                self.requests.extend_from_slice(&bytes[..length]);
                while let Some(request) = self.request() {
                    self.answer(&request);
                }
            }
        }
        plane.next()
    }

    /// As [`Stranger::serve`], until it says something that is no number.
    fn serve_until_told(&mut self, plane: &Plane) -> FromInput {
        loop {
            match self.serve(plane) {
                FromInput::Stats { .. } => {}
                told => return told,
            }
        }
    }

    /// The next whole request.
    fn request(&mut self) -> Option<Vec<u8>> {
        let size = (word(self.requests.get(4..8)?) >> 16) as usize;
        (self.requests.len() >= size).then(|| self.requests.drain(..size).collect())
    }

    fn answer(&mut self, request: &[u8]) {
        let mut words = Vec::new();
        // wl_registry.bind carries the object's number last.
        let (first, last) = (request.get(8..12).map_or(0, word), word(&request[request.len() - 4..]));
        match (word(request), word(&request[4..]) & 0xFFFF) {
            (DISPLAY, 0) => words.extend(done(last)),
            (DISPLAY, _) => {
                let seat = (SEAT, "wl_seat", 2);
                MANAGERS.into_iter().chain([seat]).for_each(|global_of| words.extend(global(global_of)));
                let outputs = OUTPUTS..OUTPUTS + self.outputs.len() as u32;
                outputs.for_each(|name| words.extend(global((name, "wl_output", 4))));
            }
            // wl_seat.name and wl_output.name
            (REGISTRY, _) if first == SEAT => words.extend(message(last, 1, &string("seat0"))),
            (REGISTRY, _) if first >= OUTPUTS => {
                words.extend(message(last, 4, &string(&self.outputs[(first - OUTPUTS) as usize])));
            }
            _ => {}
        }
        self.socket.write_all(&words).unwrap();
    }

    /// wl_registry.global_remove
    fn remove(&mut self, global: u32) {
        self.socket.write_all(&message(REGISTRY, 1, &global.to_ne_bytes())).unwrap();
    }
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_ne_bytes(bytes[..4].try_into().unwrap())
}

/// The reason would be as long as the names that the compositor has for its outputs.
#[test]
fn a_reason_fits_the_link_whatever_a_compositor_calls_its_outputs() {
    let (plane, _net, socket) = before_a_stranger(&state());
    let mut stranger = Stranger::new(socket, vec!["ü".repeat(1000); 70]);
    match stranger.serve_until_told(&plane) {
        FromInput::Failed { reason, .. } => {
            assert!(reason.contains("HEADLESS-1") && reason.contains("üü") && reason.len() < 2000, "{reason}");
        }
        other => panic!("instead of Failed: {other:?}"),
    }
    plane.ping();
    assert!(plane.stop().success());
}

/// The other one of the two is there still, and so are those who look at the seat.
#[test]
fn an_output_or_a_seat_that_goes_away_leaves_nothing_pressed() {
    for (gone, name) in [(OUTPUTS, "output HEADLESS-1"), (SEAT, "seat seat0")] {
        let state = state();
        let (plane, mut net, socket) = before_a_stranger(&state);
        let mut stranger = Stranger::new(socket, vec!["HEADLESS-1".to_owned()]);
        assert!(matches!(stranger.serve_until_told(&plane), FromInput::Wired { .. }));
        net.send_all([button(Button::Left, true), key(30, true)]);
        while !matches!(stranger.serve(&plane), FromInput::Stats { stats, .. } if stats.events == 2) {}
        let held = || HeldState::attach(state.as_fd()).unwrap().lift().len();
        assert_eq!(held(), 2);
        stranger.remove(gone);
        match stranger.serve_until_told(&plane) {
            FromInput::Failed { reason, .. } => assert_eq!(reason, format!("{name} has been removed")),
            other => panic!("instead of Failed: {other:?}"),
        }
        assert_eq!(held(), 0);
        plane.ping();
        assert!(plane.stop().success());
    }
}

/// Names of globals come and go as fast as they can be read.
#[test]
fn a_compositor_that_never_stops_talking_harms_nobody_for_long() {
    let (plane, _net, mut socket) = before_a_stranger(&state());
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let burst: Vec<u8> = (0..200).flat_map(|name| global((name, "wl_shm", 1))).collect();
            socket.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
            while !over.load(Ordering::Relaxed) {
                match socket.write_all(&burst) {
                    Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => break,
                    _ => {}
                }
            }
        });
        // Its time is bounded: it offers nothing that is needed.
        plane.link.send(ToInput::<OwnedFd>::Ping(1)).unwrap();
        let answered = plane.link.wait_readable(support::PATIENCE);
        over.store(true, Ordering::Relaxed);
        assert!(answered.unwrap(), "the plane does not answer");
        // Not by its end.
        plane.next();
    });
    plane.kill();
}
