//! What no honest client sends, and the few words that say what one does.

use lumen_core::InputEvent;
use lumen_core::input::{
    Held, INPUT_ACK_DATAGRAM, INPUT_DATAGRAM, KeyCode, MAX_CONTACTS, MAX_EVENT, MAX_HELD, RUMBLE_DATAGRAM,
};

/// linux/input-event-codes.h
pub const KEY_A: u16 = 30;

/// A datagram as a client would write it, but with any count.
fn counted(first: u32, count: u8, client_ns: u64, events: &[Vec<u8>]) -> Vec<u8> {
    let mut out = vec![INPUT_DATAGRAM];
    out.extend(first.to_le_bytes());
    out.extend(client_ns.to_le_bytes());
    out.push(count);
    for event in events {
        out.extend([0, 0, event.len() as u8]);
        out.extend(event);
    }
    out
}

pub fn datagram(first: u32, client_ns: u64, events: &[Vec<u8>]) -> Vec<u8> {
    counted(first, events.len() as u8, client_ns, events)
}

pub fn bytes(event: &InputEvent) -> Vec<u8> {
    let mut out = [0; MAX_EVENT];
    let length = event.encode(&mut out);
    out[..length].to_vec()
}

pub fn key(code: u16, pressed: bool) -> Vec<u8> {
    bytes(&InputEvent::Key { code: KeyCode::new(code).unwrap(), pressed })
}

pub fn held(keys: impl IntoIterator<Item = u16>, buttons: u8, contacts: u16) -> Vec<u8> {
    bytes(&InputEvent::Held(Held::new(keys.into_iter().filter_map(KeyCode::new), buttons, contacts)))
}

/// Datagrams whose bytes do not add up, or that are not for a host.
pub fn malformed(next: u32, most: usize) -> Vec<Vec<u8>> {
    let good = datagram(next, 1, &[key(KEY_A, true), key(KEY_A, false)]);
    let mut all: Vec<Vec<u8>> = (0..good.len()).map(|end| good[..end].to_vec()).collect();
    all.push([&good[..], &[0]].concat());
    all.extend([0, 1, 3, 255].map(|count| counted(next, count, 1, &[key(KEY_A, true), key(KEY_A, false)])));
    // An event's length says more, and less, than there is.
    all.extend([0, 3, 5, 255].map(|length| {
        let mut lie = datagram(next, 1, &[key(KEY_A, true)]);
        lie[16] = length;
        lie
    }));
    // Well formed in everything but its size.
    let large = datagram(next, 1, &vec![held(1..=MAX_HELD as u16, 31, u16::MAX); 16]);
    assert!((1101..=most).contains(&large.len()), "{} of {most}", large.len());
    all.push(large);
    all.push(vec![0xFF; most]);
    all.push(vec![INPUT_DATAGRAM; most]);
    // What only a host says: an answer to an event it never got, rumble, sound.
    all.push([&[INPUT_ACK_DATAGRAM][..], &u32::MAX.to_le_bytes(), &u64::MAX.to_le_bytes()].concat());
    all.push(vec![RUMBLE_DATAGRAM, 0, 255, 255, 255, 255]);
    all.push(vec![0xC9; 200]);
    all
}

/// Events that no hand can make.
pub fn impossible() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = vec![
        vec![],
        vec![0],
        vec![12],
        vec![255; 60],
        // Keys that are none, pressed twofold, cut off.
        vec![1, 0, 0, 1],
        vec![1, 0, 1, 1],
        vec![1, 255, 255, 1],
        vec![1, 30, 0, 2],
        vec![1, 30],
        // Text: none, control characters, half a character, overlong, a surrogate, too long.
        vec![2],
        b"\x02rm\n".to_vec(),
        b"\x02\x1b[2J".to_vec(),
        vec![2, 0],
        vec![2, 0x7F],
        "\u{2}\u{85}".into(),
        vec![2, 0xF0, 0x9F, 0x8E],
        vec![2, 0xC0, 0x80],
        vec![2, 0xED, 0xA0, 0x80],
        vec![2, 0xFF, 0xFE],
        [vec![2], vec![b'x'; 65]].concat(),
        // Motion and scroll out of bounds.
        [&[3][..], &i32::MIN.to_le_bytes(), &0_i32.to_le_bytes()].concat(),
        [&[3][..], &0_i32.to_le_bytes(), &i32::MAX.to_le_bytes()].concat(),
        vec![4, 0, 0, 0],
        vec![5, 5, 1],
        vec![5, 255, 0],
        vec![6, 2, 0, 0, 0, 0],
        [&[6, 0][..], &i32::MIN.to_le_bytes()].concat(),
        vec![7, MAX_CONTACTS, 0, 0, 0, 0, 0, 0, 0],
        vec![7, 255, 0, 0, 0, 0, 0, 0, 0],
        vec![7, 0, 4, 0, 0, 0, 0, 0, 0],
        // Pads 16 and 255: arrived, removed, state.
        vec![8, 16, 0],
        vec![8, 255, 0],
        vec![8, 0, 4],
        vec![9, 255],
        [vec![10, 255], vec![0; 14]].concat(),
        [vec![10, 0], vec![0; 13]].concat(),
        // Held: more keys than there may be, than there are, keys that are none, buttons that are none.
        [vec![11, 33], [30, 0].repeat(33), vec![0; 3]].concat(),
        [vec![11, 255], [30, 0].repeat(32), vec![0; 3]].concat(),
        vec![11, 2, 30, 0, 0, 0, 0],
        vec![11, 1, 0, 0, 0, 0, 0],
        vec![11, 0, 32, 0, 0],
        vec![11, 0, 255, 0, 0],
    ];
    all.extend((1..=11).map(|kind| vec![kind]));
    all
}
