//! Moonlight clients that have no session: those that wait to be paired, and those that have left something running.

use std::fmt::Write as _;

use serde_json::Value;

/// Who waits for a PIN, and what clients have running without looking at it.
pub fn lines(status: &Value, out: &mut String) {
    let list = |key: &str| status[key].as_array().cloned().unwrap_or_default();
    for (at, pairing) in list("pairings").iter().enumerate() {
        let (name, peer) = (pairing["name"].as_str().unwrap_or_default(), pairing["peer"].as_str().unwrap_or_default());
        let space = if at == 0 { "\n" } else { "" };
        let (number, state, left) = (&pairing["pairing"], &pairing["state"], &pairing["left_s"]);
        let state = if state == "waiting" { "waits for its PIN" } else { "has its PIN" };
        let _ = writeln!(out, "{space}client {number} at {peer} ({name}) {state}, {left} s left");
    }
    for (at, run) in list("runs").iter().enumerate() {
        let (app, state) = (run["app"].as_str().unwrap_or("-"), run["state"].as_str().unwrap_or_default());
        let client = run["client"]["name"].as_str().or(run["client"]["fingerprint"].as_str()).unwrap_or_default();
        let space = if at == 0 { "\n" } else { "" };
        let _ = writeln!(out, "{space}run {}: app {app} of {client}, {state}", run["run"]);
    }
}
