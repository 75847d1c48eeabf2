//! Swaps the descriptors inside a message for something else, in one fixed order.

use super::{EncodeWiring, Listen, NetWiring, Pool, RingFds, Source, ToCapture, ToEncode, ToNet};

impl<F> Source<F> {
    /// Turns every descriptor `F` into a `G`; stops at the first error.
    pub fn map_fds<G, E>(self, map: &mut impl FnMut(F) -> Result<G, E>) -> Result<Source<G>, E> {
        Ok(match self {
            Self::Pattern => Source::Pattern,
            Self::Wlroots { socket, output } => Source::Wlroots { socket: map(socket)?, output },
        })
    }
}

impl<F> Pool<F> {
    /// Turns every descriptor `F` into a `G`; stops at the first error.
    pub fn map_fds<G, E>(self, map: &mut impl FnMut(F) -> Result<G, E>) -> Result<Pool<G>, E> {
        Ok(Pool {
            format: self.format,
            buffers: self.buffers.into_iter().map(&mut *map).collect::<Result<_, E>>()?,
            mailbox: map(self.mailbox)?,
            wake: map(self.wake)?,
        })
    }
}

impl<F> RingFds<F> {
    /// Turns every descriptor `F` into a `G`; stops at the first error.
    pub fn map_fds<G, E>(self, map: &mut impl FnMut(F) -> Result<G, E>) -> Result<RingFds<G>, E> {
        Ok(RingFds {
            memory: map(self.memory)?,
            data: map(self.data)?,
            credit: map(self.credit)?,
            geometry: self.geometry,
        })
    }
}

impl<F> Listen<F> {
    /// Turns every descriptor `F` into a `G`; stops at the first error.
    pub fn map_fds<G, E>(self, map: &mut impl FnMut(F) -> Result<G, E>) -> Result<Listen<G>, E> {
        Ok(Listen {
            quic: map(self.quic)?,
            media: map(self.media)?,
            signer: map(self.signer)?,
            media_port: self.media_port,
            certificate: self.certificate,
            reset_key: self.reset_key,
            token_key: self.token_key,
            connection_id_key: self.connection_id_key,
            host_name: self.host_name,
            boot_id: self.boot_id,
        })
    }
}

impl<F> NetWiring<F> {
    /// Turns every descriptor `F` into a `G`; stops at the first error.
    pub fn map_fds<G, E>(self, map: &mut impl FnMut(F) -> Result<G, E>) -> Result<NetWiring<G>, E> {
        Ok(NetWiring {
            session: self.session,
            generation: self.generation,
            ask: self.ask,
            mode: self.mode,
            bitrate_kbps: self.bitrate_kbps,
            audio: self.audio,
            permissions: self.permissions,
            resumed: self.resumed,
            resume: self.resume,
            video: self.video.map_fds(map)?,
            feedback: self.feedback.map_fds(map)?,
        })
    }
}

impl<F> EncodeWiring<F> {
    /// Turns every descriptor `F` into a `G`; stops at the first error.
    pub fn map_fds<G, E>(self, map: &mut impl FnMut(F) -> Result<G, E>) -> Result<EncodeWiring<G>, E> {
        Ok(EncodeWiring {
            session: self.session,
            generation: self.generation,
            mode: self.mode,
            settings: self.settings,
            pool: self.pool.map_fds(map)?,
            video: self.video.map_fds(map)?,
            feedback: self.feedback.map_fds(map)?,
        })
    }
}

impl<F> ToCapture<F> {
    /// Turns every descriptor `F` into a `G`; stops at the first error.
    pub fn map_fds<G, E>(self, map: &mut impl FnMut(F) -> Result<G, E>) -> Result<ToCapture<G>, E> {
        Ok(match self {
            Self::Ping(number) => ToCapture::Ping(number),
            Self::Open { session, generation, mode, source } => {
                ToCapture::Open { session, generation, mode, source: source.map_fds(map)? }
            }
            Self::Wire { generation, pool } => ToCapture::Wire { generation, pool: pool.map_fds(map)? },
            Self::Retire { generation } => ToCapture::Retire { generation },
        })
    }
}

impl<F> ToEncode<F> {
    /// Turns every descriptor `F` into a `G`; stops at the first error.
    pub fn map_fds<G, E>(self, map: &mut impl FnMut(F) -> Result<G, E>) -> Result<ToEncode<G>, E> {
        Ok(match self {
            Self::Ping(number) => ToEncode::Ping(number),
            Self::Wire(wiring) => ToEncode::Wire(wiring.map_fds(map)?),
            Self::Retire { generation } => ToEncode::Retire { generation },
            Self::Idr => ToEncode::Idr,
            Self::Prepare { mode, settings } => ToEncode::Prepare { mode, settings },
        })
    }
}

impl<F> ToNet<F> {
    /// Turns every descriptor `F` into a `G`; stops at the first error.
    pub fn map_fds<G, E>(self, map: &mut impl FnMut(F) -> Result<G, E>) -> Result<ToNet<G>, E> {
        Ok(match self {
            Self::Ping(number) => ToNet::Ping(number),
            Self::Listen(listen) => ToNet::Listen(listen.map_fds(map)?),
            Self::GameStream(listen) => ToNet::GameStream(listen.map_fds(map)?),
            Self::Announce(announce) => ToNet::Announce(announce.map_fds(map)?),
            Self::App(app) => ToNet::App(app.map_fds(map)?),
            Self::Permit { face, client, allowed } => ToNet::Permit { face, client, allowed },
            Self::Accepted { ask, session, mode } => ToNet::Accepted { ask, session, mode },
            Self::Running { client, app } => ToNet::Running { client, app },
            Self::Pin { pairing, pin } => ToNet::Pin { pairing, pin },
            Self::DropPairing { pairing, reason } => ToNet::DropPairing { pairing, reason },
            Self::Rebind { quic, media, media_port } => {
                ToNet::Rebind { quic: map(quic)?, media: map(media)?, media_port }
            }
            Self::Wire(wiring) => ToNet::Wire(wiring.map_fds(map)?),
            Self::Retire { session, generation } => ToNet::Retire { session, generation },
            Self::WireAudio { session, generation, ring } => {
                ToNet::WireAudio { session, generation, ring: ring.map_fds(map)? }
            }
            Self::RetireAudio { session, generation } => ToNet::RetireAudio { session, generation },
            Self::WireInput { session, generation, events, haptics } => {
                ToNet::WireInput { session, generation, events: events.map_fds(map)?, haptics: haptics.map_fds(map)? }
            }
            Self::RetireInput { session, generation } => ToNet::RetireInput { session, generation },
            Self::InputFrom { session, generation, next } => ToNet::InputFrom { session, generation, next },
            Self::Refuse { ask, code, reason } => ToNet::Refuse { ask, code, reason },
            Self::End { session, code, reason } => ToNet::End { session, code, reason },
        })
    }
}
