//! Keys: from Windows' virtual-key codes, which clients send for a US keyboard whatever theirs is (moonlight-common-c,
//! Limelight.h; moonlight-qt, keyboard.cpp), to evdev's codes. The host's own layout then applies, as if the client's
//! keyboard were plugged in.

use crate::input::KeyCode;

/// `KEY_ENTER`.
pub(super) const ENTER: KeyCode = known(28);
/// `KEY_TAB`.
pub(super) const TAB: KeyCode = known(15);

/// `KEY_0`, then `KEY_1` to `KEY_9`: VK 0x30 and on.
const DIGITS: [u16; 10] = [11, 2, 3, 4, 5, 6, 7, 8, 9, 10];
/// `KEY_A` to `KEY_Z`: VK 0x41 and on.
const LETTERS: [u16; 26] =
    [30, 48, 46, 32, 18, 33, 34, 35, 23, 36, 37, 38, 50, 49, 24, 25, 16, 19, 31, 20, 22, 47, 17, 45, 21, 44];
/// `KEY_KP0` to `KEY_KP9`: VK 0x60 and on.
const PAD_DIGITS: [u16; 10] = [82, 79, 80, 81, 75, 76, 77, 71, 72, 73];
/// `KEY_F1` to `KEY_F24`: VK 0x70 and on.
const FUNCTION: [u16; 24] =
    [59, 60, 61, 62, 63, 64, 65, 66, 67, 68, 87, 88, 183, 184, 185, 186, 187, 188, 189, 190, 191, 192, 193, 194];

/// The evdev code of a virtual key, if there is one. Not `normalised`: the client has found no key of a US keyboard that
/// is in the same place.
pub fn evdev(vk: u8, normalised: bool) -> Option<KeyCode> {
    KeyCode::new(match vk {
        // Japanese keyboards have a key more beside the right shift (keyboard.cpp). The other one that they have, yen,
        // cannot be told from the backslash of a client that does not know its keyboard: both are 0xDC.
        0xE2 if !normalised => 89,
        0x30..=0x39 => DIGITS[usize::from(vk - 0x30)],
        0x41..=0x5A => LETTERS[usize::from(vk - 0x41)],
        0x60..=0x69 => PAD_DIGITS[usize::from(vk - 0x60)],
        0x70..=0x87 => FUNCTION[usize::from(vk - 0x70)],
        0x5B..=0x5F | 0x6A..=0x6F | 0x90..=0x91 | 0xA0..=0xA5 => beside(vk)?,
        0xA6..=0xB7 | 0xFA => media(vk)?,
        0xBA..=0xE2 => punctuation(vk)?,
        0x00..=0x2F => editing(vk)?,
        _ => return None,
    })
}

/// Modifiers, locks, the number pad's signs.
const fn beside(vk: u8) -> Option<u16> {
    Some(match vk {
        0x5B => 125, // left Windows key
        0x5C => 126, // right Windows key
        0x5D => 127, // menu
        0x5F => 142, // sleep
        0x6A => 55,  // *
        0x6B => 78,  // +
        0x6C => 121, // separator: the number pad's comma
        0x6D => 74,  // -
        0x6E => 83,  // .
        0x6F => 98,  // /
        0x90 => 69,  // num lock
        0x91 => 70,  // scroll lock
        0xA0 => 42,  // left shift
        0xA1 => 54,  // right shift
        0xA2 => 29,  // left control
        0xA3 => 97,  // right control
        0xA4 => 56,  // left alt
        0xA5 => 100, // right alt
        _ => return None,
    })
}

/// What is above the letters and around the arrows, and what East Asian keyboards have beside the space bar.
const fn editing(vk: u8) -> Option<u16> {
    Some(match vk {
        0x03 => 223,   // break: cancel
        0x08 => 14,    // backspace
        0x09 => 15,    // tab
        0x0C => 0x163, // clear
        0x0D => 28,    // enter, the number pad's too
        0x10 => 42,    // either shift
        0x11 => 29,    // either control
        0x12 => 56,    // either alt
        0x13 => 119,   // pause
        0x14 => 58,    // caps lock
        0x15 => 122,   // hangul
        0x19 => 123,   // hanja
        0x1B => 1,     // escape
        0x1C => 92,    // henkan
        0x1D => 94,    // muhenkan
        0x20 => 57,    // space
        0x21 => 104,   // page up
        0x22 => 109,   // page down
        0x23 => 107,   // end
        0x24 => 102,   // home
        0x25 => 105,   // left
        0x26 => 103,   // up
        0x27 => 106,   // right
        0x28 => 108,   // down
        // As the kernel has these two of a USB keyboard (drivers/hid/hid-input.c): front, open.
        0x29 => 132,
        0x2B => 134,
        0x2A => 210, // print
        0x2C => 99,  // print screen
        0x2D => 110, // insert
        0x2E => 111, // delete
        0x2F => 138, // help
        _ => return None,
    })
}

const fn media(vk: u8) -> Option<u16> {
    Some(match vk {
        0xA6 => 158, // back
        0xA7 => 159, // forward
        0xA8 => 173, // refresh
        0xA9 => 128, // stop
        0xAA => 217, // search
        0xAB => 156, // bookmarks
        0xAC => 172, // home page
        0xAD => 113, // mute
        0xAE => 114, // volume down
        0xAF => 115, // volume up
        0xB0 => 163, // next song
        0xB1 => 165, // previous song
        0xB2 => 166, // stop playing
        0xB3 => 164, // play or pause
        0xB4 => 155, // mail
        0xB5 => 226, // media
        0xB6 => 157, // computer
        0xB7 => 140, // calculator
        0xFA => 207, // play
        _ => return None,
    })
}

const fn punctuation(vk: u8) -> Option<u16> {
    Some(match vk {
        0xBA => 39,  // ;
        0xBB => 13,  // =
        0xBC => 51,  // ,
        0xBD => 12,  // -
        0xBE => 52,  // .
        0xBF => 53,  // /
        0xC0 => 41,  // `
        0xC1 => 89,  // Brazilian /
        0xC2 => 121, // Brazilian number pad's .
        0xDB => 26,  // [
        0xDC => 43,  // \
        0xDD => 27,  // ]
        0xDE => 40,  // '
        0xE2 => 86,  // the key beside the left shift that US keyboards lack
        _ => return None,
    })
}

const fn known(code: u16) -> KeyCode {
    match KeyCode::new(code) {
        Some(code) => code,
        None => panic!("not a key"),
    }
}

#[cfg(test)]
#[path = "keys/tests.rs"]
mod tests;
