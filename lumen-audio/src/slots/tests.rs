use lumen_core::audio::{FRAME_NS, FRAME_SAMPLES};

use super::*;

const START: u64 = 1_000_000_000;

/// A graph that plays a ramp: sample number n has the value n, on both channels.
struct Graph {
    quantum: usize,
    played: usize,
    /// How late cycles are, in turn.
    lateness_us: Vec<u64>,
    cycles: usize,
}

impl Graph {
    fn new(quantum: usize, lateness_us: &[u64]) -> Self {
        Self { quantum, played: 0, lateness_us: lateness_us.to_vec(), cycles: 0 }
    }

    fn began(&self) -> u64 {
        START + ns_of(self.played) as u64
    }

    fn arrives(&self) -> u64 {
        self.began() + self.lateness_us[self.cycles % self.lateness_us.len()] * 1000
    }

    fn play(&mut self, slots: &mut Slots) {
        let samples: Vec<f32> = (0..self.quantum).flat_map(|at| [(self.played + at) as f32; 2]).collect();
        slots.push(self.began(), self.arrives(), &samples);
        self.skip();
    }

    fn skip(&mut self) {
        self.played += self.quantum;
        self.cycles += 1;
    }
}

struct Out {
    at_ns: u64,
    slot: Slot,
    samples: Vec<f32>,
}

/// Lets graph and slots run until `end`.
fn run(slots: &mut Slots, graph: &mut Graph, end: u64) -> Vec<Out> {
    let mut out = Vec::new();
    loop {
        let (due, arrives) = (slots.due(), graph.arrives());
        if due.min(arrives) >= end {
            return out;
        }
        if arrives <= due {
            graph.play(slots);
            continue;
        }
        let mut samples = vec![f32::NAN; 2 * slots.slot_frames];
        if let Some(slot) = slots.take(due, &mut samples) {
            out.push(Out { at_ns: due, slot, samples });
        }
    }
}

fn gaps(out: &[Out]) -> impl Iterator<Item = u64> {
    out.windows(2).map(|two| two[1].at_ns - two[0].at_ns)
}

#[test]
fn bursts_become_even_slots_and_no_sample_is_lost() {
    for packet in [PacketTime::Five, PacketTime::Ten] {
        bursts_become_even(packet);
    }
}

fn bursts_become_even(packet: PacketTime) {
    for quantum in [64, 128, 240, 256, 480, 1024, 8192] {
        let mut slots = Slots::new(2, packet, START);
        let mut graph = Graph::new(quantum, &[200, 400, 100, 1500]);
        let out = run(&mut slots, &mut graph, START + 3_000_000_000);
        // While the lateness is being learned a slot or two may be made up.
        let (_, steady) = out.split_at(200);
        assert!(gaps(steady).all(|gap| gap.abs_diff(packet.ns()) < 300_000), "{quantum}");
        let sound: Vec<f32> = steady.iter().flat_map(|out| out.samples.iter().step_by(2).copied()).collect();
        assert!(sound.windows(2).all(|two| two[1] - two[0] == 1.0), "{quantum}");
        for out in steady {
            assert!(out.slot.waited_ns.is_some());
            // The time of a slot is that of its first sample, and it leaves soon after its last.
            let played = START + ns_of(out.samples[0] as usize) as u64;
            assert!(out.slot.pts_ns.abs_diff(played) < 100_000, "{quantum}");
            assert!(out.at_ns - played < packet.ns() + 2_500_000, "{quantum}: {}", out.at_ns - played);
        }
        assert_eq!((slots.overruns(), slots.quantum()), (0, quantum as u32));
    }
}

#[test]
fn silence_flows_before_after_and_between_sounds() {
    let mut slots = Slots::new(2, PacketTime::Five, START);
    let mut graph = Graph::new(256, &[300]);
    graph.skip();
    graph.played = 48_000;
    let before = run(&mut slots, &mut graph, START + 1_000_000_000);
    assert!((195..=200).contains(&before.len()), "{}", before.len());
    assert!(before.iter().all(|out| out.slot.waited_ns.is_none() && out.samples.iter().all(|sample| *sample == 0.0)));
    let sound = run(&mut slots, &mut graph, START + 2_000_000_000);
    assert!(sound.iter().filter(|out| out.slot.waited_ns.is_some()).count() > 195);
    // The graph stops: what was queued comes, then silence, at the same pace.
    graph.played += 48_000;
    let after = run(&mut slots, &mut graph, START + 3_000_000_000);
    assert!((197..=201).contains(&after.len()), "{}", after.len());
    assert!(after[10..].iter().all(|out| out.samples.iter().all(|sample| *sample == 0.0)));
    let all: Vec<Out> = before.into_iter().chain(sound).chain(after).collect();
    assert!(gaps(&all).all(|gap| gap <= 2 * FRAME_NS + GUARD_NS as u64));
    assert!(all.windows(2).all(|two| two[1].slot.pts_ns > two[0].slot.pts_ns));
}

#[test]
fn a_missed_cycle_is_a_gap_as_long_as_the_cycle() {
    let mut slots = Slots::new(2, PacketTime::Five, START);
    let mut graph = Graph::new(256, &[300]);
    run(&mut slots, &mut graph, START + 500_000_000);
    graph.skip();
    let out = run(&mut slots, &mut graph, START + 1_000_000_000);
    let zeros = out.iter().flat_map(|out| out.samples.iter().step_by(2)).filter(|sample| **sample == 0.0).count();
    assert!((240..=300).contains(&zeros), "{zeros}");
    for out in &out[10..] {
        assert!(out.slot.pts_ns.abs_diff(START + ns_of(out.samples[0] as usize) as u64) < 1_000_000);
    }
}

#[test]
fn one_hiccup_costs_no_lasting_delay() {
    let mut slots = Slots::new(2, PacketTime::Five, START);
    let mut lateness = vec![300; 400];
    lateness[100] = 40_000;
    let mut graph = Graph::new(256, &lateness);
    let out = run(&mut slots, &mut graph, START + 2_000_000_000);
    assert!(out.iter().skip(10).any(|out| out.slot.waited_ns.is_none()), "the hiccup was not noticed");
    assert!(slots.delay() < FRAME_NS as i64 + 2_000_000, "{}", slots.delay());
}

#[test]
fn a_clock_that_always_lags_is_followed() {
    let mut slots = Slots::new(2, PacketTime::Five, START);
    let mut graph = Graph::new(256, &[90_000]);
    let out = run(&mut slots, &mut graph, START + 3_000_000_000);
    assert!(out[400..].iter().all(|out| out.slot.waited_ns.is_some()));
}

#[test]
fn after_a_stall_what_is_played_now_comes_next() {
    let mut slots = Slots::new(2, PacketTime::Five, START);
    let mut graph = Graph::new(256, &[300]);
    run(&mut slots, &mut graph, START + 500_000_000);
    while graph.began() < START + 1_000_000_000 {
        graph.play(&mut slots);
    }
    let mut samples = [0.0; 2 * FRAME_SAMPLES];
    let slot = slots.take(START + 1_000_000_000, &mut samples).unwrap();
    let age = START + 1_000_000_000 - slot.pts_ns;
    assert!(age < 15_000_000, "{age}");
    assert!((samples[0] as i64 - frames_in(slot.pts_ns as i64 - START as i64) as i64).abs() < 48, "{}", samples[0]);
    let after = run(&mut slots, &mut graph, START + 1_500_000_000);
    assert!(after[20..].iter().all(|out| out.slot.waited_ns.is_some()));
}

#[test]
fn a_clock_that_drifts_is_followed() {
    let mut slots = Slots::new(2, PacketTime::Five, START);
    let mut time = START;
    let mut out = vec![0.0; 2 * FRAME_SAMPLES];
    let mut made_up = 0;
    for cycle in 0..20_000u64 {
        // 500 ppm fast: 256 samples in 5.3307 ms.
        time += 5_330_667;
        while slots.due() < time {
            let due = slots.due();
            made_up += u32::from(slots.take(due, &mut out).is_some_and(|slot| slot.waited_ns.is_none() && cycle > 100));
        }
        slots.push(time, time + 200_000, &[0.5; 512]);
        assert!(slots.queued() < 1024, "{cycle}");
    }
    assert_eq!((made_up, slots.overruns()), (0, 0));
}

#[test]
fn a_flood_is_thrown_away_and_counted() {
    let mut slots = Slots::new(2, PacketTime::Five, START);
    for _ in 0..100 {
        slots.push(START, START + 1000, &[0.5; 2 * 8192]);
    }
    assert!(slots.overruns() > 50 && slots.queued() <= CAPACITY);
    slots.push(u64::MAX, 0, &[0.5; 512]);
    slots.push(0, u64::MAX / 4, &[0.5; 511]);
    slots.push(0, u64::MAX / 4, &[]);
    assert!(slots.queued() <= CAPACITY);
}
