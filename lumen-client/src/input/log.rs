//! The log of what was sent: one JSON line an event.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use lumen_core::InputEvent;
use lumen_core::input::{Axis, Button, TouchPhase};
use serde::Serialize;
use serde_json::{Value, json};

use super::Sent;

/// A log in a thread of its own, so that no event waits for a disk.
pub struct InputLog {
    thread: JoinHandle<Option<String>>,
}

impl InputLog {
    /// Starts the thread and gives what feeds it, for [`super::InputSender::record`].
    pub fn start(file: BufWriter<File>) -> io::Result<(Self, Sender<Sent>)> {
        let (sender, events) = channel();
        let thread = Builder::new().name("input-log".to_owned()).spawn(move || {
            let written = write(file, &events);
            written.err().map(|error| format!("cannot write the log of the input: {error}"))
        })?;
        Ok((Self { thread }, sender))
    }

    /// Waits until everything is written, and says if it could not be; the sender must be closed.
    pub fn finish(self) -> Option<String> {
        self.thread.join().unwrap_or(None)
    }
}

#[derive(Serialize)]
struct Line {
    seq: u32,
    /// Our CLOCK_MONOTONIC, nanoseconds.
    sent_ns: u64,
    event: Value,
}

fn write(mut file: BufWriter<File>, events: &Receiver<Sent>) -> io::Result<()> {
    for Sent { seq, sent_ns, event } in events {
        serde_json::to_writer(&mut file, &Line { seq, sent_ns, event: described(&event) })?;
        file.write_all(b"\n")?;
    }
    file.flush()
}

/// An event as JSON: its kind by name, codes of keys and buttons as evdev has them, amounts in the units of the wire.
fn described(event: &InputEvent) -> Value {
    match *event {
        InputEvent::Key { code, pressed } => json!({"kind": "key", "code": code.get(), "pressed": pressed}),
        InputEvent::Text(text) => json!({"kind": "text", "text": text.as_str()}),
        InputEvent::Motion { dx, dy } => json!({"kind": "motion", "dx": dx, "dy": dy}),
        InputEvent::Position { x, y } => json!({"kind": "position", "x": x, "y": y}),
        InputEvent::Button { button, pressed } => {
            json!({"kind": "button", "code": button.evdev(), "pressed": pressed})
        }
        InputEvent::Scroll { axis, amount } => {
            let axis = match axis {
                Axis::Vertical => "vertical",
                Axis::Horizontal => "horizontal",
            };
            json!({"kind": "scroll", "axis": axis, "amount": amount})
        }
        InputEvent::Touch { contact, phase, x, y, pressure } => {
            let phase = match phase {
                TouchPhase::Down => "down",
                TouchPhase::Move => "move",
                TouchPhase::Up => "up",
                TouchPhase::Cancel => "cancel",
            };
            json!({"kind": "touch", "contact": contact, "phase": phase, "x": x, "y": y, "pressure": pressure})
        }
        InputEvent::PadArrived { pad, kind } => {
            json!({"kind": "pad_arrived", "pad": pad.get(), "type": kind as u8})
        }
        InputEvent::PadRemoved { pad } => json!({"kind": "pad_removed", "pad": pad.get()}),
        InputEvent::PadState { pad, state } => json!({
            "kind": "pad_state",
            "pad": pad.get(),
            "buttons": state.buttons.bits(),
            "left_trigger": state.left_trigger,
            "right_trigger": state.right_trigger,
            "left_stick": [state.left_stick.0, state.left_stick.1],
            "right_stick": [state.right_stick.0, state.right_stick.1],
        }),
        InputEvent::Held(held) => {
            let keys: Vec<u16> = held.keys().map(|key| key.get()).collect();
            let down = |button: &Button| held.buttons & 1 << *button as u8 != 0;
            let buttons: Vec<u16> = Button::ALL.into_iter().filter(down).map(Button::evdev).collect();
            let contacts: Vec<u32> = (0..u16::BITS).filter(|contact| held.contacts & 1 << contact != 0).collect();
            json!({"kind": "held", "keys": keys, "buttons": buttons, "contacts": contacts})
        }
    }
}

#[cfg(test)]
mod tests {
    use lumen_core::input::{Held, KeyCode, PadButtons, PadIndex, PadState};

    use super::*;

    #[test]
    fn events_read_as_what_they_are() {
        let a = KeyCode::new(30).unwrap();
        let state = PadState {
            buttons: PadButtons::new(PadButtons::A),
            left_trigger: 255,
            left_stick: (-32768, 1),
            ..PadState::default()
        };
        for (event, expected) in [
            (InputEvent::Key { code: a, pressed: true }, r#"{"code":30,"kind":"key","pressed":true}"#),
            (
                InputEvent::Button { button: Button::Left, pressed: false },
                r#"{"code":272,"kind":"button","pressed":false}"#,
            ),
            (
                InputEvent::PadState { pad: PadIndex::new(3).unwrap(), state },
                r#"{"buttons":4096,"kind":"pad_state","left_stick":[-32768,1],"left_trigger":255,"pad":3,"right_stick":[0,0],"right_trigger":0}"#,
            ),
            (
                InputEvent::Held(Held::new([a], 0b10, 1 << 15)),
                r#"{"buttons":[273],"contacts":[15],"keys":[30],"kind":"held"}"#,
            ),
        ] {
            assert_eq!(described(&event).to_string(), expected);
        }
    }
}
