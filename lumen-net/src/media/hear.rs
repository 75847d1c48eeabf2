//! What arrives on the media sockets: sealed probes of native clients, pings of GameStream clients, and strays.

use std::io;

use ipc::event::now_ns;
use ipc::{Face, SessionId};
use lumen_core::packet::Header;
use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::socket::Outlet;
use super::{Media, SESSIONS, token};
use crate::counters::Counter;
use crate::ping::Ping;

/// Rounds of receiving before the rings get their turn again: a flood of garbage must not starve the streams.
const RECEIVE_ROUNDS: usize = 4;

impl Media {
    pub(super) fn want_writable(&mut self, face: Face, wanted: bool) -> io::Result<()> {
        let socket = self.sockets.of_mut(face).as_mut().filter(|socket| socket.awaited != wanted);
        let Some(socket) = socket else { return Ok(()) };
        socket.awaited = wanted;
        let flags = if wanted { EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN };
        Ok(self.epoll.modify(&*socket, &mut EpollEvent::new(flags, token(face)))?)
    }

    pub(super) fn on_socket(&mut self, face: Face, ready: EpollFlags) -> io::Result<()> {
        if ready.contains(EpollFlags::EPOLLOUT) {
            self.want_writable(face, false)?;
            self.pump_all(face)?;
        }
        for _ in 0..RECEIVE_ROUNDS {
            if !self.receive(face)? {
                break;
            }
        }
        Ok(())
    }

    /// Takes one batch of datagrams; false when there was none.
    fn receive(&mut self, face: Face) -> io::Result<bool> {
        let Some(socket) = self.sockets.of(face) else { return Ok(false) };
        let out = Outlet { socket, counters: &self.counters };
        let count = socket.receive(&mut self.received)?;
        let now = now_ns();
        let mut heard = [false; SESSIONS];
        for (peer, datagram) in self.received.datagrams(count) {
            let slots = self.sessions.iter_mut().enumerate();
            let mut sessions = slots.filter_map(|(slot, session)| Some((slot, session.as_mut()?)));
            let known = match face {
                Face::Lumen => Header::decode(datagram).and_then(|header| {
                    let (slot, session) = sessions.find(|(_, session)| session.id() == SessionId(header.session))?;
                    Some((slot, session.on_datagram(&header, datagram, peer, now, out)))
                }),
                Face::GameStream => Ping::parse(datagram).and_then(|ping| {
                    let fitting = sessions.filter_map(|(slot, its)| Some((its.fit(&ping, peer)?, slot, its)));
                    let (_, slot, session) = fitting.max_by_key(|&(fit, ..)| fit)?;
                    session.on_ping(&ping, peer, now);
                    Some((slot, true))
                }),
            };
            match known {
                Some((slot, authentic)) => heard[slot] |= authentic,
                None => self.counters.add(Counter::StrayPackets),
            }
        }
        for slot in (0..SESSIONS).filter(|&slot| heard[slot]) {
            self.begin(slot)?;
        }
        Ok(count > 0)
    }
}
