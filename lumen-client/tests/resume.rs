//! A host whose network plane dies: the command finds it again, and the session goes on where it was.

use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use lumen_core::hello::Code;
use lumen_core::input::script;
use lumen_core::{AudioLayout, InputEvent};
use serde_json::Value;

mod support;
use support::TempDir;
use support::hall::{Concert, Hall};
use support::mortal::{Life, Mortal, Reply, token};

const MOMENT: Duration = Duration::from_millis(50);

fn life(answer: Reply, frames: Option<u32>) -> Life {
    Life { after: MOMENT, answer, frames, hall: Hall::default() }
}

fn start(dir: &TempDir, host: &Mortal, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lumen-client"));
    command.arg("connect").arg(host.address.to_string()).args(["--mode", "320x192x60", "--decode", "--json", "-"]);
    command.args(["--quiet"]).args(arguments).arg("--config").arg(dir.path());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn finish(client: Child, code: i32) -> (Value, String) {
    let Output { status, stdout, stderr } = client.wait_with_output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(code), "{stderr}");
    (serde_json::from_slice(&stdout).unwrap(), stderr)
}

fn number(report: &Value, path: &str) -> f64 {
    report.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {path} in {report:#}"))
}

/// Whatever was shown was right.
fn assert_sound(report: &Value) {
    for path in ["/frames/decode_errors", "/frames/undecodable", "/frames/out_of_order", "/stamps/backwards"] {
        assert_eq!(number(report, path), 0.0, "{path} in {report:#}");
    }
}

#[test]
fn a_session_survives_the_network_plane_by_its_token() {
    let mut lives = vec![life(Reply::Anew, Some(40)), life(Reply::Resume, Some(30)), life(Reply::Resume, None)];
    // One that is away for longer than a handshake may take.
    lives[2].after = Duration::from_millis(1500);
    let (host, dir) = (Mortal::start(lives), TempDir::new("resume"));
    let client = start(&dir, &host, &["--seconds", "5"]);
    for (number, tokens) in [(0, None), (1, Some(token(1))), (2, Some(token(2)))] {
        let lived = host.lived();
        assert_eq!(lived.hello.resume.map(|resume| resume.token), tokens, "life {number}");
        assert_eq!(lived.bye, number == 2);
    }
    let (report, _) = finish(client, 0);
    assert_sound(&report);
    assert_eq!((number(&report, "/resumes"), number(&report, "/restarts")), (2.0, 0.0), "{report:#}");
    assert_eq!(number(&report, "/generations"), 3.0);
    let returns = report["returns"].as_array().unwrap();
    for (one, least) in returns.iter().zip([50.0, 1500.0]) {
        let ms = ["gap_ms", "noticed_ms", "redial_ms"].map(|field| one[field].as_f64().unwrap());
        assert!(ms[0] >= least && ms[0] > ms[1] + ms[2] && one["same_session"] == true, "{one:#}");
    }
}

#[test]
fn every_event_happens_once_whoever_dies_in_between() {
    let hall = Hall { input_loss_permille: Some(0), ..Hall::default() };
    let lives = [Some(30), Some(20), Some(25), None].into_iter().enumerate();
    let answer = |number| if number == 0 { Reply::Anew } else { Reply::Resume };
    let lives = lives.map(|(number, frames)| Life { hall: hall.clone(), ..life(answer(number), frames) }).collect();
    let (host, dir) = (Mortal::start(lives), TempDir::new("hands"));
    let client = start(&dir, &host, &["--no-audio", "--input-test", "--seconds", "6"]);
    let events: Vec<InputEvent> = (0..4).flat_map(|_| host.lived().events).collect();
    let (report, _) = finish(client, 0);
    assert_eq!((number(&report, "/resumes"), number(&report, "/input/given_up")), (3.0, 0.0), "{report:#}");
    assert_eq!(number(&report, "/input/sent"), number(&report, "/input/acknowledged"), "{report:#}");
    // What is said of what is down, and what is put down once more in case it was lifted, changes nothing.
    let mut down = lumen_core::input::hands::Hands::default();
    let changes = |event: &InputEvent| match *event {
        InputEvent::Held(_) => false,
        InputEvent::Key { code, pressed } => {
            let changes = down.is_key_down(code) != pressed;
            down.apply(event);
            changes
        }
        InputEvent::Button { button, pressed } => {
            let changes = down.is_button_down(button) != pressed;
            down.apply(event);
            changes
        }
        _ => true,
    };
    let mut done: Vec<InputEvent> = events.into_iter().filter(changes).collect();
    // A pad and a finger say where they are again.
    done.dedup();
    let mut pattern: Vec<InputEvent> = script::pattern().into_iter().map(|step| step.event).collect();
    pattern.dedup();
    let missing: Vec<_> = pattern.iter().filter(|event| !done.contains(event)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let keys = |events: &[InputEvent]| {
        let key = |event: &&InputEvent| {
            matches!(event, InputEvent::Key { .. } | InputEvent::Text(_) | InputEvent::Motion { .. })
        };
        events.iter().filter(key).copied().collect::<Vec<_>>()
    };
    assert_eq!(keys(&done), keys(&pattern), "in order, each once");
}

#[test]
fn sound_comes_back_with_a_hole_where_it_was_missed() {
    let concert = Concert::new(AudioLayout::Stereo, &[440.0, 440.0], 2000);
    let hall = Hall { concert: Some(concert), ..Hall::default() };
    let lives =
        vec![Life { hall: hall.clone(), ..life(Reply::Anew, Some(60)) }, Life { hall, ..life(Reply::Resume, None) }];
    let (host, dir) = (Mortal::start(lives), TempDir::new("sound"));
    let client = start(&dir, &host, &["--seconds", "3"]);
    let (_, _) = (host.lived(), host.lived());
    let (report, _) = finish(client, 0);
    assert_eq!(number(&report, "/resumes"), 1.0, "{report:#}");
    for path in ["/audio/lost", "/audio/late", "/audio/duplicates", "/audio/decode_errors"] {
        assert_eq!(number(&report, path), 0.0, "{path} in {report:#}");
    }
    // The clock of the host goes on while nobody plays.
    let gap_ms = report["returns"][0]["gap_ms"].as_f64().unwrap();
    let filled_ms = number(&report, "/audio/filled_ms");
    assert!(filled_ms >= 50.0 && filled_ms <= gap_ms + 250.0, "{filled_ms} of {gap_ms} in {report:#}");
    assert!(number(&report, "/audio/received") > 200.0, "{report:#}");
}

#[test]
fn a_host_that_has_forgotten_the_session_begins_another_and_the_client_goes_on() {
    let hall = Hall { input_loss_permille: Some(0), ..Hall::default() };
    let lives = [(Reply::Anew, Some(40)), (Reply::Anew, None)];
    let lives = lives.map(|(answer, frames)| Life { hall: hall.clone(), ..life(answer, frames) });
    let (host, dir) = (Mortal::start(lives.into()), TempDir::new("anew"));
    let client = start(&dir, &host, &["--no-audio", "--input-test", "--seconds", "4"]);
    host.lived();
    let lived = host.lived();
    assert!(lived.bye && lived.hello.resume.is_some_and(|resume| resume.token == token(1)));
    let (report, _) = finish(client, 0);
    assert_sound(&report);
    assert_eq!((number(&report, "/resumes"), number(&report, "/restarts")), (0.0, 1.0), "{report:#}");
    assert_eq!(number(&report, "/generations"), 2.0, "{report:#}");
    let sent = number(&report, "/input/sent");
    assert_eq!(number(&report, "/input/acknowledged") + number(&report, "/input/given_up"), sent, "{report:#}");
}

#[test]
fn a_refusal_on_the_way_back_is_the_end() {
    let lives = vec![
        life(Reply::Anew, Some(30)),
        life(Reply::Refuse(Code::Full, "too many come back at once"), None),
        life(Reply::Refuse(Code::NotAllowed, "not any more"), None),
    ];
    let (host, dir) = (Mortal::start(lives), TempDir::new("refused"));
    let client = start(&dir, &host, &[]);
    let (report, stderr) = finish(client, 5);
    assert!(stderr.contains("not any more"), "{stderr}");
    assert_eq!(number(&report, "/frames/complete"), 30.0, "{report:#}");
}

#[test]
fn who_does_not_want_to_come_back_ends_at_once() {
    let (host, dir) = (Mortal::start(vec![life(Reply::Anew, Some(30))]), TempDir::new("never"));
    let (report, stderr) = finish(start(&dir, &host, &["--no-resume"]), 5);
    assert!(stderr.contains("lost the host"), "{stderr}");
    assert_eq!((number(&report, "/frames/complete"), number(&report, "/resumes")), (30.0, 0.0), "{report:#}");
}
