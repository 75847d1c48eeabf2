//! A storm: planes of one host die as fast as they come back, session after session. Nobody measures gaps here; what
//! counts is what is left behind.

use std::collections::VecDeque;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::case::{Plane, Scene, Series, plan};
use super::chance::Chance;
use super::kill::{BACK_WITHIN, COMPOSITOR, flows};
use super::leak::{Census, Leaked};
use super::rig::{FAREWELL, Rig};
use crate::client::Client;
use crate::host::Host;
use crate::process::{descendant, describe, wait_until};

/// Kills before the first census: what a host makes once and keeps is there after them.
const WARM_UP: usize = 30;
/// A plane is looked for so often.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// net is the host's, and must not die five times in a minute: so often it may.
const NET_A_MINUTE: usize = 3;
const MINUTE: Duration = Duration::from_secs(61);
/// Of so many kills one is the compositor's, which takes seconds to come back.
const COMPOSITOR_EVERY: u64 = 40;
/// What lumend's private memory may grow by: an allocator keeps about so much more or less.
const FLAT_BYTES: i64 = 1 << 20;

/// Somebody always comes back sooner; else the storm would never be over.
const NOBODY_WITHIN: Duration = Duration::from_secs(60);

/// What a client is told when a plane of its session has died too often.
const TOO_OFTEN: &str = "five times in a minute";

/// What a storm has done and left.
#[derive(Clone, Debug)]
pub struct Storm {
    pub kills: usize,
    pub seconds: u64,
    pub sessions: usize,
    /// Sessions that lumend has closed because a plane had died five times in a minute, and has told their clients so.
    pub closed: usize,
    /// How the other sessions have ended that did not last.
    pub lost: Vec<String>,
    pub before: Census,
    pub after: Census,
    pub leaked: Leaked,
}

impl Storm {
    pub const fn is_sound(&self) -> bool {
        self.lost.is_empty() && self.leaked.is_nothing() && self.leaked.private_bytes <= FLAT_BYTES
    }

    /// One line, for people and documents.
    pub fn line(&self) -> String {
        let (before, after) = (&self.before, &self.after);
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        format!(
            "after {} kills in {} s ({} sessions; {} closed because a plane died five times in a minute, {} lost): lumend's \
             descriptors {} → {}, sockets {} → {}, memfds {} → {}, virtual outputs {} → {}, processes {} → {}, lumend's \
             private memory {:.2} → {:.2} MiB: {}",
            self.kills,
            self.seconds,
            self.sessions,
            self.closed,
            self.lost.len(),
            before.fds,
            after.fds,
            before.sockets,
            after.sockets,
            before.memfds,
            after.memfds,
            before.outputs,
            after.outputs,
            before.processes,
            after.processes,
            mib(before.private_bytes),
            mib(after.private_bytes),
            if self.is_sound() { "nothing leaks" } else { "LEAKED" },
        )
    }

    pub fn json(&self) -> Value {
        json!({
            "kills": self.kills, "seconds": self.seconds, "sessions": self.sessions, "closed": self.closed,
            "lost": self.lost, "sound": self.is_sound(),
            "leaked": {
                "fds": self.leaked.fds, "memfds": self.leaked.memfds, "outputs": self.leaked.outputs,
                "sockets": self.leaked.sockets, "processes": self.leaked.processes,
                "private_bytes": self.leaked.private_bytes,
            },
        })
    }
}

/// Kills so many times, on one host.
pub fn storm(rig: &Rig, scene: Scene, kills: usize, seed: u64) -> Result<Storm> {
    let series = plan(&[Plane::Encode], scene, 1).pop().context("there is nothing to kill")?;
    rig.sweep()?;
    let host = rig.host(&series)?;
    let mut weather = Weather {
        rig,
        host: &host,
        series: &series,
        chance: Chance::new(seed),
        nets: VecDeque::new(),
        kills: 0,
        sessions: 0,
        closed: 0,
        lost: Vec::new(),
    };
    let desktop = scene.desktop();
    weather.rage(WARM_UP)?;
    ensure!(weather.lost.is_empty(), "sessions were lost: {:?}", weather.lost);
    weather.closed = 0;
    weather.sessions = 0;
    let before = Census::settled(&rig.stage, &host, desktop)?;
    let start = Instant::now();
    weather.rage(WARM_UP + kills)?;
    let seconds = start.elapsed().as_secs();
    let (sessions, closed) = (weather.sessions, weather.closed);
    let lost = std::mem::take(&mut weather.lost);
    // Who died last comes back first: what is not there yet would hide what is too much.
    wait_until(BACK_WITHIN, || {
        let now = Census::settled(&rig.stage, &host, desktop).ok()?;
        (now.processes >= before.processes).then_some(())
    })
    .context("not everything comes back after the storm")?;
    let (after, leaked) = before.leaked(&rig.stage, &host, desktop)?;
    Ok(Storm { kills, seconds, sessions, closed, lost, before, after, leaked })
}

/// The storm while it rages.
struct Weather<'a> {
    rig: &'a Rig,
    host: &'a Host<'a>,
    series: &'a Series,
    chance: Chance,
    /// When net has died in the last minute.
    nets: VecDeque<Instant>,
    kills: usize,
    sessions: usize,
    closed: usize,
    lost: Vec<String>,
}

impl Weather<'_> {
    /// Until so many have died in all; no session is left then.
    fn rage(&mut self, kills: usize) -> Result<()> {
        while self.kills < kills {
            let client = self.rig.spectator(self.host)?;
            self.sessions += 1;
            self.session(client, kills)?;
            eprint!("\r{} kills, {} sessions, {} lost ", self.kills, self.sessions, self.lost.len());
        }
        eprintln!();
        Ok(())
    }

    fn session(&mut self, mut client: Client<'_>, kills: usize) -> Result<()> {
        self.host
            .status_where(BACK_WITHIN, |status| flows(status, self.series.scene))
            .with_context(|| format!("session {} of the storm does not begin", self.sessions))?;
        let mut last = Instant::now();
        while self.kills < kills && client.running().child().try_wait()?.is_none() {
            ensure!(last.elapsed() < NOBODY_WITHIN, "nobody has come back for {} s", NOBODY_WITHIN.as_secs());
            if let Some(pid) = self.choose()? {
                match kill(Pid::from_raw(pid), Signal::SIGKILL) {
                    Ok(()) => (self.kills, last) = (self.kills + 1, Instant::now()),
                    // It has died of something else meanwhile.
                    Err(Errno::ESRCH) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            // The pace of looking; what is looked for is in the status.
            sleep(LOOK_EVERY);
        }
        if client.running().child().try_wait()?.is_none() {
            client.running().signal(Signal::SIGINT)?;
        }
        let report = client.finish(FAREWELL)?;
        let said = report.stderr.trim();
        if said.contains(TOO_OFTEN) {
            self.closed += 1;
        } else if !report.status.success() {
            self.lost.push(format!("after {} kills: {}: {said}", self.kills, describe(report.status)));
        }
        let nobody = |status: &Value| status["sessions"].as_array().is_some_and(Vec::is_empty);
        self.host.status_where(BACK_WITHIN, nobody).context("a session does not end")?;
        Ok(())
    }

    /// Somebody who runs and may die.
    fn choose(&mut self) -> Result<Option<i32>> {
        if self.series.scene != Scene::Pattern && self.chance.below(COMPOSITOR_EVERY) == 0 {
            return Ok(descendant(self.host.pid(), COMPOSITOR));
        }
        while self.nets.front().is_some_and(|at| at.elapsed() > MINUTE) {
            self.nets.pop_front();
        }
        let status = self.host.status()?;
        let planes = status["planes"].as_array().map_or(&[][..], Vec::as_slice);
        let may = |entry: &&Value| {
            let net = entry["plane"] == "net";
            entry["state"] == "running"
                && if net { self.nets.len() < NET_A_MINUTE } else { !entry["session"].is_null() }
        };
        let running: Vec<&Value> = planes.iter().filter(may).collect();
        let Some(chosen) = running.get(self.chance.below(running.len() as u64) as usize) else { return Ok(None) };
        if chosen["plane"] == "net" {
            self.nets.push_back(Instant::now());
        }
        Ok(chosen["pid"].as_i64().map(|pid| pid as i32))
    }
}
