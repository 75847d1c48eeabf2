//! What sendmsg reads: a `msghdr` with its parts, laid out in another process's memory as x86-64's kernel has it.

use anyhow::Result;
use nix::libc;

use super::{Held, Outcome};

/// Of a socket's control messages, the kind and the payload.
#[derive(Clone, Debug)]
pub enum Control {
    None,
    /// Descriptors, by their numbers in the sending process.
    Rights(Vec<u64>),
    /// A sender that is claimed.
    Credentials {
        pid: i32,
        uid: u32,
        gid: u32,
    },
}

impl Control {
    fn payload(&self) -> Option<(i32, Vec<u8>)> {
        match self {
            Self::None => None,
            Self::Rights(numbers) => {
                Some((libc::SCM_RIGHTS, numbers.iter().flat_map(|number| (*number as u32).to_ne_bytes()).collect()))
            }
            Self::Credentials { pid, uid, gid } => {
                let bytes = [pid.to_ne_bytes(), uid.to_ne_bytes(), gid.to_ne_bytes()].concat();
                Some((libc::SCM_CREDENTIALS, bytes))
            }
        }
    }
}

/// A socket address in the bytes of its family.
pub fn inet(address: std::net::SocketAddrV4) -> Vec<u8> {
    let family = (libc::AF_INET as u16).to_ne_bytes();
    let mut bytes = [&family[..], &address.port().to_be_bytes(), &address.ip().octets()].concat();
    bytes.resize(size_of::<libc::sockaddr_in>(), 0);
    bytes
}

/// Puts a message into the process; returns the address of its header.
pub fn put(held: &mut Held, body: &[u8], control: &Control, address: &[u8]) -> Result<u64> {
    let base = held.put(body)?;
    let vector = held.put(&[base.to_ne_bytes(), (body.len() as u64).to_ne_bytes()].concat())?;
    let (control, control_length) = match control.payload() {
        None => (0, 0),
        Some((kind, payload)) => {
            // cmsg_len counts its own header and not the padding behind the payload.
            let length = 16 + payload.len() as u64;
            let header = [&length.to_ne_bytes()[..], &libc::SOL_SOCKET.to_ne_bytes(), &kind.to_ne_bytes()].concat();
            let mut bytes = [header, payload].concat();
            bytes.resize(bytes.len().next_multiple_of(8), 0);
            (held.put(&bytes)?, bytes.len() as u64)
        }
    };
    let name = if address.is_empty() { 0 } else { held.put(address)? };
    let words = [name, address.len() as u64, vector, 1, control, control_length, 0];
    held.put(&words.map(u64::to_ne_bytes).concat())
}

/// Sends a message without waiting.
pub fn send(held: &mut Held, socket: u64, body: &[u8], control: &Control) -> Result<Outcome> {
    held.wipe();
    let header = put(held, body, control, &[])?;
    held.call(libc::SYS_sendmsg as u64, &[socket, header, (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u64])
}
