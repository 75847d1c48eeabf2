//! A link in a process that may open no more descriptors. Alone in its file, since the limit is the whole process's.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};

use ipc::codec::MAX_FDS;
use ipc::event::Event;
use ipc::link::{Link, LinkError};
use ipc::{FrameFormat, Generation, PixelFormat, Pool, ToCapture};
use nix::fcntl::OFlag;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::pipe2;

#[test]
fn descriptors_of_a_message_that_cannot_all_be_received_are_closed() {
    let (above, below) = Link::pair().unwrap();
    let (read, write) = pipe2(OFlag::O_NONBLOCK).unwrap();
    let copies: Vec<OwnedFd> = (0..MAX_FDS - 2).map(|_| write.try_clone().unwrap()).collect();
    drop(write);
    let pool = Pool {
        format: FrameFormat { pixels: PixelFormat::Bgrx, width: 16, height: 16, stride: 64 },
        buffers: copies,
        mailbox: Event::new().unwrap().into_fd(),
        wake: Event::new().unwrap().into_fd(),
    };
    above.send(ToCapture::Wire { generation: Generation(1), pool }).unwrap();
    let next = Event::new().unwrap().into_fd().as_raw_fd() as u64;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, next + 5, hard).unwrap();
    let received = below.recv::<ToCapture<OwnedFd>>();
    assert!(matches!(received, Err(LinkError::Malformed(reason)) if reason.contains("not all")), "{received:?}");
    assert_eq!(File::from(read).read(&mut [0]).unwrap(), 0, "the few that came were closed");
}
