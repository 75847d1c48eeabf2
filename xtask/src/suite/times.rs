//! Where the time of a suite went.

use std::time::Instant;

use anyhow::Result;

use super::step;
use crate::table;

/// How long each part took, in seconds. Printed when it is dropped, so that a suite which fails tells it too.
#[derive(Default)]
pub struct Times(Vec<(String, u64)>);

impl Times {
    /// Does one part, and keeps how long it took.
    pub fn step(&mut self, name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let start = Instant::now();
        let done = step(name, work);
        self.0.push((name.to_owned(), start.elapsed().as_secs()));
        done
    }
}

impl Drop for Times {
    fn drop(&mut self) {
        let all = ("all".to_owned(), self.0.iter().map(|(_, seconds)| seconds).sum());
        let rows: Vec<_> = self.0.iter().chain([&all]).map(|(name, s)| vec![name.clone(), s.to_string()]).collect();
        table::print(&["part", "seconds"], &rows);
    }
}
