//! What pointer and keyboard of a session act on.

use std::os::fd::OwnedFd;
use std::path::Path;

use ipc::Hands;

use super::{Place, dial};
use crate::config::{HandsChoice, Input};
use crate::keymap::{self, Keymap};

/// What was configured, once for all sessions.
#[derive(Debug)]
pub struct Means {
    choice: HandsChoice,
    /// Or why there is none.
    keymap: Result<Keymap, String>,
    /// The kernel makes devices for lumend.
    uinput: bool,
}

impl Means {
    pub fn new(input: &Input, uinput: bool) -> Self {
        // A host without xkb's data is found out when a keyboard is wanted, and serves everything else.
        let keymap = keymap::compile(input).map_err(|error| error.to_string());
        Self { choice: input.backend, keymap, uinput }
    }

    /// Where there is no compositor: the kernel's devices, if any.
    pub fn bare(&self) -> Result<Hands<OwnedFd>, String> {
        match self.choice {
            HandsChoice::None => Ok(Hands::None),
            HandsChoice::Auto if !self.uinput => Ok(Hands::None),
            HandsChoice::Auto | HandsChoice::Uinput => self.kernel(),
            HandsChoice::Wlroots => {
                Err("[input] backend is \"wlroots\", but the desktop has no compositor; set it to \"auto\"".into())
            }
        }
    }

    /// On a sway: its virtual devices over a fresh connection, unless something else was asked for.
    pub(super) fn on_sway(&self, wayland: &Path, place: &Place) -> Result<Hands<OwnedFd>, String> {
        let seat = || place.seat.as_ref().map(|seat| (seat.name.clone(), Some(seat.focus_key)));
        self.on_seat(wayland, &place.output, seat)
    }

    /// On a sway's first seat, which every session but Lumen's has.
    pub fn on_first_seat(&self, wayland: &Path, output: &str) -> Result<Hands<OwnedFd>, String> {
        self.on_seat(wayland, output, || Some((String::new(), None)))
    }

    fn on_seat(
        &self,
        wayland: &Path,
        output: &str,
        seat: impl FnOnce() -> Option<(String, Option<u32>)>,
    ) -> Result<Hands<OwnedFd>, String> {
        match self.choice {
            HandsChoice::None => Ok(Hands::None),
            HandsChoice::Uinput => self.kernel(),
            HandsChoice::Auto | HandsChoice::Wlroots => {
                let (seat, focus_key) = seat().ok_or("sway made no seat for it")?;
                let keymap = self.keymap.as_ref().map_err(Clone::clone)?;
                let keymap = keymap.hand_over().map_err(|error| format!("cannot hand the keymap over: {error}"))?;
                let socket = dial(wayland)
                    .map_err(|error| format!("cannot reach the compositor at {}: {error}", wayland.display()))?;
                Ok(Hands::Wlroots { socket, inherited: false, output: output.to_owned(), seat, focus_key, keymap })
            }
        }
    }

    fn kernel(&self) -> Result<Hands<OwnedFd>, String> {
        let way_out = "load the module uinput and let lumend's user read and write /dev/uinput, or set it to \"auto\"";
        match self.uinput {
            true => Ok(Hands::Uinput),
            false => Err(format!("[input] backend is \"uinput\", but the kernel gives no devices; {way_out}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::outputs::Seat;

    fn means(backend: HandsChoice, uinput: bool) -> Means {
        Means::new(&Input { backend, ..Input::default() }, uinput)
    }

    #[test]
    fn the_best_that_there_is_unless_something_else_is_asked_for() {
        assert!(matches!(means(HandsChoice::Auto, true).bare(), Ok(Hands::Uinput)));
        assert!(matches!(means(HandsChoice::Auto, false).bare(), Ok(Hands::None)));
        assert!(matches!(means(HandsChoice::None, true).bare(), Ok(Hands::None)));
        assert!(means(HandsChoice::Uinput, false).bare().unwrap_err().contains("/dev/uinput"));
        assert!(means(HandsChoice::Wlroots, true).bare().unwrap_err().contains("compositor"));

        let path = std::env::temp_dir().join(format!("lumen-hands-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let _compositor = UnixListener::bind(&path).unwrap();
        let seat = Seat { name: "lumen-1".into(), focus_key: 0x301 };
        let mut place = Place { output: "HEADLESS-2".into(), seat: Some(seat) };
        let on = |choice, uinput| means(choice, uinput).on_sway(&path, &place);
        match on(HandsChoice::Auto, true).unwrap() {
            Hands::Wlroots { output, seat, focus_key, keymap, .. } => {
                assert_eq!((output.as_str(), seat.as_str(), focus_key), ("HEADLESS-2", "lumen-1", Some(0x301)));
                assert!(keymap.bytes > 1000);
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(on(HandsChoice::Uinput, true), Ok(Hands::Uinput)));
        assert!(matches!(on(HandsChoice::None, true), Ok(Hands::None)));
        std::fs::remove_file(&path).unwrap();
        assert!(on(HandsChoice::Wlroots, true).unwrap_err().contains("cannot reach"));
        place.seat = None;
        assert!(means(HandsChoice::Auto, true).on_sway(&path, &place).unwrap_err().contains("seat"));
    }
}
