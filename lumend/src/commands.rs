//! The commands that talk to a running lumend. Trust can also be changed while none runs: it is only files then.

use std::path::Path;

use ipc::ctl::{CtlClient, CtlError, CtlRequest};
use serde_json::{Value, json};

use crate::cli::Command;
use crate::clients::{Clients, names};
use crate::failure::Failure;
use crate::identity::Identity;
use crate::permit::Change;
use crate::status;

/// What `lumend forget` says of a client that it cannot forbid.
pub const NOT_ALLOWED: &str = "this client was not allowed; `lumend clients` lists those that are";

/// Carries a command out and prints its result on stdout.
pub fn run(command: &Command, runtime: &Path, state: &Path) -> Result<(), Failure> {
    let Some(request) = request(command) else { return Ok(()) };
    let value = match CtlClient::call(runtime, &request) {
        Err(CtlError::NotRunning(path)) => {
            offline(&request, state)?.ok_or_else(|| Failure::from(CtlError::NotRunning(path)))?
        }
        other => other?,
    };
    print(command, &value);
    Ok(())
}

fn request(command: &Command) -> Option<CtlRequest> {
    Some(match command {
        Command::Run { .. } | Command::InputTest { .. } | Command::Launcher { .. } => return None,
        Command::Status { .. } => CtlRequest::Status {},
        Command::Restart { plane, session } => CtlRequest::Restart { plane: *plane, session: *session },
        Command::Stop { session } => CtlRequest::Stop { session: *session },
        Command::Idr { session } => CtlRequest::Idr { session: *session },
        Command::Fingerprint => CtlRequest::Fingerprint {},
        Command::Allow { sha256 } => CtlRequest::Allow { sha256: *sha256 },
        Command::Clients => CtlRequest::Clients {},
        Command::Permit { client, permissions: Change { grant, deny } } => {
            CtlRequest::Permit { client: client.clone(), grant: grant.clone(), deny: deny.clone() }
        }
        Command::Forget { sha256 } => CtlRequest::Forget { sha256: *sha256 },
    })
}

/// The same on the files of a lumend that is not running; none for what only a running one can do.
fn offline(request: &CtlRequest, state: &Path) -> Result<Option<Value>, Failure> {
    let value = match request {
        CtlRequest::Fingerprint {} => {
            let identity = crate::durable::private_directory(state)
                .map_err(|error| Failure::new(1, format!("cannot use {}: {error}", state.display())))
                .and_then(|()| Ok(Identity::load_or_create(state)?))?;
            json!({ "sha256": identity.fingerprint().to_string() })
        }
        CtlRequest::Clients {} => Clients::load(state)?.json(),
        CtlRequest::Permit { client, grant, deny } => {
            let mut clients = Clients::load(state)?;
            let client = clients.find(client).map_err(|error| Failure::new(4, error.to_string()))?;
            let change = Change { grant: grant.clone(), deny: deny.clone() };
            let permissions = change.apply(clients.permissions(client));
            clients.permit(client, permissions)?;
            json!({ "sha256": client.to_string(), "permissions": names(permissions).collect::<Vec<_>>() })
        }
        CtlRequest::Allow { sha256 } => {
            crate::durable::private_directory(state)
                .map_err(|error| Failure::new(1, format!("cannot use {}: {error}", state.display())))?;
            json!({ "changed": Clients::load(state)?.allow(*sha256)? })
        }
        CtlRequest::Forget { sha256 } => match Clients::load(state)?.forbid(*sha256)? {
            true => json!({ "changed": true }),
            false => return Err(Failure::new(4, NOT_ALLOWED)),
        },
        CtlRequest::Status {} | CtlRequest::Restart { .. } | CtlRequest::Stop { .. } | CtlRequest::Idr { .. } => {
            return Ok(None);
        }
    };
    Ok(Some(value))
}

fn print(command: &Command, value: &Value) {
    match command {
        Command::Status { json: true } => println!("{value}"),
        Command::Status { json: false } => print!("{}", status::table(value)),
        Command::Fingerprint => println!("{}", value["sha256"].as_str().unwrap_or_default()),
        Command::Clients => {
            for client in value["clients"].as_array().into_iter().flatten() {
                println!("{} {}", client["sha256"].as_str().unwrap_or_default(), permitted(&client["permissions"]));
            }
        }
        Command::Permit { .. } => println!("may use: {}", permitted(&value["permissions"])),
        Command::Allow { .. } if value["changed"] == json!(false) => println!("was allowed already"),
        Command::Allow { .. } => match value["listen"].as_str() {
            Some(listen) => println!("allowed; listening on {listen}"),
            None => println!("allowed, from the next `lumend run` on"),
        },
        Command::Forget { .. } => println!("forbidden"),
        Command::Stop { .. } => println!("stopped"),
        Command::Restart { .. }
        | Command::Idr { .. }
        | Command::Run { .. }
        | Command::InputTest { .. }
        | Command::Launcher { .. } => {}
    }
}

/// A list of permissions for people.
fn permitted(names: &Value) -> String {
    let names: Vec<_> = names.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if names.is_empty() { "nothing".into() } else { names.join(",") }
}
