//! When pulses that were played came out of the client's decoder.
//!
//! A pulse counts as played when the program hands PipeWire the buffer that it is in, wherever in that buffer it
//! begins: PipeWire's quantum and the program's place in it are part of the figure. It counts as heard when the first
//! packet that it is audible in has been decoded.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// Samples a second.
const RATE: f64 = 48_000.0;
/// A fifth of what is played: below it there is only what a codec makes of silence.
const AUDIBLE: f64 = 0.1;
/// A pulse that is not heard by then, half its distance to the next, is none of its own.
const LONGEST_NS: u64 = 250_000_000;

/// A packet of the client's.
#[derive(Clone, Copy)]
struct Packet {
    decoded_ns: u64,
    /// Loudest sample of all channels, 0 to 1.
    peak: f64,
}

/// What became of the pulses that were played while the client listened.
pub struct Heard {
    /// From being played to being decoded, sorted.
    pub latency_ms: Vec<f64>,
    pub missed: usize,
    /// Of the cycles that played them, the longest.
    pub quantum_ms: f64,
}

impl Heard {
    /// `permille` from 0 to 1000.
    pub fn quantile(&self, permille: usize) -> Result<f64> {
        let last = self.latency_ms.len().checked_sub(1).context("no pulse was heard")?;
        Ok(self.latency_ms[last * permille / 1000])
    }
}

/// Reads the log of `tone --pulses` and the client's `--audio-trace`.
pub fn read(played: &Path, trace: &Path) -> Result<Heard> {
    let text = fs::read_to_string(played).with_context(|| played.display().to_string())?;
    let pulses: Vec<(u64, f64)> = text.lines().filter_map(pulse).collect();
    let text = fs::read_to_string(trace).with_context(|| trace.display().to_string())?;
    let packets: Vec<Packet> = text.lines().map(packet).collect::<Result<_>>()?;
    Ok(heard(&pulses, &packets))
}

/// Time in nanoseconds and the cycle's samples; none of a line that is still being written.
fn pulse(line: &str) -> Option<(u64, f64)> {
    let (ns, samples) = line.split_once(' ')?;
    Some((ns.parse().ok()?, samples.parse().ok()?))
}

fn packet(line: &str) -> Result<Packet> {
    let line: Value = serde_json::from_str(line)?;
    let peaks = line["peak"].as_array().context("a trace without peaks")?;
    let peak = peaks.iter().filter_map(Value::as_f64).fold(0.0, f64::max);
    Ok(Packet { decoded_ns: line["decoded_ns"].as_u64().context("a trace without times")?, peak })
}

fn heard(pulses: &[(u64, f64)], packets: &[Packet]) -> Heard {
    let onsets: Vec<u64> = packets
        .windows(2)
        .filter(|pair| pair[0].peak < AUDIBLE && pair[1].peak >= AUDIBLE)
        .map(|pair| pair[1].decoded_ns)
        .collect();
    let from = packets.first().map_or(u64::MAX, |packet| packet.decoded_ns);
    let to = packets.last().map_or(0, |packet| packet.decoded_ns.saturating_sub(LONGEST_NS));
    let (mut latency_ms, mut missed, mut samples) = (Vec::new(), 0, 0.0_f64);
    for &(played_ns, cycle) in pulses.iter().filter(|(ns, _)| (from..to).contains(ns)) {
        samples = samples.max(cycle);
        match onsets.iter().find(|&&onset| onset > played_ns) {
            Some(onset) if onset - played_ns <= LONGEST_NS => latency_ms.push((onset - played_ns) as f64 / 1e6),
            _ => missed += 1,
        }
    }
    latency_ms.sort_by(f64::total_cmp);
    Heard { latency_ms, missed, quantum_ms: samples * 1e3 / RATE }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// A packet every 5 ms, of which these are loud.
    fn packets(loud: &[u64]) -> Vec<Packet> {
        let packet =
            |number: u64| Packet { decoded_ns: number * 5 * MS, peak: if loud.contains(&number) { 0.5 } else { 0.01 } };
        (100..500).map(packet).collect()
    }

    #[test]
    fn a_pulse_is_heard_with_the_first_packet_it_is_in() {
        // The first is played before anybody listens, the last too late to be judged.
        let pulses =
            [(400, 128.0), (900, 128.0), (1400, 256.0), (2400, 1024.0)].map(|(ms, samples)| (ms * MS, samples));
        let heard = heard(&pulses, &packets(&[184, 185, 283]));
        assert_eq!((heard.latency_ms.as_slice(), heard.missed), (&[15.0, 20.0][..], 0));
        assert!((heard.quantum_ms - 256.0 / 48.0).abs() < 1e-9, "{}", heard.quantum_ms);
        assert_eq!(heard.quantile(500).unwrap(), 15.0);
    }

    #[test]
    fn a_pulse_that_never_comes_is_missed() {
        let pulses = [(900 * MS, 128.0), (1400 * MS, 128.0)];
        let heard = heard(&pulses, &packets(&[284]));
        assert_eq!((heard.latency_ms.as_slice(), heard.missed), (&[20.0][..], 1));
        assert!(super::heard(&pulses, &[]).quantile(500).is_err());
    }
}
