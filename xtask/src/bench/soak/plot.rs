//! Private memory of every process over time, as a picture.

use std::fmt::Write as _;

use super::{Sample, names};

/// Of the drawing without its margins, in units of the picture.
const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 400.0;
/// Left of it and below, and half of that above.
const MARGIN: f64 = 60.0;
/// Right of it, for the names.
const NAMES: f64 = 120.0;
const MIB: f64 = 1_048_576.0;
const COLOURS: [&str; 8] = ["#1b6ca8", "#c8553d", "#588157", "#8338ec", "#e09f3e", "#335c67", "#9e2a2b", "#6c757d"];

/// An SVG: a line for each process, mebibytes over seconds.
pub fn memory(samples: &[Sample]) -> String {
    let end = samples.iter().map(|sample| sample.seconds).fold(1.0, f64::max);
    let most = samples.iter().map(mib).fold(1.0, f64::max) * 1.1;
    let at = |seconds: f64, mib: f64| (MARGIN + seconds / end * WIDTH, MARGIN / 2.0 + (1.0 - mib / most) * HEIGHT);
    let (width, height) = (MARGIN + WIDTH + NAMES, 1.5 * MARGIN + HEIGHT);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for quarter in 0..=4 {
        let part = f64::from(quarter) / 4.0;
        let ((left, y), (x, bottom)) = (at(0.0, most * part), at(end * part, 0.0));
        let right = left + WIDTH;
        let _ = writeln!(svg, r##"<line x1="{left}" y1="{y:.1}" x2="{right}" y2="{y:.1}" stroke="#ddd"/>"##);
        label(&mut svg, (left - 8.0, y + 4.0), "end", &format!("{:.0} MiB", most * part));
        label(&mut svg, (x, bottom + 18.0), "middle", &format!("{:.0} s", end * part));
    }
    for (row, (name, colour)) in names(samples).into_iter().zip(COLOURS.iter().cycle()).enumerate() {
        let own = samples.iter().filter(|sample| sample.process == name);
        let points: Vec<String> =
            own.map(|sample| at(sample.seconds, mib(sample))).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let points = points.join(" ");
        let _ = writeln!(svg, r#"<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>"#);
        let (x, y) = (MARGIN + WIDTH + 16.0, MARGIN + 20.0 * row as f64);
        let _ = writeln!(svg, r#"<rect x="{x}" y="{}" width="10" height="10" fill="{colour}"/>"#, y - 9.0);
        label(&mut svg, (x + 16.0, y), "start", name);
    }
    svg.push_str("</svg>\n");
    svg
}

fn mib(sample: &Sample) -> f64 {
    sample.private_bytes as f64 / MIB
}

fn label(svg: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    let _ = writeln!(svg, r##"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" fill="#333">{text}</text>"##);
}
