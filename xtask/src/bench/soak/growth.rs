//! What each process had in the first minute and in the last.

use serde_json::{Value, json};

use super::{Sample, names};
use crate::table;

/// The stretches that are compared, in seconds; of a short run a quarter each.
const STRETCH: f64 = 60.0;
/// What private memory may grow by: an allocator keeps up to about so much more or less from one minute to another.
pub const FLAT_BYTES: u64 = 1 << 20;

/// The most that one process had in a stretch.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Most {
    private_bytes: u64,
    fds: usize,
    threads: usize,
}

/// A process over the whole time.
pub struct Growth {
    process: String,
    /// Times that another process took its place.
    replaced: usize,
    first: Most,
    last: Most,
}

/// One for each process, in the order in which they were first seen.
pub fn of(samples: &[Sample]) -> Vec<Growth> {
    let end = samples.last().map_or(0.0, |sample| sample.seconds);
    let stretch = STRETCH.min(end / 4.0);
    let growth = |name: &str| {
        let own: Vec<&Sample> = samples.iter().filter(|sample| sample.process == name).collect();
        let replaced = own.windows(2).filter(|pair| pair[0].pid != pair[1].pid).count();
        let first = most(own.iter().filter(|sample| sample.seconds <= stretch));
        let last = most(own.iter().filter(|sample| sample.seconds >= end - stretch));
        Growth { process: name.to_owned(), replaced, first, last }
    };
    names(samples).into_iter().map(growth).collect()
}

fn most<'a>(samples: impl Iterator<Item = &'a &'a Sample>) -> Most {
    samples.fold(Most::default(), |most, sample| Most {
        private_bytes: most.private_bytes.max(sample.private_bytes),
        fds: most.fds.max(sample.fds),
        threads: most.threads.max(sample.threads),
    })
}

impl Growth {
    /// The same process from the first minute to the last, with no more than it had.
    pub fn is_flat(&self) -> bool {
        self.replaced == 0
            && self.last.private_bytes <= self.first.private_bytes + FLAT_BYTES
            && self.last.fds <= self.first.fds
            && self.last.threads <= self.first.threads
    }

    fn row(&self) -> Vec<String> {
        let mib = |bytes: u64| format!("{:.2}", bytes as f64 / (1 << 20) as f64);
        let kib = (self.last.private_bytes as f64 - self.first.private_bytes as f64) / 1024.0;
        vec![
            self.process.clone(),
            mib(self.first.private_bytes),
            mib(self.last.private_bytes),
            format!("{kib:+.0}"),
            format!("{} → {}", self.first.fds, self.last.fds),
            format!("{} → {}", self.first.threads, self.last.threads),
            self.replaced.to_string(),
            if self.is_flat() { "flat" } else { "GROWN" }.to_owned(),
        ]
    }

    pub fn json(&self) -> Value {
        let most =
            |most: &Most| json!({ "private_bytes": most.private_bytes, "fds": most.fds, "threads": most.threads });
        json!({
            "process": self.process, "first": most(&self.first), "last": most(&self.last),
            "replaced": self.replaced, "flat": self.is_flat(),
        })
    }
}

const HEADER: [&str; 8] = ["process", "MiB first", "MiB last", "KiB more", "fds", "threads", "replaced", ""];

/// The table of docs/benchmarks.md.
pub fn markdown(growths: &[Growth]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(&HEADER.map(str::to_owned)) + "|---|" + &"---:|".repeat(HEADER.len() - 2) + "---|\n";
    text.extend(growths.iter().map(|growth| line(&growth.row())));
    text
}

/// The table, and below it what the client counted.
pub fn print(growths: &[Growth], report: &Value) {
    println!();
    let rows: Vec<Vec<String>> = growths.iter().map(Growth::row).collect();
    table::print(&HEADER, &rows);
    println!();
    let (frames, audio, input) = (&report["frames"], &report["audio"], &report["input"]);
    println!("picture  {} decoded, {} lost, {} errors", frames["decoded"], frames["lost"], frames["decode_errors"]);
    println!("sound    {} packets, {} lost, {} late", audio["received"], audio["lost"], audio["late"]);
    println!("input    {} events sent, {} acknowledged", input["sent"], input["acknowledged"]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 200 samples, one a second, of a process that has `private` KiB and `fds` at each.
    fn samples(private: impl Fn(u64) -> u64, fds: impl Fn(u64) -> usize, pid: impl Fn(u64) -> i32) -> Vec<Sample> {
        let sample = |second: u64| Sample {
            seconds: second as f64,
            process: "net".into(),
            pid: pid(second),
            private_bytes: private(second) * 1024,
            fds: fds(second),
            threads: 2,
        };
        (0..200).map(sample).collect()
    }

    fn is_flat(samples: &[Sample]) -> bool {
        let growths = of(samples);
        assert_eq!(growths.len(), 1);
        growths[0].is_flat()
    }

    #[test]
    fn what_breathes_is_flat() {
        assert!(is_flat(&samples(|second| 9000 + 700 * (second % 2), |second| 9 + (second % 3) as usize, |_| 7)));
        assert!(is_flat(&samples(|second| 9000 + (second.min(20)) * 300, |_| 9, |_| 7)), "it filled up at first");
    }

    #[test]
    fn what_grows_is_not() {
        assert!(!is_flat(&samples(|second| 9000 + second * 20, |_| 9, |_| 7)), "20 KiB a second");
        assert!(!is_flat(&samples(|_| 9000, |second| 9 + second as usize / 150, |_| 7)), "one descriptor");
        assert!(!is_flat(&samples(|_| 9000, |_| 9, |second| if second < 100 { 7 } else { 8 })), "another process");
    }
}
