//! The memory and the wake-ups of one generation: lumend makes them, hands each side its ends and keeps nothing.

use std::io;
use std::os::fd::OwnedFd;

use ipc::event::Event;
use ipc::mailbox::Mailbox;
use ipc::ring::Ring;
use ipc::shm::sealed_memfd;
use ipc::{
    AskId, EncodeSettings, EncodeWiring, FrameFormat, Generation, NetWiring, Pool, RingFds, RingGeometry, SessionId,
};
use lumen_core::{Mode, Permissions};

use crate::machine::Told;

/// One with capture, one in the mailbox, one with encode, and one for capture to draw on while it hands the last over.
const BUFFERS: usize = 4;

/// What the network plane is told along with its ends.
#[derive(Clone, Debug)]
pub struct Share {
    pub session: SessionId,
    pub generation: Generation,
    pub ask: Option<AskId>,
    pub mode: Mode,
    pub bitrate_kbps: u32,
    /// Most bytes of one frame; none: what the ring makes of mode and bitrate.
    pub frame_bytes: Option<u32>,
    pub told: Told,
    /// What the client is told that its hands may do.
    pub permissions: Permissions,
}

/// A generation on its way to its planes: each end leaves once.
#[derive(Debug)]
pub struct Kit {
    pub generation: Generation,
    encode: Option<(Pool<OwnedFd>, RingFds<OwnedFd>, RingFds<OwnedFd>)>,
    capture: Option<Pool<OwnedFd>>,
}

impl Kit {
    /// Makes a generation's memory and returns net's ends.
    pub fn make(share: Share, format: FrameFormat) -> io::Result<(Self, NetWiring<OwnedFd>)> {
        let Share { session, generation, ask, mode, bitrate_kbps, frame_bytes, told, permissions } = share;
        let Told { resumed, resume, audio, .. } = told;
        let mut geometry = RingGeometry::video(mode, bitrate_kbps);
        geometry.frame_bytes = frame_bytes.map_or(geometry.frame_bytes, |most| most.min(geometry.frame_bytes));
        let (video, video_producer) = ring("lumen-video", geometry)?;
        let (feedback, feedback_consumer) = ring("lumen-feedback", RingGeometry::FEEDBACK)?;
        let writer = Pool {
            format,
            buffers: (0..BUFFERS).map(|_| sealed_memfd("lumen-frame", format.size())).collect::<io::Result<_>>()?,
            mailbox: sealed_memfd("lumen-mailbox", Mailbox::memory_size())?,
            wake: Event::new()?.into_fd(),
        };
        let reader = Pool {
            format,
            buffers: writer.buffers.iter().map(OwnedFd::try_clone).collect::<io::Result<_>>()?,
            mailbox: writer.mailbox.try_clone()?,
            wake: writer.wake.try_clone()?,
        };
        let encode = Some((reader, video_producer, feedback_consumer));
        let kit = Self { generation, encode, capture: Some(writer) };
        let wiring = NetWiring {
            session,
            generation,
            ask,
            mode,
            bitrate_kbps,
            audio,
            permissions,
            resumed,
            resume,
            video,
            feedback,
        };
        Ok((kit, wiring))
    }

    pub fn encode(
        &mut self,
        session: SessionId,
        mode: Mode,
        settings: EncodeSettings,
    ) -> Option<EncodeWiring<OwnedFd>> {
        let (pool, video, feedback) = self.encode.take()?;
        Some(EncodeWiring { session, generation: self.generation, mode, settings, pool, video, feedback })
    }

    pub fn capture(&mut self) -> Option<Pool<OwnedFd>> {
        self.capture.take()
    }
}

/// Both ends of a ring.
pub fn ring(name: &str, geometry: RingGeometry) -> io::Result<(RingFds<OwnedFd>, RingFds<OwnedFd>)> {
    let memory = sealed_memfd(name, Ring::memory_size(&geometry))?;
    let (data, credit) = (Event::new()?.into_fd(), Event::new()?.into_fd());
    let other = RingFds { memory: memory.try_clone()?, data: data.try_clone()?, credit: credit.try_clone()?, geometry };
    Ok((RingFds { memory, data, credit, geometry }, other))
}

#[cfg(test)]
mod tests {
    use ipc::mailbox::{FrameMeta, MailboxReader, MailboxWriter};
    use ipc::shm::Mapping;
    use ipc::{Backend, Colour, Matrix, PixelFormat};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn both_ends_of_a_generation_meet() {
        let mode = Mode::new(320, 240, 60_000).unwrap();
        let format = FrameFormat { pixels: PixelFormat::Bgrx, width: 320, height: 240, stride: 1280 };
        let share = Share {
            session: SessionId(1),
            generation: Generation(3),
            ask: None,
            mode,
            bitrate_kbps: 5_000,
            frame_bytes: Some(100_000),
            told: Told { resumed: false, resume: None, audio: None, input: false },
            permissions: Permissions::NONE,
        };
        let (mut kit, net) = Kit::make(share, format).unwrap();
        let settings = EncodeSettings {
            backend: Backend::Auto,
            bitrate_kbps: 5_000,
            colour: Colour { matrix: Matrix::Bt709, full_range: false },
        };
        let encode = kit.encode(SessionId(1), mode, settings).unwrap();
        assert!(kit.encode(SessionId(1), mode, settings).is_none(), "an end leaves once");
        let capture = kit.capture().unwrap();
        assert_eq!((net.generation, encode.generation), (Generation(3), Generation(3)));
        assert_eq!(net.video.geometry, encode.video.geometry);
        assert_eq!(net.video.geometry.frame_bytes, 100_000, "no more than its protocol carries");

        let buffers = capture.buffers.len() as u32;
        let wake = Event::from_fd(capture.wake);
        let mut writer = MailboxWriter::attach(capture.mailbox.as_fd(), wake, buffers).unwrap();
        let wake = Event::from_fd(encode.pool.wake);
        let mut reader = MailboxReader::attach(encode.pool.mailbox.as_fd(), wake, buffers).unwrap();
        let index = writer.acquire().unwrap().unwrap();
        let mut drawn = Mapping::read_write(capture.buffers[index as usize].as_fd(), format.size()).unwrap();
        drawn.as_mut_slice().unwrap().fill(7);
        writer.publish(index, FrameMeta { sequence: 0, captured_ns: 1 });
        let (taken, _) = reader.take().unwrap().unwrap();
        let seen = Mapping::read_only(encode.pool.buffers[taken as usize].as_fd(), format.size()).unwrap();
        assert!(seen.as_slice().iter().all(|&byte| byte == 7));
    }
}
