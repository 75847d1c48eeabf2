//! What lumend holds for Moonlight clients: their sockets, once they can be had, and what there is to start. That other
//! hosts of the kind use the same ports is usual: it is said, tried again, and keeps nobody else from being served.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};

use ipc::{GameStreamListen, ToNet};
use serde_json::{Value, json};
use tracing::{info, warn};

use crate::apps::Apps;
use crate::config;
use crate::identity::GameStreamIdentity;
use crate::sockets::Kept;
use crate::sockets::gamestream::GameStreamSockets;

/// Between tries to bind.
const AGAIN: u64 = 5_000_000_000;

#[derive(Debug)]
enum State {
    Off,
    Bound(GameStreamSockets),
    Busy { obstacle: String, again_at: u64 },
}

#[derive(Debug)]
pub struct GameStream {
    settings: config::GameStream,
    apps: Apps,
    state: State,
}

impl GameStream {
    /// Tries to bind, if it is wanted at all.
    pub fn new(settings: config::GameStream, apps: Apps, now: u64, kept: &mut Kept) -> Self {
        let mut gamestream = Self { settings, apps, state: State::Off };
        if settings.enabled {
            gamestream.bind(now, kept);
        }
        gamestream
    }

    pub fn apps(&self) -> &Apps {
        &self.apps
    }

    /// Of HTTP, while it is served there.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.state {
            State::Bound(sockets) => Some(sockets.address),
            State::Off | State::Busy { .. } => None,
        }
    }

    /// Sockets to be kept for a successor.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, BorrowedFd<'_>)> {
        let bound = match &self.state {
            State::Bound(sockets) => Some(sockets.named()),
            State::Off | State::Busy { .. } => None,
        };
        bound.into_iter().flatten()
    }

    /// When to try again.
    pub fn deadline(&self) -> Option<u64> {
        match &self.state {
            State::Busy { again_at, .. } => Some(*again_at),
            State::Off | State::Bound(_) => None,
        }
    }

    /// Tries again, if it is time. True if there are sockets now that there were not before.
    pub fn tick(&mut self, now: u64) -> bool {
        let due = self.deadline().is_some_and(|at| now >= at);
        due && self.bind(now, &mut Kept::default())
    }

    /// Before another network plane is told: what the one before may have broken is replaced.
    pub fn mend(&mut self) {
        let State::Bound(sockets) = &mut self.state else { return };
        match sockets.mend() {
            Ok(false) => {}
            Ok(true) => warn!("the network plane before has shut sockets down; they are replaced"),
            Err(error) => warn!("Moonlight clients may not be served: {error}"),
        }
    }

    /// All that a network plane has to be told of it, in this order; nothing while there are no sockets.
    pub fn messages(&self, identity: &GameStreamIdentity, host_name: &str) -> io::Result<Vec<ToNet<OwnedFd>>> {
        let State::Bound(sockets) = &self.state else { return Ok(Vec::new()) };
        let mut messages = vec![ToNet::GameStream(GameStreamListen {
            http: sockets.http.try_clone()?,
            https: sockets.https.try_clone()?,
            rtsp: sockets.rtsp.try_clone()?,
            video: sockets.video.try_clone()?,
            control: sockets.control.try_clone()?,
            audio: sockets.audio.try_clone()?,
            base_port: self.settings.base_port,
            certificate: identity.certificate().to_vec(),
            unique_id: identity.unique_id(),
            host_name: host_name.to_owned(),
            encryption: self.settings.encryption,
        })];
        messages.extend(self.apps.messages()?);
        Ok(messages)
    }

    /// For `lumend status`.
    pub fn json(&self) -> Value {
        let obstacle = match &self.state {
            State::Busy { obstacle, .. } => Some(obstacle),
            State::Off | State::Bound(_) => None,
        };
        let apps: Vec<_> =
            self.apps.list().iter().map(|app| json!({ "id": app.id.get(), "name": app.title() })).collect();
        json!({
            "enabled": self.settings.enabled,
            "base_port": self.settings.base_port,
            "obstacle": obstacle,
            "apps": apps,
        })
    }

    fn bind(&mut self, now: u64, kept: &mut Kept) -> bool {
        let (state, bound) = match GameStreamSockets::bind(&self.settings, kept) {
            Ok(sockets) => {
                info!("Moonlight clients are served on {}", sockets.address);
                (State::Bound(sockets), true)
            }
            Err(error) => {
                let obstacle = error.to_string();
                // Once for each reason, not every five seconds.
                if !matches!(&self.state, State::Busy { obstacle: before, .. } if *before == obstacle) {
                    warn!("no Moonlight client is served, until this changes: {obstacle}");
                }
                (State::Busy { obstacle, again_at: now + AGAIN }, false)
            }
        };
        self.state = state;
        bound
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::Address;
    use crate::sockets::gamestream::tests::somewhere;

    #[test]
    fn busy_ports_are_told_and_tried_again() {
        let state = std::env::temp_dir().join(format!("lumen-gamestream-{}", std::process::id()));
        let identity = GameStreamIdentity::load_or_create(&state).unwrap();
        let (settings, others) = somewhere(Address::Auto);
        let mut gamestream = GameStream::new(settings, Apps::new(&[]), 0, &mut Kept::default());
        assert_eq!((gamestream.address(), gamestream.deadline()), (None, Some(AGAIN)));
        assert!(gamestream.json()["obstacle"].as_str().unwrap().contains("in use"));
        assert!(gamestream.messages(&identity, "host").unwrap().is_empty());
        drop(others);
        assert!(!gamestream.tick(AGAIN - 1), "not before its time");
        assert!(gamestream.tick(AGAIN) && !gamestream.tick(2 * AGAIN));
        assert_eq!(gamestream.address().map(|address| address.port()), Some(settings.base_port));
        assert_eq!((gamestream.deadline(), &gamestream.json()["obstacle"]), (None, &Value::Null));
        let messages = gamestream.messages(&identity, "host").unwrap();
        assert!(matches!(&messages[..], [ToNet::GameStream(listen), ToNet::App(app)]
            if listen.base_port == settings.base_port && app.title == "Desktop"));

        let off = config::GameStream { enabled: false, ..settings };
        let off = GameStream::new(off, Apps::new(&[]), 0, &mut Kept::default());
        assert_eq!((off.address(), off.deadline()), (None, None));
        fs::remove_dir_all(state).unwrap();
    }
}
