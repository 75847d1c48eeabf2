//! What tests with GameStream clients begin with and look at.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use xtask::host::{Desktop, Host, free_base_port};
use xtask::process::wait_until;
use xtask::stage::Stage;

use super::moonlight::Moonlight;
use super::pair::{Outcome, pair};
use super::stream::{Reception, Stream};
use super::wish::Wish;

pub const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// The mode of most tests: small enough for a loaded machine with unoptimised builds.
pub const MODE: (u32, u32, u32) = (640, 360, 60);

/// By how much a block of a judged picture may be off: about twice what is seen at 2 Mbit/s, and less than a wrong colour
/// or another picture makes.
const DAMAGE: f32 = 8.0;

/// How long a host may take for anything that a person waits for.
const PATIENCE: Duration = Duration::from_secs(20);

/// A host that serves GameStream clients on ports of its own.
pub struct Site<'a> {
    pub host: Host<'a>,
    /// HTTP's port.
    pub base: u16,
}

/// Starts a host with these further lines of configuration.
pub fn site<'a>(stage: &'a Stage, desktop: Desktop, config: &str) -> Result<Site<'a>> {
    site_in(stage, desktop, &[], config)
}

/// The same, with more in its environment.
pub fn site_in<'a>(
    stage: &'a Stage,
    desktop: Desktop,
    environment: &[(&str, PathBuf)],
    config: &str,
) -> Result<Site<'a>> {
    let base = free_base_port()?;
    let config = format!("[gamestream]\nbase_port = {base}\nbind = \"127.0.0.1\"\n{config}");
    let host = Host::start_named(stage, "host", Some(desktop), environment, &config)?;
    Ok(Site { host, base })
}

impl Site<'_> {
    /// A client that has never been here.
    pub fn stranger(&self) -> Result<Moonlight> {
        Moonlight::new(LOCAL, self.base)
    }

    /// A client that has been let in.
    pub fn enrol(&self) -> Result<Moonlight> {
        let mut client = self.stranger()?;
        let (outcome, output) = self.pair(&mut client, "2468", "2468")?;
        ensure!(outcome == Outcome::Paired, "{outcome:?}");
        ensure!(output.status.success(), "{output:?}");
        Ok(client)
    }

    /// Pairs: the client shows one PIN, and a person types another, or the same. What both sides say of it.
    pub fn pair(&self, client: &mut Moonlight, shown: &str, typed: &str) -> Result<(Outcome, Output)> {
        let name = client.identity().fingerprint().to_string();
        std::thread::scope(|scope| {
            let pairing = scope.spawn(|| pair(client, shown));
            let typed = (|| {
                let waiting = self.wait_for_pairing(&name)?;
                self.host.ctl(&["pair", typed, "--client", &waiting.to_string()])
            })();
            let outcome = pairing.join().map_err(|_| anyhow::anyhow!("the client panicked"))?;
            Ok((outcome?, typed?))
        })
    }

    /// The number of the pairing that a client's first request has begun.
    pub fn wait_for_pairing(&self, fingerprint: &str) -> Result<u64> {
        let mine = |status: &Value| -> Option<u64> {
            let waiting = status["pairings"].as_array()?;
            let mine = waiting.iter().find(|pairing| pairing["fingerprint"] == fingerprint)?;
            mine["pairing"].as_u64()
        };
        let status = self.host.status_where(PATIENCE, |status| mine(status).is_some())?;
        mine(&status).context("it is gone again")
    }

    /// A launch of the desktop, with everything encrypted.
    pub fn wish(&self, client: &Moonlight) -> Result<Wish> {
        Ok(Wish::new(client.app("Desktop")?, MODE))
    }

    /// Launches the desktop, and waits for the first frames.
    pub fn watch(&self, client: &Moonlight) -> Result<Stream> {
        self.watch_as(client, &self.wish(client)?, Reception::default())
    }

    pub fn watch_as(&self, client: &Moonlight, wish: &Wish, reception: Reception) -> Result<Stream> {
        let stream = Stream::start(client, &client.launch(wish)?, wish, reception)?;
        self.flowing(&stream, 20)?;
        Ok(stream)
    }

    /// Waits for this many frames.
    pub fn flowing(&self, stream: &Stream, frames: u64) -> Result<()> {
        wait_until(PATIENCE, || (stream.frames() >= frames || stream.ended(Duration::ZERO).is_some()).then_some(()))
            .with_context(|| format!("{} frames; the host said:\n{}", stream.frames(), self.host.log()))?;
        ensure!(stream.frames() >= frames, "it ended with {:?}:\n{}", stream.ended(Duration::ZERO), self.host.log());
        Ok(())
    }

    /// The host's own account of a client's session; null if it has none.
    pub fn session(&self, client: &Moonlight) -> Result<Value> {
        let status = self.host.status()?;
        Ok(of_client(&status, client).cloned().unwrap_or_default())
    }

    /// Waits until the client has no session.
    pub fn wait_gone(&self, client: &Moonlight) -> Result<()> {
        self.host.status_where(PATIENCE, |status| of_client(status, client).is_none()).map(drop)
    }
}

fn of_client<'a>(status: &'a Value, client: &Moonlight) -> Option<&'a Value> {
    let name = client.identity().fingerprint().to_string();
    let sessions = status["sessions"].as_array()?;
    sessions.iter().find(|session| session["client"]["fingerprint"] == name.as_str())
}

/// Nothing against the rules of the wire was seen, everything that was to be shown was decoded, and the numbers in the
/// pixels only grew.
pub fn sound(stream: &Stream) -> Result<()> {
    let (video, audio) = (stream.video(), stream.audio());
    ensure!(video.counts.faults == 0, "{:?}", video.counts.told);
    ensure!(audio.counts.faults == 0, "{:?}", audio.counts.told);
    ensure!(video.not_authentic == 0 && stream.control().not_authentic == 0, "{video:?}");
    ensure!(video.decode_errors == 0 && audio.decode_errors == 0, "{:?}", video.told);
    let worst = video.pictures.iter().filter_map(|picture| picture.errors.map(|errors| errors.luma.max(errors.chroma)));
    let worst = worst.fold(0.0, f32::max);
    ensure!(worst <= DAMAGE, "a picture is off by {worst} from what it should show");
    let numbers: Vec<u32> = video.pictures.iter().filter_map(|picture| picture.stamp).collect();
    ensure!(numbers.is_sorted(), "the numbers in the pixels step back: {numbers:?}");
    let frames: Vec<u32> = video.pictures.iter().map(|picture| picture.frame).collect();
    ensure!(frames.is_sorted_by(|a, b| a < b), "{frames:?}");
    ensure!(video.pictures.first().is_none_or(|first| first.idr), "the first picture is no IDR");
    let holes = video.pictures.windows(2).filter(|pair| pair[1].frame != pair[0].frame + 1);
    ensure!(holes.into_iter().all(|pair| pair[1].idr), "a picture was shown whose reference is missing");
    Ok(())
}
