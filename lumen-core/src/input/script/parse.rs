//! The text of a script.

use std::str::SplitWhitespace;

use super::Step;
use crate::input::{
    Axis, Button, InputEvent, MAX_CONTACTS, MAX_MOTION, MAX_SCROLL, MAX_TEXT, MOTION_UNITS, PadButtons, PadIndex,
    PadKind, PadState, Text, TouchPhase, keys,
};

/// A line that is no step.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ScriptError {
    /// From 1.
    pub line: usize,
    pub problem: String,
}

/// Latest time of a step: a day.
const MAX_MS: f64 = 86_400_000.0;

const BUTTONS: [(&str, Button); 5] = [
    ("left", Button::Left),
    ("right", Button::Right),
    ("middle", Button::Middle),
    ("side", Button::Side),
    ("extra", Button::Extra),
];

const PAD_BUTTONS: [(&str, u32); 21] = [
    ("up", PadButtons::UP),
    ("down", PadButtons::DOWN),
    ("left", PadButtons::LEFT),
    ("right", PadButtons::RIGHT),
    ("start", PadButtons::START),
    ("back", PadButtons::BACK),
    ("ls", PadButtons::LEFT_STICK),
    ("rs", PadButtons::RIGHT_STICK),
    ("lb", PadButtons::LEFT_BUMPER),
    ("rb", PadButtons::RIGHT_BUMPER),
    ("guide", PadButtons::GUIDE),
    ("a", PadButtons::A),
    ("b", PadButtons::B),
    ("x", PadButtons::X),
    ("y", PadButtons::Y),
    ("paddle1", PadButtons::PADDLE1),
    ("paddle2", PadButtons::PADDLE2),
    ("paddle3", PadButtons::PADDLE3),
    ("paddle4", PadButtons::PADDLE4),
    ("touchpad", PadButtons::TOUCHPAD),
    ("misc", PadButtons::MISC),
];

/// Reads a script: a line is `MS EVENT`, times never go back, `#` begins a line of comment.
///
/// ```text
/// 0 at 0.5 0.5                 a position, as fractions of the output
/// 10 move 10 -5                pixels
/// 20 button left down          left right middle side extra, down or up
/// 30 scroll 120                1/120 notch, positive is up; hscroll, positive is right
/// 40 key leftshift down        evdev's names, or a code
/// 50 text Hello                to the end of the line
/// 60 touch 0 down 0.2 0.3 0.5  contact, position, pressure if known; also move, up, cancel
/// 70 pad 0 arrive xbox         or playstation, nintendo, nothing
/// 80 pad 0 state a+b lt=255 lx=-32768
/// 90 pad 0 remove
/// ```
pub fn parse(script: &str) -> Result<Vec<Step>, ScriptError> {
    let mut steps: Vec<Step> = Vec::new();
    let mut places = [(0, 0); MAX_CONTACTS as usize];
    for (index, text) in script.lines().enumerate() {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let step = step(text, &mut places).and_then(|step| match steps.last() {
            Some(last) if step.at_ns < last.at_ns => Err("its time is before that of the line above".to_owned()),
            _ => Ok(step),
        });
        steps.push(step.map_err(|problem| ScriptError { line: index + 1, problem })?);
    }
    Ok(steps)
}

type Places = [(u16, u16); MAX_CONTACTS as usize];

fn step(text: &str, places: &mut Places) -> Result<Step, String> {
    let (ms, rest) = text.split_once(char::is_whitespace).ok_or("write a time in milliseconds, then an event")?;
    let ms = number(ms, 0.0, MAX_MS, "a time in milliseconds")?;
    let (kind, rest) = rest.trim_start().split_once(char::is_whitespace).unwrap_or((rest.trim(), ""));
    let words = &mut rest.split_whitespace();
    let event = match kind {
        "text" => {
            return Text::new(rest.trim_start())
                .map(|text| Step { at_ns: ns(ms), event: InputEvent::Text(text) })
                .ok_or_else(|| format!("a text has 1 to {MAX_TEXT} bytes and no control characters"));
        }
        "key" => {
            let name = word(words, "the name of a key")?;
            let code = keys::by_name(name)
                .ok_or_else(|| format!("no key is called \"{name}\"; names are evdev's without KEY_, in lower case"))?;
            InputEvent::Key { code, pressed: pressed(words)? }
        }
        "move" => {
            let most = f64::from(MAX_MOTION / MOTION_UNITS);
            let mut pixels = || {
                number(word(words, "pixels")?, -most, most, "pixels")
                    .map(|pixels| (pixels * f64::from(MOTION_UNITS)).round() as i32)
            };
            InputEvent::Motion { dx: pixels()?, dy: pixels()? }
        }
        "at" => InputEvent::Position { x: fraction(words)?, y: fraction(words)? },
        "button" => {
            let name = word(words, "a button")?;
            InputEvent::Button { button: named(&BUTTONS, name)?, pressed: pressed(words)? }
        }
        "scroll" => InputEvent::Scroll { axis: Axis::Vertical, amount: scroll(words)? },
        "hscroll" => InputEvent::Scroll { axis: Axis::Horizontal, amount: scroll(words)? },
        "touch" => touch(words, places)?,
        "pad" => pad(words)?,
        _ => {
            return Err(format!(
                "no event is called \"{kind}\"; there are key, text, move, at, button, scroll, hscroll, touch and pad"
            ));
        }
    };
    match words.next() {
        Some(extra) => Err(format!("\"{extra}\" is too much")),
        None => Ok(Step { at_ns: ns(ms), event }),
    }
}

fn touch(words: &mut SplitWhitespace<'_>, places: &mut Places) -> Result<InputEvent, String> {
    let contact = word(words, "a contact")?.parse().ok().filter(|&contact: &u8| contact < MAX_CONTACTS);
    let contact = contact.ok_or("a contact is 0 to 15")?;
    let phases = [
        ("down", TouchPhase::Down),
        ("move", TouchPhase::Move),
        ("up", TouchPhase::Up),
        ("cancel", TouchPhase::Cancel),
    ];
    let phase = named(&phases, word(words, "down, move, up or cancel")?)?;
    let place = &mut places[usize::from(contact)];
    let mut pressure = 0;
    // A contact leaves where it was.
    if matches!(phase, TouchPhase::Down | TouchPhase::Move) {
        *place = (fraction(words)?, fraction(words)?);
        if words.clone().next().is_some() {
            pressure = fraction(words)?;
        }
    }
    Ok(InputEvent::Touch { contact, phase, x: place.0, y: place.1, pressure })
}

fn pad(words: &mut SplitWhitespace<'_>) -> Result<InputEvent, String> {
    let pad = word(words, "the number of a pad")?.parse().ok().and_then(PadIndex::new).ok_or("a pad is 0 to 15")?;
    match word(words, "arrive, state or remove")? {
        "arrive" => {
            let kinds =
                [("xbox", PadKind::Xbox), ("playstation", PadKind::PlayStation), ("nintendo", PadKind::Nintendo)];
            let kind = words.next().map_or(Ok(PadKind::Unknown), |name| named(&kinds, name))?;
            Ok(InputEvent::PadArrived { pad, kind })
        }
        "state" => Ok(InputEvent::PadState { pad, state: pad_state(words)? }),
        "remove" => Ok(InputEvent::PadRemoved { pad }),
        other => Err(format!("a pad can arrive, state or remove, not \"{other}\"")),
    }
}

fn pad_state(words: &mut SplitWhitespace<'_>) -> Result<PadState, String> {
    let mut state = PadState::default();
    for word in words {
        let Some((axis, value)) = word.split_once('=') else {
            let mut bits = state.buttons.bits();
            for name in word.split('+') {
                bits |= named(&PAD_BUTTONS, name)?;
            }
            state.buttons = PadButtons::new(bits);
            continue;
        };
        let trigger = || value.parse().map_err(|_| format!("\"{value}\" is not 0 to 255"));
        let stick = || value.parse().map_err(|_| format!("\"{value}\" is not -32768 to 32767"));
        match axis {
            "lt" => state.left_trigger = trigger()?,
            "rt" => state.right_trigger = trigger()?,
            "lx" => state.left_stick.0 = stick()?,
            "ly" => state.left_stick.1 = stick()?,
            "rx" => state.right_stick.0 = stick()?,
            "ry" => state.right_stick.1 = stick()?,
            _ => return Err(format!("no axis is called \"{axis}\"; there are lt, rt, lx, ly, rx and ry")),
        }
    }
    Ok(state)
}

fn word<'a>(words: &mut SplitWhitespace<'a>, what: &str) -> Result<&'a str, String> {
    words.next().ok_or_else(|| format!("{what} is missing"))
}

fn named<T: Copy>(known: &[(&str, T)], name: &str) -> Result<T, String> {
    known.iter().find(|(known, _)| *known == name).map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<_> = known.iter().map(|(known, _)| *known).collect();
        format!("\"{name}\" is none of {}", known.join(", "))
    })
}

fn pressed(words: &mut SplitWhitespace<'_>) -> Result<bool, String> {
    named(&[("down", true), ("up", false)], word(words, "down or up")?)
}

fn scroll(words: &mut SplitWhitespace<'_>) -> Result<i32, String> {
    let amount: i32 = word(words, "an amount")?.parse().map_err(|_| "an amount is a whole number of 1/120 notch")?;
    if amount.unsigned_abs() > MAX_SCROLL.unsigned_abs() {
        return Err(format!("an amount is at most {MAX_SCROLL} either way"));
    }
    Ok(amount)
}

fn fraction(words: &mut SplitWhitespace<'_>) -> Result<u16, String> {
    let fraction = number(word(words, "a fraction of the output")?, 0.0, 1.0, "a fraction from 0 to 1")?;
    Ok((fraction * f64::from(u16::MAX)).round() as u16)
}

fn number(text: &str, least: f64, most: f64, what: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("\"{text}\" is not {what}"))
}

fn ns(ms: f64) -> u64 {
    (ms * 1e6).round() as u64
}
