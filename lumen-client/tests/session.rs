//! Whole sessions: the command against a host in this process, over real sockets.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use lumen_client::{Fingerprint, Identity, KnownHosts};
use lumen_core::hello::Code;
use serde_json::Value;

mod support;
use support::TempDir;
use support::host::{Host, Script};
use support::stream::Plan;

fn start(config: &Path, host: &Host, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lumen-client"));
    command.arg("connect").arg(host.address.to_string()).args(["--mode", "320x192x60"]).args(arguments);
    command.arg("--config").arg(config).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn client(config: &Path, host: &Host, arguments: &[&str]) -> Output {
    start(config, host, arguments).wait_with_output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Runs a session of `seconds` that ends well, with every frame decoded, and gives its report.
fn measure(plan: Plan, seconds: &str) -> Value {
    let (host, dir) = (Host::start(Script::Stream(plan)), TempDir::new("measure"));
    let output = client(dir.path(), &host, &["--decode", "--quiet", "--json", "-", "--seconds", seconds]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stderr(&output), "", "quiet");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(host.session().bye, "the host was not told");
    assert_eq!(report["fingerprint"], host.fingerprint.to_string());
    assert_eq!(report["frames"]["out_of_order"], 0);
    assert_eq!(report["stamps"]["backwards"], 0);
    assert_eq!(report["stamps"]["repeated"], 0);
    report
}

fn number(report: &Value, path: &str) -> f64 {
    report.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {path} in {report:#}"))
}

#[test]
fn a_clean_session_is_received_decoded_and_written() {
    let (host, dir) = (Host::start(Script::Stream(Plan::default())), TempDir::new("clean"));
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (out, png, json, trace) = (file("s.h264"), file("p.png"), file("r.json"), file("t.jsonl"));
    let arguments = ["--seconds", "2", "--out", &out, "--png", &png, "--json", &json, "--trace", &trace];
    let output = client(dir.path(), &host, &arguments);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(output.stdout.is_empty(), "JSON goes to the file alone");
    assert!(stderr(&output).contains(&host.fingerprint.to_string()), "{}", stderr(&output));
    assert!(stderr(&output).contains("first use"), "{}", stderr(&output));
    let seen = host.session();
    assert!(seen.bye);
    assert_eq!(seen.client, Identity::load_or_create(dir.path()).unwrap().fingerprint());

    let report: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(report["mode"]["width"], 320);
    assert_eq!(report["codec"], "h264");
    let frames = number(&report, "/frames/complete");
    assert!(frames > 10.0, "{report:#}");
    for (path, expected) in [
        ("/frames/decoded", frames),
        ("/stamps/read", frames),
        ("/frames/lost", 0.0),
        ("/frames/decode_errors", 0.0),
        ("/frames/out_of_order", 0.0),
        ("/frames/still", 0.0),
        ("/frames/idr", 1.0),
        ("/stamps/missing", 0.0),
        ("/packets/rejected", 0.0),
        ("/packets/lost", 0.0),
        ("/clock/offset_us", 0.0),
        ("/clock/error_us", 0.0),
        ("/keyframe_requests", 0.0),
        ("/generations", 1.0),
    ] {
        assert_eq!(number(&report, path), expected, "{path} in {report:#}");
    }
    for stage in ["capture_to_reassembled", "drawn_to_decoded", "overhead", "capture_wait", "convert", "encode", "send"]
    {
        let quantiles = ["p50", "p95", "p99", "max"].map(|q| number(&report, &format!("/latency_us/{stage}/{q}")));
        assert!(quantiles.is_sorted(), "{stage}: {quantiles:?}");
    }
    // The test's host claims 1 ms of waiting, 2 of conversion and 3 of encoding; histograms are at most 1/32 too high.
    for (stage, us) in [("capture_wait", 1000.0), ("convert", 2000.0), ("encode", 3000.0), ("send", 500.0)] {
        let p50 = number(&report, &format!("/latency_us/{stage}/p50"));
        assert!((us..us * 33.0 / 32.0 + 1.0).contains(&p50), "{stage} {p50}");
    }

    let trace: Vec<Value> =
        fs::read_to_string(&trace).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(trace.len() as f64, frames);
    assert!(trace.iter().all(|line| line["stamp"]["time_ns"] == line["captured_ns"] && line["good"] == true));
    assert_eq!(trace[0]["idr"], true);
    let bytes: u64 = trace.iter().map(|line| line["bytes"].as_u64().unwrap()).sum();
    let stream = fs::read(&out).unwrap();
    assert_eq!(stream.len() as u64, bytes);
    assert_eq!(&stream[..5], [0, 0, 0, 1, 0x67], "begins with parameter sets");

    let picture = png::Decoder::new(std::io::BufReader::new(fs::File::open(&png).unwrap())).read_info().unwrap();
    assert_eq!((picture.info().width, picture.info().height), (320, 192));
}

#[test]
fn random_loss_is_recovered() {
    let report = measure(Plan { loss_permille: 50, ..Plan::default() }, "4");
    assert!(number(&report, "/frames/recovered") > 0.0, "{report:#}");
    assert!(number(&report, "/packets/lost") > 0.0, "{report:#}");
    assert!(number(&report, "/packets/recovered") > 0.0, "{report:#}");
    assert!((0.1..0.7).contains(&number(&report, "/parity_ratio")), "{report:#}");
    assert_eq!(number(&report, "/frames/decode_errors"), 0.0, "{report:#}");
    assert_eq!(
        number(&report, "/frames/decoded") + number(&report, "/frames/undeliverable"),
        number(&report, "/frames/complete")
    );
}

#[test]
fn a_lost_frame_is_counted_and_a_keyframe_fetched() {
    let report = measure(Plan { black_holes: vec![20, 40, 41], ..Plan::default() }, "2");
    assert_eq!(number(&report, "/frames/lost"), 3.0, "{report:#}");
    assert_eq!(number(&report, "/keyframe_requests"), 2.0, "{report:#}");
    assert_eq!(number(&report, "/frames/decode_errors"), 0.0, "{report:#}");
    assert_eq!(number(&report, "/frames/idr"), 3.0, "{report:#}");
    assert_eq!(
        number(&report, "/stamps/missing"),
        3.0 + number(&report, "/frames/undeliverable"),
        "every number that is not there is accounted for: {report:#}"
    );
}

#[test]
fn a_frame_the_decoder_refuses_is_an_error_and_a_keyframe_follows() {
    let report = measure(Plan { damaged: vec![20], ..Plan::default() }, "2");
    assert_eq!(number(&report, "/frames/decode_errors"), 1.0, "{report:#}");
    assert_eq!(number(&report, "/frames/lost"), 0.0, "{report:#}");
    assert_eq!(number(&report, "/keyframe_requests"), 1.0, "{report:#}");
    assert_eq!(number(&report, "/frames/idr"), 2.0, "{report:#}");
    let accounted = number(&report, "/frames/decoded") + 1.0 + number(&report, "/frames/undecodable");
    assert_eq!(accounted, number(&report, "/frames/complete"), "{report:#}");
}

#[test]
fn follows_the_host_through_generations() {
    let report = measure(Plan { rewire_at: vec![15, 30, 60], ..Plan::default() }, "2");
    assert_eq!(number(&report, "/generations"), 4.0, "{report:#}");
    assert_eq!(number(&report, "/frames/lost"), 0.0, "{report:#}");
    assert_eq!(number(&report, "/frames/decoded"), number(&report, "/frames/complete"), "{report:#}");
    assert_eq!(number(&report, "/stamps/missing"), 0.0, "{report:#}");
}

#[test]
fn noise_is_counted_and_changes_nothing() {
    let report = measure(Plan { noisy: true, ..Plan::default() }, "2");
    assert!(number(&report, "/packets/rejected") > 10.0, "{report:#}");
    assert!(number(&report, "/packets/duplicates") > 10.0, "{report:#}");
    assert_eq!(number(&report, "/frames/lost"), 0.0, "{report:#}");
    assert_eq!(number(&report, "/frames/decoded"), number(&report, "/frames/complete"), "{report:#}");
}

#[test]
fn measures_the_clock_of_another_machine() {
    let report = measure(Plan { other_machine: true, ..Plan::default() }, "2");
    let (offset, error) = (number(&report, "/clock/offset_us"), number(&report, "/clock/error_us"));
    // Both ends read one clock here, only that the client does not know.
    assert!(error > 0.0 && offset.abs() <= error, "{offset} ± {error}");
}

#[test]
fn a_host_that_vanishes_is_lost() {
    let (host, dir) =
        (Host::start(Script::Stream(Plan { vanish_after: Some(30), ..Plan::default() })), TempDir::new("vanish"));
    let output = client(dir.path(), &host, &["--decode", "--json", "-"]);
    assert_eq!(output.status.code(), Some(5), "{}", stderr(&output));
    assert!(stderr(&output).lines().last().unwrap().contains("lost the host"), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(number(&report, "/frames/decoded"), 30.0, "the report is written all the same: {report:#}");
}

#[test]
fn media_that_does_not_arrive_is_said_so() {
    let (host, dir) = (Host::start(Script::Stream(Plan::default())), TempDir::new("blocked"));
    let blocked = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let output = client(dir.path(), &host, &["--media", &blocked]);
    assert_eq!(output.status.code(), Some(5), "{}", stderr(&output));
    assert!(stderr(&output).contains(&blocked), "{}", stderr(&output));
    assert!(stderr(&output).contains("firewall"), "{}", stderr(&output));
}

#[test]
fn an_ended_session_gives_the_hosts_reason() {
    let plan = Plan { end_with: Some((Code::Stopped, "ended by its user")), ..Plan::default() };
    let (host, dir) = (Host::start(Script::Stream(plan)), TempDir::new("ended"));
    let output = client(dir.path(), &host, &["--json", "-"]);
    assert_eq!(output.status.code(), Some(5), "{}", stderr(&output));
    assert!(stderr(&output).contains("ended by its user"), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(number(&report, "/frames/complete"), 30.0, "{report:#}");
}

#[test]
fn refusals_are_4_with_the_hosts_reason() {
    let dir = TempDir::new("refused");
    let own = Identity::load_or_create(dir.path()).unwrap().fingerprint().to_string();
    for (script, expected) in [
        (Script::Refuse(Code::Mode, "0x0 is not a size"), "0x0 is not a size"),
        (Script::Refuse(Code::Version, "this host speaks version 2"), "version 2"),
        (Script::Refuse(Code::NotAllowed, "unknown client"), own.as_str()),
        (Script::Refuse(Code::Full, "two\nlines\x1b[31m"), "two lines [31m"),
        (Script::Close(Code::Timeout, "silent for 10 s"), "silent for 10 s"),
        (Script::Close(Code::NotAllowed, "unknown client"), own.as_str()),
        (Script::RejectCertificate, own.as_str()),
    ] {
        let host = Host::start(script);
        let json = dir.path().join("report.json");
        let output = client(dir.path(), &host, &["--seconds", "1", "--json", json.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(4), "{expected}: {}", stderr(&output));
        assert!(!json.exists(), "no session, no report");
        assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{expected}: {}", stderr(&output));
    }
}

#[test]
fn a_host_that_talks_nonsense_is_3() {
    let (host, dir) = (Host::start(Script::Garbage), TempDir::new("nonsense"));
    let output = client(dir.path(), &host, &[]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
}

#[test]
fn the_first_use_is_trusted_and_a_changed_key_is_not() {
    let (host, dir) = (Host::start(Script::Stream(Plan::default())), TempDir::new("tofu"));
    let known = KnownHosts::new(dir.path());
    let name = host.address.to_string();
    let run = |arguments: &[&str]| {
        let output = client(dir.path(), &host, &[&["--seconds", "0.2"], arguments].concat());
        (output.status.code(), stderr(&output))
    };
    let (code, text) = run(&[]);
    assert!(code == Some(0) && text.contains("first use"), "{text}");
    assert_eq!(known.get(&name).unwrap(), Some(host.fingerprint));
    let (code, text) = run(&[]);
    assert!(code == Some(0) && text.contains("as expected"), "{text}");

    // The host is another than the one remembered.
    let stranger = Fingerprint([0xee; 32]);
    known.set(&name, stranger).unwrap();
    let (code, text) = run(&[]);
    assert_eq!(code, Some(4), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    for part in ["has changed", &stranger.to_string(), &host.fingerprint.to_string(), "known_hosts"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(known.get(&name).unwrap(), Some(stranger), "a refusal changes nothing");

    // A pin decides alone, either way.
    let (code, text) = run(&["--pin", &stranger.to_string()]);
    assert!(code == Some(4) && text.contains("pinned"), "{text}");
    let (code, text) = run(&["--pin", &host.fingerprint.to_string().to_uppercase()]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(known.get(&name).unwrap(), Some(host.fingerprint));
}

#[test]
fn a_signal_ends_the_session_cleanly() {
    for signal in [nix::sys::signal::Signal::SIGTERM, nix::sys::signal::Signal::SIGINT] {
        let plan = Plan::default();
        let (host, dir) = (Host::start(Script::Stream(plan.clone())), TempDir::new("signal"));
        let child = start(dir.path(), &host, &["--decode", "--json", "-"]);
        assert!(plan.wait_for_frames(20, Duration::from_secs(20)), "no frame was sent");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(number(&report, "/frames/decoded") > 0.0, "{report:#}");
        assert_eq!(report["ended"], "stopped");
        assert!(host.session().bye);
    }
}
