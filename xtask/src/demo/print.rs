//! What a person sees of the demo.

use serde_json::Value;

use crate::table;

/// The session in a few lines and where its time went.
pub fn all(report: &Value, status: &Value) {
    let session = &status["sessions"][0];
    println!();
    picture(report, session);
    sound(&report["audio"], &session["audio"]);
    hands(&report["input"], &session["input"]);
    println!("rumble   {} received", report["rumble"]["received"]);
    println!();
    latencies(report, session);
    println!();
}

fn picture(report: &Value, session: &Value) {
    let (frames, packets) = (&report["frames"], &report["packets"]);
    println!(
        "picture  {} {} by {}: {} frames decoded of {} received, {} lost, {} errors, {} packets lost, longest gap {:.1} ms",
        word(&session["protocol"]),
        word(&report["codec"]),
        word(&session["encoder"]),
        frames["decoded"],
        frames["received"],
        frames["lost"],
        frames["decode_errors"],
        packets["lost"],
        report["gaps_ms"]["max"].as_f64().unwrap_or(0.0),
    );
}

fn sound(audio: &Value, branch: &Value) {
    if audio.is_null() {
        return println!("sound    none");
    }
    let tone = audio["tone_hz"].as_f64().map_or_else(|| "silence".into(), |hz| format!("{hz:.1} Hz"));
    let jitter = |key: &str| audio["jitter_ms"][key].as_f64().map_or_else(|| "–".into(), |ms| format!("{ms:.2}"));
    println!(
        "sound    {tone}: {} packets, {} lost, {} late, {} decode errors; jitter {} ms p50, {} ms p99",
        audio["received"],
        audio["lost"],
        audio["late"],
        audio["decode_errors"],
        jitter("p50"),
        jitter("p99"),
    );
    if let Some(obstacle) = branch["obstacle"].as_str() {
        println!("         {obstacle}");
    }
}

fn hands(input: &Value, branch: &Value) {
    let (sent, acknowledged) = (&input["sent"], &input["acknowledged"]);
    println!(
        "input    {sent} events sent, {acknowledged} acknowledged; pointer and keys by {}, touch {}, pads {}",
        word(&branch["hands"]),
        word(&branch["touch"]),
        word(&branch["pads"]),
    );
    if input["seen"].is_null() {
        return println!("         the synthetic desktop has no window that could see them");
    }
    println!(
        "         the window saw {} of {} that it can see (pads are none of them), {} twice",
        input["seen"], input["visible"], input["duplicated"],
    );
    if input["missed"].as_array().is_some_and(|missed| !missed.is_empty()) {
        println!("         it did not see number {}", input["missed"]);
    }
    if let Some(obstacle) = branch["obstacle"].as_str() {
        println!("         {obstacle}");
    }
}

fn latencies(report: &Value, session: &Value) {
    let host = &session["latency_us"];
    let seen = &report["latency_us"];
    let rows = [
        ("captured → taken by encode", &host["capture_wait"]),
        ("converted to I420", &host["convert"]),
        ("encoded", &host["encode"]),
        ("protected and sent", &host["send"]),
        ("captured → last packet sent", &host["total"]),
        ("captured → reassembled by the client", &seen["capture_to_reassembled"]),
        ("drawn by the application → decoded", &seen["drawn_to_decoded"]),
        ("sound captured → decoded", &report["audio"]["capture_to_decoded_us"]),
        ("input sent → seen by the window", &report["input"]["latency_us"]),
    ];
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|(stage, quantiles)| {
            let mut row = vec![(*stage).to_string()];
            row.extend(["p50", "p95", "p99"].map(|key| milliseconds(&quantiles[key])));
            row
        })
        .collect();
    table::print(&["stage, ms", "p50", "p95", "p99"], &rows);
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("none")
}

/// Microseconds as milliseconds, or a dash where there is no such figure.
fn milliseconds(microseconds: &Value) -> String {
    microseconds.as_f64().map_or_else(|| "–".into(), |value| format!("{:.2}", value / 1000.0))
}
