//! Waiting, in the control thread's runtime, for descriptors that the runtime does not know: the link and an eventfd.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::task::{Context, Poll, ready};

use ipc::event::Event;
use ipc::link::Link;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::media::socket::MediaSocket;

/// Owners of one descriptor, the same from their beginning to their end.
pub trait OneDescriptor: AsFd {}

impl OneDescriptor for Link {}
impl OneDescriptor for Event {}
impl OneDescriptor for MediaSocket {}

struct Raw<T>(T);

impl<T: OneDescriptor> AsRawFd for Raw<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// A descriptor registered with the runtime in whose context it was made.
pub struct Readable<T: OneDescriptor>(AsyncFd<Raw<T>>);

impl<T: OneDescriptor> Readable<T> {
    pub fn new(inner: T) -> io::Result<Self> {
        // SAFETY: the descriptor is open and owned by `inner`, which the registration owns in turn and never gives
        // out, so it is closed only after the registration is gone; by `OneDescriptor` it never changes.
        let registered = unsafe { AsyncFd::register_with_interest(Raw(inner), Interest::READABLE) };
        Ok(Self(registered.map_err(|error| error.into_parts().1)?))
    }

    pub fn get(&self) -> &T {
        &self.0.get_ref().0
    }

    /// Waits until `look`, which is tried whenever the descriptor may be readable, finds something. `look` has to
    /// answer `None` only after the descriptor had nothing more to read.
    pub async fn find<R>(&self, mut look: impl FnMut(&T) -> Option<R>) -> io::Result<R> {
        loop {
            let mut ready = self.0.readable().await?;
            match look(&ready.get_inner().0) {
                Some(found) => return Ok(found),
                None => ready.clear_ready(),
            }
        }
    }

    /// The same for a task that waits for many at once: only the task that asked last is woken.
    pub fn poll_find<R>(&self, cx: &mut Context<'_>, mut look: impl FnMut(&T) -> Option<R>) -> Poll<io::Result<R>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(cx))?;
            match look(&ready.get_inner().0) {
                Some(found) => return Poll::Ready(Ok(found)),
                None => ready.clear_ready(),
            }
        }
    }
}
