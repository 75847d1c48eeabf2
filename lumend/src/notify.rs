//! Tells whoever started lumend that it is up: one datagram, as sd_notify(3) has it.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use tracing::debug;

/// Speaks once, and only if somebody listens.
#[derive(Debug)]
pub struct Notify(Option<SocketAddr>);

impl Notify {
    /// Whoever NOTIFY_SOCKET names: a path, or an abstract name after an `@`.
    pub fn from_environment() -> Self {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return Self(None) };
        let address = match name.as_encoded_bytes().split_first() {
            Some((b'@', rest)) => SocketAddr::from_abstract_name(rest),
            _ => SocketAddr::from_pathname(Path::new(&name)),
        };
        Self(address.ok())
    }

    pub const fn is_due(&self) -> bool {
        self.0.is_some()
    }

    /// Never waits: a manager that does not listen goes without.
    pub fn ready(&mut self) {
        let Some(address) = self.0.take() else { return };
        let told = UnixDatagram::unbound()
            .and_then(|socket| socket.set_nonblocking(true).and_then(|()| socket.send_to_addr(b"READY=1", &address)));
        if let Err(error) = told {
            debug!("nobody at NOTIFY_SOCKET: {error}");
        }
    }
}
