//! A desktop's sound, from a real PipeWire to a Moonlight client's decoder.

use std::time::Duration;

use e2e::guest::report::{report, tone_hz};
use e2e::guest::shared::Ended;
use e2e::guest::stream::{Reception, Stream};
use e2e::guest::trial::{Site, site_in, sound as flawless};
use e2e::guest::wish::{Secrecy, Speakers as Ears, Wish};
use e2e::heard::strength;
use e2e::trial::stage;
use serde_json::Value;
use xtask::host::Desktop;
use xtask::process::{Running, wait_until};
use xtask::sound::{Sound, Speakers, hurry};
use xtask::stage::Stage;

const RATE: u32 = 48_000;

/// A program that plays until it is dropped.
fn play(stage: &Stage, sound: &Sound, arguments: &[&str]) -> Running {
    let tone = sound.play(stage, arguments).unwrap();
    // Its stream, and with it the thread that fills it, is there.
    wait_until(Duration::from_secs(10), || sound.nodes().unwrap().contains(&"tone".to_owned()).then_some(())).unwrap();
    hurry(tone.pid()).unwrap();
    tone
}

/// Listens for a while and leaves.
fn listen(site: &Site<'_>, wish: &Wish, reception: Reception, seconds: u64) -> Stream {
    let client = site.enrol().unwrap();
    let wish = Wish { app: client.app("Desktop").unwrap(), ..wish.clone() };
    let mut stream = site.watch_as(&client, &wish, reception).unwrap();
    let sounding = |status: &Value| status["sessions"][0]["audio"]["packets"].as_u64().unwrap_or(0) > 20;
    site.host.status_where(Duration::from_secs(20), sounding).unwrap();
    hurry(site.host.planes("audio").unwrap()[0]).unwrap();
    stream.last(Duration::from_secs(seconds)).unwrap();
    assert_eq!(stream.leave(), Ended::Left);
    flawless(&stream).unwrap();
    client.cancel().unwrap();
    site.wait_gone(&client).unwrap();
    stream
}

fn heard(stream: &Stream, channel: usize) -> Vec<f32> {
    let audio = stream.audio();
    audio.last_second(channel).unwrap_or_else(|| panic!("less than a second: {:#}", report(stream, None)))
}

#[test]
fn a_tone_arrives_in_tune_in_packets_of_either_length_encrypted_or_not() {
    let stage = stage().unwrap();
    let sound = Sound::start_calm(&stage, Speakers::Stereo).unwrap();
    let _tone = play(&stage, &sound, &["--hz", "440", "--step-hz", "220"]);
    let site = site_in(&stage, Desktop::Pattern, &sound.environment(), "").unwrap();
    for (packet_ms, secrecy) in [(5, Secrecy::ALL), (10, Secrecy::NONE)] {
        let wish = Wish { packet_ms, secrecy, ..Wish::new(0, (640, 360, 60)) };
        let stream = listen(&site, &wish, Reception::default(), 5);
        for (channel, hz, other) in [(0, 440.0, 660.0), (1, 660.0, 440.0)] {
            let second = heard(&stream, channel);
            let found = tone_hz(&second).expect("it is not silent");
            assert!((found - hz).abs() <= 1.0, "{packet_ms} ms, channel {channel}: {found} Hz");
            assert!(strength(&second, other, RATE) < 0.02, "channel {channel} hears its neighbour");
        }
        let audio = stream.audio();
        assert_eq!((audio.counts.lost, audio.concealed), (0, 0), "{:#}", report(&stream, None));
        assert!(audio.counts.parity_judged * 2 + 40 > audio.decoded, "{:#}", report(&stream, None));
        assert!(audio.decoded > 4_000 / u64::from(packet_ms), "{:#}", report(&stream, None));
    }
}

#[test]
fn what_is_lost_of_the_sound_comes_back_by_parity() {
    let stage = stage().unwrap();
    let sound = Sound::start_calm(&stage, Speakers::Stereo).unwrap();
    let _tone = play(&stage, &sound, &["--hz", "440"]);
    let site = site_in(&stage, Desktop::Pattern, &sound.environment(), "").unwrap();
    let reception = Reception { loss: 50, seed: 3, ..Reception::default() };
    let stream = listen(&site, &Wish::new(0, (640, 360, 60)), reception, 10);
    let audio = stream.audio();
    let seen = report(&stream, None);
    // Two of a block's six packets may be missing. Three or more are missing once in about 440 blocks, which costs at most
    // four of 1760 packets.
    assert!(audio.counts.recovered > 30, "{seen:#}");
    assert!(audio.counts.lost * 100 < audio.decoded, "{seen:#}");
    assert!((tone_hz(&heard(&stream, 0)).unwrap() - 440.0).abs() <= 1.0, "{seen:#}");
}

#[test]
fn six_and_eight_channels_keep_their_places() {
    let stage = stage().unwrap();
    let sound = Sound::start_calm(&stage, Speakers::Surround51).unwrap();
    let _tone = play(&stage, &sound, &["--hz", "300", "--step-hz", "100", "--channels", "6"]);
    let site = site_in(&stage, Desktop::Pattern, &sound.environment(), "").unwrap();
    let wish = Wish { speakers: Ears::Surround51, ..Wish::new(0, (640, 360, 60)) };
    let stream = listen(&site, &wish, Reception::default(), 4);
    for channel in 0..6 {
        let second = heard(&stream, channel);
        // Opus keeps of the LFE channel what a subwoofer can play: it is told from the others by what is not in it.
        if channel == 3 {
            let others = (0..6).filter(|other| *other != 3).map(|other| 300.0 + 100.0 * f64::from(other));
            assert!(others.into_iter().all(|hz| strength(&second, hz, RATE) < 0.02), "the LFE hears a neighbour");
        } else {
            let (found, wanted) = (tone_hz(&second).unwrap(), 300.0 + 100.0 * channel as f64);
            assert!((found - wanted).abs() <= 1.0, "channel {channel}: {found} Hz instead of {wanted}");
        }
    }
    let wish = Wish { speakers: Ears::Surround71, ..wish };
    let stream = listen(&site, &wish, Reception::default(), 3);
    assert_eq!(stream.audio().channels.len(), 8);
    assert!((tone_hz(&heard(&stream, 0)).unwrap() - 300.0).abs() <= 1.0, "{:#}", report(&stream, None));
}
