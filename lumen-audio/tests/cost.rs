//! What the plane costs: time and processor. Run by hand, on a quiet machine:
//! `cargo test --release -p lumen-audio --test cost -- --ignored --nocapture --test-threads 1`

mod support;

use std::time::{Duration, Instant};

use ipc::SinkChoice;
use lumen_core::AudioLayout;

use crate::support::player::{Player, Score};
use crate::support::server::Server;
use crate::support::{Listener, Plane, loudest};

const SECONDS: u64 = 10;

/// Seconds of processor time that a process has used.
fn processor(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // Fields 14 and 15 of proc(5), in ticks of 10 ms.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn share(plane: &Plane, listener: &mut Listener) -> f64 {
    let (before, began) = (processor(plane.child.id()), Instant::now());
    while began.elapsed() < Duration::from_secs(SECONDS) {
        listener.packet();
    }
    (processor(plane.child.id()) - before) / began.elapsed().as_secs_f64() * 100.0
}

#[test]
#[ignore = "measures"]
fn processor_of_silence_and_of_sound() {
    for (layout, positions) in [(AudioLayout::Stereo, "FL,FR"), (AudioLayout::Surround51, "FL,FR,FC,LFE,RL,RR")] {
        let server = Server::with_speakers(positions);
        let (plane, mut listener) = Plane::wired(&server, layout, SinkChoice::Auto);
        plane.sink();
        listener.packets(200);
        println!("{layout:?}, silence: {:.2} % of a core", share(&plane, &mut listener));
        let tones = [440.0, 550.0, 660.0, 770.0, 880.0, 990.0];
        let _player = Player::start(server.connect(), Score::Tones(tones[..layout.channels()].to_vec()));
        listener.wait_for_sound(0.3);
        println!("{layout:?}, sound: {:.2} % of a core", share(&plane, &mut listener));
        println!("{:?}", plane.stats());
    }
}

#[test]
#[ignore = "measures"]
fn time_from_playing_to_the_packet() {
    for quantum in [128, 256, 512, 1024] {
        let server = Server::with_speakers("FL,FR");
        server.force_quantum(quantum);
        let (plane, mut listener) = Plane::wired(&server, AudioLayout::Stereo, SinkChoice::Auto);
        plane.sink();
        let player = Player::start(server.connect(), Score::Pulses(97));
        let (mut heard, mut gaps) = (Vec::new(), Vec::new());
        let (mut before, mut loud) = (None, false);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(SECONDS) {
            let packet = listener.packet();
            gaps.extend(before.replace(packet.header.sliced_ns).map(|before| packet.header.sliced_ns - before));
            // The first packet in which a pulse is heard; the codec's look-ahead of 2.5 ms may make that the next.
            let louder = loudest(&packet) > 0.1;
            if louder && !loud {
                heard.push(packet.found_ns);
            }
            loud = louder;
        }
        let mut spent: Vec<u64> = player
            .pulses
            .try_iter()
            .filter_map(|played| heard.iter().find(|heard| **heard > played).map(|heard| heard - played))
            .filter(|spent| *spent < 90_000_000)
            .collect();
        spent.sort_unstable();
        gaps.sort_unstable();
        let at = |sorted: &[u64], thousandth: usize| sorted[sorted.len() * thousandth / 1000] as f64 / 1e6;
        println!(
            "quantum {quantum}: played to packet p50 {:.2} ms, p99 {:.2} ms; between packets p1 {:.2}, p50 {:.2}, p99 \
             {:.2} ms; {:?}",
            at(&spent, 500),
            at(&spent, 990),
            at(&gaps, 10),
            at(&gaps, 500),
            at(&gaps, 990),
            plane.stats()
        );
    }
}
