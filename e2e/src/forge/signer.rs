//! Net's socket for signatures: what it can have signed, and how much of it.

use std::fs;

use anyhow::{Context, Result, bail};
use ipc::{PairingId, SignReply, SignRequest};
use nix::libc;

use crate::inject::message::{self, Control};
use crate::inject::{Held, Outcome, handles};

/// Of linux/net.h, as `/proc/net/unix` prints it.
const SEQPACKET: &str = "0005";

/// The number of that socket in net: the other one that keeps messages apart.
pub fn socket(net: i32) -> Result<u64> {
    let table = fs::read_to_string(format!("/proc/{net}/net/unix"))?;
    let packets: Vec<&str> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words.get(4) == Some(&SEQPACKET))
        .filter_map(|words| words.get(6).copied())
        .collect();
    let is_packets = |target: &str| packets.iter().any(|inode| target == format!("socket:[{inode}]"));
    let open = handles::open(net)?;
    // Net has its link twice.
    let link = open.get(&(ipc::plane::LINK_FD as u64)).context("net has no link")?;
    let found = open.iter().find(|(_, target)| *target != link && is_packets(target));
    found.map(|(number, _)| *number).with_context(|| format!("net has no link to the signer: {open:?}"))
}

/// One of each kind of request, as the codec writes them.
pub fn requests() -> Vec<Vec<u8>> {
    let requests = [
        SignRequest::Tls13 { transcript: [1; 32] },
        SignRequest::Tls13Rsa { transcript: [1; 32] },
        SignRequest::Tls12Rsa { client_random: [1; 32], server_random: [2; 32], x: [3; 32], y: [4; 32] },
        SignRequest::Pairing { pairing: PairingId(1 << 20), secret: [9; 16] },
    ];
    requests.iter().map(|request| postcard::to_allocvec(request).unwrap_or_default()).collect()
}

/// What was answered: signatures, and refusals.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Answers {
    pub signed: usize,
    pub refused: usize,
}

/// Asks, and takes the answers before anybody else in net does.
pub fn ask(held: &mut Held, socket: u64, requests: &[Vec<u8>]) -> Result<Answers> {
    for request in requests {
        match message::send(held, socket, request, &Control::None)? {
            Outcome::Returned(sent) if sent == request.len() as i64 => {}
            other => bail!("a request was not sent: {other:?}"),
        }
    }
    let mut answers = Answers::default();
    held.wipe();
    let room = held.put(&[0; 1024])?;
    // One by one, each waited for: lumend answers every request, and the kernel wakes whoever waits.
    for _ in requests {
        match held.call(libc::SYS_recvfrom as u64, &[socket, room, 1024])? {
            Outcome::Returned(length @ 1..=1024) => {
                let bytes = held.read(room, length as usize)?;
                match postcard::from_bytes(&bytes).context("no answer of the signer")? {
                    SignReply::Signed(_) => answers.signed += 1,
                    SignReply::Refused => answers.refused += 1,
                }
            }
            other => bail!("no answer: {other:?}"),
        }
    }
    Ok(answers)
}
