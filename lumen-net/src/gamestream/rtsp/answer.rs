//! What a session's client is answered, by the order in which sessions are set up: OPTIONS, DESCRIBE, SETUP of each
//! stream, ANNOUNCE, PLAY (moonlight-common-c, RtspConnection.c).

use lumen_core::gamestream::Encryption;
use lumen_core::gamestream::rtsp::{Method, Request, Response, Setup, Status, Target};
use lumen_core::gamestream::sdp::{Announcement, EncryptionBits, Offer, VideoCodec};
use lumen_core::gamestream::video::PacketSize;

use crate::gamestream::guest::{Guest, GuestPhase};
use crate::gamestream::hub::HubPorts;

/// What all sessions are told alike.
#[derive(Clone, Copy, Debug)]
pub struct Desk {
    pub ports: HubPorts,
    pub encryption: Encryption,
}

/// What is said, and what has been learned.
pub struct Answer {
    pub response: Response,
    /// The client's ANNOUNCE, if this took it.
    pub announced: Option<(Announcement, PacketSize)>,
}

impl Desk {
    /// Answers a request of this session's client.
    pub fn answer(&self, request: &Request, guest: &Guest, phase: GuestPhase) -> Answer {
        let cseq = request.cseq;
        let mut announced = None;
        let response = match (request.method, request.target) {
            (Method::Options, _) => Response::options(cseq),
            (Method::Describe, _) => Response::describe(cseq, &self.offer(guest).body()),
            (Method::Setup, target) => match self.setup(target, guest) {
                Some(setup) => Response::setup(cseq, &setup),
                None => Response::plain(Status::BadRequest, cseq),
            },
            (Method::Announce, _) if phase == GuestPhase::Launched => match self.announced(&request.body, guest) {
                Ok(announcement) => {
                    announced = Some(announcement);
                    Response::plain(Status::Ok, cseq)
                }
                Err(status) => Response::plain(status, cseq),
            },
            // Pictures begin with the control stream, which clients connect after this.
            (Method::Play, _) if matches!(phase, GuestPhase::Tuned | GuestPhase::Live) => {
                Response::plain(Status::Ok, cseq)
            }
            (Method::Announce | Method::Play, _) => Response::plain(Status::WrongState, cseq),
            (Method::Other, _) => Response::plain(Status::NotImplemented, cseq),
        };
        Answer { response, announced }
    }

    /// What the planes can do today: H.264 without invalidation of references, and pads without sensors.
    fn offer(&self, guest: &Guest) -> Offer {
        let possible = EncryptionBits { control_v2: guest.launch.sealed, ..EncryptionBits::ALL };
        let encryption_wanted = match self.encryption {
            // It costs a client nothing, and the version before repeats its nonces.
            Encryption::Auto => EncryptionBits { control_v2: possible.control_v2, ..EncryptionBits::NONE },
            Encryption::Required => possible,
        };
        Offer {
            hevc: false,
            av1: false,
            invalidation: false,
            touch: true,
            pad_sensors: false,
            encryption: possible,
            encryption_wanted,
        }
    }

    fn setup(&self, target: Target, guest: &Guest) -> Option<Setup> {
        let session = guest.rtsp_session;
        let (port, ping, connect) = match target {
            Target::Audio => (self.ports.audio, Some(guest.audio_ping), None),
            Target::Video => (self.ports.video, Some(guest.video_ping), None),
            Target::Control => (self.ports.control, None, Some(guest.connect_data)),
            Target::Session => return None,
        };
        Some(Setup { port, session, ping, connect })
    }

    /// Takes an ANNOUNCE that wants nothing but what was offered.
    fn announced(&self, body: &[u8], guest: &Guest) -> Result<(Announcement, PacketSize), Status> {
        let announcement = Announcement::parse(body).map_err(|_| Status::BadRequest)?;
        let size = PacketSize::new(announcement.packet_size.into()).ok_or(Status::BadRequest)?;
        let wants = announcement.encryption;
        let beyond = announcement.codec != VideoCodec::H264
            || announcement.hdr
            || announcement.yuv444
            || wants.control_v2 && !guest.launch.sealed;
        let all = wants.control_v2 && wants.video && announcement.audio_encrypted;
        match self.encryption {
            _ if beyond => Err(Status::BadRequest),
            Encryption::Required if !all => Err(Status::Forbidden),
            Encryption::Auto | Encryption::Required => Ok((announcement, size)),
        }
    }
}

#[cfg(test)]
#[path = "answer/tests.rs"]
mod tests;
