//! The same on the files of a lumend that is not running.

use std::path::Path;

use ipc::ctl::CtlRequest;
use serde_json::{Value, json};

use super::NOT_ALLOWED;
use crate::clients::Clients;
use crate::durable;
use crate::failure::Failure;
use crate::identity::Identity;
use crate::permit::Change;

/// None for what only a running one can do.
pub fn change(request: &CtlRequest, state: &Path) -> Result<Option<Value>, Failure> {
    let value = match request {
        CtlRequest::Fingerprint {} => {
            durable::private_directory(state)
                .map_err(|error| Failure::new(1, format!("cannot use {}: {error}", state.display())))?;
            json!({ "sha256": Identity::load_or_create(state)?.fingerprint().to_string() })
        }
        CtlRequest::Clients {} => Clients::load(state)?.json(),
        CtlRequest::Rename { client, name } => {
            let mut clients = Clients::load(state)?;
            let changed = clients.rename(clients.find(client)?, name)?;
            json!({ "changed": changed })
        }
        CtlRequest::Enable { client, enabled } => {
            let mut clients = Clients::load(state)?;
            let changed = clients.enable(clients.find(client)?, *enabled)?;
            json!({ "changed": changed })
        }
        CtlRequest::Remove { client } => {
            let mut clients = Clients::load(state)?;
            let changed = clients.forbid(clients.find(client)?)?;
            json!({ "changed": changed })
        }
        CtlRequest::Permit { client, grant, deny } => {
            let mut clients = Clients::load(state)?;
            let client = clients.find(client)?;
            clients.permit(client, &Change { grant: grant.clone(), deny: deny.clone() })?;
            clients.json_of(client)
        }
        CtlRequest::Allow { sha256 } => {
            durable::private_directory(state)
                .map_err(|error| Failure::new(1, format!("cannot use {}: {error}", state.display())))?;
            json!({ "changed": Clients::load(state)?.allow(*sha256)? })
        }
        CtlRequest::Forget { sha256 } => match Clients::load(state)?.forbid(*sha256)? {
            true => json!({ "changed": true }),
            false => return Err(Failure::new(4, NOT_ALLOWED)),
        },
        CtlRequest::Status {}
        | CtlRequest::Restart { .. }
        | CtlRequest::Stop { .. }
        | CtlRequest::Quit { .. }
        | CtlRequest::Idr { .. }
        | CtlRequest::Pair { .. } => return Ok(None),
    };
    Ok(Some(value))
}
