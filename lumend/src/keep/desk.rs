//! The connection to a compositor on which a session's input plane has made its devices. lumend has it too, and so the
//! compositor does not notice when the plane dies: its heir gets the connection and goes on with the same devices.
//!
//! A connection is handed on only if its plane had said that the devices are there, and died without a word: one that
//! ends in order takes its devices along, and one that ends before it was ready may have died of the connection. What a
//! plane without an heir has pressed is let go of soon, since the connection is, or cut if the plane lives.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use ipc::Hands;
use nix::sys::socket::{Shutdown, shutdown};

/// How long a compositor does not notice that a plane is dead. An heir takes some tens of milliseconds.
const HELD_FOR: u64 = 2_000_000_000;

/// At most one connection.
#[derive(Debug, Default)]
pub struct Desk(Option<Kept>);

#[derive(Debug)]
struct Kept {
    socket: OwnedFd,
    place: Place,
    stage: Stage,
}

/// Output, seat and focus key.
type Place = (String, String, Option<u32>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// A plane has it, and has not said that its devices are there.
    Untried,
    Made,
    /// The plane is dead.
    Orphaned {
        until: u64,
    },
}

impl Desk {
    /// Hands for a plane: over the kept connection where that is possible, else over the fresh one; keeps what it hands
    /// over.
    pub fn hand_over(&mut self, mut hands: Hands<OwnedFd>) -> io::Result<Hands<OwnedFd>> {
        let kept = self.0.take();
        let Hands::Wlroots { socket, inherited, output, seat, focus_key, .. } = &mut hands else { return Ok(hands) };
        let place = (output.clone(), seat.clone(), *focus_key);
        let orphan = kept.filter(|kept| kept.place == place && matches!(kept.stage, Stage::Orphaned { .. }));
        if let Some(orphan) = orphan {
            (*socket, *inherited) = (orphan.socket, true);
        }
        self.0 = Some(Kept { socket: socket.try_clone()?, place, stage: Stage::Untried });
        Ok(hands)
    }

    /// The plane says that its devices are there.
    pub fn made(&mut self) {
        if let Some(kept) = self.0.as_mut().filter(|kept| kept.stage == Stage::Untried) {
            kept.stage = Stage::Made;
        }
    }

    /// Ends the connection although the plane lives and has it too, so that the compositor lifts what is held and takes
    /// the devices away.
    pub fn cut(&mut self) {
        if let Some(kept) = self.0.take() {
            // One that has ended already is as it should be.
            let _ = shutdown(kept.socket.as_raw_fd(), Shutdown::Both);
        }
    }

    /// The plane is dead.
    pub fn orphaned(&mut self, now: u64) {
        self.0 = self.0.take().filter(|kept| kept.stage != Stage::Untried);
        if let Some(kept) = self.0.as_mut().filter(|kept| kept.stage == Stage::Made) {
            kept.stage = Stage::Orphaned { until: now + HELD_FOR };
        }
    }

    pub fn deadline(&self) -> Option<u64> {
        match self.0.as_ref()?.stage {
            Stage::Orphaned { until } => Some(until),
            Stage::Untried | Stage::Made => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use ipc::Keymap;

    use super::*;

    /// Hands and the compositor's end of their connection.
    fn fresh(output: &str) -> (Hands<OwnedFd>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let keymap = Keymap { memory: UnixStream::pair().unwrap().0.into(), bytes: 1 };
        let (output, seat) = (output.to_owned(), String::new());
        theirs.set_nonblocking(true).unwrap();
        (Hands::Wlroots { socket: ours.into(), inherited: false, output, seat, focus_key: None, keymap }, theirs)
    }

    fn inherited(hands: &Hands<OwnedFd>) -> bool {
        matches!(hands, Hands::Wlroots { inherited: true, .. })
    }

    /// Whether nobody has the other end any more.
    fn is_closed(mut compositor: &UnixStream) -> bool {
        matches!(compositor.read(&mut [0]), Ok(0))
    }

    #[test]
    fn the_connection_of_a_plane_that_lives_on_is_cut() {
        let mut desk = Desk::default();
        let (hands, compositor) = fresh("one");
        let plane = desk.hand_over(hands).unwrap();
        desk.made();
        desk.cut();
        assert!(is_closed(&compositor) && desk.deadline().is_none());
        assert!(!inherited(&desk.hand_over(fresh("one").0).unwrap()));
        drop(plane);
    }

    #[test]
    fn an_heir_gets_the_connection_of_a_plane_that_was_ready() {
        let mut desk = Desk::default();
        let (hands, compositor) = fresh("one");
        let plane = desk.hand_over(hands).unwrap();
        assert!(!inherited(&plane));
        desk.made();
        for _ in 0..3 {
            desk.orphaned(7);
            assert_eq!(desk.deadline(), Some(7 + HELD_FOR));
            let heir = desk.hand_over(fresh("one").0).unwrap();
            assert!(inherited(&heir) && desk.deadline().is_none() && !is_closed(&compositor));
            desk.made();
        }
        drop(plane);
        assert!(!is_closed(&compositor));
        drop(desk);
        assert!(is_closed(&compositor));
    }

    #[test]
    fn what_an_heir_cannot_use_is_closed() {
        // Not ready yet; not dead; another place; no place.
        for (made, died, output) in [(false, true, "one"), (true, false, "one"), (true, true, "two")] {
            let mut desk = Desk::default();
            let (hands, compositor) = fresh("one");
            drop(desk.hand_over(hands).unwrap());
            if made {
                desk.made();
            }
            if died {
                desk.orphaned(0);
            }
            let (hands, second) = fresh(output);
            assert!(!inherited(&desk.hand_over(hands).unwrap()), "{made} {died} {output}");
            assert!(is_closed(&compositor) && !is_closed(&second));
            assert!(matches!(desk.hand_over(Hands::None), Ok(Hands::None)));
            assert!(is_closed(&second));
        }
    }

    /// Whatever happens in whatever order, no more than one connection is kept, none for an heir that was not ready.
    #[test]
    fn nothing_leaks() {
        let mut desk = Desk::default();
        let mut compositors = Vec::new();
        let mut ready = false;
        let mut dice = 1_u64;
        for step in 0..10_000 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            match dice >> 61 {
                0..=2 => {
                    let (hands, compositor) = fresh("one");
                    let dead = desk.deadline().is_some();
                    let handed = desk.hand_over(hands).unwrap();
                    assert_eq!(inherited(&handed), dead && ready, "step {step}");
                    ready = false;
                    compositors.push(compositor);
                }
                3..=4 => {
                    desk.made();
                    ready = desk.0.is_some();
                }
                5..=6 => desk.orphaned(step),
                _ => desk = Desk::default(),
            }
            compositors.retain(|compositor| !is_closed(compositor));
            assert_eq!(compositors.len(), usize::from(desk.0.is_some()), "step {step}");
        }
    }
}
