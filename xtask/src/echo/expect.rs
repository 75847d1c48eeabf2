//! What a window should see of each event.

use serde_json::Value;

use super::{TOLERANCE, place};

/// Largest coordinate of a position on the wire: the far edge of the output.
const POSITION_MAX: f64 = 65_535.0;
/// Units of a motion on the wire to a pixel.
const MOTION_UNITS: f64 = 256.0;
/// Wayland's units of a coordinate to a pixel.
const FIXED: f64 = 256.0;
/// Wayland's units of scrolling for one unit of the wire's: 15 for a notch of 120.
const SCROLL: f64 = 15.0 / 120.0;
/// BTN_LEFT of linux/input-event-codes.h, which an emulating finger presses.
const LEFT: u64 = 0x110;

/// One event of a window's.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Atom {
    Place(f64, f64),
    Button(u64, bool),
    Scroll {
        horizontal: bool,
        value: f64,
    },
    Key {
        code: u64,
        pressed: bool,
        text: String,
    },
    /// A character of a text, on whatever key the keymap has it.
    Character(String),
    /// The release of that key.
    Released,
}

impl Atom {
    /// What a line of a window's log says; none for what hands do not do: focus, modifiers, capabilities.
    pub fn seen(line: &Value) -> Option<Self> {
        let pressed = || line["pressed"].as_bool();
        Some(match line["event"].as_str()? {
            "enter" | "motion" => place(line).map(|(x, y)| Self::Place(x, y))?,
            "button" => Self::Button(line["button"].as_u64()?, pressed()?),
            "axis" => Self::Scroll { horizontal: line["horizontal"].as_bool()?, value: line["value"].as_f64()? },
            "key" => {
                let text = line["text"].as_str().unwrap_or_default().to_owned();
                Self::Key { code: line["code"].as_u64()?, pressed: pressed()?, text }
            }
            _ => return None,
        })
    }

    /// Whether what was seen is what was expected.
    pub fn is(&self, seen: &Self) -> bool {
        let near = |one: f64, other: f64| (one - other).abs() < TOLERANCE;
        match (self, seen) {
            (Self::Place(x, y), Self::Place(seen_x, seen_y)) => near(*x, *seen_x) && near(*y, *seen_y),
            (Self::Scroll { horizontal, value }, Self::Scroll { horizontal: other, value: seen }) => {
                horizontal == other && near(*value, *seen)
            }
            (Self::Key { code, pressed, .. }, Self::Key { code: seen, pressed: direction, .. }) => {
                code == seen && pressed == direction
            }
            (Self::Character(character), Self::Key { pressed: true, text, .. }) => character == text,
            (Self::Released, Self::Key { pressed: false, .. }) => true,
            (Self::Button(..), Self::Button(..)) => self == seen,
            _ => false,
        }
    }
}

/// The desktop as the client's events leave it.
pub(super) struct Desk {
    screen: (f64, f64),
    /// Touch acts as the pointer; else no window of a headless compositor sees it.
    emulated: bool,
    pointer: Option<(f64, f64)>,
    /// The finger that acts as the pointer.
    finger: Option<u64>,
}

impl Desk {
    pub fn new(screen: (f64, f64), emulated: bool, pointer: Option<(f64, f64)>) -> Self {
        Self { screen, emulated, pointer, finger: None }
    }

    /// What the window should see of an event of the client's log; empty if it sees nothing of it.
    pub fn atoms(&mut self, event: &Value) -> Vec<Atom> {
        let amount = |key: &str| event[key].as_f64().unwrap_or(0.0);
        let code = || event["code"].as_u64().unwrap_or(0);
        let pressed = || event["pressed"] == true;
        match event["kind"].as_str().unwrap_or_default() {
            "position" => self.go(amount("x"), amount("y")).into_iter().collect(),
            "motion" => {
                let Some((x, y)) = self.pointer else { return Vec::new() };
                self.move_to(x + amount("dx") / MOTION_UNITS, y + amount("dy") / MOTION_UNITS).into_iter().collect()
            }
            "button" => vec![Atom::Button(code(), pressed())],
            // Wayland's vertical axis grows down, the wire's up.
            "scroll" if amount("amount") != 0.0 => {
                let horizontal = event["axis"] == "horizontal";
                let value = amount("amount") * if horizontal { SCROLL } else { -SCROLL };
                vec![Atom::Scroll { horizontal, value }]
            }
            "key" => vec![Atom::Key { code: code(), pressed: pressed(), text: String::new() }],
            "text" => {
                let characters = event["text"].as_str().unwrap_or_default().chars();
                characters.flat_map(|character| [Atom::Character(character.to_string()), Atom::Released]).collect()
            }
            "touch" if self.emulated => self.touch(event),
            _ => Vec::new(),
        }
    }

    /// In the wire's units.
    fn go(&mut self, x: f64, y: f64) -> Option<Atom> {
        self.move_to(x / POSITION_MAX * self.screen.0, y / POSITION_MAX * self.screen.1)
    }

    /// In pixels; none if the pointer is there.
    fn move_to(&mut self, x: f64, y: f64) -> Option<Atom> {
        let (x, y) = (x.clamp(0.0, self.screen.0 - 1.0), y.clamp(0.0, self.screen.1 - 1.0));
        // A compositor tells a window of a motion if Wayland's fixed-point numbers change by it.
        let fixed = |(x, y): (f64, f64)| ((x * FIXED).round(), (y * FIXED).round());
        let same = self.pointer.is_some_and(|old| fixed(old) == fixed((x, y)));
        self.pointer = Some((x, y));
        (!same).then_some(Atom::Place(x, y))
    }

    fn touch(&mut self, event: &Value) -> Vec<Atom> {
        let contact = event["contact"].as_u64();
        let phase = event["phase"].as_str().unwrap_or_default();
        if phase == "down" && self.finger.is_none() {
            self.finger = contact;
        } else if phase == "down" || self.finger != contact {
            return Vec::new();
        }
        let moves = if phase == "cancel" { None } else { self.go(number(event, "x"), number(event, "y")) };
        let button = match phase {
            "down" => Some(Atom::Button(LEFT, true)),
            "up" | "cancel" => {
                self.finger = None;
                Some(Atom::Button(LEFT, false))
            }
            _ => None,
        };
        moves.into_iter().chain(button).collect()
    }
}

fn number(event: &Value, key: &str) -> f64 {
    event[key].as_f64().unwrap_or(0.0)
}
