//! What capture and input hear of a compositor: Wayland's events over a real socket, well-formed and not.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use ipc::shm::{Mapping, sealed_memfd};
use ipc::{FrameFormat, Keymap, STATE_BYTES};
use lumen_capture::display::wlroots::Wlroots;
use lumen_capture::display::{Display, Event};
use lumen_core::{InputEvent, Mode};
use lumen_input::inject::Inject;
use lumen_input::keymap::text::TextMap;
use lumen_input::state::{DeskState, Objects};
use lumen_input::wlr::{Pages, Place, Wlr};

use crate::script::Script;

const MS: u64 = 1_000_000;
/// Of what the planes look for, and of what they do not.
const INTERFACES: [&str; 8] = [
    "zwlr_screencopy_manager_v1",
    "wl_shm",
    "wl_output",
    "wl_seat",
    "zwlr_virtual_pointer_manager_v1",
    "zwp_virtual_keyboard_manager_v1",
    "wl_compositor",
    "",
];
/// Objects that every client makes first.
const DISPLAY: u32 = 1;
const REGISTRY: u32 = 2;
/// The largest pool that is made here.
const POOL_BYTES: usize = 1 << 18;

/// The compositor's end of the connection.
///
/// It never leaves out a string that the protocol wants: the library takes that for impossible and panics, which ends the
/// plane as any other error would, and is nothing to be found here again and again.
struct Compositor(UnixStream);

impl Compositor {
    fn new() -> (Self, OwnedFd) {
        let (ours, theirs) = UnixStream::pair().expect("there are descriptors");
        ours.set_nonblocking(true).expect("it is a socket");
        (Self(ours), theirs.into())
    }

    /// Says one thing, as far as the socket takes it.
    fn say(&mut self, script: &mut Script<'_>) {
        let kind = script.u8();
        let object = u32::from(script.u8());
        let mut body = match kind % 8 {
            0 => {
                // Less than any message with a string; what comes after it would be out of step.
                let piece = script.piece();
                self.write(&piece[..piece.len().min(11)]);
                return self.end();
            }
            1 => {
                // A global: its name, its interface, its version.
                let interface = INTERFACES[usize::from(kind >> 3) % INTERFACES.len()];
                let body = [&object.to_ne_bytes(), &string(interface)[..], &u32::from(script.u8()).to_ne_bytes()];
                return self.event(REGISTRY, 0, &body.concat());
            }
            2 => string(["A", "B", "", "\u{1b}[2J"][usize::from(kind >> 3) % 4]),
            // An object's number is free again.
            3 if kind >> 3 < 16 => return self.event(DISPLAY, 1, &object.to_ne_bytes()),
            3 => return self.event(DISPLAY, 0, &[&object.to_ne_bytes()[..], &[1; 4], &string("no")].concat()),
            4 if object > REGISTRY => {
                // A buffer's shape, and that there is no other.
                let (width, height) = (u32::from(script.u8()), u32::from(script.u8()));
                let stride = width * 4 + u32::from(kind >> 3) / 8 * 16;
                let format = u32::from(kind >> 3) % 4;
                self.event(object, 0, &[format, width, height, stride].map(u32::to_ne_bytes).concat());
                return self.event(object, 6, &[]);
            }
            // Words: a callback's number, a picture's time, an output's mode.
            5 => (0..kind >> 3).flat_map(|_| script.u32().to_ne_bytes()).collect(),
            6 => (0..kind >> 3).flat_map(|_| u32::from(script.u8()).to_ne_bytes()).collect(),
            _ => script.piece().to_vec(),
        };
        body.resize(body.len().next_multiple_of(4), 0);
        let opcode = u16::from(script.u8() % 8);
        if object != DISPLAY && (kind % 8 == 2 || has_words(object, opcode, &body)) {
            self.event(object, opcode, &body);
        }
    }

    fn end(&mut self) {
        // What is left can still be read.
        let _ = self.0.shutdown(Shutdown::Write);
    }

    fn event(&mut self, object: u32, opcode: u16, body: &[u8]) {
        let length = (8 + body.len().next_multiple_of(4)) as u32;
        let mut bytes = [object.to_ne_bytes(), (length << 16 | u32::from(opcode)).to_ne_bytes()].concat();
        bytes.extend_from_slice(body);
        bytes.resize(length as usize, 0);
        self.write(&bytes);
    }

    fn write(&mut self, bytes: &[u8]) {
        // A plane that is not read to is of no interest here.
        let _ = self.0.write(bytes);
    }

    /// Takes in what was asked.
    fn read(&mut self) {
        let mut requests = [0; 4096];
        while matches!(self.0.read(&mut requests), Ok(1..)) {}
    }
}

/// Whether no string is left out where an event of any of these objects may have one.
fn has_words(object: u32, opcode: u16, body: &[u8]) -> bool {
    let word = |at: usize| body.get(at * 4..at * 4 + 4).and_then(|word| word.try_into().ok()).map(u32::from_ne_bytes);
    let there = |at: usize| word(at) != Some(0);
    match opcode {
        // An output's geometry: five numbers, then maker and model.
        0 if object == REGISTRY => false,
        0 => there(5) && there(6 + word(5).map_or(0, |length| length.div_ceil(4) as usize)),
        // An output's name and description; a seat's name.
        1 | 4 | 5 => there(0),
        _ => true,
    }
}

/// Its length with the final zero, its bytes, zeros up to a whole word.
fn string(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u32 + 1).to_ne_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes.resize((bytes.len() + 1).next_multiple_of(4), 0);
    bytes
}

/// Capture's side: it opens with one sane shape, and fills only buffers that it was given.
pub fn screencopy(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let (mut compositor, socket) = Compositor::new();
    let (limited, mut now_ns) = (!script.u8().is_multiple_of(2), 1 << 40);
    let display = Wlroots::open(socket, "A", now_ns).expect("the socket can be used");
    let mut display = match Mode::new(1280, 720, 60_000) {
        Ok(mode) if limited => display.at_most(mode),
        _ => display,
    };
    let (mut opened, mut given, mut events) = (None, None, Vec::new());
    while let Some(step) = script.step() {
        now_ns += u64::from(step >> 5) * MS;
        match step % 8 {
            0..=3 => compositor.say(&mut script),
            4 => compositor.read(),
            5 => {
                if display.dispatch(now_ns, &mut events).is_err() {
                    return;
                }
                for event in events.drain(..) {
                    match event {
                        Event::Opened(format) => assert!(opened.replace(sane(format)).is_none(), "opens twice"),
                        Event::Ready(frame) => {
                            assert_eq!(given.take(), Some(frame.buffer), "fills what it was not given");
                            assert!(frame.captured_ns <= now_ns);
                        }
                    }
                }
            }
            6 => {
                let Some(format) = opened.filter(|format| format.size() <= POOL_BYTES) else { continue };
                let memory = |_| sealed_memfd("fuzz", format.size()).expect("there is memory");
                let attached = display.attach(format, (0..2).map(memory).collect(), now_ns);
                assert!(attached.is_ok(), "its own shape is refused: {attached:?}");
                given = None;
                let _ = display.again(0, now_ns);
            }
            _ => {
                if step & 8 == 0 {
                    display.detach(now_ns);
                    given = None;
                } else if display.wants_buffer() {
                    let buffer = u32::from(step >> 4) % 2;
                    given = Some(buffer);
                    display.begin(buffer, now_ns);
                }
            }
        }
        let _ = display.deadline();
    }
}

fn sane(format: FrameFormat) -> FrameFormat {
    assert!((1..=8192).contains(&format.width) && (1..=8192).contains(&format.height));
    assert!(format.stride >= u32::from(format.width) * 4);
    format
}

/// Input's side: nothing that is said there lets it do anything before it is ready, or anything but end.
pub fn virtual_devices(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let (mut compositor, socket) = Compositor::new();
    let (setup, mut now_ns) = (script.u8(), 1 << 40);
    let seat = if setup & 1 == 0 { String::new() } else { "B".into() };
    let place = Place { output: "A".into(), seat, focus_key: (setup & 2 != 0).then_some(30) };
    let pages = Pages::new().expect("there is memory");
    // What a dead plane has left may be anything as well.
    let memory = sealed_memfd("fuzz", STATE_BYTES).expect("there is memory");
    let mut kept = DeskState::attach(memory.as_fd()).expect("it can be mapped");
    let inherited = setup & 4 != 0;
    if inherited {
        let [pointer, keyboard, typist, output, seat] = [(); 5].map(|()| u32::from(script.u8()));
        kept.made(Objects { pointer, keyboard, typist, output, seat });
        kept.set_syncs(u32::from(script.u8()));
    }
    let mut devices = match Wlr::open((socket, inherited), place, keymap(), pages, kept, now_ns) {
        Ok(devices) => devices,
        // What was left makes no sense.
        Err(_) if inherited => return,
        Err(error) => panic!("a socket and a keymap: {error:?}"),
    };
    while let Some(step) = script.step() {
        now_ns += u64::from(step >> 5) * MS;
        match step % 8 {
            0..=3 => compositor.say(&mut script),
            4 => compositor.read(),
            5 | 6 => {
                if devices.dispatch(now_ns).is_err() {
                    return;
                }
            }
            _ => {
                let Some(event) = InputEvent::decode(script.piece()) else { continue };
                // The route makes releases of what is held.
                if devices.ready() && !matches!(event, InputEvent::Held(_)) {
                    devices.inject(&event, now_ns);
                    devices.flush(now_ns);
                }
            }
        }
        let _ = devices.deadline();
    }
}

/// A small one.
fn keymap() -> Keymap<OwnedFd> {
    let mut map = TextMap::default();
    map.next("a");
    let text = map.keymap();
    let memory = sealed_memfd("fuzz", text.len()).expect("there is memory");
    let mut mapping = Mapping::read_write(memory.as_fd(), text.len()).expect("it can be mapped");
    if let Some(place) = mapping.as_mut_slice().and_then(|all| all.get_mut(..text.len())) {
        place.copy_from_slice(text.as_bytes());
    }
    Keymap { memory, bytes: text.len() as u32 }
}
