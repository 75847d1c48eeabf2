//! The commands that talk to a running lumend. Trust can also be changed while none runs: it is only files then.

mod offline;
mod print;

use std::io::{IsTerminal, Write};
use std::path::Path;

use ipc::ctl::{CtlClient, CtlError, CtlRequest};
use ipc::{PairingId, Pin};
use serde_json::Value;

use crate::cli::{ClientsCommand, Command};
use crate::failure::Failure;
use crate::grumbles::printable;
use crate::pairing::NoPairing;
use crate::permit::Change;

/// What `lumend forget` says of a client that it cannot forbid.
pub const NOT_ALLOWED: &str = "this client was not allowed; `lumend clients` lists those that are";
/// Most characters of what a client calls itself that are printed.
const NAME: usize = 64;

/// Carries a command out and prints its result on stdout.
pub fn run(command: &Command, runtime: &Path, state: &Path) -> Result<(), Failure> {
    let Some(request) = request(command, runtime)? else { return Ok(()) };
    let value = match CtlClient::call(runtime, &request) {
        Err(CtlError::NotRunning(path)) => {
            offline::change(&request, state)?.ok_or_else(|| Failure::from(CtlError::NotRunning(path)))?
        }
        other => other?,
    };
    print::result(command, &value);
    Ok(())
}

fn request(command: &Command, runtime: &Path) -> Result<Option<CtlRequest>, Failure> {
    Ok(Some(match command {
        Command::Run { .. }
        | Command::InputTest { .. }
        | Command::Install { .. }
        | Command::Uninstall { .. }
        | Command::Launcher { .. } => return Ok(None),
        Command::Status { .. } => CtlRequest::Status {},
        Command::Restart { plane, session } => CtlRequest::Restart { plane: *plane, session: *session },
        Command::Stop { run: Some(run), .. } => CtlRequest::Quit { run: run.clone() },
        Command::Stop { session: Some(session), run: None } => CtlRequest::Stop { session: *session },
        // The command line has one of the two.
        Command::Stop { session: None, run: None } => return Ok(None),
        Command::Idr { session } => CtlRequest::Idr { session: *session },
        Command::Fingerprint => CtlRequest::Fingerprint {},
        Command::Allow { sha256 } => CtlRequest::Allow { sha256: *sha256 },
        Command::Pair { pin: Some(pin), client, name } => {
            CtlRequest::Pair { pin: *pin, pairing: *client, name: name.clone() }
        }
        Command::Pair { pin: None, client, name } => {
            let (pairing, pin) = ask(runtime, *client)?;
            CtlRequest::Pair { pin, pairing: Some(pairing), name: name.clone() }
        }
        Command::Clients { change: None | Some(ClientsCommand::List), .. } => CtlRequest::Clients {},
        Command::Clients { change: Some(ClientsCommand::Rename { client, name }), .. } => {
            CtlRequest::Rename { client: client.clone(), name: name.clone() }
        }
        Command::Clients { change: Some(ClientsCommand::Enable { client }), .. } => {
            CtlRequest::Enable { client: client.clone(), enabled: true }
        }
        Command::Clients { change: Some(ClientsCommand::Disable { client }), .. } => {
            CtlRequest::Enable { client: client.clone(), enabled: false }
        }
        Command::Clients { change: Some(ClientsCommand::Remove { client }), .. } => {
            CtlRequest::Remove { client: client.clone() }
        }
        Command::Permit { client, permissions: Change { grant, deny } } => {
            CtlRequest::Permit { client: client.clone(), grant: grant.clone(), deny: deny.clone() }
        }
        Command::Forget { sha256 } => CtlRequest::Forget { sha256: *sha256 },
    }))
}

/// Shows who waits to be paired, and asks for the PIN that one of them shows. What is read is one line of stdin, so that
/// a script can give it that way: on a command line others can see it.
fn ask(runtime: &Path, client: Option<PairingId>) -> Result<(PairingId, Pin), Failure> {
    let status = CtlClient::call(runtime, &CtlRequest::Status {})?;
    let entries = status["pairings"].as_array().into_iter().flatten();
    let waiting: Vec<_> = entries.filter(|entry| entry["state"] == "waiting").filter_map(waiting).collect();
    for (pairing, who) in &waiting {
        eprintln!("{:>4}  {who}", pairing.0);
    }
    let pairing = match (client, &waiting[..]) {
        (Some(client), waiting) if waiting.iter().any(|(pairing, _)| *pairing == client) => client,
        (Some(_), [_, ..]) => return Err(Failure::new(4, NoPairing::Unknown)),
        (_, []) => return Err(Failure::new(4, NoPairing::Nobody)),
        (None, [(pairing, _)]) => *pairing,
        (None, _) => return Err(Failure::new(4, NoPairing::Many)),
    };
    if std::io::stdin().is_terminal() {
        eprint!("PIN: ");
        let _ = std::io::stderr().flush();
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let pin = Pin::new(line.trim()).ok_or_else(|| Failure::new(2, "a PIN is four digits"))?;
    Ok((pairing, pin))
}

/// One entry of the status's list of pairings.
fn waiting(entry: &Value) -> Option<(PairingId, String)> {
    let pairing = entry["pairing"].as_u64().and_then(|id| u32::try_from(id).ok()).map(PairingId)?;
    let name = printable(entry["name"].as_str().unwrap_or_default(), NAME);
    Some((pairing, format!("{name} at {}", entry["peer"].as_str().unwrap_or_default())))
}
