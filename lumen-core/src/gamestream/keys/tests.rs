use super::evdev;
use crate::input::KeyCode;
use crate::input::keys::by_name;

/// By the names that winuser.h and linux/input-event-codes.h have for the same key.
const SAME: &str = "08 backspace 09 tab 0D enter 10 leftshift 11 leftctrl 12 leftalt 13 pause 14 capslock 1B esc \
    20 space 21 pageup 22 pagedown 23 end 24 home 25 left 26 up 27 right 28 down 2C sysrq 2D insert 2E delete \
    30 0 31 1 32 2 33 3 34 4 35 5 36 6 37 7 38 8 39 9 \
    41 a 42 b 43 c 44 d 45 e 46 f 47 g 48 h 49 i 4A j 4B k 4C l 4D m \
    4E n 4F o 50 p 51 q 52 r 53 s 54 t 55 u 56 v 57 w 58 x 59 y 5A z \
    5B leftmeta 5C rightmeta 5D compose 5F sleep \
    60 kp0 61 kp1 62 kp2 63 kp3 64 kp4 65 kp5 66 kp6 67 kp7 68 kp8 69 kp9 \
    6A kpasterisk 6B kpplus 6D kpminus 6E kpdot 6F kpslash \
    70 f1 71 f2 72 f3 73 f4 74 f5 75 f6 76 f7 77 f8 78 f9 79 f10 7A f11 7B f12 \
    7C f13 7D f14 7E f15 7F f16 80 f17 81 f18 82 f19 83 f20 84 f21 85 f22 86 f23 87 f24 \
    90 numlock 91 scrolllock A0 leftshift A1 rightshift A2 leftctrl A3 rightctrl A4 leftalt A5 rightalt \
    A6 back A7 forward A8 refresh A9 stop AA search AB bookmarks AC homepage AD mute AE volumedown AF volumeup \
    B0 nextsong B1 previoussong B2 stopcd B3 playpause B4 mail B5 media B6 computer B7 calc \
    BA semicolon BB equal BC comma BD minus BE dot BF slash C0 grave DB leftbrace DC backslash DD rightbrace \
    DE apostrophe E2 102nd 1C henkan 1D muhenkan 2F help";

#[test]
fn keys_are_those_of_the_same_name() {
    let words: Vec<_> = SAME.split_whitespace().collect();
    for pair in words.chunks(2) {
        let vk = u8::from_str_radix(pair[0], 16).unwrap();
        let key = by_name(pair[1]);
        assert!(key.is_some(), "{pair:?}");
        assert_eq!(evdev(vk, true), key, "{pair:?}");
    }
}

/// Every code that moonlight-qt's keyboard.cpp can send.
#[test]
fn every_key_of_moonlight_qt_is_known() {
    let single = [
        0x08, 0x09, 0x0C, 0x0D, 0x13, 0x14, 0x1B, 0x1C, 0x1D, 0x6A, 0x6B, 0x6C, 0x6D, 0x6E, 0x6F, 0x90, 0x91, 0xDB,
        0xDC, 0xDD, 0xDE, 0xE2,
    ];
    let ranges = [0x20..=0x29, 0x2B..=0x2F, 0x30..=0x39, 0x41..=0x5A, 0x5B..=0x5D, 0x60..=0x69, 0x70..=0x87];
    let more = [0xA0..=0xAC, 0xBA..=0xC0];
    for vk in ranges.into_iter().chain(more).flatten().chain(single) {
        assert!(evdev(vk, true).is_some(), "{vk:02x}");
    }
}

#[test]
fn the_key_that_only_japanese_keyboards_have() {
    assert_eq!(evdev(0xE2, false), by_name("ro"));
    assert_eq!(evdev(0xE2, true), by_name("102nd"));
    assert_eq!(evdev(0x41, false), KeyCode::new(30));
}

#[test]
fn what_is_no_key_has_no_code() {
    for vk in [0x00, 0x01, 0x02, 0x07, 0x3A, 0x40, 0x5E, 0x88, 0x92, 0x9F, 0xB8, 0xC3, 0xDF, 0xE1, 0xE3, 0xFF] {
        assert_eq!(evdev(vk, true), None, "{vk:02x}");
    }
}
