//! Names of keys, for scripts and logs.

use super::KeyCode;

/// The names of codes 1 to 248 in linux/input-event-codes.h, without `KEY_`, in lower case; `-` where there is none.
const NAMES: &str = "\
    esc 1 2 3 4 5 6 7 8 9 0 minus equal backspace tab q w e r t y u i o p leftbrace rightbrace enter \
    leftctrl a s d f g h j k l semicolon apostrophe grave leftshift backslash z x c v b n m comma dot slash \
    rightshift kpasterisk leftalt space capslock f1 f2 f3 f4 f5 f6 f7 f8 f9 f10 numlock scrolllock kp7 kp8 \
    kp9 kpminus kp4 kp5 kp6 kpplus kp1 kp2 kp3 kp0 kpdot - zenkakuhankaku 102nd f11 f12 ro katakana hiragana \
    henkan katakanahiragana muhenkan kpjpcomma kpenter rightctrl kpslash sysrq rightalt linefeed home up \
    pageup left right end down pagedown insert delete macro mute volumedown volumeup power kpequal \
    kpplusminus pause scale kpcomma hangeul hanja yen leftmeta rightmeta compose stop again props undo front \
    copy open paste find cut help menu calc setup sleep wakeup file sendfile deletefile xfer prog1 prog2 www \
    msdos coffee rotate_display cyclewindows mail bookmarks computer back forward closecd ejectcd \
    ejectclosecd nextsong playpause previoussong stopcd record rewind phone iso config homepage refresh exit \
    move edit scrollup scrolldown kpleftparen kprightparen new redo f13 f14 f15 f16 f17 f18 f19 f20 f21 f22 \
    f23 f24 - - - - - playcd pausecd prog3 prog4 all_applications suspend close play fastforward bassboost \
    print hp camera sound question email chat search connect finance sport shop alterase cancel \
    brightnessdown brightnessup media switchvideomode kbdillumtoggle kbdillumdown kbdillumup send reply \
    forwardmail save documents battery bluetooth wlan uwb unknown video_next video_prev brightness_cycle \
    brightness_auto display_off wwan rfkill micmute";

/// The key of a name as evdev has it, in lower case without `KEY_` (`a`, `leftshift`, `f1`), or of a code (`0x160`, `30`).
/// Names win: `1` is the key that says 1.
pub fn by_name(name: &str) -> Option<KeyCode> {
    let named = NAMES.split(' ').zip(1..).find(|&(known, _)| known == name && name != "-");
    let code = named.map(|(_, code)| code).or_else(|| match name.strip_prefix("0x") {
        Some(hex) => u16::from_str_radix(hex, 16).ok(),
        None => name.parse().ok(),
    });
    code.and_then(KeyCode::new)
}

/// The name of a key, where it has one.
pub fn name(code: KeyCode) -> Option<&'static str> {
    NAMES.split(' ').nth(usize::from(code.get()) - 1).filter(|&name| name != "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_kernel() {
        for (known, code) in [
            ("esc", 1),
            ("1", 2),
            ("a", 30),
            ("leftshift", 42),
            ("space", 57),
            ("102nd", 86),
            ("power", 116),
            ("f24", 194),
            ("micmute", 248),
        ] {
            assert_eq!(by_name(known).map(KeyCode::get), Some(code), "{known}");
            assert_eq!(name(KeyCode::new(code).unwrap()), Some(known));
        }
        assert_eq!(NAMES.split(' ').count(), 248);
    }

    #[test]
    fn a_code_is_a_name_too() {
        assert_eq!(by_name("0x160").map(KeyCode::get), Some(0x160));
        assert_eq!(by_name("240").map(KeyCode::get), Some(240));
        for wrong in ["", "-", "A", "KEY_A", "00", "0x110", "0x300", "70000", "-1", "leftshift "] {
            assert_eq!(by_name(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_name_finds_its_own_code() {
        for code in (1..0x300).filter_map(KeyCode::new) {
            if let Some(known) = name(code) {
                assert_eq!(by_name(known), Some(code), "{known}");
            }
        }
    }
}
