//! Input messages: a size, a kind and a body whose byte order depends on the kind (moonlight-common-c, Input.h).

use super::control::{Delivery, Message, Orders};

/// Channels (Limelight-internal.h, CTRL_CHANNEL_*).
const GENERIC: u8 = 0;
const KEYBOARD: u8 = 2;
const MOUSE: u8 = 3;
const PEN: u8 = 4;
const TOUCH: u8 = 5;
const TEXT: u8 = 6;
const PADS: u8 = 0x10;

/// A pad's state, as its report has it.
#[derive(Clone, Copy, Default, Debug)]
pub struct Pad {
    pub buttons: u32,
    pub triggers: [u8; 2],
    /// Left x and y, right x and y; y grows upwards.
    pub sticks: [i16; 4],
}

/// A client's hands.
#[derive(Clone)]
pub struct Hands(Orders);

/// `u32 BE` size of the rest, `u32 LE` kind, body.
fn packet(kind: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u32 + 4).to_be_bytes().to_vec();
    bytes.extend(kind.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn big(words: &[i16]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

impl Hands {
    pub const fn new(orders: Orders) -> Self {
        Self(orders)
    }

    fn send(&self, channel: u8, kind: u32, body: &[u8]) {
        self.0.send(Message::input(channel, packet(kind, body)));
    }

    /// What every client does when its stream begins: it wants to feel rumble, and wakes the screen.
    pub fn begin(&self) {
        self.send(GENERIC, 0x0d, &1_u16.to_le_bytes());
        self.nudge(1, 1);
        self.nudge(-1, -1);
    }

    /// A key by its Windows code; moonlight-qt sets the highest bit.
    pub fn key(&self, code: u16, down: bool) {
        let mut body = vec![0];
        body.extend((code | 0x8000).to_le_bytes());
        body.extend([0; 3]);
        self.send(KEYBOARD, if down { 3 } else { 4 }, &body);
    }

    pub fn tap(&self, code: u16) {
        self.key(code, true);
        self.key(code, false);
    }

    /// One code point a message.
    pub fn text(&self, text: &str) {
        for letter in text.chars() {
            self.send(TEXT, 0x17, letter.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }

    /// Moves the pointer by this much.
    pub fn nudge(&self, x: i16, y: i16) {
        self.send(MOUSE, 7, &big(&[x, y]));
    }

    /// Moves the pointer to a place in a window of this size.
    pub fn at(&self, x: i16, y: i16, width: i16, height: i16) {
        self.send(MOUSE, 5, &big(&[x, y, 0, width - 1, height - 1]));
    }

    /// 1 left, 2 middle, 3 right.
    pub fn button(&self, button: u8, down: bool) {
        self.send(MOUSE, if down { 8 } else { 9 }, &[button]);
    }

    /// 120 a notch, away from the person.
    pub fn scroll(&self, amount: i16) {
        self.send(MOUSE, 0x0a, &big(&[amount, amount, 0]));
    }

    /// 120 a notch, to the right.
    pub fn scroll_sideways(&self, amount: i16) {
        self.send(MOUSE, 0x5500_0001, &big(&[amount]));
    }

    /// A pad is there: an Xbox one with rumble.
    pub fn pad_arrives(&self, pad: u8) {
        let mut body = vec![pad, 1];
        body.extend(0x02_u16.to_le_bytes());
        body.extend(0xffff_u32.to_le_bytes());
        self.send(PADS + pad, 0x5500_0004, &body);
    }

    /// A pad's state; `mask` has a bit for every pad that is there.
    pub fn pad(&self, pad: u8, mask: u16, state: Pad) {
        let mut body = Vec::new();
        for word in [0x1a, u16::from(pad), mask, 0x14, state.buttons as u16] {
            body.extend(word.to_le_bytes());
        }
        body.extend(state.triggers);
        body.extend(state.sticks.into_iter().flat_map(i16::to_le_bytes));
        for word in [0x9c, (state.buttons >> 16) as u16, 0x55] {
            body.extend(word.to_le_bytes());
        }
        self.send(PADS + pad, 0x0c, &body);
    }

    /// A finger: 0 hovers, 1 down, 2 up, 3 moves. Places are in parts of the picture.
    pub fn touch(&self, event: u8, finger: u32, x: f32, y: f32) {
        let mut body = vec![event, 0];
        body.extend(0xffff_u16.to_le_bytes());
        body.extend(finger.to_le_bytes());
        body.extend(floats(&[x, y, 1.0, 0.0, 0.0]));
        self.deliver(TOUCH, 0x5500_0002, &body, event);
    }

    pub fn pen(&self, event: u8, x: f32, y: f32) {
        let mut body = vec![event, 1, 0, 0];
        body.extend(floats(&[x, y, 1.0]));
        body.extend([0xff, 0xff, 0xff, 0]);
        body.extend(floats(&[0.0, 0.0]));
        self.deliver(PEN, 0x5500_0003, &body, event);
    }

    /// Movements of fingers and pens may be lost; what begins and ends them may not.
    fn deliver(&self, channel: u8, kind: u32, body: &[u8], event: u8) {
        let mut message = Message::input(channel, packet(kind, body));
        if event == 3 {
            message.delivery = Delivery::Unreliable;
        }
        self.0.send(message);
    }

    /// Any input message.
    pub fn raw(&self, channel: u8, body: Vec<u8>) {
        self.0.send(Message::input(channel, body));
    }
}
