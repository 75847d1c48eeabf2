//! What has failed: a plane of the host's that is not tried for a while, and sessions that could not go on.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::machine::{Failure, Slot};

/// Why nothing fills a slot, and in how many seconds it is tried again; both null while there is no such thing to say.
pub fn slot(slot: &Slot, now: u64) -> (Value, Value) {
    let last = || slot.last_exit.as_deref().unwrap_or("not known");
    let reason = slot.failed.then(|| format!("it failed five times in a minute; last: {}", last()));
    let retry_at = slot.retry_at.filter(|_| slot.current.is_none());
    (json!(reason), json!(retry_at.map(|at| seconds(at.saturating_sub(now)))))
}

/// A session that is gone; `name` is what its client is called.
pub fn session(failure: &Failure, name: Option<&str>, now: u64) -> Value {
    json!({
        "session": failure.session.0,
        "client": { "name": name, "fingerprint": failure.client.to_string() },
        "plane": failure.plane.map(|plane| plane.name()),
        "reason": failure.reason,
        "ago_s": seconds(now.saturating_sub(failure.at)),
        "retry": "when its client connects again",
    })
}

fn seconds(ns: u64) -> f64 {
    (ns as f64 / 1e6).round() / 1e3
}

/// A line for each of them, from their JSON.
pub fn lines(status: &Value, out: &mut String) {
    let list = |key: &str| status[key].as_array().map_or(&[][..], Vec::as_slice);
    for plane in list("planes").iter().filter(|plane| plane["state"] == "failed") {
        let (name, reason) = (plane["plane"].as_str().unwrap_or("-"), plane["reason"].as_str().unwrap_or("-"));
        let again = plane["retry_in_s"].as_f64().unwrap_or(0.0).ceil();
        let by_hand = match plane["session"].is_null() {
            true => format!("`lumend restart {name}`"),
            false => format!("`lumend restart {name} --session {}`", plane["session"]),
        };
        let _ =
            writeln!(out, "\n{name} is failed: {reason}; it is tried again in {again} s, or at once with {by_hand}");
    }
    for (at, failure) in list("failures").iter().enumerate() {
        let client = failure["client"]["name"].as_str().or(failure["client"]["fingerprint"].as_str());
        let space = if at == 0 { "\n" } else { "" };
        let _ = writeln!(
            out,
            "{space}session {} of {} ended {:.0} s ago: {}; it is tried again {}",
            failure["session"],
            client.unwrap_or("-"),
            failure["ago_s"].as_f64().unwrap_or(0.0),
            failure["reason"].as_str().unwrap_or("-"),
            failure["retry"].as_str().unwrap_or("-"),
        );
    }
}

#[cfg(test)]
mod tests {
    use ipc::{Face, Fingerprint, PlaneKind, SessionId};

    use super::*;
    use crate::machine::Exit;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_failed_plane_and_a_failed_session_say_why_and_when_again() {
        let mut net = Slot::new(PlaneKind::Net);
        assert_eq!(slot(&net, 0), (Value::Null, Value::Null));
        (0..5).for_each(|_| drop(net.lost(&Exit::Crashed("SIGSEGV".into()), 0, SECOND)));
        let (reason, retry_in_s) = slot(&net, 21 * SECOND);
        assert_eq!(
            (reason.as_str().unwrap(), &retry_in_s),
            ("it failed five times in a minute; last: SIGSEGV", &json!(40.0))
        );
        let failure = Failure {
            session: SessionId(7),
            face: Face::Lumen,
            client: Fingerprint([1; 32]),
            plane: Some(PlaneKind::Encode),
            reason: "the encode plane failed five times in a minute; last: SIGKILL".into(),
            at: 2 * SECOND,
        };
        let status = json!({
            "planes": [{ "plane": "net", "session": null, "state": "failed", "reason": reason, "retry_in_s": retry_in_s }],
            "failures": [session(&failure, Some("desk"), 12 * SECOND)],
        });
        let mut out = String::new();
        lines(&status, &mut out);
        let expected = "\nnet is failed: it failed five times in a minute; last: SIGSEGV; it is tried again in 40 s, or at \
                        once with `lumend restart net`\n\nsession 7 of desk ended 10 s ago: the encode plane failed five \
                        times in a minute; last: SIGKILL; it is tried again when its client connects again\n";
        assert_eq!(out, expected);
    }
}
