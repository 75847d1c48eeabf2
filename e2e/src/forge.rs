//! What a plane in bad hands does with what it has: its link to lumend, net's socket for signatures, and the memory that
//! it shares with its peers. As a table, which `docs/sandbox.md` shows too.
//!
//! The planes are unmodified and in mid-stream. [`words`] go over descriptors that they have, by system calls put into
//! them; [`lies`] are written into mappings of theirs, with the rights that those have; [`signer`] is net's alone.
//! [`victim`] is the session that pays.

pub mod lies;
pub mod signer;
pub mod victim;
pub mod words;

use ipc::PlaneKind::{self, Audio, Capture, Encode, Input, Net};

use self::lies::{Lie, Ring};
use self::words::Words;

/// What comes of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// lumend, or the peer, takes no notice.
    Nothing,
    /// The plane that did it is replaced.
    Itself,
    /// It is replaced, and so is this peer of the same session, which gives up its end.
    Both(PlaneKind),
    /// This peer, of one session, gives up its end and is replaced. When a second client's does, so is the plane.
    Peer(PlaneKind),
}

/// How it is done.
#[derive(Clone, Copy)]
pub enum How {
    /// Over its link.
    Say(Words),
    /// In the memory of this name, which this plane has too.
    Write(&'static str, PlaneKind, Lie),
}

/// One thing that planes do to lumend or to a peer.
#[derive(Clone, Copy)]
pub struct Forgery {
    pub what: &'static str,
    pub planes: &'static [PlaneKind],
    pub how: How,
    pub fate: Fate,
}

impl Forgery {
    /// The kinds of planes that are replaced if a plane of this kind does it, in one session: first the one that ends
    /// by itself, or is killed at once.
    pub fn dies(&self, by: PlaneKind) -> Vec<PlaneKind> {
        match self.fate {
            Fate::Nothing => Vec::new(),
            Fate::Itself => vec![by],
            Fate::Both(kind) => vec![kind, by],
            Fate::Peer(kind) => vec![kind],
        }
    }
}

const ALL: &[PlaneKind] = &[Capture, Encode, Net, Audio, Input];
const OF_A_SESSION: &[PlaneKind] = &[Capture, Encode, Audio, Input];

const fn say(what: &'static str, planes: &'static [PlaneKind], words: Words, fate: Fate) -> Forgery {
    Forgery { what, planes, how: How::Say(words), fate }
}

const fn write(
    what: &'static str,
    planes: &'static [PlaneKind],
    (memory, peer): (&'static str, PlaneKind),
    lie: Lie,
    fate: Fate,
) -> Forgery {
    Forgery { what, planes, how: How::Write(memory, peer, lie), fate }
}

/// Of the planes that a session has: each lives through what costs it nothing, and a fresh one is there after the rest.
/// Net may die four times a minute, and so does not try everything that the link would answer alike.
pub const FORGERIES: &[Forgery] = &[
    say("answers to pings that were never sent", ALL, words::pongs, Fate::Nothing),
    say("reports of generations that are over, and to come", ALL, words::foreign_reports, Fate::Nothing),
    say("reports with every number at its largest", ALL, words::largest, Fate::Nothing),
    say("that it leaves, with control characters, and stays", ALL, words::farewell, Fate::Nothing),
    say("answers of generations that are over", OF_A_SESSION, words::stale, Fate::Nothing),
    say("that devices are needed and dropped, again and again", &[Input], words::devices, Fate::Nothing),
    say("that a default sink was put back which it never changed", &[Audio], words::undone, Fate::Nothing),
    say("that clients of sessions that do not exist began, reported, left", &[Net], words::nobody, Fate::Nothing),
    say("that rings of others' generations are broken", &[Net], words::broken, Fate::Nothing),
    say("that a stranger asks for the desktop", &[Net], words::stranger, Fate::Nothing),
    say("that it has paired a client, without a person's PIN", &[Net], words::enrolment, Fate::Nothing),
    say("nothing: an empty message", OF_A_SESSION, words::empty, Fate::Itself),
    say("rubbish", OF_A_SESSION, words::rubbish, Fate::Itself),
    say("more than 4 KiB", ALL, words::long, Fate::Itself),
    say("words of another plane", OF_A_SESSION, words::foreign, Fate::Itself),
    say("a text longer than its message", OF_A_SESSION, words::longer_than_it_is, Fate::Itself),
    say("a message and a byte", OF_A_SESSION, words::and_a_byte, Fate::Itself),
    say("253 descriptors", OF_A_SESSION, words::descriptors, Fate::Itself),
    say("Hello again", OF_A_SESSION, words::again, Fate::Itself),
    say("Hello as another kind of plane", OF_A_SESSION, words::disguise, Fate::Itself),
    say("the answer of a generation that is to come", OF_A_SESSION, words::future, Fate::Itself),
    say("four thousand messages at once", ALL, words::flood, Fate::Itself),
    say("that a default sink is its own which is not", &[Audio], words::sink, Fate::Itself),
    say("the rest of a wish that nobody waits for", &[Net], words::tuning, Fate::Itself),
    write("a buffer that the pool does not have", &[Capture], MAILBOX, lies::slot, Fate::Both(Encode)),
    write("a frame older than the one before", &[Capture], MAILBOX, lies::older, Fate::Both(Encode)),
    write(
        "that buffers are back which it never had",
        &[Encode],
        ("lumen-mailbox", Capture),
        lies::returned,
        Fate::Both(Capture),
    ),
    write("a position past the ring", &[Encode], VIDEO, Ring::far, Fate::Itself),
    write("a position that goes backwards", &[Encode], VIDEO, Ring::back, Fate::Itself),
    write("a chunk of 4 GiB", &[Encode], VIDEO, Ring::huge, Fate::Itself),
    write("a chunk with unknown flags", &[Encode], VIDEO, Ring::flags, Fate::Itself),
    write("a chunk in the middle of no frame", &[Encode], VIDEO, Ring::middle, Fate::Itself),
    write("a position past the ring", &[Audio], ("lumen-audio", Net), Ring::far, Fate::Itself),
    write("a chunk of 4 GiB", &[Audio], ("lumen-audio", Net), Ring::huge, Fate::Itself),
    write("a position past the ring", &[Input], ("lumen-haptics", Net), Ring::far, Fate::Itself),
    write("a chunk of 4 GiB", &[Input], ("lumen-haptics", Net), Ring::huge, Fate::Itself),
    write("that it has read what was never written", &[Input], ("lumen-events", Net), Ring::read, Fate::Itself),
    write("that it has read what was never written", &[Net], ("lumen-video", Encode), Ring::read, Fate::Peer(Encode)),
    write("that it has read what was never written", &[Net], ("lumen-audio", Audio), Ring::read, Fate::Peer(Audio)),
    write("a position past the ring", &[Net], ("lumen-feedback", Encode), Ring::far, Fate::Peer(Encode)),
    write("a position past the ring", &[Net], ("lumen-events", Input), Ring::far, Fate::Peer(Input)),
    write("a chunk of 4 GiB", &[Net], ("lumen-events", Input), Ring::huge, Fate::Peer(Input)),
];

const MAILBOX: (&str, PlaneKind) = ("lumen-mailbox", Encode);
const VIDEO: (&str, PlaneKind) = ("lumen-video", Net);

/// Rows of the table in `docs/sandbox.md`.
pub fn markdown() -> String {
    let mut text = String::from("| plane | says or writes | and |\n|---|---|---|\n");
    for forgery in FORGERIES {
        let planes: Vec<String> = forgery.planes.iter().map(ToString::to_string).collect();
        let planes = if forgery.planes.len() == ALL.len() { "each".to_owned() } else { planes.join(", ") };
        let what = match forgery.how {
            How::Say(_) => forgery.what.to_owned(),
            How::Write(memory, peer, _) => format!("in `{memory}`, to {peer}: {}", forgery.what),
        };
        let fate = match forgery.fate {
            Fate::Nothing => "nothing comes of it".to_owned(),
            Fate::Itself => "is replaced".to_owned(),
            Fate::Both(kind) => format!("is replaced, and so is {kind}, which gives up"),
            Fate::Peer(kind) => {
                format!("its session's {kind} gives up, and is replaced; with a second client's, so is net")
            }
        };
        text += &format!("| {planes} | {what} | {fate} |\n");
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_document_shows_this_table() {
        crate::documented("docs/sandbox.md", "forgeries", &super::markdown(), "forge");
    }
}
