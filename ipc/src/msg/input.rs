//! What lumend and the input plane say to each other.

use std::fmt;

use lumen_core::Permissions;
use lumen_core::input::PadIndex;
use serde::{Deserialize, Serialize};

use super::{Generation, Hello, Leaving, RingFds, SessionId};

/// A device of the kernel's that a session's hands may need.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum DeviceId {
    Keyboard,
    Mouse,
    Touch,
    Pad(PadIndex),
}

/// An open /dev/uinput that lumend keeps, so that the device outlives the plane that made it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Kept<F> {
    pub device: DeviceId,
    pub fd: F,
}

/// A compiled keymap (xkb v1 text, with its final NUL) in a sealed memfd.
#[derive(Debug, Serialize, Deserialize)]
pub struct Keymap<F> {
    pub memory: F,
    /// Bytes, the NUL included.
    pub bytes: u32,
}

/// Where pointer and keyboard act.
#[derive(Debug, Serialize, Deserialize)]
pub enum Hands<F> {
    /// Nowhere: the desktop is synthetic and the kernel offers no uinput.
    None,
    /// A wlroots compositor, over a connected Wayland socket. Both names are of globals: `wl_output.name` and
    /// `wl_seat.name`; an empty seat is the compositor's first.
    Wlroots {
        socket: F,
        /// False: nobody has spoken on the socket yet. True: it is that of a dead plane, whose devices are there still,
        /// and the state says which.
        inherited: bool,
        output: String,
        seat: String,
        /// The compositor moves every seat's keyboard focus (and cursor) to a window that opens, whoever opened it. A
        /// key that no keyboard has (an evdev code above KEY_MAX), pressed and released on a virtual keyboard of this
        /// seat with nothing else held, brings the seat's focus back to its own output: before every key press, and
        /// before a button press or a scroll. It reaches no window. None where sessions cannot take each other's focus.
        focus_key: Option<u32>,
        keymap: Keymap<F>,
    },
    /// Kernel devices, asked for with `Want`.
    Uinput,
}

/// A session's share of input.
#[derive(Debug, Serialize, Deserialize)]
pub struct InputWiring<F> {
    pub session: SessionId,
    /// Of the session's input branch alone.
    pub generation: Generation,
    pub permissions: Permissions,
    pub hands: Hands<F>,
    /// True if `Want` can bring a uinput device, so that pads (and touch) can be real.
    pub uinput: bool,
    /// Consumer end: one [`lumen_core::InputEvent`] a chunk, whose header's `frame` is the client's number of it, or of the
    /// newest that it stands for.
    pub events: RingFds<F>,
    /// Consumer ends of dead planes' rings of events, oldest first, no more than [`MAX_BEFORE`]: what those have not taken
    /// comes before all in `events`. Net has written its last into one before it writes its first into the next.
    pub before: Vec<RingFds<F>>,
    /// Producer end: one [`lumen_core::input::Rumble`] a chunk.
    pub haptics: RingFds<F>,
    /// [`crate::STATE_BYTES`] of memory that lumend keeps and never looks at: what is pressed, where the sticks and triggers
    /// of pads are, and the effects of force feedback, for the plane's heir. Zeros at first.
    pub state: F,
    /// Devices that a dead plane has made.
    pub kept: Vec<Kept<F>>,
}

/// Rings of dead planes that an heir empties, at most. A session ends before more of its planes have died in a row by
/// themselves; of more that were replaced, the oldest go with what is in them.
pub const MAX_BEFORE: usize = 4;

/// Bytes of an input plane's kept state.
pub const STATE_BYTES: usize = 64 * 1024;

#[derive(Debug, Serialize, Deserialize)]
pub enum ToInput<F> {
    Ping(u64),
    /// Inject what the ring brings. Once in a plane's life. Whatever the state says is held goes on being held where the
    /// devices are those of the dead plane, and is lifted first where they are not.
    Wire(InputWiring<F>),
    /// The network plane at the other end of the rings has been replaced: take what is left in the old one, and then
    /// from these. Devices and what is held stand. Answered with `Wired`.
    Rings {
        generation: Generation,
        events: RingFds<F>,
        haptics: RingFds<F>,
    },
    /// The client has been away for too long to be holding anything: lift everything, and go on.
    LetGo,
    /// From now on.
    Permit(Permissions),
    /// The answer to `Want`: a fresh /dev/uinput, or none for a reason that lumend has logged.
    Device {
        device: DeviceId,
        fd: Option<F>,
    },
    /// Lift everything and let go.
    Retire {
        generation: Generation,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HandsBackend {
    None,
    Wlroots,
    Uinput,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TouchBackend {
    None,
    /// A touch screen.
    Native,
    /// The first contact acts as the pointer.
    Emulated,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PadsBackend {
    None,
    Uinput,
}

/// What a session's input reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InputBackends {
    pub hands: HandsBackend,
    pub touch: TouchBackend,
    pub pads: PadsBackend,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum FromInput {
    Hello(Hello),
    Pong(u64),
    Wired {
        generation: Generation,
        backends: InputBackends,
        /// The number of the first event that has not been taken, by this plane or one before it: one more than the
        /// highest in the headers of the session's chunks.
        next: u32,
    },
    /// A device is needed; answered with `Device`.
    Want(DeviceId),
    /// The device was destroyed: lumend need not keep it.
    Dropped(DeviceId),
    Failed {
        generation: Generation,
        reason: String,
    },
    Stats {
        generation: Generation,
        stats: InputStats,
    },
    Leaving(Leaving),
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InputStats {
    /// Events injected since the generation began.
    pub events: u64,
    /// Events that the client has no permission for.
    pub forbidden: u64,
    /// Events that nothing here can inject: a pad without uinput, a key that the keymap has not.
    pub unsupported: u64,
    /// Keys, buttons and contacts lifted because the client no longer named them, or a plane died.
    pub healed: u64,
    /// Pads that are plugged in.
    pub pads: u32,
    /// Rumble messages put into the ring.
    pub rumbles: u64,
    /// Microseconds from an event's arrival at net to its injection, at p50 and p99.
    pub wait_p50_us: u32,
    pub wait_p99_us: u32,
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keyboard => f.write_str("keyboard"),
            Self::Mouse => f.write_str("mouse"),
            Self::Touch => f.write_str("touch screen"),
            Self::Pad(pad) => write!(f, "pad {}", pad.get()),
        }
    }
}

impl<F> Kept<F> {
    /// Turns every descriptor `F` into a `G`; stops at the first error.
    pub fn map_fds<G, E>(self, map: &mut impl FnMut(F) -> Result<G, E>) -> Result<Kept<G>, E> {
        Ok(Kept { device: self.device, fd: map(self.fd)? })
    }
}

impl<F> Hands<F> {
    /// Turns every descriptor `F` into a `G`; stops at the first error.
    pub fn map_fds<G, E>(self, map: &mut impl FnMut(F) -> Result<G, E>) -> Result<Hands<G>, E> {
        Ok(match self {
            Self::None => Hands::None,
            Self::Uinput => Hands::Uinput,
            Self::Wlroots { socket, inherited, output, seat, focus_key, keymap } => Hands::Wlroots {
                socket: map(socket)?,
                inherited,
                output,
                seat,
                focus_key,
                keymap: Keymap { memory: map(keymap.memory)?, bytes: keymap.bytes },
            },
        })
    }
}

impl<F> InputWiring<F> {
    /// Turns every descriptor `F` into a `G`; stops at the first error.
    pub fn map_fds<G, E>(self, map: &mut impl FnMut(F) -> Result<G, E>) -> Result<InputWiring<G>, E> {
        Ok(InputWiring {
            session: self.session,
            generation: self.generation,
            permissions: self.permissions,
            hands: self.hands.map_fds(map)?,
            uinput: self.uinput,
            events: self.events.map_fds(map)?,
            before: self.before.into_iter().map(|ring| ring.map_fds(map)).collect::<Result<_, E>>()?,
            haptics: self.haptics.map_fds(map)?,
            state: map(self.state)?,
            kept: self.kept.into_iter().map(|kept| kept.map_fds(map)).collect::<Result<_, E>>()?,
        })
    }
}

impl<F> ToInput<F> {
    /// Turns every descriptor `F` into a `G`; stops at the first error.
    pub fn map_fds<G, E>(self, map: &mut impl FnMut(F) -> Result<G, E>) -> Result<ToInput<G>, E> {
        Ok(match self {
            Self::Ping(number) => ToInput::Ping(number),
            Self::Wire(wiring) => ToInput::Wire(wiring.map_fds(map)?),
            Self::Rings { generation, events, haptics } => {
                ToInput::Rings { generation, events: events.map_fds(map)?, haptics: haptics.map_fds(map)? }
            }
            Self::LetGo => ToInput::LetGo,
            Self::Permit(permissions) => ToInput::Permit(permissions),
            Self::Device { device, fd } => ToInput::Device { device, fd: fd.map(map).transpose()? },
            Self::Retire { generation } => ToInput::Retire { generation },
        })
    }
}
