//! The keymap that text is typed with: one key for each character, made as characters come.
//!
//! Its keys have the codes of ordinary printing keys, because programs look at the codes of some others (Escape,
//! Backspace) before they look at what the keymap makes of them. Characters keep their key until it is needed for
//! another, the one unused for longest first, so that most text needs no new keymap.

use std::fmt::Write;

use xkbcommon::xkb;

use super::XKB_OFFSET;

/// Evdev codes of the printing keys of a 105-key keyboard, as ranges (linux/input-event-codes.h).
const CODES: [std::ops::RangeInclusive<u16>; 6] = [
    2..=13,  // KEY_1 to KEY_EQUAL
    16..=27, // KEY_Q to KEY_RIGHTBRACE
    30..=41, // KEY_A to KEY_GRAVE
    43..=53, // KEY_BACKSLASH to KEY_SLASH
    57..=57, // KEY_SPACE
    86..=86, // KEY_102ND
];

/// Most bytes of a keymap's text, its NUL included: two lines of at most 40 bytes a key, and the frame around them.
pub const MAX_BYTES: usize = 8192;

/// Which key types which character.
pub struct TextMap {
    slots: Vec<Slot>,
    /// Counts calls of [`TextMap::next`].
    turn: u64,
}

struct Slot {
    code: u16,
    character: Option<char>,
    /// The turn it was used in last.
    used: u64,
}

/// What to do for the beginning of a text.
#[derive(Default, PartialEq, Eq, Debug)]
pub struct Run {
    /// The keymap has changed: [`TextMap::keymap`] goes first.
    pub changed: bool,
    /// Evdev codes to press and release, in order.
    pub keys: Vec<u16>,
    /// Bytes of the text that this deals with.
    pub bytes: usize,
    /// Characters that no keymap can type.
    pub untypable: usize,
}

impl Default for TextMap {
    fn default() -> Self {
        let slot = |code| Slot { code, character: None, used: 0 };
        Self { slots: CODES.into_iter().flatten().map(slot).collect(), turn: 0 }
    }
}

impl TextMap {
    /// The keys for as much of `text` as one keymap can have: at least as many characters as there are keys, or all.
    pub fn next(&mut self, text: &str) -> Run {
        self.turn += 1;
        let mut run = Run::default();
        for character in text.chars() {
            if !typable(character) {
                run.untypable += 1;
            } else if let Some(slot) = self.slots.iter_mut().find(|slot| slot.character == Some(character)) {
                slot.used = self.turn;
                run.keys.push(slot.code);
            } else {
                // A key of this run may not change its meaning within it.
                let free = self.slots.iter_mut().filter(|slot| slot.used != self.turn).min_by_key(|slot| slot.used);
                let Some(slot) = free else { break };
                (slot.character, slot.used) = (Some(character), self.turn);
                run.changed = true;
                run.keys.push(slot.code);
            }
            run.bytes += character.len_utf8();
        }
        run
    }

    /// The keymap as it is now: xkb's text format, version 1, with its NUL. It includes nothing.
    pub fn keymap(&self) -> String {
        let used = || self.slots.iter().filter_map(|slot| slot.character.map(|character| (slot.code, character)));
        let mut text = String::with_capacity(MAX_BYTES);
        text.push_str("xkb_keymap {\nxkb_keycodes \"text\" {\nminimum = 8;\nmaximum = 255;\n");
        for (code, _) in used() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "<T{code}> = {};", u32::from(code) + XKB_OFFSET);
        }
        text.push_str(
            "};\nxkb_types \"text\" { type \"ONE_LEVEL\" { modifiers = none; level_name[1] = \"Any\"; }; };\n",
        );
        text.push_str("xkb_compatibility \"text\" { };\nxkb_symbols \"text\" {\n");
        for (code, character) in used() {
            let _ = writeln!(text, "key <T{code}> {{ [ {} ] }};", keysym_name(character));
        }
        text.push_str("};\n};\n\0");
        text
    }
}

/// `U` and the code point: the name of every character's keysym.
fn keysym_name(character: char) -> String {
    format!("U{:04X}", u32::from(character))
}

/// True if there is a keysym that means this character. There is none for a few that are no text, such as U+FFFF in
/// some versions of the library; a keymap that names them would be refused as a whole.
fn typable(character: char) -> bool {
    let keysym = xkb::keysym_from_name(&keysym_name(character), xkb::KEYSYM_NO_FLAGS);
    xkb::keysym_to_utf32(keysym) == u32::from(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Types a text as a client would see it: the keymap of each run is compiled, and its keys looked up.
    fn typed(map: &mut TextMap, text: &str) -> (String, usize) {
        let (mut seen, mut rest, mut keymaps) = (String::new(), text, 0);
        while !rest.is_empty() {
            let run = map.next(rest);
            assert!(run.bytes > 0);
            rest = &rest[run.bytes..];
            keymaps += usize::from(run.changed);
            let keymap = map.keymap();
            assert!(keymap.len() <= MAX_BYTES, "{} bytes", keymap.len());
            let state = xkb::State::new(&super::super::compile(keymap.trim_end_matches('\0')).unwrap());
            for code in run.keys {
                seen += &state.key_get_utf8(xkb::Keycode::new(u32::from(code) + XKB_OFFSET));
            }
        }
        (seen, keymaps)
    }

    #[test]
    fn text_is_what_was_asked_for_and_known_characters_need_no_new_keymap() {
        let mut map = TextMap::default();
        assert_eq!(typed(&mut map, "Grüße 東京 🎮"), ("Grüße 東京 🎮".to_owned(), 1));
        assert_eq!(typed(&mut map, "🎮 Grüß 京東"), ("🎮 Grüß 京東".to_owned(), 0));
        assert_eq!(typed(&mut map, "a\u{301}\u{200d}\u{feff}").0, "a\u{301}\u{200d}\u{feff}");
    }

    #[test]
    fn the_character_unused_for_longest_makes_room() {
        let mut map = TextMap::default();
        let keys = map.slots.len();
        assert_eq!(keys, 49);
        let greek: String = ('α'..).take(keys).collect();
        assert_eq!(typed(&mut map, &greek), (greek.clone(), 1));
        let first = greek.chars().next().unwrap().to_string();
        typed(&mut map, &first);
        assert_eq!(typed(&mut map, "ж").1, 1);
        assert_eq!(typed(&mut map, &first).1, 0, "it was used after all others");
        assert_eq!(typed(&mut map, &greek).1, 1, "one of them had to go");
    }

    #[test]
    fn more_characters_than_keys_are_typed_in_turns() {
        let mut map = TextMap::default();
        let text: String = ('一'..).take(200).collect();
        assert_eq!(typed(&mut map, &text), (text.clone(), 5));
    }

    #[test]
    fn every_character_is_typed_or_known_to_be_untypable() {
        let mut map = TextMap::default();
        let mut untypable = 0;
        let all: Vec<char> = ('\u{20}'..=char::MAX).filter(|c| !c.is_control()).step_by(7).collect();
        for block in all.chunks(49) {
            let text: String = block.iter().collect();
            let run = map.next(&text);
            assert_eq!((run.bytes, run.keys.len() + run.untypable), (text.len(), block.len()));
            untypable += run.untypable;
            if block[0] < '\u{3000}' || block[0] > '\u{f000}' && block[0] < '\u{1f700}' {
                let seen: String = text.chars().filter(|c| typable(*c)).collect();
                assert_eq!(typed(&mut map, &text).0, seen);
            }
        }
        assert!(untypable < 40, "{untypable} characters cannot be typed");
    }
}
