//! Who asks, over RTSP, and what it is answered; whose pings these are.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipc::SessionId;
use ipc::event::now_ns;
use lumen_core::gamestream::rtsp::{Frame, Named, Request, Response, Status};

use super::seat::Seat;
use super::task::Task;
use crate::counters::Counter;
use crate::gamestream::guest::GuestPhase;
use crate::gamestream::rtsp::{Asked, Desk, Visit};
use crate::media::socket::Peer;
use crate::ping::Ping;

impl Task {
    /// Answers a request, if it is that of a session's client.
    pub(super) fn receive(&mut self, visit: Visit) {
        let Some(desk) = self.net.as_ref().map(|net| net.desk) else { return };
        let answer = match visit.asked {
            Asked::Plain(request) => Some(match self.who(visit.peer, &request) {
                Ok(session) => self.answer(desk, session, &request),
                Err(status) => {
                    self.counters.add(Counter::HellosRefused);
                    Response::plain(status, request.cseq).as_bytes().to_vec()
                }
            }),
            Asked::Sealed(frame) => self.answer_sealed(desk, &frame),
        };
        if let Some(answer) = answer {
            // Whoever asked may have hung up.
            let _ = visit.reply.send(answer);
        }
    }

    /// The session that a plain request belongs to: the one it names, or else the newest of its address that has not
    /// announced its stream.
    fn who(&self, peer: IpAddr, request: &Request) -> Result<SessionId, Status> {
        let plain = self.seats.values().filter(|seat| !seat.guest.launch.sealed && seat.phase != GuestPhase::Ending);
        match request.session {
            Named::Session(name) => {
                let named = plain.into_iter().find(|seat| seat.guest.rtsp_session == name);
                named.map(Seat::session).ok_or(Status::SessionNotFound)
            }
            Named::Stranger => Err(Status::SessionNotFound),
            Named::None => {
                let its = plain
                    .filter(|seat| seat.phase == GuestPhase::Launched && seat.guest.launch.peer.to_canonical() == peer);
                its.max_by_key(|seat| seat.order).map(Seat::session).ok_or(Status::Forbidden)
            }
        }
    }

    fn answer(&mut self, desk: Desk, session: SessionId, request: &Request) -> Vec<u8> {
        let Some(seat) = self.seats.get_mut(&session) else {
            return Response::plain(Status::SessionNotFound, request.cseq).as_bytes().to_vec();
        };
        let answer = desk.answer(request, &seat.guest, seat.phase);
        if let Some((announcement, size)) = answer.announced {
            self.told.push(seat.tune(&announcement, size, now_ns()));
            if let Some(net) = &mut self.net {
                net.enet.expect(seat.guest.connect_data, session, None);
                if !announcement.tells_session {
                    // Clients that know no connect data say 0, as anybody could: at least it has to be from there.
                    net.enet.expect(0, session, Some(seat.guest.launch.peer));
                }
            }
        }
        answer.response.as_bytes().to_vec()
    }

    /// Finds the session whose key opens the frame; strangers are not even told that there is none.
    fn answer_sealed(&mut self, desk: Desk, bytes: &[u8]) -> Option<Vec<u8>> {
        let Ok(Some((frame, _))) = Frame::parse(bytes) else { return None };
        let sealed = self.seats.values().filter(|seat| seat.guest.launch.sealed);
        let found = sealed.into_iter().find_map(|seat| Some((seat.session(), seat.rtsp.open(&frame).ok()?)));
        let Some((session, opened)) = found else {
            self.counters.add(Counter::HellosRefused);
            return None;
        };
        let answer = match Request::parse(&opened) {
            Ok(Some((request, _))) => self.answer(desk, session, &request),
            Ok(None) | Err(_) => Response::plain(Status::BadRequest, 0).as_bytes().to_vec(),
        };
        self.seats.get_mut(&session)?.rtsp.seal(&answer)
    }
}

/// The session whose client pings: by the payload that it was given, or, from clients that know none, by its address
/// (moonlight-common-c, AudioStream.c).
pub fn pinged<'a>(seats: &'a mut BTreeMap<SessionId, Seat>, from: Peer, ping: &Ping) -> Option<&'a mut Seat> {
    let fitting = seats.values_mut().filter_map(|seat| Some((seat.fit(ping, from)?, seat)));
    fitting.max_by_key(|(fit, seat)| (*fit, seat.order)).map(|(_, seat)| seat)
}
