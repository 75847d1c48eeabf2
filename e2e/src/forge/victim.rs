//! The session that is attacked, and what becomes of its planes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ipc::{PlaneKind, SessionId};
use serde_json::Value;
use xtask::client::{Client, allow};
use xtask::host::Host;
use xtask::process::wait_until;
use xtask::stage::Stage;

use super::lies::Shared;
use super::{Forgery, How};
use crate::inject::message::{self, Control};
use crate::inject::trial::{PATIENCE, gets_through, moves, replaced};
use crate::inject::{Held, Outcome, handles};
use crate::trial::pids;

/// How long a peer, or lumend, may take to see what was done.
const NOTICED: Duration = Duration::from_secs(5);

/// A client that watches a small picture, listens and has hands, and its session.
pub struct Victim<'a> {
    pub client: Client<'a>,
    pub session: SessionId,
}

impl<'a> Victim<'a> {
    /// Connects. [`Victim::wait`] says when it has everything.
    pub fn connect(stage: &'a Stage, host: &Host, number: u32) -> Result<Self> {
        let identity = format!("victim{number}");
        allow(stage, host, &identity)?;
        let before = sessions(&host.status()?);
        // Without an event, net has no reason to look at what hands say that they have read.
        let script = moves(stage)?;
        let arguments = ["--mode", "320x180x30", "--seconds", "120", "--input-script", &script];
        let client = Client::connect(stage, &identity, &host.address(), &arguments)?;
        let new = |status: &Value| sessions(status).into_iter().find(|id| !before.contains(id));
        let status = host.status_where(PATIENCE, |status| new(status).is_some())?;
        Ok(Self { client, session: SessionId(new(&status).context("no session")?) })
    }

    /// Waits until pictures, sound and hands flow, and every plane of it runs.
    pub fn wait(&self, host: &Host) -> Result<()> {
        let sent = |session: &Value| session["frames"]["sent"].as_u64().unwrap_or(0);
        let of = |status: &Value| session_of(status, self.session).cloned();
        // What net has been made to say of it lasts for a second.
        let honest = |status: &Value| of(status).as_ref().is_none_or(|session| sent(session) < 1 << 40);
        let begun = of(&host.status_where(PATIENCE, honest)?).as_ref().map_or(0, sent);
        let whole = |session: &Value| {
            let running = |branch: &str| session[branch]["state"] == "running";
            session["state"] == "streaming"
                && running("audio")
                && running("input")
                && sent(session) > begun
                && sent(session) < 1 << 40
        };
        host.status_where(PATIENCE, |status| of(status).as_ref().is_some_and(whole)).map(drop)
    }

    fn name(&self, kind: PlaneKind) -> String {
        match kind {
            PlaneKind::Net => "net/null".to_owned(),
            _ => format!("{kind}/{}", self.session.0),
        }
    }

    pub fn pid(&self, pids: &BTreeMap<String, i64>, kind: PlaneKind) -> Result<i32> {
        let name = self.name(kind);
        pids.get(&name).map(|pid| *pid as i32).with_context(|| format!("no {name} in {pids:?}"))
    }

    /// Lets a plane of it do this, and waits until whoever dies of it is dead. Returns who that was.
    pub fn suffers(&self, host: &Host, forgery: &Forgery, by: PlaneKind) -> Result<Vec<(String, i64)>> {
        let before = pids(host)?;
        let pid = self.pid(&before, by)?;
        let dies = forgery.dies(by);
        let named = |kind: &PlaneKind| Ok((self.name(*kind), i64::from(self.pid(&before, *kind)?)));
        let dead = dies.iter().map(named).collect::<Result<Vec<_>>>()?;
        match forgery.how {
            How::Say(words) => say(pid, &words(by, self.session), !dies.is_empty())?,
            How::Write(memory, peer, lie) => {
                let peer = self.pid(&before, peer)?;
                let shared = Shared::between(pid, peer, memory)?;
                let mut held = Held::take(pid)?;
                lie(&mut held, &shared)?;
                let woken = wake(&mut held, peer);
                match dead.first() {
                    // It may have been noticed by now. Nothing of it runs on and puts things right before the peer has looked.
                    Some((_, dying)) if *dying == i64::from(pid) => ensure!(held.ends(NOTICED)?, "nobody noticed"),
                    // The peer looks at what a consumer says when it has something to say itself.
                    Some((_, dying)) => {
                        woken.and_then(|()| wait_until(NOTICED, || gone(*dying as i32).then_some(())))?
                    }
                    None => woken?,
                }
            }
        }
        for (_, dying) in &dead {
            wait_until(NOTICED, || gone(*dying as i32).then_some(()))?;
        }
        Ok(dead)
    }

    /// Waits for the heirs of the dead, while all others are as before.
    pub fn heals(&self, host: &Host, dead: &[(String, i64)], before: &BTreeMap<String, i64>) -> Result<()> {
        replaced(host, dead, before)?;
        self.wait(host)
    }
}

/// Says it all, as fast as lumend hears it. Of what kills, not everything need be heard.
fn say(pid: i32, words: &[super::words::Word], lethal: bool) -> Result<()> {
    let (mut left, mut begun, until) = (words, false, Instant::now() + PATIENCE);
    while !left.is_empty() {
        let mut held = match Held::take(pid) {
            // What it said before is ending it.
            Err(_) if lethal && begun => return Ok(()),
            held => held?,
        };
        begun = true;
        let mut said = 0;
        for word in left.iter().take(AT_ONCE) {
            let control = match word.descriptors {
                0 => Control::None,
                count => Control::Rights(vec![0; count]),
            };
            let outcome = match message::send(&mut held, ipc::plane::LINK_FD as u64, &word.bytes, &control) {
                // It was killed between two looks at it.
                Err(_) if lethal && wait_until(NOTICED, || gone(pid).then_some(())).is_ok() => return Ok(()),
                outcome => outcome?,
            };
            match outcome {
                Outcome::Returned(sent) if sent == word.bytes.len() as i64 => said += 1,
                // The link is full: lumend is behind.
                Outcome::Returned(-11) if lethal => break,
                // lumend has hung up.
                Outcome::Returned(-32 | -104) if lethal => return Ok(()),
                told if lethal && gets_through(told) => return Ok(()),
                other => bail!("{other:?} of {} bytes", word.bytes.len()),
            }
        }
        left = &left[said..];
        ensure!(Instant::now() < until, "lumend hears nothing");
        drop(held);
        if said < AT_ONCE && !left.is_empty() {
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }
    Ok(())
}

/// Messages for which a plane is stopped.
const AT_ONCE: usize = 500;

/// Signals every wake-up that a process shares with a peer.
fn wake(held: &mut Held, peer: i32) -> Result<()> {
    let theirs = handles::events(peer)?;
    let own = handles::events(held.pid())?;
    held.wipe();
    let one = held.put(&1_u64.to_ne_bytes())?;
    for number in own.iter().filter(|(id, _)| theirs.contains_key(id)).map(|(_, number)| *number) {
        held.call(nix::libc::SYS_write as u64, &[number, one, 8])?;
    }
    Ok(())
}

/// Nothing of it runs any more.
fn gone(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with(['Z', 'X']) || rest.is_empty())
}

fn sessions(status: &Value) -> Vec<u32> {
    let list = status["sessions"].as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(|session| session["id"].as_u64().map(|id| id as u32)).collect()
}

fn session_of(status: &Value, id: SessionId) -> Option<&Value> {
    status["sessions"].as_array()?.iter().find(|session| session["id"] == id.0)
}
