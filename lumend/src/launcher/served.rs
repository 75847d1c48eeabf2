//! A launcher that a service manager has started for lumend: it reads the configuration itself, and is told what it is for.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use ipc::link::{Link, LinkError};
use ipc::{Duty, FromLauncher, ToLauncher};

use super::{Commands, Launcher, Place, Setup, by_hand, ended};
use crate::apps::Apps;
use crate::failure::Failure;
use crate::run::{UNDO, read};

/// lumend says what it wants together with its connection.
const BEGIN_WITHIN: Duration = Duration::from_secs(5);
/// As many as there can be sessions.
const MOST: u32 = 16;

/// SHA-256 of all that a launcher could be told to run; `apps` is JSON.
pub fn digest(exec: &str, apps: &str) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(&(exec.len() as u64).to_le_bytes());
    context.update(exec.as_bytes());
    context.update(apps.as_bytes());
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

/// As [`super::run`], with the configuration of this process's user.
pub fn run(runtime: &Path, state: &Path) -> Result<ExitCode, Failure> {
    let Some(fd) = ipc::inherited::link() else { return Ok(by_hand()) };
    let config = read(None)?;
    let apps: Vec<_> = Apps::new(&config.apps).list().iter().map(Commands::from).collect();
    let known = digest(&config.desktop.exec, &serde_json::to_string(&apps).unwrap_or_default());
    let undo = state.join(UNDO);
    let serve = || {
        let link = Link::from_fd(fd)?;
        link.send(FromLauncher::Hello)?;
        let (duty, commands) = begin(&link)?;
        if commands != known {
            return Err(LinkError::Malformed("the configuration has changed since lumend read it: restart lumend"));
        }
        let (place, number, seats) = match duty {
            Duty::Desktop { number: number @ 1..=MOST, seats: seats @ 0..=MOST } => (Place::Own, number, seats),
            Duty::Desktop { .. } => return Err(LinkError::Malformed("there are no such desktops")),
            Duty::Apps => (Place::Bare, 1, 0),
        };
        let setup = Setup { place, exec: &config.desktop.exec, seats, number, undo: Some(&undo) };
        Launcher::new(link, runtime, setup, apps)?.serve()
    };
    Ok(ended(serve()))
}

fn begin(link: &Link) -> Result<(Duty, [u8; 32]), LinkError> {
    if !link.wait_readable(BEGIN_WITHIN)? {
        return Err(LinkError::Malformed("nobody says what this launcher is for"));
    }
    match link.recv::<ToLauncher>()?.map(|received| received.message) {
        Some(ToLauncher::Begin { duty, commands }) => Ok((duty, commands)),
        _ => Err(LinkError::Malformed("nobody says what this launcher is for")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_command_has_another_digest() {
        let all = [("", "[]"), ("foot", "[]"), ("", "[{}]"), ("f", "oot[]"), ("fo", "ot[]")];
        let digests: std::collections::BTreeSet<_> = all.map(|(exec, apps)| digest(exec, apps)).into_iter().collect();
        assert_eq!(digests.len(), all.len());
        assert_eq!(digest("foot", "[]"), digest("foot", "[]"));
    }
}
