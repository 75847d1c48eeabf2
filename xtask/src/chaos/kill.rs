//! One death: who it is, how it comes, and when everything is there again.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::case::{Scene, Series, Victim};
use crate::host::Host;
use crate::process::{self, descendant, now_ns};

/// What is done to a victim.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Blow {
    /// SIGKILL
    #[value(name = "KILL")]
    Kill,
    /// SIGSTOP: it hangs, and lumend has to notice
    #[value(name = "STOP")]
    Stop,
    /// SIGSEGV
    #[value(name = "SEGV")]
    Segv,
}

impl Blow {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Segv => "SEGV",
        }
    }

    const fn signal(self) -> Signal {
        match self {
            Self::Kill => Signal::SIGKILL,
            Self::Stop => Signal::SIGSTOP,
            Self::Segv => Signal::SIGSEGV,
        }
    }
}

/// Within which a fault ends whom it hits, however busy the machine is.
const AT_ONCE: Duration = Duration::from_secs(2);

/// How long everything may take to be there again: longer than anybody waits.
pub const BACK_WITHIN: Duration = Duration::from_secs(20);

/// The command line of a host's first compositor: it has the configuration that lumend has written.
pub const COMPOSITOR: &str = "sway -c ";

/// Who was struck, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Death {
    pub victim: Victim,
    pub pid: i32,
    /// CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// The session that it served.
    pub session: u64,
    /// That session's generation at that time.
    pub generation: u64,
}

/// Strikes the victim in the host's only session.
pub fn strike(host: &Host, victim: Victim, blow: Blow) -> Result<Death> {
    let status = host.status()?;
    let session = status["sessions"][0]["id"].as_u64().context("there is no session")?;
    let generation = status["sessions"][0]["generation"].as_u64().context("the session has no generation")?;
    let pid = find(host, &status, victim)?;
    let at_ns = deal(pid, blow).with_context(|| format!("{} {pid}", victim.name()))?;
    Ok(Death { victim, pid, at_ns, session, generation })
}

/// When it was struck.
fn deal(pid: i32, blow: Blow) -> Result<u64> {
    let process = Pid::from_raw(pid);
    let mut at_ns = now_ns();
    kill(process, blow.signal()).context("is gone already")?;
    if blow != Blow::Segv {
        return Ok(at_ns);
    }
    // Rust's guard against stack overflows steps aside at the first fault that is none and returns to what has faulted, to
    // die of the next. Of a signal that was sent there is no next, so it is sent again.
    let last = Instant::now() + AT_ONCE;
    while process::is_alive(pid) {
        if Instant::now() > last {
            bail!("lives on after {AT_ONCE:?} of {}", blow.signal());
        }
        at_ns = now_ns();
        // One that has been reaped meanwhile is dead too.
        let _ = kill(process, blow.signal());
        thread::yield_now();
    }
    Ok(at_ns)
}

fn find(host: &Host, status: &Value, victim: Victim) -> Result<i32> {
    let found = match victim {
        Victim::Lumend => Some(host.pid()),
        Victim::Launcher => descendant(host.pid(), "lumend launcher"),
        Victim::Compositor => descendant(host.pid(), COMPOSITOR),
        plane => {
            let planes = status["planes"].as_array().context("status has no planes")?;
            let serves = |entry: &&Value| entry["plane"] == plane.name() && entry["state"] == "running";
            planes.iter().find(serves).and_then(|entry| entry["pid"].as_i64()).map(|pid| pid as i32)
        }
    };
    match found {
        Some(pid) => Ok(pid),
        None => bail!("no {} runs: {status:#}", victim.name()),
    }
}

/// The session flows: pictures, and sound and hands where it has them.
pub fn flows(status: &Value, scene: Scene) -> bool {
    let session = &status["sessions"][0];
    let branch = |name: &str| session[name].is_null() || session[name]["state"] == "running";
    let sent = session["frames"]["sent"].as_u64().unwrap_or(0);
    let enough = if scene == Scene::Still { 2 } else { 12 };
    session["state"] == "streaming" && sent >= enough && branch("audio") && (scene == Scene::Pattern || branch("input"))
}

/// Everything that may die is there: where a spare is kept, the spare too.
pub fn is_ready(status: &Value, series: &Series) -> bool {
    let mut planes = status["planes"].as_array().map_or(&[][..], Vec::as_slice).iter();
    flows(status, series.scene) && (!series.standby() || planes.any(|entry| entry["state"] == "standby"))
}

/// The same session flows again, and somebody else is where the victim was.
pub fn is_back(status: &Value, death: &Death, scene: Scene) -> bool {
    let planes = status["planes"].as_array().map_or(&[][..], Vec::as_slice);
    let all_run = planes.iter().filter(|entry| entry["state"] != "standby").all(|entry| entry["state"] == "running");
    let replaced = planes.iter().all(|entry| entry["pid"] != death.pid);
    let session = &status["sessions"][0];
    let renewed = !death.victim.carries_the_picture() || session["generation"].as_u64() > Some(death.generation);
    // Sessions of a fresh lumend are new ones.
    let same = death.victim == Victim::Lumend || (session["id"] == death.session && renewed);
    let known = !death.victim.is_plane() || planes.iter().any(|entry| entry["plane"] == death.victim.name());
    all_run && replaced && same && known && flows(status, scene)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(pid: i32, state: &str, session: u64, generation: u64) -> Value {
        json!({
            "planes": [
                { "plane": "net", "pid": 7, "state": "running" },
                { "plane": "encode", "pid": pid, "state": state },
                { "plane": "encode", "pid": 99, "state": "standby" },
            ],
            "sessions": [{
                "id": session, "state": "streaming", "generation": generation, "frames": { "sent": 100 },
                "audio": { "state": "running" }, "input": null,
            }],
        })
    }

    #[test]
    fn a_session_is_back_when_somebody_else_does_the_dead_ones_work() {
        let death = Death { victim: Victim::Encode, pid: 10, at_ns: 0, session: 4, generation: 1 };
        let is_back = |status: &Value| is_back(status, &death, Scene::Moving);
        assert!(is_back(&status(11, "running", 4, 2)));
        assert!(!is_back(&status(10, "running", 4, 2)), "nobody has noticed yet");
        assert!(!is_back(&status(11, "starting", 4, 2)));
        assert!(!is_back(&status(11, "running", 5, 2)), "that is another session");
        assert!(!is_back(&status(11, "running", 4, 1)), "it is not wired yet");
        let lumend = Death { victim: Victim::Lumend, ..death };
        assert!(super::is_back(&status(11, "running", 5, 1), &lumend, Scene::Moving), "its sessions are new ones");
    }
}
