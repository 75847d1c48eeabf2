//! An allowed client whose hands mean harm: lies in every field of its datagrams, and more of them than anybody can take.

#[path = "flood/lies.rs"]
mod lies;

use std::path::Path;
use std::time::Duration;

use e2e::attacker::Attacker;
use e2e::hands::{Seen, left_down, seen, wait_seen};
use e2e::trial::{Traced, pids, sound, stage, trace, wait_for_frames, watch};
use ipc::event::now_ns;
use lies::{KEY_A, bytes, datagram, held, impossible, key, malformed};
use lumen_core::InputEvent;
use lumen_core::input::datagram::Datagram;
use lumen_core::input::{Button, MAX_CONTACTS, MAX_HELD, PadIndex, PadState, Text, TouchPhase};
use serde_json::Value;
use xtask::host::{Desktop, Host};
use xtask::process::{private_bytes, wait_until};
use xtask::stage::Stage;
use xtask::sway::Sway;

/// linux/input-event-codes.h
const KEY_B: u16 = 48;
const KEY_F1: u16 = 59;
const KEY_F2: u16 = 60;

/// How long the flood lasts.
const LENGTH: Duration = Duration::from_secs(5);
/// Datagrams, and events, that a client may send a second: PROTOCOL.md §14.
const RATE: (u64, u64) = (8_000, 16_000);
/// Events that it may send at once.
const BURST: u64 = 2_000;
/// By how many bytes the network plane may grow meanwhile.
const MEMORY: u64 = 8 << 20;
/// Between two frames.
const FRAME_MS: f64 = 1000.0 / 60.0;

/// The attacker's stream of events: what it has got through so far.
struct Stream<'a> {
    attacker: &'a Attacker,
    next: u32,
}

impl Stream<'_> {
    /// Sends events until the host has them.
    fn take(&mut self, events: &[Vec<u8>]) {
        let (first, now) = (self.next, now_ns());
        self.next = first.wrapping_add(events.len() as u32);
        self.attacker.insist(&datagram(first, now, events), now, |next| next == self.next).unwrap();
    }

    /// What was sent before has been dealt with, and nothing of it was taken.
    fn nothing_taken(&self) {
        let now = now_ns();
        let replay = datagram(self.next.wrapping_sub(1), now, &[key(KEY_A, true)]);
        self.attacker.insist(&replay, now, |next| next == self.next).unwrap();
    }

    /// Goes on from what the host has, once it has dealt with everything that was sent.
    fn resume(&mut self) {
        let now = now_ns();
        let far = datagram(self.next.wrapping_add(1 << 30), now, &[key(KEY_A, true)]);
        self.next = self.attacker.insist(&far, now, |_| true).unwrap();
    }
}

fn input(status: &Value, session: u32) -> Value {
    let sessions = status["sessions"].as_array().map(Vec::as_slice).unwrap_or_default();
    sessions.iter().find(|entry| entry["id"] == session).map(|entry| entry["input"].clone()).unwrap_or_default()
}

fn count(status: &Value, session: u32, name: &str) -> u64 {
    input(status, session)[name].as_u64().unwrap_or(0)
}

/// Presses a key until the window at the end of the stream sees it.
fn wait_focus(stream: &mut Stream<'_>, log: &Path) {
    let mut look = || {
        stream.take(&[key(KEY_F2, true), key(KEY_F2, false)]);
        seen(log).is_ok_and(|events| is_pressed(KEY_F2)(&events)).then_some(())
    };
    wait_until(Duration::from_secs(20), &mut look).expect("the window gets the keyboard's focus");
}

/// The keys that went down and up, but for those of [`wait_focus`].
fn keys(events: &[Seen]) -> Vec<(u64, bool)> {
    events.iter().filter_map(Seen::key).filter(|&(code, _)| code != u64::from(KEY_F2)).collect()
}

fn is_pressed(code: u16) -> impl Fn(&[Seen]) -> bool {
    move |events| events.iter().any(|event| event.key() == Some((code.into(), true)))
}

#[test]
fn lies_in_every_field_are_counted_and_what_is_true_still_arrives_once() {
    let stage = stage().unwrap();
    let log = stage.out("window.log");
    let exec = format!("[desktop]\nexec = \"{} {}\"", stage.program("listener").display(), log.display());
    let host = Host::start(&stage, Desktop::Sway, &exec).unwrap();
    let attacker = Attacker::connect(&stage, &host, "attacker").unwrap();
    let mut stream = Stream { attacker: &attacker, next: 0 };
    stream.take(&[held([], 0, 0)]);
    wait_focus(&mut stream, &log);
    let before = pids(&host).unwrap();

    let lies = malformed(stream.next, attacker.most_bytes());
    for lie in &lies {
        assert!(Datagram::parse(lie).is_err(), "{lie:?}");
        attacker.fire(lie).unwrap();
    }
    stream.nothing_taken();
    // Each of these uses up its number, and the key between them is none the worse for it.
    let nonsense = impossible();
    for event in &nonsense {
        assert_eq!(InputEvent::decode(event), None, "{event:?}");
        stream.take(std::slice::from_ref(event));
    }
    stream.take(&[vec![], key(KEY_A, true), vec![255], key(KEY_A, false), vec![2, 10]]);
    let rejected = (lies.len() + nonsense.len() + 1) as u64;
    let is_told = |status: &Value| count(status, attacker.session(), "rejected") >= rejected;
    let status = host.status_where(Duration::from_secs(5), is_told).unwrap();
    // A datagram that had to be sent again because the machine was busy may count twice.
    assert!(count(&status, attacker.session(), "rejected") < rejected + 20, "{status:#}");

    // Replays, and numbers from the future, from far beyond it and from the past.
    for ahead in [0_u32, 1, 2, 5, 1000, 1 << 30, (1 << 31) - 1, 1 << 31, u32::MAX - 1] {
        for _ in 0..20 {
            attacker.fire(&datagram(stream.next.wrapping_sub(4), 7, &[key(KEY_A, true)])).unwrap();
            if ahead > 0 {
                let far = stream.next.wrapping_add(ahead);
                attacker.fire(&datagram(far, u64::MAX, &[key(KEY_A, true)])).unwrap();
            }
        }
        stream.nothing_taken();
    }

    // It claims to hold everything there is, and that presses nothing.
    stream.take(&[held(1..=MAX_HELD as u16, 31, u16::MAX), held(600..632, 31, u16::MAX)]);
    // It holds a key and then denies it.
    stream.take(&[key(KEY_B, true), held([KEY_A], 0, 0)]);
    // Everything at once, and never a release: more keys than anybody can hold, twice. No modifiers: they would change
    // what the last key is.
    let many: Vec<u16> = (2..=13).chain(16..=27).chain(30..=41).chain(44..=53).collect();
    assert!(many.len() > MAX_HELD);
    for _ in 0..2 {
        stream.take(&many.iter().map(|&code| key(code, true)).collect::<Vec<_>>());
    }
    let buttons = Button::ALL.map(|button| bytes(&InputEvent::Button { button, pressed: true }));
    let touch = |contact| InputEvent::Touch { contact, phase: TouchPhase::Down, x: 65535, y: 65535, pressure: 65535 };
    let contacts: Vec<_> = (0..MAX_CONTACTS).map(|contact| bytes(&touch(contact))).collect();
    let pads = (0..16).filter_map(PadIndex::new);
    let pads: Vec<_> = pads.map(|pad| bytes(&InputEvent::PadState { pad, state: PadState::default() })).collect();
    stream.take(&[&buttons[..], &contacts[..], &pads[..]].concat());
    // Texts that share no character, each as long as one may be.
    let text = |from: u32| (from..from + 16).filter_map(char::from_u32).collect::<String>();
    for page in 0..40 {
        stream.take(&[bytes(&InputEvent::Text(Text::new(&text(0x2_0000 + page * 16)).unwrap()))]);
    }
    stream.take(&[held([], 0, 0), key(KEY_F1, true), key(KEY_F1, false)]);
    let events = wait_seen(&log, Duration::from_secs(20), |events| keys(events).ends_with(&[(KEY_F1.into(), false)]));
    let events = events.unwrap();

    assert_eq!(keys(&events)[..4], [KEY_A, KEY_B].map(|code| [(code.into(), true), (code.into(), false)]).concat());
    assert!(left_down(&events).is_empty(), "{events:?}");
    let status = host
        .status_where(Duration::from_secs(5), |status| count(status, attacker.session(), "healed") > MAX_HELD as u64);
    let status = status.unwrap();
    assert!(count(&status, attacker.session(), "unsupported") >= 2 * (many.len() - MAX_HELD) as u64, "{status:#}");
    assert_eq!(pids(&host).unwrap(), before, "nothing was restarted");
}

/// Milliseconds from the capture of a frame to the last of its packets, 99 of 100, in a span of the host's clock.
fn p99_ms(frames: &[Traced], (from_ns, to_ns): (u64, u64)) -> f64 {
    let within = frames.iter().filter(|frame| (from_ns..to_ns).contains(&frame.captured_ns));
    let mut delays: Vec<u64> = within.map(|frame| frame.reassembled_ns.saturating_sub(frame.captured_ns)).collect();
    assert!(delays.len() >= 100, "{} frames are too few to speak of one in a hundred", delays.len());
    delays.sort_unstable();
    delays[delays.len() * 99 / 100] as f64 / 1e6
}

/// What a flood is made of: nonsense, truth of the past and of the future, and truth in masses; each large enough to
/// have a packet of its own.
fn torrent(number: u64, next: u32) -> Vec<u8> {
    let motion = bytes(&InputEvent::Motion { dx: if number.is_multiple_of(2) { 256 } else { -256 }, dy: 0 });
    let many = vec![motion; 70];
    match number % 4 {
        0 => vec![(number >> 2) as u8; 800 + (number % 300) as usize],
        1 => datagram(next.wrapping_sub(70), number, &many),
        2 => datagram(next.wrapping_add(1), number, &many),
        _ => datagram(next, number, &many),
    }
}

fn watched_frames(host: &Host, more: u64) -> (u64, u64) {
    let sent = |status: &Value| status["sessions"][0]["frames"]["sent"].as_u64().unwrap_or(0);
    let began = (now_ns(), sent(&host.status().unwrap()));
    host.status_where(Duration::from_secs(20), |status| sent(status) >= began.1 + more).unwrap();
    (began.0, now_ns())
}

/// The output of a session, the oldest being 0.
fn output(host: &Host, index: usize) -> String {
    let name = |status: &Value| status["sessions"][index]["output"].as_str().map(str::to_owned);
    name(&host.status_where(Duration::from_secs(20), |status| name(status).is_some()).unwrap()).unwrap()
}

fn show(stage: &Stage, sway: &Sway, output: &str, program: &str) {
    sway.message(stage, &["--", "focus", "output", output]).unwrap();
    sway.message(stage, &["--", &format!("exec {program}")]).unwrap();
}

#[test]
fn a_flood_of_one_client_harms_neither_the_host_nor_the_video_of_another() {
    let stage = stage().unwrap();
    let watched = stage.out("watched.log");
    let sway = Sway::start(&stage, "640x360@60Hz", "true").unwrap();
    let host = Host::start_in(&stage, &sway.environment(), "").unwrap();
    let viewer = watch(&stage, &host, "viewer", 30, &["--no-audio"]).unwrap();
    let scene = format!("{} --log {}", stage.program("scene").display(), watched.display());
    show(&stage, &sway, &output(&host, 0), &scene);

    let attacker = Attacker::connect(&stage, &host, "attacker").unwrap();
    let mut stream = Stream { attacker: &attacker, next: 0 };
    stream.take(&[held([], 0, 0)]);
    let log = stage.out("window.log");
    show(&stage, &sway, &output(&host, 1), &format!("{} {}", stage.program("listener").display(), log.display()));
    wait_focus(&mut stream, &log);
    wait_for_frames(&host, 120).unwrap();

    let quiet = watched_frames(&host, 200);
    let before = pids(&host).unwrap();
    let net = before["net/null"] as i32;
    let (memory, mut most) = (private_bytes(net).unwrap(), 0);
    let began_ns = now_ns();
    let flood = attacker.flood(LENGTH, 100_000, |number| {
        if number % 4096 == 0 {
            most = most.max(private_bytes(net).unwrap_or(u64::MAX));
        }
        torrent(number, attacker.answer().map_or(0, |answer| answer.next))
    });
    let (flood, flooded) = (flood.unwrap(), (began_ns, now_ns()));

    // Its own session is as usable as before.
    stream.resume();
    stream.take(&[key(KEY_F1, true), key(KEY_F1, false)]);
    let events = wait_seen(&log, Duration::from_secs(10), is_pressed(KEY_F1)).unwrap();
    let moved = events.iter().filter(|event| event.event == "motion").count();
    assert_eq!(pids(&host).unwrap(), before, "nothing was restarted");
    // Whatever came and was not let in is counted.
    let (session, let_in) = (attacker.session(), RATE.0 * (flooded.1 - flooded.0) / 1_000_000_000 + BURST);
    let turned_away = flood.datagrams.saturating_sub(flood.lost + let_in);
    let status = host.status_where(Duration::from_secs(5), |status| count(status, session, "rejected") >= turned_away);
    let status = status.unwrap();
    let (rejected, received) = (count(&status, session, "rejected"), count(&status, session, "received"));
    drop(attacker);
    let report = viewer.succeed(Duration::from_secs(60)).unwrap();
    let frames = trace(&stage, "viewer").unwrap();
    let (calm, storm) = (p99_ms(&frames, quiet), p99_ms(&frames, flooded));
    let told = format!(
        "{flood:?}, {:.0} packets a second; {rejected} datagrams rejected, {received} events taken, {moved} seen; net had \
         {memory} bytes of its own, then {most}; p99 {calm:.1} ms, then {storm:.1} ms",
        flood.rate()
    );
    println!("{told}");
    assert!(flood.packets >= flood.datagrams && flood.datagrams > 2 * RATE.0 * LENGTH.as_secs(), "no flood: {told}");
    assert!(moved > 1000, "{told}");
    let most_events = RATE.1 * (flooded.1 - flooded.0) / 1_000_000_000 + 2 * BURST;
    assert!(received <= most_events, "more than {most_events}: {told}");
    assert!(most < memory + MEMORY, "{told}");
    // A machine that is busy with other things hiccups by itself; a flood that gets through to the video is a matter of
    // seconds.
    assert!(storm <= 10.0 * calm.max(FRAME_MS), "{told}");
    assert!(seen(&watched).unwrap().iter().all(|event| event.event != "motion" && event.event != "key"));
    assert_eq!(report["frames"]["lost"], 0, "{report:#}");
    assert_eq!(report["frames"]["decode_errors"], 0, "{report:#}");
    sound(&frames).unwrap();
}
