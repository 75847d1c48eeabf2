//! The session's keymap: which keys there are, and what pressing them does to the modifiers.
//!
//! A virtual keyboard's keys move no modifiers by themselves, its client tells both; so this side follows the keymap as
//! well. The text of the keymap comes from lumend, compiled; nothing is looked up in files, which a sealed plane could
//! not open.

pub mod text;

use lumen_core::input::KeyCode;
use xkbcommon::xkb;

/// X keycodes are evdev's plus this (xkeyboard-config's `evdev` keycodes).
const XKB_OFFSET: u32 = 8;

#[derive(Debug, thiserror::Error)]
#[error("the keymap cannot be used: {0}; check layout, variant, model and options in [input]")]
pub struct BadKeymap(&'static str);

/// Modifiers and layout as `zwp_virtual_keyboard_v1.modifiers` wants them: masks of the keymap's modifiers.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Modifiers {
    pub depressed: u32,
    pub latched: u32,
    pub locked: u32,
    /// The layout, by number.
    pub group: u32,
}

/// A keymap and the state of its modifiers.
pub struct Keys {
    keymap: xkb::Keymap,
    state: xkb::State,
    told: Modifiers,
}

/// A context that looks at no file and no environment.
fn context() -> Result<xkb::Context, BadKeymap> {
    let mut context = xkb::Context::new(xkb::CONTEXT_NO_DEFAULT_INCLUDES | xkb::CONTEXT_NO_ENVIRONMENT_NAMES);
    if context.get_raw_ptr().is_null() {
        return Err(BadKeymap("there is no memory for it"));
    }
    // What is wrong with a keymap is said once, by the error.
    context.set_log_level(xkb::LogLevel::Critical);
    Ok(context)
}

fn compile(text: &str) -> Result<xkb::Keymap, BadKeymap> {
    let (format, flags) = (xkb::KEYMAP_FORMAT_TEXT_V1, xkb::KEYMAP_COMPILE_NO_FLAGS);
    xkb::Keymap::new_from_string(&context()?, text.to_owned(), format, flags).ok_or(BadKeymap("it does not compile"))
}

const fn keycode(code: KeyCode) -> xkb::Keycode {
    xkb::Keycode::new(code.get() as u32 + XKB_OFFSET)
}

impl Keys {
    /// Compiles a keymap in xkb's text format, version 1; a final NUL may end it.
    ///
    /// # Errors
    /// If it is not one.
    pub fn new(text: &[u8]) -> Result<Self, BadKeymap> {
        let text = text.strip_suffix(&[0]).unwrap_or(text);
        let text = std::str::from_utf8(text).map_err(|_| BadKeymap("it is not text"))?;
        let keymap = compile(text)?;
        let state = xkb::State::new(&keymap);
        Ok(Self { keymap, state, told: Modifiers::default() })
    }

    /// True if the keymap has a key of this code, whatever it does.
    pub fn has(&self, code: KeyCode) -> bool {
        let key = keycode(code);
        (self.keymap.min_keycode()..=self.keymap.max_keycode()).contains(&key)
            && self.keymap.key_get_name(key).is_some()
    }

    /// Goes on where another has left off, which has told these modifiers: what is locked stays so. What it held down
    /// is to be told with [`Keys::hold`]; what it had latched is forgotten, with the key that it waited for.
    pub fn go_on(&mut self, told: Modifiers) {
        self.state.update_mask(0, 0, told.locked, 0, 0, told.group);
        self.told = told;
    }

    /// A key is down already.
    pub fn hold(&mut self, code: KeyCode) {
        self.state.update_key(keycode(code), xkb::KeyDirection::Down);
    }

    /// Follows a key; the modifiers if they are now others than before.
    pub fn key(&mut self, code: KeyCode, pressed: bool) -> Option<Modifiers> {
        let direction = if pressed { xkb::KeyDirection::Down } else { xkb::KeyDirection::Up };
        self.state.update_key(keycode(code), direction);
        let now = Modifiers {
            depressed: self.state.serialize_mods(xkb::STATE_MODS_DEPRESSED),
            latched: self.state.serialize_mods(xkb::STATE_MODS_LATCHED),
            locked: self.state.serialize_mods(xkb::STATE_MODS_LOCKED),
            group: self.state.serialize_layout(xkb::STATE_LAYOUT_EFFECTIVE),
        };
        let changed = now != self.told;
        self.told = now;
        changed.then_some(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us() -> Keys {
        // A test is not sealed: it may ask the system's files.
        let context = xkb::Context::new(xkb::CONTEXT_NO_FLAGS);
        let keymap = xkb::Keymap::new_from_names(&context, "", "pc105", "us", "", None, xkb::KEYMAP_COMPILE_NO_FLAGS)
            .expect("xkb-data is needed for this test; `cargo xtask deps` installs it");
        Keys::new(keymap.get_as_string(xkb::KEYMAP_FORMAT_TEXT_V1).as_bytes()).unwrap()
    }

    fn code(code: u16) -> KeyCode {
        KeyCode::new(code).unwrap()
    }

    #[test]
    fn modifiers_follow_keys() {
        let mut keys = us();
        let (shift, a, caps) = (code(42), code(30), code(58));
        assert_eq!(keys.key(a, true), None);
        assert_eq!(keys.key(a, false), None);
        assert_eq!(keys.key(shift, true), Some(Modifiers { depressed: 1, ..Default::default() }));
        assert_eq!(keys.key(a, true), None);
        assert_eq!(keys.key(shift, false), Some(Modifiers::default()));
        assert!(keys.key(caps, true).is_some_and(|modifiers| modifiers.locked == 2));
        assert!(keys.key(caps, false).is_some_and(|modifiers| modifiers.depressed == 0 && modifiers.locked == 2));
    }

    #[test]
    fn an_heir_goes_on_with_what_is_held_and_locked() {
        let (shift, a, caps) = (code(42), code(30), code(58));
        let mut keys = us();
        let mut told = Modifiers::default();
        for (code, pressed) in [(caps, true), (caps, false), (shift, true)] {
            told = keys.key(code, pressed).unwrap_or(told);
        }
        assert_eq!((told.depressed, told.locked), (1, 2));
        let mut heir = us();
        heir.go_on(told);
        heir.hold(shift);
        assert_eq!(heir.key(a, true), None, "nothing has changed");
        assert_eq!(heir.key(a, false), None);
        assert_eq!(heir.key(shift, false), Some(Modifiers { depressed: 0, ..told }));
        assert!(heir.key(caps, true).is_some());
        assert_eq!(heir.key(caps, false), Some(Modifiers::default()));
    }

    #[test]
    fn only_keys_of_the_keymap_are_known() {
        let keys = us();
        assert!(keys.has(code(30)) && keys.has(code(1)) && keys.has(code(125)));
        // KEY_MAX, which no keyboard description names.
        assert!(!keys.has(code(0x2FF)));
    }

    #[test]
    fn what_is_no_keymap_is_refused() {
        for text in [&b""[..], b"\0", b"\xff\xfe", b"xkb_keymap { include \"evdev\" };\0", b"xkb_keymap {"] {
            assert!(Keys::new(text).is_err(), "{text:?}");
        }
    }
}
