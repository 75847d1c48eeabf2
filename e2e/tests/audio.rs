//! A desktop's sound, from a real PipeWire to a client's recording.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use e2e::heard::{Packet, Recording, frequency, longest_silence, longest_wait, packets, strength};
use e2e::trial::{MODE, only_replaced, pids, stage, trace, wait_for_frames, wait_for_nothing, watch};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use xtask::client::{Client, allow};
use xtask::host::{Desktop, Host};
use xtask::process::{Running, wait_until};
use xtask::sound::{SPEAKERS, Sound, Speakers, hurry};
use xtask::stage::Stage;

/// Amplitude that is played.
const LEVEL: f32 = 0.5;

/// A host with the synthetic desktop whose sound is this server's.
fn host<'a>(stage: &'a Stage, sound: &Sound, config: &str) -> Host<'a> {
    Host::start_named(stage, "host", Some(Desktop::Pattern), &sound.environment(), config).unwrap()
}

/// A program that plays to the default sink until it is dropped.
fn play(stage: &Stage, sound: &Sound, arguments: &[&str]) -> Running {
    let log = std::fs::File::create(stage.out("tone.log")).unwrap();
    let mut command = stage.command("tone");
    command.envs(sound.environment()).args(arguments).args(["--level", &LEVEL.to_string()]);
    let tone = Running::new("tone", command.stdin(Stdio::null()).stderr(log).spawn().unwrap());
    // Its stream, and with it the thread that fills it, is there.
    wait_until(Duration::from_secs(10), || sound.nodes().unwrap().contains(&"tone".to_owned()).then_some(())).unwrap();
    hurry(tone.pid()).unwrap();
    tone
}

/// Records `seconds` of a session; returns the report and the recording.
fn record(stage: &Stage, host: &Host, seconds: u32, more: &[&str]) -> (Value, Recording) {
    allow(stage, host, "ear").unwrap();
    let (wav, trace, length) = (stage.out("ear.wav"), stage.out("ear.audio"), seconds.to_string());
    let files = ["--audio-out", text(&wav), "--audio-trace", text(&trace)];
    let arguments = [&["--mode", MODE, "--seconds", &length][..], &files, more].concat();
    let client = Client::connect(stage, "ear", &host.address(), &arguments).unwrap();
    // As the service that starts lumend allows it where there is one.
    wait_for_sound(host);
    hurry(host.planes("audio").unwrap()[0]).unwrap();
    let report = client.succeed(Duration::from_secs(u64::from(seconds) + 20)).unwrap();
    (report, Recording::read(&wav).unwrap())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The packets that `record` traced.
fn traced(stage: &Stage) -> Vec<Packet> {
    packets(&stage.out("ear.audio")).unwrap()
}

/// Waits until a session's audio plane captures.
fn wait_for_sound(host: &Host) -> Value {
    let sounding = |status: &Value| status["sessions"][0]["audio"]["packets"].as_u64().unwrap_or(0) > 20;
    host.status_where(Duration::from_secs(20), sounding).unwrap()
}

#[test]
fn a_tone_arrives_in_tune_at_its_level_and_without_holes() {
    let stage = stage().unwrap();
    let sound = Sound::start_calm(&stage, Speakers::Stereo).unwrap();
    let _tone = play(&stage, &sound, &["--hz", "440", "--step-hz", "220"]);
    let host = host(&stage, &sound, "");
    let (report, heard) = record(&stage, &host, 32, &[]);
    assert_eq!(heard.channels.len(), 2);
    // The left ear hears 440 Hz and the right 660, not the other way round and not both.
    for (channel, hz, other) in [(0, 440.0, 660.0), (1, 660.0, 440.0)] {
        let part = heard.part(channel, 10.0, 11.0).unwrap();
        assert!((frequency(part, heard.rate) - hz).abs() <= 1.0, "channel {channel}: {}", frequency(part, heard.rate));
        let level = strength(part, hz, heard.rate);
        assert!((level / f64::from(LEVEL) - 1.0).abs() < 0.12, "channel {channel}: level {level}");
        assert!(strength(part, other, heard.rate) < 0.02, "channel {channel} hears its neighbour");
        let whole = heard.part(channel, 1.5, 31.5).unwrap();
        let hole = longest_silence(whole, LEVEL, heard.rate);
        assert!(hole <= 10.0, "channel {channel}: a hole of {hole} ms");
    }
    let audio = &report["audio"];
    assert_eq!((&audio["lost"], &audio["decode_errors"]), (&0.into(), &0.into()), "{report:#}");
    assert!(audio["received"].as_u64().unwrap() > 30 * 200, "{report:#}");
    assert!((audio["tone_hz"].as_f64().unwrap() - 440.0).abs() <= 1.0, "{report:#}");
    let packets = traced(&stage);
    assert!(packets.windows(2).all(|pair| pair[1].captured_ns > pair[0].captured_ns), "captured in order");
}

#[test]
fn six_channels_keep_their_places() {
    let stage = stage().unwrap();
    let sound = Sound::start(&stage, Speakers::Surround51).unwrap();
    let _tone = play(&stage, &sound, &["--hz", "300", "--step-hz", "100", "--channels", "6"]);
    let host = host(&stage, &sound, "");
    let (_, heard) = record(&stage, &host, 5, &["--audio", "5.1"]);
    assert_eq!(heard.channels.len(), 6);
    for channel in 0..6 {
        let part = heard.part(channel, 2.0, 3.0).unwrap();
        let expected = 300.0 + 100.0 * channel as f64;
        // Opus keeps of the LFE channel what a subwoofer can play: it is told from the others by what is not in it.
        if channel == 3 {
            let others = (0..6).filter(|other| *other != 3).map(|other| 300.0 + 100.0 * f64::from(other));
            assert!(others.into_iter().all(|hz| strength(part, hz, heard.rate) < 0.02), "the LFE hears a neighbour");
        } else {
            let found = frequency(part, heard.rate);
            assert!((found - expected).abs() <= 1.0, "channel {channel}: {found} Hz instead of {expected}");
        }
    }
}

#[test]
fn a_machine_without_a_sink_gets_one_while_somebody_listens() {
    let stage = stage().unwrap();
    let sound = Sound::start(&stage, Speakers::None).unwrap();
    let host = host(&stage, &sound, "");
    let listening = watch(&stage, &host, "first", 4, &[]).unwrap();
    let made = wait_until(Duration::from_secs(15), || sound.default_sink()).unwrap();
    assert!(made.starts_with("lumen"), "{made}");
    let _tone = play(&stage, &sound, &["--hz", "440"]);
    let report = listening.succeed(Duration::from_secs(20)).unwrap();
    assert!((report["audio"]["tone_hz"].as_f64().unwrap() - 440.0).abs() <= 1.0, "{report:#}");
    let gone = || (!sound.nodes().unwrap().contains(&made) && sound.configured_sink().is_none()).then_some(());
    wait_until(Duration::from_secs(10), gone).expect("the sink goes with its session");
}

#[test]
fn two_sessions_leave_nothing_behind() {
    let stage = stage().unwrap();
    let sound = Sound::start(&stage, Speakers::Stereo).unwrap();
    let host = host(&stage, &sound, "");
    let _tone = play(&stage, &sound, &[]);
    let net = host.planes("net").unwrap()[0];
    let counts = || {
        let mut nodes = sound.nodes().unwrap();
        nodes.sort();
        let of = |pid: i32, what: &str| std::fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
        (nodes, [host.pid(), net].map(|pid| (of(pid, "fd"), of(pid, "task"))))
    };
    // The first session may leave what is made once: it is the second that must leave nothing.
    let mut before = None;
    for _ in 0..3 {
        record(&stage, &host, 2, &["--own-sink"]);
        wait_for_nothing(&host, Duration::from_secs(10)).unwrap();
        let settled = || {
            let now = counts();
            before.as_ref().is_none_or(|before| *before == now).then_some(now)
        };
        let now = wait_until(Duration::from_secs(10), settled);
        let now = now.unwrap_or_else(|_| panic!("{before:?} then {:?}", counts()));
        before = Some(now);
    }
}

#[test]
fn the_default_sink_comes_back_though_audio_and_lumend_die_together() {
    let stage = stage().unwrap();
    let sound = Sound::start(&stage, Speakers::Stereo).unwrap();
    let chosen = format!("{{ \"name\": \"{SPEAKERS}\" }}");
    let set =
        sound.tool("pw-metadata", &["-n", "default", "0", "default.configured.audio.sink", &chosen, "Spa:String:JSON"]);
    assert!(set.unwrap().status.success());
    wait_until(Duration::from_secs(5), || (sound.configured_sink()? == SPEAKERS).then_some(())).unwrap();

    let mut victim = host(&stage, &sound, "");
    let mut listening = watch(&stage, &victim, "ear", 60, &["--own-sink"]).unwrap();
    wait_until(Duration::from_secs(15), || sound.configured_sink()?.starts_with("lumen").then_some(())).unwrap();
    let audio = victim.planes("audio").unwrap()[0];
    // lumend first, or it would start an heir.
    victim.running().signal(Signal::SIGSTOP).unwrap();
    kill(Pid::from_raw(audio), Signal::SIGKILL).unwrap();
    victim.running().signal(Signal::SIGKILL).unwrap();
    victim.running().wait(Duration::from_secs(5)).unwrap();
    drop(victim);
    let _ = listening.running().stop();
    assert!(sound.configured_sink().unwrap().starts_with("lumen"), "nobody was there to put it back");

    // Nobody asks for a session: the next host puts it back all the same.
    let next = host(&stage, &sound, "");
    wait_until(Duration::from_secs(10), || (sound.configured_sink()? == SPEAKERS).then_some(()))
        .unwrap_or_else(|_| panic!("{:?}; {}", sound.configured_sink(), next.log()));
}

/// `kill -9` of the audio plane: the picture does not notice.
#[test]
fn a_dead_audio_plane_is_a_short_gap_and_the_picture_goes_on() {
    let mut gaps = Vec::new();
    for _ in 0..3 {
        let stage = stage().unwrap();
        let sound = Sound::start(&stage, Speakers::Stereo).unwrap();
        let _tone = play(&stage, &sound, &[]);
        let host = host(&stage, &sound, "");
        let audio = stage.out("ear.audio");
        let client = watch(&stage, &host, "ear", 6, &["--audio-trace", text(&audio)]).unwrap();
        wait_for_frames(&host, 60).unwrap();
        wait_for_sound(&host);
        let before = pids(&host).unwrap();
        let killed = host.kill_plane("audio").unwrap();
        only_replaced(&host, "audio", killed, &before).unwrap();
        let report = client.succeed(Duration::from_secs(30)).unwrap();
        assert_eq!(report["frames"]["lost"], 0, "{report:#}");
        let frames = trace(&stage, "ear").unwrap();
        e2e::trial::sound(&frames).unwrap();
        assert!(frames.iter().all(|frame| frame.generation == 1), "the picture was wired anew");
        gaps.push(longest_wait(&traced(&stage)).unwrap());
    }
    gaps.sort_by(f64::total_cmp);
    println!("gaps {gaps:.0?} ms");
    assert!(gaps[1] <= 250.0, "gaps of {gaps:?} ms");
}

#[test]
fn a_restarted_sound_server_is_a_gap_and_no_crash() {
    let stage = stage().unwrap();
    let mut sound = Sound::start(&stage, Speakers::Stereo).unwrap();
    let host = host(&stage, &sound, "");
    let client = watch(&stage, &host, "ear", 12, &[]).unwrap();
    wait_for_sound(&host);
    sound.kill().unwrap();
    let waits = |status: &Value| status["sessions"][0]["audio"]["state"] != "running";
    host.status_where(Duration::from_secs(5), waits).unwrap();
    sound.revive().unwrap();
    let _tone = play(&stage, &sound, &[]);
    let again = |status: &Value| status["sessions"][0]["audio"]["state"] == "running";
    let status = host.status_where(Duration::from_secs(8), again).unwrap();
    let audio = status["planes"].as_array().unwrap().iter().find(|plane| plane["plane"] == "audio").unwrap();
    assert_eq!(audio["restarts"], 0, "{status:#}");
    assert!(audio["reopens"].as_u64().unwrap() >= 1, "{status:#}");
    let report = client.succeed(Duration::from_secs(30)).unwrap();
    assert_eq!(report["frames"]["lost"], 0, "{report:#}");
    assert!((report["audio"]["tone_hz"].as_f64().unwrap() - 440.0).abs() <= 1.0, "{report:#}");
}
