//! `lumend status --security`: what the kernel says of every plane, beside what the plane's profile promises.
//!
//! lumend is asked for pids and for what no kernel tells, over its control socket; everything else this command reads
//! itself, so that neither lumend has to wait for it nor a lumend in bad hands could paint over it.

mod judge;
mod proc;
mod show;
mod sockets;

use std::io::{self, IsTerminal};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use ipc::PlaneKind;
use ipc::ctl::{CtlClient, CtlRequest, SOCKET};
use ipc::sandbox;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde_json::Value;

use self::judge::{Check, Ports, Promises};
use self::proc::{Reading, Unread};
use self::show::{Report, Row};
use crate::failure::Failure;

/// Looks until nothing differs or has ended meanwhile, at most so often: a plane that is being wired or that closes a
/// connection may have more than it keeps.
const LOOKS: usize = 3;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);
/// Port of mDNS.
const MDNS: u16 = 5353;

/// Looks at all planes and prints what it sees. The exit code is 1 if anything is not as promised.
pub fn run(runtime: &Path, json: bool) -> Result<ExitCode, Failure> {
    let kernel_abi = sandbox::landlock_abi().ok();
    let mut report = look(runtime, kernel_abi)?;
    for _ in 1..LOOKS {
        if report.is_settled() {
            break;
        }
        thread::sleep(PAUSE);
        report = look(runtime, kernel_abi)?;
    }
    if json {
        println!("{}", report.json());
    } else {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        print!("{}", report.text(colour));
    }
    Ok(if report.differences() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn look(runtime: &Path, kernel_abi: Option<u32>) -> Result<Report, Failure> {
    let status = CtlClient::call(runtime, &CtlRequest::Status {})?;
    let host = host_pid(runtime)?;
    let lumend = proc::read(host, host);
    let planes: Vec<_> = status["planes"].as_array().into_iter().flatten().filter_map(live).collect();
    let planes: Vec<_> = planes.into_iter().map(|plane| (proc::read(plane.pid, host), plane)).collect();
    let users = planes.iter().filter_map(|(seen, _)| Some(seen.as_ref().ok()?.threads.first()?.uids[0]));
    let mut promises = Promises {
        lumend: lumend.as_ref().ok().cloned(),
        users: users.collect(),
        ports: ports(&status),
        sessions: status["sessions"].as_array().map_or(0, Vec::len) as u32,
        kernel_abi,
        reported_abi: None,
    };
    let mut rows = Vec::new();
    for (seen, plane) in planes {
        promises.reported_abi = plane.landlock_abi;
        let seen = seen.map(|reading| judge::judge(plane.kind, &reading, &promises));
        rows.push(Row { name: plane.kind.name().to_owned(), session: plane.session, pid: plane.pid, seen });
    }
    for plane in status["abandoned"]["planes"].as_array().into_iter().flatten().filter_map(live) {
        let seen = proc::read(plane.pid, host).map(|reading| judge::abandoned(&reading));
        rows.push(Row { name: plane.kind.name().to_owned(), session: plane.session, pid: plane.pid, seen });
    }
    let forgotten = status["abandoned"]["forgotten"].as_u64().unwrap_or(0);
    Ok(Report { planes: rows, forgotten, compared: compared(host, lumend) })
}

/// What lumend says of a plane.
struct Plane {
    kind: PlaneKind,
    session: Option<u64>,
    pid: u32,
    landlock_abi: Option<u32>,
}

/// A plane that has a process, and is locked down by now. What starts is not yet, and what stops holds less and less.
fn live(plane: &Value) -> Option<Plane> {
    let locked = !matches!(plane["state"].as_str(), Some("starting" | "stopping"));
    let kind = plane["plane"].as_str().and_then(|name| name.parse().ok())?;
    let pid = plane["pid"].as_u64().and_then(|pid| pid.try_into().ok())?;
    let landlock_abi = plane["sandbox"]["landlock_abi"].as_u64().and_then(|abi| abi.try_into().ok());
    locked.then_some(Plane { kind, session: plane["session"].as_u64(), pid, landlock_abi })
}

/// Where lumend says that it listens, for itself and for Moonlight clients.
fn ports(status: &Value) -> Ports {
    let port = |value: &Value| {
        let address = value.as_str().and_then(|text| text.parse::<std::net::SocketAddr>().ok());
        address.map(|address| address.port())
    };
    let listen = &status["listen"];
    let mut udp: Vec<u16> = [&listen["lumen"], &listen["media"]].into_iter().filter_map(port).collect();
    udp.push(MDNS);
    let mut tcp = Vec::new();
    if let Some(base) = port(&listen["gamestream"]) {
        tcp.extend([base, base.wrapping_sub(5), base.wrapping_add(21)]);
        udp.extend([9, 10, 11].map(|above| base.wrapping_add(above)));
    }
    Ports { tcp, udp }
}

/// The process that listens on the control socket.
fn host_pid(runtime: &Path) -> io::Result<u32> {
    let connection = UnixStream::connect(runtime.join(SOCKET))?;
    let pid = getsockopt(&connection, PeerCredentials)?.pid();
    u32::try_from(pid).map_err(|_| io::Error::other("lumend's pid is not visible here"))
}

/// lumend, its launchers and their compositors: they promise next to nothing, and show what an ordinary process has.
fn compared(host: u32, lumend: Result<Reading, Unread>) -> Vec<Row> {
    let row =
        |name: &str, pid, seen: Result<Vec<Check>, Unread>| Row { name: name.to_owned(), session: None, pid, seen };
    let known = lumend.as_ref().ok();
    let desktop = |pid| proc::read(pid, host).map(|reading| judge::desktop(&reading, known));
    let mut rows = Vec::new();
    for launcher in launchers(host) {
        rows.push(row("launcher", launcher, desktop(launcher)));
        for compositor in proc::children(launcher).into_iter().filter(|pid| proc::name(*pid) == "sway") {
            rows.push(row("compositor", compositor, desktop(compositor)));
        }
    }
    rows.insert(0, row("lumend", host, lumend.as_ref().map(judge::host).map_err(|unread| *unread)));
    rows
}

/// Those that lumend has started, or the service manager that has started lumend: of that the kernel tells which units are
/// whose.
fn launchers(host: u32) -> Vec<u32> {
    let is_one = |pid: &u32| proc::arguments(*pid).contains(&"launcher".to_owned());
    let mut found: Vec<u32> = proc::children(host).into_iter().filter(is_one).collect();
    if let Some(unit) = proc::unit(host) {
        let its = |pid: &u32| {
            proc::unit(*pid).is_some_and(|one| one.manager == unit.manager && one.name.starts_with("lumen-launcher@"))
        };
        found.extend(proc::all().filter(|pid| its(pid) && is_one(pid)));
    }
    found.sort_unstable();
    found.dedup();
    found
}
