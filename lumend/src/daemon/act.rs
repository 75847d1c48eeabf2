//! The machine's orders, carried out: messages, processes, memory, outputs.

use std::os::fd::OwnedFd;

use ipc::codec::Message;
use ipc::link::{Link, LinkError};
use ipc::{Colour, EncodeSettings, Listen, Matrix, PlaneKind, ToAudio, ToCapture, ToEncode, ToInput, ToNet};
use lumen_core::Permissions;
use tracing::{debug, info, warn};

use super::{Daemon, fields, label};
use crate::machine::{Action, Event, Exit, Picture, PlaneId, Process};
use crate::plumb::{Kit, Share};
use crate::reach::Reach;

impl Daemon {
    pub(super) fn act(&mut self, now: u64, action: Action) {
        match action {
            Action::Start { plane, kind, session } => match Reach::start(&self.parts.starter, kind, session, now) {
                Ok(reach) => {
                    debug!(plane = kind.name(), session = session.map(|id| id.0), "{} started", label(&reach));
                    self.planes.insert(plane, reach);
                }
                Err(error) => {
                    warn!("cannot start {kind}: {error}");
                    let exit = Exit::Crashed(format!("it could not be started: {error}"));
                    self.queue.push_back(Event::Exited { plane, exit });
                }
            },
            Action::Close(plane) => {
                self.devices_go(plane);
                if let Some(reach) = self.planes.get_mut(&plane) {
                    reach.close();
                }
            }
            Action::Kill { plane, reason, broke } => {
                if let Some(reach) = self.planes.get_mut(&plane) {
                    let (name, session) = fields(reach);
                    warn!(plane = name, session, "{} is killed: {reason}", label(reach));
                    reach.kill(now);
                    reach.broke |= broke;
                }
            }
            Action::Ping { plane, token } => match self.planes.get(&plane).map(|reach| reach.kind) {
                Some(PlaneKind::Capture) => self.tell(plane, ToCapture::<OwnedFd>::Ping(token)),
                Some(PlaneKind::Encode) => self.tell(plane, ToEncode::<OwnedFd>::Ping(token)),
                Some(PlaneKind::Net) => self.tell(plane, ToNet::<OwnedFd>::Ping(token)),
                Some(PlaneKind::Input) => self.tell(plane, ToInput::<OwnedFd>::Ping(token)),
                Some(PlaneKind::Audio) => self.tell(plane, ToAudio::<OwnedFd>::Ping(token)),
                None => {}
            },
            Action::Listen(plane) => match self.listen(plane) {
                Ok(listen) => {
                    self.tell(plane, ToNet::Listen(listen));
                    self.tell_of_gamestream(plane);
                }
                Err(error) => {
                    let reason = format!("it cannot be given its sockets: {error}");
                    self.queue.push_back(Event::Broken { plane, reason });
                }
            },
            Action::Permit { plane, face, client, allowed } => {
                self.tell(plane, ToNet::<OwnedFd>::Permit { face, client, allowed });
            }
            Action::Accept { plane, ask, session, mode } => {
                self.tell(plane, ToNet::<OwnedFd>::Accepted { ask, session, mode });
            }
            Action::Running { plane, client, app } => {
                self.tell(plane, ToNet::<OwnedFd>::Running { client, app });
            }
            Action::StartApp { session, run, index } => {
                info!(session = session.0, "session {session}: app {:?} is started", self.app_title(index));
                self.parts.desktop.start_app(session, run, index);
                self.queue.extend(self.parts.desktop.dispatch(now));
            }
            Action::StopApp(run) => {
                self.parts.desktop.stop_app(run);
                self.queue.extend(self.parts.desktop.dispatch(now));
            }
            Action::AcquireOutput { session, attempt, mode, run } => {
                self.parts.desktop.acquire(now, session, attempt, mode, run);
                self.queue.extend(self.parts.desktop.dispatch(now));
            }
            Action::ReleaseOutput(session) => {
                self.parts.desktop.release(now, session);
                self.queue.extend(self.parts.desktop.dispatch(now));
            }
            Action::Open { plane, session, generation, mode } => match self.parts.desktop.source(session) {
                Ok(source) => self.tell(plane, ToCapture::Open { session, generation, mode, source }),
                Err(reason) => self.queue.push_back(Event::CannotOpen { session, generation, reason }),
            },
            Action::WireNet { plane, session, generation, ask, mode, picture, told, format } => {
                let client = self.machine.session(session).filter(|_| told.input).map(|session| session.client);
                let permissions = client.map_or(Permissions::NONE, |client| self.parts.clients.permissions(client));
                let Picture { bitrate_kbps, frame_bytes, .. } = picture;
                let is_news = self.is_news(told.resumed);
                if told.resumed {
                    if is_news {
                        info!(session = session.0, generation = generation.0, "session {session}: its client is back");
                    }
                    self.books.entry(session).or_default().net_begins_anew();
                }
                let share = Share { session, generation, ask, mode, bitrate_kbps, frame_bytes, told, permissions };
                match Kit::make(share, format) {
                    Ok((kit, wiring)) => {
                        if is_news {
                            let text = format!("{mode} at {bitrate_kbps} kbit/s, generation {generation}");
                            info!(session = session.0, generation = generation.0, "session {session}: {text}");
                        }
                        self.kits.insert(session, kit);
                        self.tell(plane, ToNet::Wire(wiring));
                    }
                    Err(error) => {
                        let reason = format!("the host has no memory for the stream: {error}");
                        self.queue.push_back(Event::CannotWire { session, reason });
                    }
                }
            }
            Action::WireEncode { plane, session, generation, mode, picture } => {
                let settings = self.settings(picture);
                let kit = self.kits.get_mut(&session).filter(|kit| kit.generation == generation);
                if let Some(wiring) = kit.and_then(|kit| kit.encode(session, mode, settings)) {
                    self.tell(plane, ToEncode::Wire(wiring));
                }
            }
            Action::WireCapture { plane, session, generation } => {
                let kit = self.kits.remove(&session).filter(|kit| kit.generation == generation);
                if let Some(pool) = kit.and_then(|mut kit| kit.capture()) {
                    self.tell(plane, ToCapture::Wire { generation, pool });
                }
            }
            Action::Prepare { plane, mode, picture } => {
                let settings = self.settings(picture);
                self.tell(plane, ToEncode::<OwnedFd>::Prepare { mode, settings });
            }
            Action::Retire { plane, session, generation } => {
                self.kits.remove(&session);
                match self.planes.get(&plane).map(|reach| reach.kind) {
                    Some(PlaneKind::Capture) => self.tell(plane, ToCapture::<OwnedFd>::Retire { generation }),
                    Some(PlaneKind::Encode) => self.tell(plane, ToEncode::<OwnedFd>::Retire { generation }),
                    Some(PlaneKind::Net) => self.tell(plane, ToNet::<OwnedFd>::Retire { session, generation }),
                    Some(PlaneKind::Input) => self.tell(plane, ToInput::<OwnedFd>::Retire { generation }),
                    Some(PlaneKind::Audio) => self.tell(plane, ToAudio::<OwnedFd>::Retire { generation }),
                    None => {}
                }
            }
            Action::WireAudio { ends, layout, packet, own_sink, undo } => {
                self.wire_audio(ends, (layout, packet), own_sink, undo);
            }
            Action::WireInput(ends) => self.wire_input(now, ends),
            Action::Rings { ends, kind: PlaneKind::Audio } => self.move_audio(ends),
            Action::Rings { ends, .. } => self.move_input(ends),
            Action::InputFrom { net, session, generation } => {
                let next = self.keeps.get(&session).map_or(0, |keep| keep.next);
                self.tell(net, ToNet::<OwnedFd>::InputFrom { session, generation, next });
            }
            Action::LetGo(plane) => self.tell(plane, ToInput::<OwnedFd>::LetGo),
            Action::RetireBranch { net, kind: PlaneKind::Audio, session, generation } => {
                self.tell(net, ToNet::<OwnedFd>::RetireAudio { session, generation });
            }
            Action::RetireBranch { net, session, generation, .. } => {
                self.tell(net, ToNet::<OwnedFd>::RetireInput { session, generation });
            }
            Action::PermitInput { plane, permissions } => self.tell(plane, ToInput::<OwnedFd>::Permit(permissions)),
            Action::Record { plane, previous, records } => self.record(plane, previous, &records),
            Action::KeepRecords(records) => self.keep_records(&records),
            Action::Undo { plane, records } => self.undo(plane, records),
            Action::Refuse { plane, ask, code, reason } => {
                if self.news.take(now) {
                    info!("a request is refused: {reason}");
                }
                self.tell(plane, ToNet::<OwnedFd>::Refuse { ask, code, reason });
            }
            Action::End { plane, session, code, reason } => {
                info!(session = session.0, "session {session} ends: {reason}");
                self.tell(plane, ToNet::<OwnedFd>::End { session, code, reason });
            }
            Action::Idr(plane) => self.tell(plane, ToEncode::<OwnedFd>::Idr),
            Action::Finish => self.finished = true,
        }
    }

    /// What a picture's encoder is to be, as far as it is configured.
    fn settings(&self, picture: Picture) -> EncodeSettings {
        let encode = &self.parts.config.encode;
        let configured = Colour { matrix: Matrix::Bt709, full_range: encode.full_range };
        let colour = picture.colour.unwrap_or(configured);
        EncodeSettings { backend: encode.backend, bitrate_kbps: picture.bitrate_kbps, colour }
    }

    /// Sends without waiting. A plane whose link is full has stopped reading, and is as good as dead.
    pub(super) fn tell<M: Message>(&mut self, plane: PlaneId, message: M) {
        let Some(reach) = self.planes.get(&plane) else { return };
        match reach.send(message) {
            Ok(()) => {}
            Err(LinkError::Closed) => self.queue.push_back(Event::LinkClosed(plane)),
            Err(error) => self.queue.push_back(Event::Broken { plane, reason: error.to_string() }),
        }
    }

    /// All of it, to a network plane that has its `Listen`: where Moonlight clients come, and what there is to start.
    fn tell_of_gamestream(&mut self, plane: PlaneId) {
        let Some(identity) = self.parts.signer.gamestream() else { return };
        match self.parts.gamestream.messages(identity, &self.parts.host.name) {
            Ok(messages) => messages.into_iter().for_each(|message| self.tell(plane, message)),
            Err(error) => warn!("no Moonlight client is served: {error}"),
        }
    }

    /// There are sockets for Moonlight clients at last. A network plane that is not ready gets them with its `Listen`.
    pub(super) fn serve_gamestream(&mut self) {
        let Some(plane) = self.machine.net().current else { return };
        if self.machine.process(plane).is_some_and(Process::is_ready) {
            self.tell_of_gamestream(plane);
        }
    }

    fn listen(&mut self, plane: PlaneId) -> std::io::Result<Listen<OwnedFd>> {
        if !self.parts.sockets.can_send() {
            warn!("the network plane before has shut sockets down; they are replaced");
            self.parts.sockets = self.parts.sockets.renew().map_err(std::io::Error::other)?;
        }
        self.parts.gamestream.mend();
        let (quic, media) = self.parts.sockets.try_clone()?;
        let (ours, theirs) = Link::pair()?;
        self.sign_link = Some((plane, ours));
        let (host, keys) = (&self.parts.host, self.parts.signer.identity().network_keys());
        Ok(Listen {
            quic,
            media,
            signer: theirs.into_fd(),
            media_port: self.parts.sockets.media_address.port(),
            certificate: self.parts.signer.identity().certificate().to_vec(),
            reset_key: keys.reset,
            token_key: keys.token,
            connection_id_key: keys.connection_id,
            host_name: host.name.clone(),
            boot_id: host.boot_id,
        })
    }
}
