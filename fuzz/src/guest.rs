//! Moonlight clients beyond what they write: strangers that pair, and one that was let in, in any order of their phases.

use lumen_net::fuzz::{Seated, Strangers};

use crate::script::Script;

/// Phases of pairing, by strangers at four addresses; PINs; time.
pub fn pairing(bytes: &[u8]) {
    let (mut script, mut strangers) = (Script::new(bytes), Strangers::new());
    while let Some(step) = script.step() {
        let from = step >> 4;
        match step % 8 {
            0 => strangers.begin(from, script.array()),
            1 => strangers.asks(from, &format!("/pair?uniqueid=1&clientchallenge={}", hex(&script.array::<16>()))),
            2 => strangers.asks(from, &format!("/pair?uniqueid=1&serverchallengeresp={}", hex(&script.array::<32>()))),
            3 => strangers.asks(from, &format!("/pair?uniqueid=1&clientpairingsecret={}", hex(script.piece()))),
            4 | 5 => strangers.pin(from, script.u16()),
            6 => strangers.pass(script.u8(), from == 0),
            _ => {
                let length = script.u16();
                if let Ok(target) = std::str::from_utf8(script.bytes(length.into())) {
                    strangers.asks(from, target);
                }
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// RTSP, and the control stream after it, of a client that holds its session's key.
pub fn guest(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let setup = script.u8();
    let mut seated = Seated::new(setup & 1 != 0, setup & 2 != 0);
    while let Some(step) = script.step() {
        match step % 4 {
            0 => {
                let length = script.u16();
                seated.rtsp(script.bytes(length.into()));
            }
            1 => seated.control(script.piece()),
            2 => seated.hear(script.piece()),
            _ => {
                if !seated.pass(u64::from(script.u16()) << (step >> 3)) {
                    return;
                }
            }
        }
    }
}
