//! What a host is put through so that its planes do whatever they ever do: sessions of both kinds of client with picture,
//! sound and hands, each plane's death, clients that are turned away.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use xtask::client::Client;
use xtask::host::{Desktop, Host, free_base_port};
use xtask::process::{Running, wait_until};
use xtask::sound::{Sound, Speakers};
use xtask::stage::Stage;

use super::Tally;
use crate::guest::moonlight::Moonlight;
use crate::guest::pair::Outcome;
use crate::guest::stream::Reception;
use crate::guest::trial::{Site, site_in};
use crate::trial::{MODE, pids, scene, watch};

/// A traced plane is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// The tracer of one host.
struct Watched {
    tracer: Running,
    file: PathBuf,
}

impl Watched {
    /// Starts this program again beside lumend, and waits until it watches. The network plane, which is there already, is
    /// replaced by one that is watched from its beginning.
    fn start(program: &Path, stage: &Stage, host: &Host, name: &str) -> Result<Self> {
        let file = stage.out(&format!("{name}.calls"));
        let child = Command::new(program)
            .args(["--trace", &host.pid().to_string(), "--json"])
            .arg(&file)
            .stdin(Stdio::null())
            .spawn()
            .context("the tracer does not start")?;
        let mut tracer = Running::new("the tracer", child);
        let traced = format!("TracerPid:\t{}", tracer.pid());
        wait_until(PATIENCE, || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", host.pid())).unwrap_or_default();
            let ended = tracer.child().try_wait().ok().flatten();
            (ended.is_some() || status.lines().any(|line| line == traced)).then_some(())
        })?;
        ensure!(tracer.child().try_wait()?.is_none(), "the tracer ended at once");
        replace(host, "net")?;
        Ok(Self { tracer, file })
    }

    /// What was seen, once the host is gone.
    fn finish(mut self) -> Result<Tally> {
        let status = self.tracer.wait(PATIENCE)?;
        ensure!(status.success(), "the tracer failed");
        Tally::from_json(&serde_json::from_str(&std::fs::read_to_string(&self.file)?)?)
    }
}

/// Kills a plane and waits for its heir.
fn replace(host: &Host, plane: &str) -> Result<()> {
    let of_kind = |pids: &std::collections::BTreeMap<String, i64>| {
        pids.iter().find(|(name, _)| name.starts_with(&format!("{plane}/"))).map(|(_, pid)| *pid)
    };
    let old = of_kind(&pids(host)?).with_context(|| format!("no {plane} plane"))?;
    kill(Pid::from_raw(old as i32), Signal::SIGKILL)?;
    wait_until(PATIENCE, || pids(host).ok().and_then(|pids| of_kind(&pids)).filter(|pid| *pid != old)).map(drop)
}

fn leave(mut client: Client<'_>) -> Result<()> {
    client.running().signal(Signal::SIGINT)?;
    client.finish(PATIENCE).map(drop)
}

/// Waits until the session shows, sounds and has hands, anew after `since` frames.
fn whole(host: &Host, since: u64) -> Result<u64> {
    let status = host.status_where(PATIENCE, |status| {
        let session = &status["sessions"][0];
        let more = |number: &Value, least| number.as_u64().unwrap_or(0) > least;
        more(&session["frames"]["sent"], since + 20)
            && more(&session["audio"]["packets"], 20)
            && session["input"]["state"] == "running"
            && session["audio"]["state"] == "running"
    })?;
    status["sessions"][0]["frames"]["sent"].as_u64().context("no frames")
}

/// A real desktop with sound, for a native and a GameStream client.
pub fn desktop(program: &Path, stage: &Stage) -> Result<Tally> {
    let sound = Sound::start(stage, Speakers::Stereo)?;
    let site = site_in(stage, Desktop::Sway, &sound.environment(), &scene(stage, "--seconds 600"))?;
    let host = &site.host;
    let watched = Watched::start(program, stage, host, "desktop")?;
    let client = watch(stage, host, "viewer", 120, &["--input-test"])?;
    let mut frames = whole(host, 0)?;
    for plane in ["encode", "capture", "audio", "input"] {
        replace(host, plane)?;
        frames = whole(host, frames)?;
    }
    leave(client)?;
    let moonlight = site.enrol()?;
    let reception = Reception { loss: 20, ..Reception::default() };
    let mut stream = site.watch_as(&moonlight, &site.wish(&moonlight)?, reception)?;
    whole(host, 0)?;
    stream.last(Duration::from_secs(1))?;
    stream.leave();
    moonlight.cancel()?;
    drop(stream);
    drop(site);
    watched.finish()
}

/// The synthetic desktop, clients that are not let in, and one that comes by IPv6.
pub fn pattern(program: &Path, stage: &Stage) -> Result<Tally> {
    let base = free_base_port()?;
    let config = format!("[gamestream]\nbase_port = {base}\nbind = \"auto\"");
    let site = Site { host: Host::start_named(stage, "pattern", Some(Desktop::Pattern), &[], &config)?, base };
    let host = &site.host;
    let watched = Watched::start(program, stage, host, "pattern")?;
    let stranger = Client::connect(stage, "stranger", &host.address(), &["--mode", MODE, "--seconds", "1"])?;
    ensure!(!stranger.finish(PATIENCE)?.status.success(), "a stranger was let in");
    let client = watch(stage, host, "pattern-viewer", 120, &["--no-audio"])?;
    let shown = |frames| {
        host.status_where(PATIENCE, |status| status["sessions"][0]["frames"]["sent"].as_u64().unwrap_or(0) > frames)
    };
    shown(30)?;
    replace(host, "capture")?;
    shown(60)?;
    leave(client)?;
    let mut moonlight = Moonlight::new(Ipv6Addr::LOCALHOST.into(), base)?;
    let (outcome, _) = site.pair(&mut moonlight, "6666", "6666")?;
    ensure!(outcome == Outcome::Paired, "{outcome:?}");
    let mut stream = site.watch_as(&moonlight, &site.wish(&moonlight)?, Reception::default())?;
    stream.leave();
    moonlight.cancel()?;
    drop(stream);
    drop(site);
    watched.finish()
}
