//! What is learned from each frame, summed up in constant memory.

use lumen_core::histogram::Histogram;
use lumen_core::stamp::Stamp;
use serde::Serialize;

use crate::frame::{LateLedger, ReceivedFrame};
use crate::gaps::Gaps;
use crate::stamps::Stamps;

/// What became of a frame after it was reassembled.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Fate {
    /// Nobody asked for decoding.
    NotDecoded,
    /// `decoded_ns` by this machine's CLOCK_MONOTONIC.
    Decoded { decoded_ns: u64, stamp: Option<Stamp> },
    /// The decoder refused it.
    Failed,
    /// Not tried: it builds on a frame that failed.
    Skipped,
}

/// One line of the trace: times in nanoseconds, `captured_ns` and `stamp_ns` by the host's clock, the others by ours.
#[derive(Debug, Serialize)]
pub struct TraceLine {
    pub generation: u32,
    pub number: u32,
    pub captured_ns: u64,
    pub reassembled_ns: u64,
    pub decoded_ns: Option<u64>,
    pub stamp: Option<u32>,
    pub stamp_ns: Option<u64>,
    /// Host clock minus ours, as known when the frame was reassembled.
    pub offset_ns: Option<i64>,
    pub idr: bool,
    pub still: bool,
    pub recovered: bool,
    /// Complete, and decoded if decoding was asked for.
    pub good: bool,
    pub bytes: usize,
}

/// Sums over all frames that were delivered. Histograms are fed nanoseconds.
#[derive(Default)]
pub struct Recorder {
    pub gaps: Gaps,
    pub stamps: Stamps,
    pub frames: u64,
    pub idr: u64,
    pub still: u64,
    pub decoded: u64,
    pub decode_errors: u64,
    /// Complete frames that were not decoded because an earlier one had failed.
    pub skipped: u64,
    pub out_of_order: u64,
    pub capture_to_reassembled: Histogram,
    pub overhead: Histogram,
    pub drawn_to_decoded: Histogram,
    pub reassembled_to_decoded: Histogram,
    pub capture_wait: Histogram,
    pub convert: Histogram,
    pub encode: Histogram,
    pub send: Histogram,
    last: Option<(u32, u32)>,
    /// The frame before, until the rest of its ledger comes with the next one.
    pending: Option<Pending>,
}

struct Pending {
    generation: u32,
    number: u32,
    latency_ns: Option<u64>,
    taken_ns: u32,
    converted_ns: u32,
}

impl Recorder {
    /// Adds a frame in the order of delivery.
    pub fn add(&mut self, frame: &ReceivedFrame, fate: Fate) -> TraceLine {
        self.frames += 1;
        self.idr += u64::from(frame.idr);
        self.still += u64::from(frame.still);
        let place = (frame.generation, frame.number);
        self.out_of_order += u64::from(self.last.is_some_and(|last| place <= last));
        self.last = Some(place);
        self.ledger(frame);

        let mut line = trace_line(frame);
        match fate {
            Fate::NotDecoded => line.good = true,
            Fate::Decoded { decoded_ns, stamp } => {
                self.decoded += 1;
                line.good = true;
                line.decoded_ns = Some(decoded_ns);
                line.stamp = stamp.map(|stamp| stamp.number);
                line.stamp_ns = stamp.map(|stamp| stamp.time_ns);
                self.reassembled_to_decoded.record(decoded_ns.saturating_sub(frame.reassembled_ns));
                self.stamps.picture(frame.generation, line.stamp, frame.still);
                // A repeat shows an old drawing on purpose; its age says nothing about the way it took.
                let drawn_ns = stamp.filter(|_| !frame.still).map(|stamp| stamp.time_ns);
                if let Some(age_ns) = drawn_ns.and_then(|drawn_ns| frame.since_host_ns(drawn_ns, decoded_ns)) {
                    self.drawn_to_decoded.record(age_ns);
                }
            }
            Fate::Failed => self.decode_errors += 1,
            Fate::Skipped => self.skipped += 1,
        }
        if line.good {
            self.gaps.good(frame.reassembled_ns, frame.generation, frame.number);
        }
        line
    }

    /// Latencies of the stages. Repeats of a still desktop are left out: their capture lies as long ago as it is still.
    fn ledger(&mut self, frame: &ReceivedFrame) {
        if let (Some(pending), Some(late)) = (self.pending.take(), frame.previous) {
            self.late(&pending, frame.generation, late);
        }
        if frame.still {
            return;
        }
        let ledger = frame.ledger;
        let latency_ns = frame.latency_ns();
        if let Some(latency_ns) = latency_ns {
            self.capture_to_reassembled.record(latency_ns);
        }
        self.capture_wait.record(ledger.taken_ns.into());
        self.convert.record(ledger.converted_ns.saturating_sub(ledger.taken_ns).into());
        self.pending = Some(Pending {
            generation: frame.generation,
            number: frame.number,
            latency_ns,
            taken_ns: ledger.taken_ns,
            converted_ns: ledger.converted_ns,
        });
    }

    fn late(&mut self, pending: &Pending, generation: u32, late: LateLedger) {
        if (pending.generation, pending.number) != (generation, late.number) {
            return;
        }
        let work_ns = late.last_slice_ns.saturating_sub(pending.taken_ns);
        if let Some(latency_ns) = pending.latency_ns {
            self.overhead.record(latency_ns.saturating_sub(work_ns.into()));
        }
        self.encode.record(late.last_slice_ns.saturating_sub(pending.converted_ns).into());
        self.send.record(late.last_packet_ns.saturating_sub(late.last_slice_ns).into());
    }
}

fn trace_line(frame: &ReceivedFrame) -> TraceLine {
    TraceLine {
        generation: frame.generation,
        number: frame.number,
        captured_ns: frame.ledger.captured_ns,
        reassembled_ns: frame.reassembled_ns,
        decoded_ns: None,
        stamp: None,
        stamp_ns: None,
        offset_ns: frame.clock.map(|clock| clock.offset_ns),
        idr: frame.idr,
        still: frame.still,
        recovered: frame.recovered,
        good: false,
        bytes: frame.data.len(),
    }
}
