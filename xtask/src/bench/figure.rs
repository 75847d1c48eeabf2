//! Measured values beside the numbers they are held against.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::{Value, json};

use crate::table;

/// What a value is held against.
#[derive(Clone, Copy)]
pub enum Target {
    AtMost(f64),
    AtLeast(f64),
    /// Reported for scale.
    None,
}

struct Figure {
    case: String,
    metric: &'static str,
    value: f64,
    unit: &'static str,
    target: Target,
}

#[derive(Default)]
pub struct Figures(Vec<Figure>);

impl Figures {
    /// Adds the median of several runs.
    pub fn median(&mut self, case: &str, metric: &'static str, runs: &[f64], unit: &'static str, target: Target) {
        let mut sorted = runs.to_vec();
        sorted.sort_by(f64::total_cmp);
        let value = sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN);
        self.0.push(Figure { case: case.to_string(), metric, value, unit, target });
    }

    /// Adds a value without a target.
    pub fn note(&mut self, case: &str, metric: &'static str, value: f64, unit: &'static str) {
        self.median(case, metric, &[value], unit, Target::None);
    }

    pub fn print(&self) {
        let rows: Vec<Vec<String>> = self.0.iter().map(Figure::row).collect();
        table::print(&["case", "metric", "value", "unit", "target", ""], &rows);
    }

    /// The tables of docs/benchmarks.md, one a case.
    pub fn to_markdown(&self) -> String {
        let mut text = String::new();
        let mut case = "";
        for figure in &self.0 {
            if figure.case != case {
                case = &figure.case;
                let _ = write!(text, "\n### {case}\n\n| figure | measured | target | |\n|---|---:|---:|---|\n");
            }
            let _ = writeln!(text, "{}", figure.line());
        }
        text
    }

    /// A flat list, one entry a figure.
    pub fn to_json(&self) -> Result<String> {
        let list: Vec<Value> = self.0.iter().map(Figure::to_json).collect();
        Ok(serde_json::to_string_pretty(&list)?)
    }
}

impl Figure {
    /// None where there is no target.
    fn ok(&self) -> Option<bool> {
        match self.target {
            Target::AtMost(limit) => Some(self.value <= limit),
            Target::AtLeast(limit) => Some(self.value >= limit),
            Target::None => None,
        }
    }

    const fn limit(&self) -> Option<f64> {
        match self.target {
            Target::AtMost(limit) | Target::AtLeast(limit) => Some(limit),
            Target::None => None,
        }
    }

    fn row(&self) -> Vec<String> {
        let target = match self.target {
            Target::AtMost(limit) => format!("≤ {limit:.2}"),
            Target::AtLeast(limit) => format!("≥ {limit:.2}"),
            Target::None => String::new(),
        };
        let verdict = self.ok().map_or("", |ok| if ok { "ok" } else { "MISSED" });
        vec![
            self.case.clone(),
            self.metric.to_string(),
            format!("{:.2}", self.value),
            self.unit.to_string(),
            target,
            verdict.to_string(),
        ]
    }

    fn line(&self) -> String {
        let target = match self.target {
            Target::AtMost(limit) => format!("≤ {limit}"),
            Target::AtLeast(limit) => format!("≥ {limit}"),
            Target::None => String::new(),
        };
        let verdict = self.ok().map_or("", |ok| if ok { "met" } else { "**missed**" });
        format!("| {} | {:.2} {} | {target} | {verdict} |", self.metric, self.value, self.unit)
    }

    fn to_json(&self) -> Value {
        json!({
            "case": self.case, "metric": self.metric, "value": self.value, "unit": self.unit,
            "target": self.limit(), "ok": self.ok(),
        })
    }
}
