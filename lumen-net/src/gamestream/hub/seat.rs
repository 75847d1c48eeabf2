//! One session as the hub keeps it: how far it has got, its keys, and its branches.

use std::task::{Context, Poll};

use ipc::event::Event;
use ipc::{Colour, EndCode, Matrix, PlaneKind, SessionId, Tuning};
use lumen_core::gamestream::Origin;
use lumen_core::gamestream::audio::AudioConfig;
use lumen_core::gamestream::control::{ControlCipher, ControlVersion, FromGuest, MAX_MESSAGE, Termination, ToGuest};
use lumen_core::gamestream::rtsp::RtspCipher;
use lumen_core::gamestream::sdp::{Announcement, Space};
use lumen_core::gamestream::video::{PacketSize, VideoConfig, frame_bytes};

use super::HubEvent;
use super::loss::Loss;
use crate::branches::{BranchOrder, Broken, Count, Inflow, Outflow, Woken};
use crate::gamestream::enet::PeerID;
use crate::gamestream::guest::{Guest, GuestPhase};
use crate::gamestream::hands::{Hands, Rumbles};
use crate::gamestream::sound::Sound;
use crate::media::GuestMedia;
use crate::media::socket::{Outlet, Peer};
use crate::ping::{Fit, Ping, Pinged};
use crate::readable::Readable;

/// From the launch to the ANNOUNCE. lumend gives up a little earlier.
const LAUNCHED_NS: u64 = 40_000_000_000;
/// From the ANNOUNCE to the control stream, for which clients try ten seconds.
const TUNED_NS: u64 = 15_000_000_000;
/// A client says something every tenth of a second.
const SILENCE_NS: u64 = 10_000_000_000;
/// From the last word to the end of the connection, if the client does not go by itself.
const ENDING_NS: u64 = 2_000_000_000;
/// Keyframes are asked for no faster; clients that ask faster are answered by the same.
const KEYFRAMES_NS: u64 = 20_000_000;
/// Intervals of the loss that is reported.
const LOSS_NS: u64 = 1_000_000_000;

/// A session in the hub.
pub struct Seat {
    pub guest: Guest,
    pub phase: GuestPhase,
    /// Of seats, in the order of their launches.
    pub order: u64,
    pub rtsp: RtspCipher,
    /// The peer that has proven that it holds the key.
    pub peer: Option<PeerID>,
    pub sound: Sound,
    /// Since the ANNOUNCE.
    control: Option<ControlCipher>,
    hands: Hands,
    rumbles: Rumbles,
    loss: Loss,
    started: bool,
    /// Where its sound goes. Its pings are taken to carry the payload that they were given until its ANNOUNCE says
    /// otherwise.
    pinged: Pinged,
    /// The phase's deadline.
    deadline_ns: u64,
    loss_due_ns: u64,
    /// A keyframe is owed to the client, and when the next may be asked for.
    keyframe: bool,
    keyframe_ns: u64,
}

impl Seat {
    pub fn new(guest: Guest, order: u64, now_ns: u64) -> Self {
        Self {
            phase: GuestPhase::Launched,
            order,
            rtsp: RtspCipher::new(&guest.launch.key, Origin::Host),
            peer: None,
            sound: Sound::default(),
            control: None,
            hands: Hands::default(),
            rumbles: Rumbles::default(),
            loss: Loss::default(),
            started: false,
            pinged: Pinged::new(guest.audio_ping, None),
            deadline_ns: now_ns + LAUNCHED_NS,
            loss_due_ns: now_ns + LOSS_NS,
            keyframe: false,
            keyframe_ns: now_ns,
            guest,
        }
    }

    pub fn session(&self) -> SessionId {
        self.guest.launch.session
    }

    fn is_live(&self) -> bool {
        self.phase == GuestPhase::Live
    }

    /// Takes the client's ANNOUNCE; what lumend and the media thread have to know of it.
    pub fn tune(&mut self, announcement: &Announcement, packet_size: PacketSize, now_ns: u64) -> HubEvent {
        let launch = &self.guest.launch;
        self.phase = GuestPhase::Tuned;
        if !announcement.tells_session {
            self.pinged.take_plain_from(launch.peer);
        }
        self.deadline_ns = now_ns + TUNED_NS;
        let version = if announcement.encryption.control_v2 { ControlVersion::V2 } else { ControlVersion::V1 };
        self.control = Some(ControlCipher::new(&launch.key, version, Origin::Host));
        self.sound.tune(AudioConfig {
            packet: announcement.audio_packet,
            key: announcement.audio_encrypted.then_some((launch.key, launch.key_id)),
        });
        let matrix = match announcement.space {
            Space::Rec601 => Matrix::Bt601,
            // The second is for HDR, which is not offered; the stream says what it is.
            Space::Rec709 | Space::Rec2020 => Matrix::Bt709,
        };
        let tuning = Tuning {
            bitrate_kbps: announcement.video_kbps(),
            colour: Colour { matrix, full_range: announcement.full_range },
            frame_bytes: frame_bytes(packet_size),
            audio: announcement.audio,
            audio_packet: announcement.audio_packet,
        };
        let key = announcement.encryption.video.then_some(launch.key);
        let media = GuestMedia {
            ping: self.guest.video_ping,
            address: (!announcement.tells_session).then_some(launch.peer),
            config: VideoConfig { packet_size, min_parity: announcement.min_parity, key },
        };
        HubEvent::Tuned { session: launch.session, tuning, media: Box::new(media) }
    }

    /// Opens a control message; none if it is not authentic. The first that is proves who the peer is.
    pub fn open(&mut self, sealed: &[u8], now_ns: u64) -> Option<FromGuest> {
        let mut out = [0; MAX_MESSAGE];
        let opened = self.control.as_mut().and_then(|control| control.open(sealed, &mut out).ok());
        let message = opened.and_then(|message| {
            self.deadline_ns = now_ns + SILENCE_NS;
            if self.phase == GuestPhase::Tuned {
                self.phase = GuestPhase::Live;
            }
            FromGuest::parse(message).ok()
        });
        if message.is_none() {
            self.guest.tally.add(Count::InputRejected);
        }
        message
    }

    /// Does what the client said; what the control loop has to know of it is appended to `told`.
    pub fn hear(&mut self, message: FromGuest, now_ns: u64, told: &mut Vec<HubEvent>) {
        if !self.is_live() {
            return;
        }
        let session = self.session();
        match message {
            FromGuest::RequestIdr | FromGuest::Invalidate { .. } => self.keyframe = true,
            FromGuest::StartB | FromGuest::Ping | FromGuest::LtrAck { .. } | FromGuest::LossStats(_) => {}
            FromGuest::Input(packet) => {
                let verdict = self.hands.take(&packet, now_ns, &self.guest.tally);
                self.rumbles.heed(verdict);
                told.extend(self.checked_hands());
            }
            FromGuest::FecStatus(status) => self.loss.report(&status),
            FromGuest::Unknown(_) => self.guest.tally.add(Count::InputRejected),
        }
        // Whatever comes first: some clients leave out one half of "start".
        if !self.started && matches!(message, FromGuest::RequestIdr | FromGuest::StartB) {
            self.started = true;
            told.push(HubEvent::Started { session });
        }
        self.ask_keyframe(now_ns, told);
    }

    fn ask_keyframe(&mut self, now_ns: u64, told: &mut Vec<HubEvent>) {
        if self.keyframe && now_ns >= self.keyframe_ns {
            self.keyframe = false;
            self.keyframe_ns = now_ns + KEYFRAMES_NS;
            told.push(HubEvent::Keyframe { session: self.session() });
        }
    }

    /// Takes or gives back rings. A generation that is not newer than the one before is stale and ignored.
    pub fn obey(&mut self, order: BranchOrder, now_ns: u64) -> Option<HubEvent> {
        match order {
            BranchOrder::WireAudio(ring) => self.sound.playback.wire(ring),
            BranchOrder::RetireAudio(generation) => self.sound.playback.retire(generation),
            BranchOrder::WireInput(events, haptics) => {
                if self.hands.feed.wire(events) {
                    self.rumbles.haptics.wire(haptics);
                }
                self.hands.flush(now_ns, &self.guest.tally);
                return self.checked_hands();
            }
            // Its client numbers nothing.
            BranchOrder::InputFrom(..) => {}
            BranchOrder::RetireInput(generation) => {
                if self.hands.feed.retire(generation) {
                    self.rumbles.haptics.retire();
                }
            }
        }
        None
    }

    /// What of the session's rings has been signalled.
    pub fn poll_woken(&self, cx: &mut Context<'_>) -> Poll<Woken> {
        let sound = self.sound.playback.ring().map(Inflow::wake);
        let rumble = self.rumbles.haptics.ring().map(Inflow::wake);
        let room = self.hands.feed.ring().map(Outflow::wake);
        for (wake, woken) in [(sound, Woken::Sound), (rumble, Woken::Rumble), (room, Woken::Room)] {
            if wake.is_some_and(|wake| signalled(wake, cx)) {
                return Poll::Ready(woken);
            }
        }
        Poll::Pending
    }

    /// Does what `woken` calls for.
    pub fn on_woken(&mut self, woken: Woken, outlet: Outlet<'_>, now_ns: u64) -> Option<HubEvent> {
        let live = self.is_live();
        match woken {
            Woken::Sound => {
                let done = self.sound.pump(outlet, live, now_ns, &self.guest.tally);
                let reason = format!("the audio ring: {}", done.err()?);
                let generation = self.sound.playback.let_go()?;
                Some(self.broken(Broken { kind: PlaneKind::Audio, generation, reason }))
            }
            Woken::Rumble => {
                let violation = self.rumbles.haptics.take().err()?;
                self.break_hands(violation)
            }
            Woken::Room => {
                self.hands.flush(now_ns, &self.guest.tally);
                self.checked_hands()
            }
            Woken::Due => None,
        }
    }

    /// Seals the states of the motors that are due, one after the other. Those of a client that is not there are
    /// forgotten, or they would be due for ever.
    pub fn rumble(&mut self, now_ns: u64, mut send: impl FnMut(&[u8]) -> bool) {
        let (live, control) = (self.is_live(), &mut self.control);
        self.rumbles.send(live, now_ns, &self.guest.tally, |rumble| {
            let bytes = control.as_mut().and_then(|control| sealed(control, &ToGuest::Rumble(*rumble)));
            bytes.is_some_and(|bytes| send(&bytes))
        });
    }

    /// The host ends the session: the last word to the client, if it can be told anything.
    pub fn end(&mut self, code: EndCode, now_ns: u64) -> Option<Vec<u8>> {
        let live = self.is_live();
        self.phase = GuestPhase::Ending;
        self.deadline_ns = now_ns + ENDING_NS;
        let termination = match code {
            EndCode::Unavailable => Termination::Encoder,
            // To a person these are all the same: it was ended, and not by a fault.
            EndCode::NotAllowed
            | EndCode::Mode
            | EndCode::Full
            | EndCode::Stopped
            | EndCode::AppEnded
            | EndCode::Shutdown => Termination::Graceful,
        };
        let control = self.control.as_mut().filter(|_| live)?;
        sealed(control, &ToGuest::Termination(termination))
    }

    /// When [`Self::tick`] or [`Self::rumble`] has something to do.
    pub fn due_ns(&self) -> u64 {
        let keyframe = self.keyframe.then_some(self.keyframe_ns);
        let rumble = self.rumbles.haptics.due_ns();
        let loss = self.is_live().then_some(self.loss_due_ns);
        [keyframe, rumble, loss].into_iter().flatten().fold(self.deadline_ns, u64::min)
    }

    /// Does what is due; the reason if the session is over.
    pub fn tick(&mut self, now_ns: u64, told: &mut Vec<HubEvent>) -> Option<&'static str> {
        if now_ns >= self.deadline_ns {
            return Some(match self.phase {
                GuestPhase::Launched => "its client did not announce a stream",
                GuestPhase::Tuned => "its client did not open a control stream",
                GuestPhase::Live => "its client has fallen silent",
                GuestPhase::Ending => "ended",
            });
        }
        self.ask_keyframe(now_ns, told);
        if self.is_live() && now_ns >= self.loss_due_ns {
            self.loss_due_ns = now_ns + LOSS_NS;
            let session = self.session();
            told.extend(self.loss.permille().map(|permille| HubEvent::Loss { session, permille }));
        }
        None
    }

    /// How well a ping of the audio socket fits this session.
    pub fn fit(&self, ping: &Ping, from: Peer) -> Option<Fit> {
        self.pinged.fit(ping, from.address, self.sound.aimed_at())
    }

    /// Takes a ping that fits: the client's sound goes there from now on, unless it is an old one.
    pub fn on_ping(&mut self, ping: &Ping, from: Peer) {
        if self.phase != GuestPhase::Ending && self.pinged.take(ping, from.address, self.sound.aimed_at()) {
            self.sound.aim(from);
        }
    }

    fn checked_hands(&mut self) -> Option<HubEvent> {
        let violation = self.hands.feed.check().err()?;
        self.break_hands(violation)
    }

    /// The two rings of input come from one plane: they go together.
    fn break_hands(&mut self, violation: ipc::shm::Violation) -> Option<HubEvent> {
        self.rumbles.haptics.retire();
        let generation = self.hands.feed.let_go()?;
        let reason = format!("the input plane's rings: {violation}");
        Some(self.broken(Broken { kind: PlaneKind::Input, generation, reason }))
    }

    fn broken(&self, broken: Broken) -> HubEvent {
        HubEvent::BranchBroken { session: self.session(), broken }
    }
}

/// A message for the client; none once the key has sealed all that it may.
fn sealed(control: &mut ControlCipher, message: &ToGuest) -> Option<Vec<u8>> {
    let (mut plain, mut bytes) = (Vec::new(), Vec::new());
    message.encode(&mut plain);
    control.seal(&plain, &mut bytes).ok().map(|()| bytes)
}

/// The runtime fails a wait only when it ends itself.
fn signalled(wake: &Readable<Event>, cx: &mut Context<'_>) -> bool {
    matches!(wake.poll_find(cx, |wake| wake.drain().then_some(())), Poll::Ready(Ok(())))
}

#[cfg(test)]
mod tests;
