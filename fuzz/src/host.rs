//! What lumend hears of people, of the compositor and of its planes' stderr; and what net tells an encoder.

use std::io::Write;

use ipc::ctl::{CtlReply, CtlRequest};
use ipc::feedback::Feedback;

use crate::grumbles::Grumbles;
use crate::script::Script;
use crate::swayipc::{Decoder, Reply};

/// A line on the control socket. What is no request has one line for an answer.
pub fn control_line(bytes: &[u8]) {
    match CtlRequest::parse(bytes) {
        Ok(request) => {
            let line = serde_json::to_vec(&request).expect("a request is JSON");
            assert_eq!(CtlRequest::parse(&line), Ok(request));
        }
        Err(reply) => {
            let line = reply.to_line();
            assert!(line.ends_with('\n') && line.lines().count() == 1 && matches!(reply, CtlReply::Error { .. }));
        }
    }
}

/// What net tells an encoder.
pub fn feedback(bytes: &[u8]) {
    if let Some(said) = Feedback::decode(bytes) {
        assert_eq!(said.encode(), bytes);
    }
}

/// What sway says, cut at any place into what arrives: replies with a header as it should be, and bytes as they are.
pub fn sway(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let mut sway = Decoder::default();
    while let Some(step) = script.step() {
        if step & 1 == 0 {
            let kinds = [0, 2, 3, 101, 0x8000_0000, 0x8000_0001, 7, u32::from(step)];
            let piece = script.piece();
            sway.push(b"i3-ipc");
            sway.push(&(piece.len() as u32).to_ne_bytes());
            sway.push(&kinds[usize::from(step >> 1) % kinds.len()].to_ne_bytes());
            sway.push(piece);
        } else {
            sway.push(script.bytes((step >> 1).into()));
        }
        loop {
            match sway.next() {
                Ok(Some(Reply::Ran(Err(reason)))) => assert!(!reason.contains(char::is_control)),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

/// What a plane writes to its stderr: lines that may be shown on a terminal, and no more of them than are read.
pub fn stderr(bytes: &[u8]) {
    let (mut grumbles, mut theirs) = Grumbles::pipe(0).expect("there are descriptors");
    let (mut script, mut now_ns, mut heard) = (Script::new(bytes), 0, 0);
    while let Some(step) = script.step() {
        if step % 4 == 0 {
            now_ns += u64::from(script.u32());
        }
        // A pipe holds far more.
        let _ = theirs.write_all(script.bytes(usize::from(step) * 2));
        for line in grumbles.hear(now_ns) {
            assert!(!line.contains(char::is_control) && !line.trim().is_empty());
            heard += line.chars().count() as u64;
        }
    }
    assert!(heard <= 16 * 1024 + now_ns / 900_000, "a flood is heard: {heard}");
}
