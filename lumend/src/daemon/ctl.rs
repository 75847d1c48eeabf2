//! What people ask over the control socket.

use std::os::fd::OwnedFd;

use ipc::ctl::{CtlReply, CtlRequest};
use ipc::event::now_ns;
use ipc::{Fingerprint, PlaneKind, RunId, SessionId, ToNet};
use serde_json::json;
use tracing::{info, warn};

use super::Daemon;
use crate::clients::{Clients, ClientsError};
use crate::commands::NOT_ALLOWED;
use crate::config::{Address, DesktopKind};
use crate::door::VisitorId;
use crate::machine::Event;
use crate::permit::Change;
use crate::status::View;

/// Exit code of a command that lumend would not carry out.
const REFUSED: u8 = 4;

impl Daemon {
    /// None: the answer to this visitor comes later.
    pub(super) fn control(&mut self, now: u64, visitor: VisitorId, request: CtlRequest) -> Option<CtlReply> {
        Some(match request {
            CtlRequest::Status {} => CtlReply::ok(self.view().json()),
            CtlRequest::Restart { plane, session } => self.restart(plane, session),
            CtlRequest::Stop { session } => self.of_session(session, Event::Stop(session)),
            CtlRequest::Quit { run } => self.quit(&run),
            CtlRequest::Idr { session } => self.of_session(session, Event::Idr(session)),
            CtlRequest::Fingerprint {} => {
                CtlReply::ok(json!({ "sha256": self.parts.signer.identity().fingerprint().to_string() }))
            }
            CtlRequest::Pair { pin, pairing, name } => return self.pair(now, visitor, pin, pairing, name),
            CtlRequest::Allow { sha256 } => self.allow(sha256),
            CtlRequest::Clients {} => CtlReply::ok(self.parts.clients.json()),
            CtlRequest::Rename { client, name } => {
                self.change(&client, |clients, client| clients.rename(client, &name), "has another name")
            }
            CtlRequest::Enable { client, enabled: true } => {
                self.change(&client, |clients, client| clients.enable(client, true), "is let in again")
            }
            CtlRequest::Enable { client, enabled: false } => {
                self.change(&client, |clients, client| clients.enable(client, false), "is turned away from now on")
            }
            CtlRequest::Remove { client } => self.change(&client, Clients::forbid, "is forgotten"),
            CtlRequest::Permit { client, grant, deny } => {
                let change = Change { grant, deny };
                self.change(&client, |clients, client| clients.permit(client, &change), "has other permissions")
            }
            CtlRequest::Forget { sha256 } => match self.parts.clients.get(sha256) {
                Some(_) => self.change(&sha256.to_string(), Clients::forbid, "is no longer allowed"),
                None => CtlReply::error(REFUSED, NOT_ALLOWED),
            },
        })
    }

    pub(super) fn view(&self) -> View<'_> {
        View {
            now: now_ns(),
            fingerprint: self.parts.signer.identity().fingerprint(),
            listen: self.parts.sockets.quic_address,
            media: self.parts.sockets.media_address,
            gamestream: &self.parts.gamestream,
            desktop: &self.parts.desktop,
            pictures: if self.parts.config.desktop.kind == DesktopKind::Pattern { "pattern" } else { "wlroots" },
            clients: &self.parts.clients,
            turned_away: self.parts.door.turned_away,
            machine: &self.machine,
            planes: &self.planes,
            strays: &self.parts.strays,
            books: &self.books,
            keeps: &self.keeps,
            counters: self.counters,
            pairings: &self.pairings,
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

    /// `what` is a run's number, or its client.
    fn quit(&mut self, what: &str) -> CtlReply {
        let number = what.parse().ok().map(RunId);
        let named = self.machine.runs().find(|run| Some(run.id) == number).map(|run| run.id);
        let run = match (named, self.parts.clients.find(what)) {
            (Some(run), _) => Some(run),
            (None, Ok(client)) => self.machine.run_of(client).map(|run| run.id),
            (None, Err(error)) if number.is_none() => return CtlReply::error(REFUSED, error.to_string()),
            (None, Err(_)) => None,
        };
        let Some(run) = run else {
            return CtlReply::error(REFUSED, format!("{what} has nothing running; `lumend status` lists what runs"));
        };
        self.queue.push_back(Event::StopRun(run));
        CtlReply::ok(json!({ "run": run.0 }))
    }

    fn allow(&mut self, client: Fingerprint) -> CtlReply {
        match self.parts.clients.allow(client) {
            Ok(changed) => {
                if changed {
                    info!("client {client} is allowed");
                    self.tell_of_client(client);
                    self.widen();
                }
                CtlReply::ok(json!({ "changed": changed, "listen": self.parts.sockets.quic_address.to_string() }))
            }
            Err(error) => CtlReply::error(error.exit(), error.to_string()),
        }
    }

    /// Changes what is known of a client: on disk first, and then for the sessions that it has.
    fn change(
        &mut self,
        client: &str,
        change: impl FnOnce(&mut Clients, Fingerprint) -> Result<bool, ClientsError>,
        what: &str,
    ) -> CtlReply {
        let client = match self.parts.clients.find(client) {
            Ok(client) => client,
            Err(error) => return CtlReply::error(REFUSED, error.to_string()),
        };
        match change(&mut self.parts.clients, client) {
            Ok(changed) => {
                if changed {
                    info!("client {client} {what}");
                    self.tell_of_client(client);
                    self.widen();
                }
                let mut reply = self.parts.clients.json_of(client);
                reply["changed"] = changed.into();
                CtlReply::ok(reply)
            }
            Err(error) => CtlReply::error(error.exit(), error.to_string()),
        }
    }

    /// The first native client that is allowed opens the host to the network.
    fn widen(&mut self) {
        let sockets = &self.parts.sockets;
        if !self.parts.clients.any_native()
            || self.parts.config.listen.address != Address::Auto
            || !sockets.quic_address.ip().is_loopback()
        {
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
