//! What people ask over the control socket.

use std::os::fd::OwnedFd;

use ipc::ctl::{CtlReply, CtlRequest};
use ipc::event::now_ns;
use ipc::{Fingerprint, PlaneKind, SessionId, ToNet};
use serde_json::json;
use tracing::{info, warn};

use super::Daemon;
use crate::clients::names;
use crate::commands::NOT_ALLOWED;
use crate::config::{Address, DesktopKind};
use crate::machine::Event;
use crate::permit::Change;
use crate::status::View;

/// Every allowed client is a message to a fresh network plane, and its link holds only so many.
const MAX_CLIENTS: usize = 64;
/// Exit code of a command that lumend would not carry out.
const REFUSED: u8 = 4;

impl Daemon {
    pub(super) fn control(&mut self, request: CtlRequest) -> CtlReply {
        match request {
            CtlRequest::Status {} => CtlReply::ok(self.view().json()),
            CtlRequest::Restart { plane, session } => self.restart(plane, session),
            CtlRequest::Stop { session } => self.of_session(session, Event::Stop(session)),
            CtlRequest::Idr { session } => self.of_session(session, Event::Idr(session)),
            CtlRequest::Fingerprint {} => {
                CtlReply::ok(json!({ "sha256": self.parts.signer.identity().fingerprint().to_string() }))
            }
            CtlRequest::Allow { sha256 } => self.allow(sha256),
            CtlRequest::Clients {} => CtlReply::ok(self.parts.clients.json()),
            CtlRequest::Permit { client, grant, deny } => self.permit(&client, &Change { grant, deny }),
            CtlRequest::Forget { sha256 } => match self.parts.clients.forbid(sha256) {
                Ok(true) => {
                    info!("client {sha256} is no longer allowed");
                    self.queue.push_back(Event::Permit { client: sha256, allowed: false });
                    CtlReply::ok(json!({ "changed": true }))
                }
                Ok(false) => CtlReply::error(REFUSED, NOT_ALLOWED),
                Err(error) => CtlReply::error(1, error.to_string()),
            },
        }
    }

    fn view(&self) -> View<'_> {
        View {
            now: now_ns(),
            fingerprint: self.parts.signer.identity().fingerprint(),
            listen: self.parts.sockets.quic_address,
            media: self.parts.sockets.media_address,
            desktop: &self.parts.desktop,
            pictures: if self.parts.config.desktop.kind == DesktopKind::Pattern { "pattern" } else { "wlroots" },
            clients: &self.parts.clients,
            turned_away: self.parts.door.turned_away,
            machine: &self.machine,
            planes: &self.planes,
            books: &self.books,
            keeps: &self.keeps,
            counters: self.counters,
        }
    }

    fn restart(&mut self, kind: PlaneKind, session: Option<SessionId>) -> CtlReply {
        let sessions: Vec<_> = match (kind, session) {
            (PlaneKind::Net, None) => vec![None],
            (PlaneKind::Net, Some(_)) => {
                return CtlReply::error(2, "net serves all sessions: leave --session out");
            }
            (_, Some(id)) => match self.machine.session(id).map(|session| session.slot(kind).is_some()) {
                None => return no_session(id),
                Some(false) => return CtlReply::error(REFUSED, format!("session {id} has no {kind} plane")),
                Some(true) => vec![Some(id)],
            },
            (_, None) => {
                let with = self.machine.sessions().filter(|session| session.slot(kind).is_some());
                with.map(|session| Some(session.id)).collect()
            }
        };
        if sessions.is_empty() {
            return CtlReply::error(
                REFUSED,
                format!("there is no {kind} plane to restart: no session runs that has one"),
            );
        }
        let count = sessions.len();
        self.queue.extend(sessions.into_iter().map(|session| Event::Restart { kind, session }));
        CtlReply::ok(json!({ "restarted": count }))
    }

    fn of_session(&mut self, session: SessionId, event: Event) -> CtlReply {
        if self.machine.session(session).is_none() {
            return no_session(session);
        }
        self.queue.push_back(event);
        CtlReply::ok(json!({ "session": session.0 }))
    }

    fn allow(&mut self, client: Fingerprint) -> CtlReply {
        if !self.parts.clients.contains(client) && self.parts.clients.iter().count() >= MAX_CLIENTS {
            return CtlReply::error(REFUSED, format!("{MAX_CLIENTS} clients are allowed already: `lumend forget` one"));
        }
        match self.parts.clients.allow(client) {
            Ok(changed) => {
                if changed {
                    info!("client {client} is allowed");
                    self.queue.push_back(Event::Permit { client, allowed: true });
                    self.widen();
                }
                CtlReply::ok(json!({ "changed": changed, "listen": self.parts.sockets.quic_address.to_string() }))
            }
            Err(error) => CtlReply::error(1, error.to_string()),
        }
    }

    /// On disk first, and then for the sessions that the client has.
    fn permit(&mut self, client: &str, change: &Change) -> CtlReply {
        let client = match self.parts.clients.find(client) {
            Ok(client) => client,
            Err(error) => return CtlReply::error(REFUSED, error.to_string()),
        };
        let permissions = change.apply(self.parts.clients.permissions(client));
        match self.parts.clients.permit(client, permissions) {
            Ok(changed) => {
                let names: Vec<_> = names(permissions).collect();
                if changed {
                    info!(
                        "client {client} may use: {}",
                        if names.is_empty() { "nothing".into() } else { names.join(", ") }
                    );
                    self.queue.push_back(Event::Permissions { client, permissions });
                }
                CtlReply::ok(json!({ "sha256": client.to_string(), "permissions": names, "changed": changed }))
            }
            Err(error) => CtlReply::error(1, error.to_string()),
        }
    }

    /// The first client that is allowed opens the host to the network.
    fn widen(&mut self) {
        let sockets = &self.parts.sockets;
        if self.parts.config.listen.address != Address::Auto || !sockets.quic_address.ip().is_loopback() {
            return;
        }
        let wide = match sockets.widen() {
            Ok(wide) => wide,
            Err(error) => return warn!("still on loopback: {error}"),
        };
        let media_port = wide.media_address.port();
        match (wide.try_clone(), self.machine.net().current) {
            (Ok((quic, media)), Some(plane)) => {
                // A plane that has not said Hello gets these sockets with its `Listen`.
                if self.planes.get(&plane).is_some_and(|reach| reach.hello.is_some()) {
                    self.tell(plane, ToNet::<OwnedFd>::Rebind { quic, media, media_port });
                }
            }
            (Err(error), _) => return warn!("still on loopback: {error}"),
            (Ok(_), None) => {}
        }
        info!("listening on {}", wide.quic_address);
        let narrow = std::mem::replace(&mut self.parts.sockets, wide);
        if let Err(error) = narrow.seal_off() {
            warn!("loopback may not be served: {error}");
        }
    }
}

fn no_session(session: SessionId) -> CtlReply {
    CtlReply::error(REFUSED, format!("there is no session {session}; `lumend status` lists them"))
}
