//! Messages to bytes and descriptors, and back.
//!
//! A body is postcard, at most 4 KiB; a descriptor in it is its index in the SCM_RIGHTS array. Each index is used
//! exactly once and nothing follows the body: what a peer sends is a whole valid message or it is malformed.

use std::os::fd::OwnedFd;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::msg::{
    FromAudio, FromCapture, FromEncode, FromInput, FromLauncher, FromNet, SessionId, SignReply, SignRequest, ToAudio,
    ToCapture, ToEncode, ToInput, ToLauncher, ToNet,
};

/// Most bytes of a body.
pub const MAX_BODY: usize = 4096;
/// Most descriptors of a message.
pub const MAX_FDS: usize = 64;

/// Why a message is none. The text names what was wrong, for the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// A message on its way out: its body and the descriptors that go with it.
#[derive(Debug)]
pub struct Outgoing {
    body: [u8; MAX_BODY],
    len: usize,
    fds: Vec<OwnedFd>,
}

impl Outgoing {
    pub(crate) fn new() -> Self {
        Self { body: [0; MAX_BODY], len: 0, fds: Vec::new() }
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.body[..self.len]
    }

    pub(crate) fn fds(&self) -> &[OwnedFd] {
        &self.fds
    }

    /// Sets the body.
    fn write(&mut self, body: &impl Serialize) -> Result<(), Malformed> {
        let written = postcard::to_slice(body, &mut self.body);
        self.len = written.map_err(|_| Malformed("the message is larger than 4 KiB"))?.len();
        Ok(())
    }

    /// Adds a descriptor and returns its index.
    fn attach(&mut self, fd: OwnedFd) -> Result<u8, Malformed> {
        if self.fds.len() == MAX_FDS {
            return Err(Malformed("the message has more than 64 descriptors"));
        }
        self.fds.push(fd);
        Ok((self.fds.len() - 1) as u8)
    }
}

/// A message as it came in. Descriptors that nobody claims are closed with it.
#[derive(Debug)]
pub struct Incoming<'a> {
    body: &'a [u8],
    fds: Vec<Option<OwnedFd>>,
}

impl<'a> Incoming<'a> {
    pub(crate) fn new(body: &'a [u8], fds: Vec<OwnedFd>) -> Self {
        Self { body, fds: fds.into_iter().map(Some).collect() }
    }

    fn parse<T: DeserializeOwned>(&self) -> Result<T, Malformed> {
        match postcard::take_from_bytes(self.body) {
            Ok((message, [])) => Ok(message),
            Ok(_) => Err(Malformed("bytes follow the message")),
            Err(_) => Err(Malformed("the body is no message of this link")),
        }
    }

    fn claim(&mut self, index: u8) -> Result<OwnedFd, Malformed> {
        let fd = self.fds.get_mut(usize::from(index)).and_then(Option::take);
        fd.ok_or(Malformed("a descriptor is named twice or did not come"))
    }

    fn finish(self) -> Result<(), Malformed> {
        match self.fds.iter().all(Option::is_none) {
            true => Ok(()),
            false => Err(Malformed("descriptors came that the message does not name")),
        }
    }
}

/// What may travel over a link: exactly the closed enums of [`crate::msg`].
pub trait Message: Sized {
    /// Moves the message into `out`.
    fn encode(self, out: &mut Outgoing) -> Result<(), Malformed>;
    /// Makes a message of the whole of `incoming`.
    fn decode(incoming: Incoming<'_>) -> Result<Self, Malformed>;
    /// Whether it answers a ping.
    fn is_pong(&self) -> bool {
        false
    }
    /// The session that a plane serves from this message on, if it says so.
    fn session(&self) -> Option<SessionId> {
        None
    }
}

macro_rules! with_fds {
    ($($name:ident),*) => {$(
        impl Message for $name<OwnedFd> {
            fn encode(self, out: &mut Outgoing) -> Result<(), Malformed> {
                let body = self.map_fds(&mut |fd| out.attach(fd))?;
                out.write(&body)
            }

            fn decode(mut incoming: Incoming<'_>) -> Result<Self, Malformed> {
                let message = incoming.parse::<$name<u8>>()?.map_fds(&mut |index| incoming.claim(index))?;
                incoming.finish().map(|()| message)
            }

            fn session(&self) -> Option<SessionId> {
                self.serves()
            }
        }
    )*};
}

macro_rules! without_fds {
    ($($name:ident $(($pong:pat))?),*) => {$(
        impl Message for $name {
            fn encode(self, out: &mut Outgoing) -> Result<(), Malformed> {
                out.write(&self)
            }

            fn decode(incoming: Incoming<'_>) -> Result<Self, Malformed> {
                let message = incoming.parse()?;
                incoming.finish().map(|()| message)
            }

            $(fn is_pong(&self) -> bool {
                matches!(self, $pong)
            })?
        }
    )*};
}

with_fds!(ToCapture, ToEncode, ToNet, ToInput, ToAudio);
without_fds!(FromCapture(Self::Pong(_)), FromEncode(Self::Pong(_)), FromNet(Self::Pong(_)));
without_fds!(FromInput(Self::Pong(_)), FromAudio(Self::Pong(_)));
without_fds!(SignRequest, SignReply, ToLauncher, FromLauncher);
