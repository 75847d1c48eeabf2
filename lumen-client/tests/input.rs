//! Input from the command's outside: a host that loses datagrams still gets every event once, in order.

use std::fs;
use std::process::{Command, Output};

use lumen_core::InputEvent;
use lumen_core::input::hands::Hands;
use lumen_core::input::script;
use serde_json::Value;

mod support;
use support::TempDir;
use support::hall::Hall;
use support::host::{Host, Script};
use support::stream::Plan;

fn connect(host: &str, dir: &TempDir, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lumen-client"));
    command.args(["connect", host, "--mode", "320x192x60", "--no-audio", "--quiet", "--json", "-"]).args(arguments);
    command.arg("--config").arg(dir.path()).output().unwrap()
}

fn number(report: &Value, path: &str) -> f64 {
    report.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {path} in {report:#}"))
}

/// What the hands did: without the reports of what is held, which come by the clock.
fn done(events: &[InputEvent]) -> Vec<InputEvent> {
    events.iter().copied().filter(|event| !matches!(event, InputEvent::Held(_))).collect()
}

/// Drives a host that loses `loss_permille` datagrams each way; gives its events, the report and the log.
fn drive(loss_permille: u64, arguments: &[&str]) -> (Vec<InputEvent>, Value, Vec<Value>) {
    let hall = Hall { input_loss_permille: Some(loss_permille), ..Hall::default() };
    let (host, dir) = (Host::start(Script::Perform(Plan::default(), Box::new(hall))), TempDir::new("input"));
    let log = dir.path().join("log.jsonl");
    let output =
        connect(&host.address.to_string(), &dir, &[arguments, &["--input-log", log.to_str().unwrap()]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen = host.session();
    assert!(seen.hello.input && seen.bye);
    let log = fs::read_to_string(&log).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (seen.answered.events, serde_json::from_slice(&output.stdout).unwrap(), log)
}

#[test]
fn the_test_pattern_arrives_as_it_is() {
    let (events, report, log) = drive(0, &["--input-test", "--seconds", "4"]);
    let pattern: Vec<InputEvent> = script::pattern().into_iter().map(|step| step.event).collect();
    assert_eq!(done(&events), pattern);
    assert_eq!(number(&report, "/input/sent"), events.len() as f64, "{report:#}");
    assert_eq!(number(&report, "/input/acknowledged"), events.len() as f64, "{report:#}");
    assert_eq!(report["audio"], Value::Null);

    assert_eq!(log.len(), events.len());
    for (index, line) in log.iter().enumerate() {
        assert_eq!(line["seq"], index, "numbers from 0 on");
        assert_eq!(line["event"]["kind"] == "held", matches!(events[index], InputEvent::Held(_)));
    }
    assert!(log.is_sorted_by_key(|line| line["sent_ns"].as_u64().unwrap()));
}

#[test]
fn a_script_arrives_once_and_in_order_through_losses() {
    let dir = TempDir::new("script");
    let path = dir.path().join("script.txt");
    let mut text = "# two keys, over and over\n".to_owned();
    for step in 0..400 {
        let (key, action) = (if step % 4 < 2 { "a" } else { "b" }, if step % 2 == 0 { "down" } else { "up" });
        text += &format!("{} key {key} {action}\n", step * 2);
    }
    // And one that stays down.
    text += "900 key leftshift down\n";
    fs::write(&path, &text).unwrap();
    let wanted: Vec<InputEvent> = script::parse(&text).unwrap().into_iter().map(|step| step.event).collect();

    let (events, report, _) = drive(50, &["--input-script", path.to_str().unwrap(), "--seconds", "3"]);
    let mut hands = Hands::default();
    wanted.iter().for_each(|event| hands.apply(event));
    let lifted: Vec<InputEvent> = hands.lift_all().collect();
    assert_eq!(lifted.len(), 1);
    assert_eq!(done(&events), [wanted, lifted].concat(), "what the script left down is lifted in the end");
    assert_eq!(number(&report, "/input/acknowledged"), number(&report, "/input/sent"), "{report:#}");
    assert!(number(&report, "/input/retransmitted") > 0.0, "{report:#}");
    // A shift that is held for two seconds is said to be.
    let held = events.iter().filter(|event| matches!(event, InputEvent::Held(held) if held.keys().next().is_some()));
    assert!(held.count() >= 5);
}

#[test]
fn a_script_with_a_mistake_is_2_before_there_is_a_session() {
    let (host, dir) = (Host::start(Script::Stream(Plan::default())), TempDir::new("mistake"));
    let path = dir.path().join("script.txt");
    for (text, line) in [("0 key a down\n5 jump\n", 2), ("x key a down\n", 1), ("0 key a down\n\n0 key nosuch up", 3)] {
        fs::write(&path, text).unwrap();
        let output = connect(&host.address.to_string(), &dir, &["--input-script", path.to_str().unwrap()]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains("script.txt") && stderr.contains(&format!("line {line}")), "{stderr}");
    }
    let output = connect(&host.address.to_string(), &dir, &["--input-script", "/nonexistent/script.txt"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(host.seen.try_recv().is_err(), "no session was made");
    assert!(!dir.path().join("client-key.pem").exists(), "a usage error leaves nothing behind");
}
