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

/// What the pixels of a frame say; `time_ns` by the clock of whoever drew them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct TraceStamp {
    pub number: u32,
    pub time_ns: u64,
}

/// One line of the trace: times in nanoseconds, `captured_ns` by the host's clock, the others by ours.
#[derive(Debug, Serialize)]
pub struct TraceLine {
    pub generation: u32,
    pub number: u32,
    pub captured_ns: u64,
    pub reassembled_ns: u64,
    pub decoded_ns: Option<u64>,
    pub stamp: Option<TraceStamp>,
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
                line.stamp = stamp.map(|Stamp { number, time_ns }| TraceStamp { number, time_ns });
                self.reassembled_to_decoded.record(decoded_ns.saturating_sub(frame.reassembled_ns));
                self.stamps.picture(frame.generation, stamp.map(|stamp| stamp.number), frame.still);
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
        offset_ns: frame.clock.map(|clock| clock.offset_ns),
        idr: frame.idr,
        still: frame.still,
        recovered: frame.recovered,
        good: false,
        bytes: frame.data.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{ClockReading, Ledger};

    const MS: u64 = 1_000_000;

    /// Captured at 100 ms by a host clock that is 1000 ms ahead, whole 9 ms later.
    fn frame(generation: u32, number: u32, previous: Option<LateLedger>) -> ReceivedFrame {
        ReceivedFrame {
            generation,
            number,
            idr: number == 0,
            still: false,
            recovered: false,
            ledger: Ledger { captured_ns: 1100 * MS, taken_ns: 1_000_000, converted_ns: 2_000_000 },
            previous,
            reassembled_ns: 109 * MS,
            clock: Some(ClockReading { offset_ns: 1_000_000_000, error_ns: 0 }),
            data: vec![0; 10],
        }
    }

    fn late(number: u32) -> Option<LateLedger> {
        Some(LateLedger { number, last_slice_ns: 6_000_000, last_packet_ns: 6_500_000 })
    }

    #[test]
    fn overhead_belongs_to_the_frame_whose_encoding_it_leaves_out() {
        let mut recorder = Recorder::default();
        recorder.add(&frame(1, 0, None), Fate::NotDecoded);
        assert_eq!((recorder.overhead.count(), recorder.encode.count()), (0, 0), "not known yet");
        recorder.add(&frame(1, 1, late(0)), Fate::NotDecoded);
        assert_eq!((recorder.overhead.max_ns(), recorder.encode.max_ns()), (4 * MS, 4 * MS));
        assert_eq!((recorder.capture_to_reassembled.max_ns(), recorder.send.max_ns()), (9 * MS, MS / 2));
        // Frame 2 was lost, so what frame 4 tells of frame 3 has nothing to go with; nor across a re-wiring.
        recorder.add(&frame(1, 4, late(3)), Fate::NotDecoded);
        recorder.add(&frame(2, 0, None), Fate::NotDecoded);
        recorder.add(&frame(3, 1, late(0)), Fate::NotDecoded);
        assert_eq!((recorder.overhead.count(), recorder.out_of_order), (1, 0));
        recorder.add(&frame(3, 1, None), Fate::NotDecoded);
        assert_eq!(recorder.out_of_order, 1);
    }

    #[test]
    fn a_repeat_of_a_still_desktop_is_a_good_frame_but_no_latency() {
        let mut recorder = Recorder::default();
        let still = ReceivedFrame { still: true, ..frame(1, 0, None) };
        let stamp = Some(Stamp { number: 3, time_ns: 5 });
        let line = recorder.add(&still, Fate::Decoded { decoded_ns: 110 * MS, stamp });
        assert!(line.good && line.stamp == Some(TraceStamp { number: 3, time_ns: 5 }));
        assert_eq!((recorder.still, recorder.decoded, recorder.stamps.counts().read), (1, 1, 1));
        assert_eq!((recorder.capture_to_reassembled.count(), recorder.drawn_to_decoded.count()), (0, 0));
        assert_eq!(recorder.reassembled_to_decoded.max_ns(), MS);
    }

    #[test]
    fn only_good_frames_end_a_gap() {
        let mut recorder = Recorder::default();
        let at = |number, ms| ReceivedFrame { reassembled_ns: ms * MS, ..frame(1, number, None) };
        let decoded = Fate::Decoded { decoded_ns: 0, stamp: None };
        for (number, ms, fate) in
            [(0, 100, decoded), (1, 116, Fate::Failed), (2, 133, Fate::Skipped), (3, 150, decoded)]
        {
            recorder.add(&at(number, ms), fate);
        }
        assert_eq!(recorder.gaps.max_ms(), Some(50.0));
        assert_eq!((recorder.decode_errors, recorder.skipped), (1, 1));
    }

    #[test]
    fn without_a_clock_there_is_no_latency_across_machines() {
        let mut recorder = Recorder::default();
        recorder.add(&ReceivedFrame { clock: None, ..frame(1, 0, None) }, Fate::NotDecoded);
        recorder.add(&frame(1, 1, late(0)), Fate::NotDecoded);
        assert_eq!((recorder.capture_to_reassembled.count(), recorder.overhead.count()), (1, 0));
        assert_eq!(recorder.encode.count(), 1, "the host's own stages need no common clock");
    }
}
