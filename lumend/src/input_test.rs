//! `lumend input-test`: plays lumend and a client to an input plane of its own, on the desktop that is there.

mod driver;

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipc::{Hands, HandsBackend, InputBackends, InputStats, PadsBackend, TouchBackend};
use nix::unistd::geteuid;
use serde_json::{Value, json};

use crate::config::HandsChoice;
use crate::desktop::{self, Means};
use crate::failure::Failure;
use crate::launcher::DesktopPaths;
use crate::places::{self, PlaceError};
use crate::reach::Binaries;
use crate::run;
use crate::swayipc::{Decoder, Output, Reply, Request};
use crate::uinput::Supply;
use driver::Driver;

/// For sway to answer: a bound on hanging.
const PATIENCE: Duration = Duration::from_secs(3);

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    backends: InputBackends,
    /// Events handed to the plane.
    sent: u64,
    stats: InputStats,
    /// Rumble that came back.
    rumbles: u64,
}

/// Runs the pattern and prints what came of it.
pub fn run(config: Option<PathBuf>, runtime: &Path, as_json: bool) -> Result<(), Failure> {
    let config = run::read(config)?;
    let program = std::env::current_exe()?;
    let binaries = Binaries::open_beside(program.parent().unwrap_or(Path::new("/")))?;
    let supply = Supply::open(1);
    let means = Means::new(&config.input, supply.available());
    let hands = find(&means, config.input.backend, runtime).map_err(|error| Failure::new(1, error))?;
    if geteuid().is_root() {
        let uid = config.run.uid;
        places::become_user(uid).map_err(|errno| PlaceError::User { uid, error: errno.into() })?;
    }
    let progress = |kind: &str| {
        if !as_json {
            eprintln!("{kind}");
        }
    };
    let outcome = Driver::start(&binaries, supply, hands)?.run(progress)?;
    match as_json {
        true => println!("{}", outcome.json()),
        false => println!("{}", outcome.line()),
    }
    Ok(())
}

/// What to act on: a sway's first seat and the output that its keyboard is on, or the kernel's devices.
fn find(means: &Means, choice: HandsChoice, runtime: &Path) -> Result<Hands<OwnedFd>, String> {
    let own = || {
        // Beside it where the machine's units have it, whose desktops are a user's of their own.
        let beside = runtime.file_name().map(|name| runtime.with_file_name(format!("{}-desktop", name.display())));
        let paths = [Some(runtime.to_owned()), beside].into_iter().flatten().map(|path| DesktopPaths::new(&path, 1));
        paths.map(|paths| (paths.control, paths.wayland)).find(|(control, _)| control.exists())
    };
    match desktop::environment().or_else(own) {
        Some((control, wayland)) if matches!(choice, HandsChoice::Auto | HandsChoice::Wlroots) => {
            let outputs = outputs(&control).map_err(|error| {
                format!("cannot reach the sway session at {}: {error}; run this as its user", control.display())
            })?;
            let active = || outputs.iter().filter(|output| output.active);
            let output = active().find(|output| output.focused).or_else(|| active().next());
            means.on_first_seat(&wayland, &output.ok_or("sway has no output: plug one in, or `create_output`")?.name)
        }
        _ => match means.bare()? {
            Hands::None => Err("there is nothing to move: start this inside a sway session, or beside `lumend run \
                                --desktop sway`, or load the kernel's module uinput"
                .into()),
            hands => Ok(hands),
        },
    }
}

fn outputs(control: &Path) -> io::Result<Vec<Output>> {
    let mut socket = UnixStream::connect(control)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut request = Vec::new();
    Request::ListOutputs.encode(&mut request);
    socket.write_all(&request)?;
    let (mut decoder, mut buffer) = (Decoder::default(), [0; 4096]);
    loop {
        match decoder.next().map_err(io::Error::other)? {
            Some(Reply::Outputs(outputs)) => return Ok(outputs),
            Some(_) => return Err(io::Error::other("it answers what nobody asked")),
            None => match socket.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                length => decoder.push(&buffer[..length]),
            },
        }
    }
}

impl Outcome {
    fn injected(&self) -> u64 {
        self.stats.events.saturating_sub(self.stats.unsupported)
    }

    /// For scripts.
    fn json(&self) -> Value {
        let Self { backends, sent, stats, rumbles } = *self;
        json!({
            "backend": { "hands": backends.hands, "touch": backends.touch, "pads": backends.pads },
            "sent": sent,
            "injected": self.injected(),
            "unsupported": stats.unsupported,
            "rumbles": rumbles,
            "wait_us": { "p50": stats.wait_p50_us, "p99": stats.wait_p99_us },
        })
    }

    /// For people.
    fn line(&self) -> String {
        let hands = match self.backends.hands {
            HandsBackend::None => "nothing",
            HandsBackend::Wlroots => "the compositor",
            HandsBackend::Uinput => "the kernel",
        };
        let touch = match self.backends.touch {
            TouchBackend::None => "not there",
            TouchBackend::Native => "a touch screen",
            TouchBackend::Emulated => "emulated by the pointer",
        };
        let pads = match self.backends.pads {
            PadsBackend::None => "not there (load the module uinput and let this user use /dev/uinput)",
            PadsBackend::Uinput => "there",
        };
        format!(
            "{} of {} events reached {hands} (p99 {} us), {} could not; touch is {touch}, gamepads are {pads}",
            self.injected(),
            self.sent,
            self.stats.wait_p99_us,
            self.stats.unsupported
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outcome_says_what_reached_what() {
        let backends =
            InputBackends { hands: HandsBackend::Wlroots, touch: TouchBackend::Emulated, pads: PadsBackend::None };
        let stats =
            InputStats { events: 77, unsupported: 25, wait_p50_us: 100, wait_p99_us: 190, ..Default::default() };
        let outcome = Outcome { backends, sent: 77, stats, rumbles: 0 };
        assert!(
            outcome.line().starts_with("52 of 77 events reached the compositor (p99 190 us)"),
            "{}",
            outcome.line()
        );
        assert!(!outcome.line().contains('\n'));
        assert_eq!(
            outcome.json(),
            json!({
                "backend": { "hands": "wlroots", "touch": "emulated", "pads": "none" },
                "sent": 77, "injected": 52, "unsupported": 25, "rumbles": 0,
                "wait_us": { "p50": 100, "p99": 190 },
            })
        );
    }

    #[test]
    fn a_sway_that_is_not_there_is_a_reason_and_what_to_do() {
        let means = Means::new(&crate::config::Input::default(), false);
        let nowhere = std::env::temp_dir().join(format!("lumen-nowhere-{}", std::process::id()));
        if desktop::environment().is_none() {
            assert!(find(&means, HandsChoice::Auto, &nowhere).unwrap_err().contains("sway session"));
        }
        assert!(outputs(&nowhere).is_err());
    }
}
