//! What `lumend status` tells: the same facts as JSON for scripts and as a table for people.

mod branches;
mod failures;
mod people;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;

use ipc::{Face, Fingerprint, NetCounters, PlaneKind, Quantiles, SessionId};
use serde_json::{Value, json};

use crate::book::Book;
use crate::clients::Clients;
use crate::desktop::Desktop;
use crate::gamestream::GameStream;
use crate::keep::Keep;
use crate::machine::{Machine, Phase, PlaneId, Run, RunStage, Session, Slot, Wiring};
use crate::pairing::Pairings;
use crate::reach::{Reach, Strays};

/// Everything a status is made of, borrowed from the daemon.
pub struct View<'a> {
    pub now: u64,
    pub fingerprint: Fingerprint,
    pub listen: SocketAddr,
    pub media: SocketAddr,
    pub gamestream: &'a GameStream,
    pub desktop: &'a Desktop,
    /// Where capture gets its pictures: "wlroots" or "pattern".
    pub pictures: &'static str,
    pub clients: &'a Clients,
    pub turned_away: u64,
    pub machine: &'a Machine,
    pub planes: &'a BTreeMap<PlaneId, Reach>,
    pub strays: &'a Strays,
    pub books: &'a BTreeMap<SessionId, Book>,
    pub keeps: &'a BTreeMap<SessionId, Keep>,
    pub counters: NetCounters,
    pub pairings: &'a Pairings,
}

impl View<'_> {
    /// The whole state, as `lumend status --json` prints it.
    pub fn json(&self) -> Value {
        let mut planes = vec![self.plane(self.machine.net(), None)];
        let mut sessions = Vec::new();
        for session in self.machine.sessions() {
            planes.extend(session.slots().map(|slot| self.plane(slot, Some(session))));
            planes.extend(session.standby.iter().map(|slot| self.standby(slot, session)));
            sessions.push(self.session(session));
        }
        if self.machine.janitor().current.is_some() {
            planes.push(self.plane(self.machine.janitor(), None));
        }
        let counters = &self.counters;
        json!({
            "version": ipc::BUILD,
            "fingerprint": self.fingerprint.to_string(),
            "listen": {
                "lumen": self.listen.to_string(),
                "media": self.media.to_string(),
                "gamestream": self.gamestream.address().map(|address| address.to_string()),
            },
            "gamestream": self.gamestream.json(),
            "desktop": self.desktop.name(),
            "clients": self.clients.iter().count(),
            "planes": planes,
            "abandoned": self.strays.json(),
            "sessions": sessions,
            "failures": self
                .machine
                .failures()
                .map(|failure| failures::session(failure, self.name(failure.client), self.now))
                .collect::<Vec<_>>(),
            "runs": self.machine.runs().map(|run| self.run(run)).collect::<Vec<_>>(),
            "pairings": self.pairings.json(self.now),
            "net": {
                "stray_packets": counters.stray_packets,
                "connections_refused": counters.connections_refused,
                "retries": counters.retries,
                "handshakes_failed": counters.handshakes_failed,
                "hellos_refused": counters.hellos_refused,
                "asks_refused": counters.asks_refused,
                "queue_full": counters.queue_full,
                "send_blocked": counters.send_blocked,
                "send_errors": counters.send_errors,
                "requests_malformed": counters.requests_malformed,
                "pairings_refused": counters.pairings_refused,
                "discovery_ignored": counters.discovery_ignored,
            },
            "control": { "turned_away": self.turned_away },
        })
    }

    /// One line, as `systemctl status` shows it.
    pub fn line(&self) -> String {
        let fps: f64 = self.books.values().map(|book| book.rates(self.now).0).sum();
        let what = match self.machine.sessions().count() {
            _ if !self.desktop.is_up() => "waits for a desktop".into(),
            0 => "no session".into(),
            1 => format!("1 session, {fps:.0} fps"),
            sessions => format!("{sessions} sessions, {fps:.0} fps"),
        };
        format!("{what}; listening on {}", self.listen)
    }

    fn plane(&self, slot: &Slot, session: Option<&Session>) -> Value {
        let process = slot.current.and_then(|id| self.machine.process(id));
        let reach = slot.current.and_then(|id| self.planes.get(&id));
        let state = match process.map(|process| process.phase) {
            Some(Phase::Starting { .. }) => "starting",
            Some(Phase::Ready { .. }) => "running",
            Some(Phase::Closing { .. } | Phase::Killed) => "stopping",
            None if slot.failed => "failed",
            None => "waiting",
        };
        let (reason, retry_in_s) = failures::slot(slot, self.now);
        let uptime = process.map_or(0.0, |process| self.now.saturating_sub(process.started_at) as f64 / 1e9);
        let generation = session.map(|session| session.branch(slot.kind).map_or(session.generation, |b| b.generation));
        json!({
            "plane": slot.kind.name(),
            "backend": self.backend(slot.kind, session),
            "session": session.map(|session| session.id.0),
            "pid": reach.and_then(Reach::pid),
            "state": state,
            "generation": generation.map(|generation| generation.0),
            "restarts": slot.restarts,
            "reopens": slot.reopens,
            "last_exit": slot.last_exit,
            "reason": reason,
            "retry_in_s": retry_in_s,
            "uptime_s": (uptime * 1000.0).round() / 1000.0,
            "sandbox": reach.map(|reach| sandbox(reach.pid(), reach.hello.as_ref().map(|hello| hello.landlock_abi))),
        })
    }

    /// A standby works with nothing and belongs to no generation until it is promoted.
    fn standby(&self, slot: &Slot, session: &Session) -> Value {
        let mut plane = self.plane(slot, Some(session));
        if plane["state"] == "running" {
            plane["state"] = "standby".into();
        }
        (plane["generation"], plane["backend"]) = (Value::Null, Value::Null);
        plane
    }

    /// What a plane works with; none until it is known.
    fn backend(&self, kind: PlaneKind, session: Option<&Session>) -> Option<&str> {
        let book = session.and_then(|session| self.books.get(&session.id));
        match kind {
            PlaneKind::Net => Some("quic"),
            PlaneKind::Capture => Some(self.pictures),
            PlaneKind::Encode => book.map(|book| book.encoder.as_str()).filter(|encoder| !encoder.is_empty()),
            PlaneKind::Audio => Some("pipewire"),
            PlaneKind::Input => book?.hands.map(|hands| branches::hands(hands.hands)),
        }
    }

    /// What a client is called, if anything.
    fn name(&self, client: Fingerprint) -> Option<&str> {
        self.clients.get(client).map(|client| client.name.as_str()).filter(|name| !name.is_empty())
    }

    fn title(&self, run: &Run) -> Option<&str> {
        self.gamestream.apps().find(run.app).map(|(_, app)| app.title())
    }

    fn run(&self, run: &Run) -> Value {
        json!({
            "run": run.id.0,
            "app": self.title(run),
            "client": { "name": self.name(run.client), "fingerprint": run.client.to_string() },
            "state": match run.stage {
                RunStage::Wanted => "starting",
                RunStage::Running => "running",
                RunStage::Stopping { .. } => "stopping",
            },
        })
    }

    fn session(&self, session: &Session) -> Value {
        let nothing = Book::default();
        let book = self.books.get(&session.id).unwrap_or(&nothing);
        let permissions = self.clients.permissions(session.client);
        let devices = self.keeps.get(&session.id).into_iter().flat_map(Keep::devices).map(|device| device.to_string());
        let (fps, kbps) = book.rates(self.now);
        let (capture, encode, net) = (book.capture(), book.encode(), book.net());
        json!({
            "id": session.id.0,
            "peer": session.peer.to_string(),
            "client": { "name": self.name(session.client), "fingerprint": session.client.to_string() },
            "protocol": match session.face {
                Face::Lumen => "lumen/1",
                Face::GameStream => "gamestream",
            },
            "app": session.run.and_then(|run| self.machine.runs().find(|r| r.id == run)).map(|run| self.title(run)),
            "state": match (session.wiring, session.picture) {
                _ if session.back.is_waiting() => "waiting for its client",
                (Wiring::Whole, _) => "streaming",
                // Net has granted it, and the client has more to say.
                (_, None) => "launching",
                (_, Some(_)) => "wiring",
            },
            "mode": {
                "width": session.mode.width(),
                "height": session.mode.height(),
                "refresh_mhz": session.mode.refresh_mhz(),
            },
            "desktop": self.desktop.name_of(session.id),
            "output": self.desktop.output(session.id),
            "codec": "h264",
            "encoder": book.encoder,
            "generation": session.generation.0,
            "fps": fps,
            "bitrate_kbps": kbps,
            "target_kbps": session.picture.map(|picture| picture.bitrate_kbps),
            "loss_permille": net.loss_permille,
            "frames": {
                "captured": capture.captured,
                "skipped": capture.skipped,
                "encoded": encode.encoded,
                "sent": net.frames,
                "idr": encode.idr,
                "still": encode.still,
                "oversize": encode.oversize,
            },
            "packets": { "sent": net.packets, "parity": net.parity_packets, "rejected": net.rejected },
            "bytes": net.bytes,
            "audio": session.audio.as_ref().map(|branch| branches::audio(branch, book)),
            "input": session.input.as_ref().map(|branch| branches::input(branch, book, permissions, devices)),
            "latency_us": {
                "capture_wait": quantiles(&net.capture_wait),
                "convert": quantiles(&net.convert),
                "encode": quantiles(&net.encode),
                "first": quantiles(&net.first),
                "send": quantiles(&net.send),
                "total": quantiles(&net.total),
            },
        })
    }
}

fn quantiles(q: &Quantiles) -> Value {
    json!({ "p50": q.p50, "p95": q.p95, "p99": q.p99, "max": q.max })
}

/// The walls around a process, as the kernel tells them; `landlock_abi` is what the plane reported.
fn sandbox(pid: Option<u32>, landlock_abi: Option<u32>) -> Value {
    let text = pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok()).unwrap_or_default();
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let number = |name: &str, radix| field(name).and_then(|value| u64::from_str_radix(value, radix).ok());
    json!({
        "no_new_privs": number("NoNewPrivs", 10).map(|value| value == 1),
        "seccomp": number("Seccomp", 10),
        "capabilities": number("CapEff", 16),
        "landlock_abi": landlock_abi,
    })
}

/// The table for people, made from the JSON, so that the two cannot disagree.
pub fn table(status: &Value) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".into(),
        other => other.to_string(),
    };
    let mut out = String::new();
    let _ = writeln!(out, "lumend {}   listening on {}", text(&status["version"]), text(&status["listen"]["lumen"]));
    if status["gamestream"]["enabled"] == json!(true) {
        let _ = match status["gamestream"]["obstacle"].as_str() {
            Some(obstacle) => writeln!(out, "Moonlight clients are not served: {obstacle}"),
            None => writeln!(out, "Moonlight clients are served on {}", text(&status["listen"]["gamestream"])),
        };
    }
    let _ = writeln!(out, "fingerprint {}", text(&status["fingerprint"]));
    let _ = writeln!(out, "desktop {}   {} allowed clients", text(&status["desktop"]), text(&status["clients"]));
    let _ = writeln!(
        out,
        "\n{:<8} {:<9} {:>7} {:>7}  {:<9} {:>4} {:>8} {:>9}  {:<12} last exit",
        "PLANE", "BACKEND", "SESSION", "PID", "STATE", "GEN", "RESTARTS", "UPTIME", "WALLS"
    );
    for plane in status["planes"].as_array().into_iter().flatten() {
        let sandbox = &plane["sandbox"];
        let walls = [
            (sandbox["no_new_privs"] == json!(true), "nnp"),
            (sandbox["seccomp"] == json!(2), "bpf"),
            (sandbox["capabilities"] == json!(0), "cap"),
            (sandbox["landlock_abi"].as_u64().is_some_and(|abi| abi > 0), "ll"),
        ];
        let walls: Vec<_> = walls.iter().filter(|(up, _)| *up).map(|(_, name)| *name).collect();
        let _ = writeln!(
            out,
            "{:<8} {:<9} {:>7} {:>7}  {:<9} {:>4} {:>8} {:>8.0}s  {:<12} {}",
            text(&plane["plane"]),
            text(&plane["backend"]),
            text(&plane["session"]),
            text(&plane["pid"]),
            text(&plane["state"]),
            text(&plane["generation"]),
            text(&plane["restarts"]),
            plane["uptime_s"].as_f64().unwrap_or(0.0),
            walls.join(" "),
            text(&plane["last_exit"]),
        );
    }
    for stray in status["abandoned"]["planes"].as_array().into_iter().flatten() {
        let (plane, pid) = (text(&stray["plane"]), text(&stray["pid"]));
        let _ = writeln!(
            out,
            "\nThis {plane} plane was given up and lives on, with all it has: end it, as root: kill -9 {pid}"
        );
    }
    if let Some(forgotten @ 1..) = status["abandoned"]["forgotten"].as_u64() {
        let _ = writeln!(out, "\nMore were given up, of which it is not known whether they live: {forgotten}");
    }
    failures::lines(status, &mut out);
    people::lines(status, &mut out);
    let sessions = status["sessions"].as_array().map_or(&[][..], Vec::as_slice);
    if sessions.is_empty() {
        out.push_str("\nno session\n");
    }
    for session in sessions {
        let (mode, frames) = (&session["mode"], &session["frames"]);
        let _ = writeln!(
            out,
            "\nsession {}: {} {} {}x{}@{:.2} {} by {}, generation {}, {}{}{}",
            session["id"],
            text(&session["protocol"]),
            session["client"]["name"].as_str().map_or_else(|| text(&session["peer"]), str::to_owned),
            mode["width"],
            mode["height"],
            mode["refresh_mhz"].as_f64().unwrap_or(0.0) / 1000.0,
            text(&session["codec"]),
            text(&session["encoder"]),
            session["generation"],
            text(&session["state"]),
            session["desktop"].as_str().map_or(String::new(), |desktop| format!(", desktop {desktop}")),
            session["app"].as_str().map_or(String::new(), |app| format!(", app {app}")),
        );
        let _ = writeln!(
            out,
            "  {} fps, {} kbit/s, loss {:.1} %; frames: {} captured, {} skipped, {} encoded, {} sent",
            session["fps"],
            session["bitrate_kbps"],
            session["loss_permille"].as_f64().unwrap_or(0.0) / 10.0,
            frames["captured"],
            frames["skipped"],
            frames["encoded"],
            frames["sent"],
        );
        branches::lines(session, &mut out);
        let _ = writeln!(out, "  {:<14} {:>8} {:>8} {:>8}", "latency (us)", "p50", "p95", "p99");
        for stage in ["capture_wait", "convert", "encode", "first", "send", "total"] {
            let q = &session["latency_us"][stage];
            let (p50, p95, p99) = (text(&q["p50"]), text(&q["p95"]), text(&q["p99"]));
            let _ = writeln!(out, "  {stage:<14} {p50:>8} {p95:>8} {p99:>8}");
        }
    }
    out
}
