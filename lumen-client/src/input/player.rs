//! Plays a script of events, each at its time.

use std::io;
use std::thread::{Builder, JoinHandle};

use lumen_core::InputEvent;
use lumen_core::input::Held;
use lumen_core::input::hands::Hands;
use lumen_core::input::script::Step;

use super::{InputSender, NotSent};
use crate::monotonic_ns;

/// How long the last events may take to be acknowledged in the end.
const FAREWELL_NS: u64 = 300_000_000;

/// A running script.
pub struct Player {
    sender: InputSender,
    thread: JoinHandle<()>,
}

impl Player {
    /// Starts. The script's time begins once the host takes input at all, which it says by acknowledging a first event
    /// that changes nothing.
    pub fn start(steps: Vec<Step>, sender: InputSender) -> io::Result<Self> {
        let events = sender.clone();
        let thread = Builder::new().name("hands".to_owned()).spawn(move || {
            // An error means that the session has ended, which is told elsewhere.
            let _ = play(&steps, &events);
        })?;
        Ok(Self { sender, thread })
    }

    /// Lets go of everything, waits a moment for the host to have it, and ends.
    pub fn finish(self) {
        self.sender.interrupt();
        let _ = self.thread.join();
        self.sender.close();
    }
}

fn play(steps: &[Step], sender: &InputSender) -> Result<(), NotSent> {
    let mut hands = Hands::default();
    let played = follow(steps, sender, &mut hands);
    if played == Err(NotSent::Interrupted) {
        for event in hands.lift_all() {
            sender.send(event)?;
        }
        sender.wait_acknowledged(monotonic_ns() + FAREWELL_NS)?;
    }
    played
}

fn follow(steps: &[Step], sender: &InputSender, hands: &mut Hands) -> Result<(), NotSent> {
    sender.send(InputEvent::Held(Held::new([], 0, 0)))?;
    sender.wait_acknowledged(u64::MAX)?;
    let began_ns = monotonic_ns();
    for step in steps {
        sender.wait_until(began_ns.saturating_add(step.at_ns))?;
        sender.send_patiently(step.event)?;
        hands.apply(&step.event);
    }
    sender.wait_until(u64::MAX)
}
