//! Bad networks: a seeded relay between client and host.

use std::net::SocketAddr;
use std::time::Duration;

use e2e::relay::{Relay, Weather};
use e2e::trial::{sound, stage, trace, wait_for_frames, watch};
use xtask::host::{Desktop, Host};
use xtask::process::wait_until;
use xtask::stage::Stage;

fn media(host: &Host) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], host.port() + 1))
}

fn report_of(stage: &Stage, host: &Host, relay: &Relay, seconds: u32) -> serde_json::Value {
    let through = relay.address().to_string();
    let client = watch(stage, host, "viewer", seconds, &["--media", &through]).unwrap();
    client.succeed(Duration::from_secs(u64::from(seconds) + 30)).unwrap()
}

#[test]
fn five_percent_loss_with_reordering_and_duplicates_costs_at_most_a_frame_in_1800() {
    let stage = stage().unwrap();
    let host = Host::start(&stage, Desktop::Pattern, "").unwrap();
    let weather = Weather { loss: 50, reorder: 100, duplicate: 100, seed: 7, ..Weather::default() };
    let relay = Relay::start(media(&host), weather).unwrap();
    let report = report_of(&stage, &host, &relay, 31);
    let (forwarded, dropped) = relay.counts();
    assert!(dropped * 30 > forwarded, "the relay did drop: {dropped} of {forwarded}");
    let frames = trace(&stage, "viewer").unwrap();
    sound(&frames).unwrap();
    assert!(frames.iter().filter(|frame| frame.recovered).count() > 100, "parity was needed: {report:#}");
    assert!(report["parity_ratio"].as_f64().unwrap() > 0.2, "the price of it is told: {report:#}");
    // The first second passes before the host knows of the loss.
    let first = frames.first().unwrap().number;
    let settled: Vec<u64> = frames.iter().map(|frame| frame.number).filter(|number| *number >= first + 60).collect();
    let span = settled.last().unwrap() - settled.first().unwrap() + 1;
    let lost = span - settled.len() as u64;
    println!("{lost} of {span} frames lost; parity is {} of the bytes", report["parity_ratio"]);
    assert!(span >= 1700, "30 s at 60 Hz gave {span} frames");
    assert!(lost <= 1, "{lost} of {span} frames lost: {report:#}");
}

#[test]
fn after_a_burst_the_picture_is_whole_again_and_nothing_undecodable_was_shown() {
    let stage = stage().unwrap();
    let host = Host::start(&stage, Desktop::Pattern, "").unwrap();
    let relay = Relay::start(media(&host), Weather { seed: 3, ..Weather::default() }).unwrap();
    let through = relay.address().to_string();
    let client = watch(&stage, &host, "viewer", 8, &["--media", &through]).unwrap();
    wait_for_frames(&host, 120).unwrap();
    relay.burst(30);
    wait_until(Duration::from_secs(5), || (relay.counts().1 >= 30).then_some(())).unwrap();
    let report = client.succeed(Duration::from_secs(30)).unwrap();
    let frames = trace(&stage, "viewer").unwrap();
    sound(&frames).unwrap();
    let holes: Vec<_> = frames.windows(2).filter(|pair| pair[1].number != pair[0].number + 1).collect();
    assert_eq!(holes.len(), 1, "one burst, one hole: {report:#}");
    assert!(holes[0][1].idr, "the picture begins anew");
    assert!(report["keyframe_requests"].as_u64().unwrap() >= 1, "{report:#}");
    let gap = (holes[0][1].reassembled_ns - holes[0][0].reassembled_ns) as f64 / 1e6;
    println!("30 packets lost: {gap:.0} ms without a good frame");
}
