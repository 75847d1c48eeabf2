//! A bounded queue between net's two threads, with an eventfd, so that both an epoll loop and a runtime can wait for it.

use std::io;
use std::sync::mpsc::{self, TryRecvError};

use ipc::event::Event;

/// The sending end.
pub struct Sender<T> {
    /// Always there until it is dropped.
    queue: Option<mpsc::SyncSender<T>>,
    wake: Event,
}

/// The receiving end.
pub struct Receiver<T> {
    queue: mpsc::Receiver<T>,
    wake: Event,
}

/// The sender is gone and everything it sent has been received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Closed;

/// A queue of at most `bound` items. All its memory and descriptors are made here.
pub fn queue<T>(bound: usize) -> io::Result<(Sender<T>, Receiver<T>)> {
    let (sender, receiver) = mpsc::sync_channel(bound);
    let wake = Event::new()?;
    let other = wake.try_clone()?;
    Ok((Sender { queue: Some(sender), wake: other }, Receiver { queue: receiver, wake }))
}

impl<T> Sender<T> {
    /// Appends an item without waiting; false when the queue is full or nobody receives any more, and the item is
    /// dropped.
    #[must_use]
    pub fn send(&self, item: T) -> bool {
        let sent = self.queue.as_ref().is_some_and(|queue| queue.try_send(item).is_ok());
        self.wake.signal();
        sent
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // First closed, then told: the receiver wakes to find it closed.
        drop(self.queue.take());
        self.wake.signal();
    }
}

impl<T> Receiver<T> {
    /// Readable while items may wait; drained by [`Self::rearm`].
    pub fn wake(&self) -> &Event {
        &self.wake
    }

    /// To be called before a round of [`Self::next`], so that an item sent meanwhile wakes again.
    pub fn rearm(&self) {
        self.wake.drain();
    }

    /// The next item, if one waits.
    pub fn next(&self) -> Result<Option<T>, Closed> {
        match self.queue.try_recv() {
            Ok(item) => Ok(Some(item)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(Closed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_says_so() {
        let (sender, receiver) = queue(2).unwrap();
        assert!(sender.send(1) && sender.send(2));
        assert!(!sender.send(3));
        receiver.rearm();
        assert_eq!((receiver.next(), receiver.next(), receiver.next()), (Ok(Some(1)), Ok(Some(2)), Ok(None)));
        assert!(!receiver.wake().drain(), "nothing has been sent since");
        assert!(sender.send(4));
        assert!(receiver.wake().drain());
        drop(receiver);
        assert!(!sender.send(5));
    }

    #[test]
    fn a_dropped_sender_wakes_the_receiver() {
        let (sender, receiver) = queue(2).unwrap();
        assert!(sender.send(1));
        receiver.rearm();
        drop(sender);
        assert!(receiver.wake().drain());
        assert_eq!((receiver.next(), receiver.next()), (Ok(Some(1)), Err(Closed)));
    }
}
