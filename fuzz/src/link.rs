//! Messages between lumend and everything it starts: bytes and descriptors, as they come over a real link.

use std::fmt::Debug;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use ipc::codec::Message;
use ipc::event::Event;
use ipc::link::Link;
use ipc::{
    FromAudio, FromCapture, FromEncode, FromInput, FromLauncher, FromNet, SignReply, SignRequest, ToAudio, ToCapture,
    ToEncode, ToInput, ToLauncher, ToNet,
};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

/// What lumend hears of planes, of launchers and of who wants something signed.
pub fn to_lumend(bytes: &[u8]) {
    let hear = match kind(bytes, 7) {
        0 => plain::<FromCapture>,
        1 => plain::<FromEncode>,
        2 => plain::<FromNet>,
        3 => plain::<FromInput>,
        4 => plain::<FromAudio>,
        5 => plain::<FromLauncher>,
        _ => plain::<SignRequest>,
    };
    hear(bytes.get(1..).unwrap_or_default());
}

/// What planes and launchers hear of lumend.
pub fn from_lumend(bytes: &[u8]) {
    let hear = match kind(bytes, 7) {
        0 => with_descriptors::<ToCapture<OwnedFd>>,
        1 => with_descriptors::<ToEncode<OwnedFd>>,
        2 => with_descriptors::<ToNet<OwnedFd>>,
        3 => with_descriptors::<ToInput<OwnedFd>>,
        4 => with_descriptors::<ToAudio<OwnedFd>>,
        5 => plain::<ToLauncher>,
        _ => plain::<SignReply>,
    };
    hear(bytes.get(1..).unwrap_or_default());
}

fn kind(bytes: &[u8], kinds: u8) -> u8 {
    bytes.first().copied().unwrap_or(0) % kinds
}

/// A message that holds no descriptor, said again as it was understood, is understood alike.
fn plain<M: Message + Debug>(bytes: &[u8]) {
    if let Some(message) = heard::<M>(bytes) {
        let told = format!("{message:?}");
        let again = sent(message);
        assert_eq!(format!("{again:?}"), told);
    }
}

/// One that does has all that came, each once: it can be said again.
fn with_descriptors<M: Message + Debug>(bytes: &[u8]) {
    let before = spare_descriptor();
    if let Some(message) = heard::<M>(bytes) {
        sent(message);
    }
    assert_eq!(spare_descriptor(), before, "descriptors stay open");
}

/// The number that the next descriptor would have.
fn spare_descriptor() -> RawFd {
    Event::new().expect("there are descriptors").into_fd().as_raw_fd()
}

/// Sends a body, the first byte of which says how many descriptors go with it, and takes it in at the other end.
fn heard<M: Message>(bytes: &[u8]) -> Option<M> {
    let (count, body) = bytes.split_first()?;
    let (theirs, ours) = Link::pair().expect("there are descriptors");
    let (theirs, event) = (theirs.into_fd(), Event::new().expect("there are descriptors").into_fd());
    let fds = vec![event.as_raw_fd(); usize::from(*count) % 72];
    let rights = [ControlMessage::ScmRights(&fds)];
    let control = if fds.is_empty() { &rights[..0] } else { &rights };
    let sent = sendmsg::<()>(theirs.as_raw_fd(), &[IoSlice::new(body)], control, MsgFlags::MSG_DONTWAIT, None);
    sent.expect("a link takes one message");
    let received = ours.recv::<M>().ok()?.expect("a message has come");
    assert_eq!(received.sender.pid.cast_unsigned(), std::process::id());
    Some(received.message)
}

fn sent<M: Message>(message: M) -> M {
    let (theirs, ours) = Link::pair().expect("there are descriptors");
    theirs.send(message).expect("what was received can be sent");
    ours.recv().expect("what was sent can be received").expect("a message has come").message
}
