//! What the commands say on stdout.

use serde_json::{Value, json};

use crate::cli::{ClientsCommand, Command};
use crate::status;

pub fn result(command: &Command, value: &Value) {
    match command {
        Command::Status { json: true, .. } => println!("{value}"),
        Command::Status { json: false, .. } => print!("{}", status::table(value)),
        Command::Fingerprint => println!("{}", value["sha256"].as_str().unwrap_or_default()),
        Command::Clients { change: None | Some(ClientsCommand::List), json: true } => println!("{value}"),
        Command::Clients { change: None | Some(ClientsCommand::List), json: false } => {
            for client in value["clients"].as_array().into_iter().flatten() {
                println!("{}", line(client));
            }
        }
        Command::Clients { change: Some(_), .. } if value["changed"] == json!(false) => println!("was so already"),
        Command::Clients { change: Some(ClientsCommand::Rename { .. }), .. } => println!("renamed"),
        Command::Clients { change: Some(ClientsCommand::Enable { .. }), .. } => println!("enabled"),
        Command::Clients { change: Some(ClientsCommand::Disable { .. }), .. } => println!("disabled"),
        Command::Clients { change: Some(ClientsCommand::Remove { .. }), .. } => println!("removed"),
        Command::Pair { .. } => println!("paired with {}", value["name"].as_str().unwrap_or_default()),
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
        | Command::Install { .. }
        | Command::Uninstall { .. }
        | Command::Launcher { .. } => {}
    }
}

/// One client of the list: fingerprint, protocol, what it may do, and its name, which may have spaces.
fn line(client: &Value) -> String {
    let text = |key: &str| client[key].as_str().unwrap_or_default();
    let may = if client["enabled"] == json!(false) { "disabled".into() } else { permitted(&client["permissions"]) };
    let line = format!("{} {:<10} {may} {}", text("sha256"), text("protocol"), text("name"));
    line.trim_end().to_owned()
}

/// A list of permissions for people.
fn permitted(names: &Value) -> String {
    let names: Vec<_> = names.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if names.is_empty() { "nothing".into() } else { names.join(",") }
}
