//! A session's sound and hands in its status.

use std::fmt::Write as _;

use ipc::{HandsBackend, PadsBackend, TouchBackend};
use lumen_core::{AudioLayout, Permissions};
use serde_json::{Value, json};

use crate::book::Book;
use crate::clients;
use crate::machine::{Branch, Demand, Stage};

const fn state(branch: &Branch) -> &'static str {
    match branch.stage {
        Stage::Wired => "running",
        Stage::Wiring | Stage::Moving => "wiring",
        Stage::New | Stage::Kept => "waiting",
    }
}

pub const fn hands(backend: HandsBackend) -> &'static str {
    match backend {
        HandsBackend::None => "none",
        HandsBackend::Wlroots => "wlroots",
        HandsBackend::Uinput => "uinput",
    }
}

const fn touch(backend: TouchBackend) -> &'static str {
    match backend {
        TouchBackend::None => "none",
        TouchBackend::Native => "native",
        TouchBackend::Emulated => "emulated",
    }
}

const fn pads(backend: PadsBackend) -> &'static str {
    match backend {
        PadsBackend::None => "none",
        PadsBackend::Uinput => "uinput",
    }
}

const fn layout(layout: AudioLayout) -> &'static str {
    match layout {
        AudioLayout::Stereo => "stereo",
        AudioLayout::Surround51 => "5.1",
        AudioLayout::Surround71 => "7.1",
    }
}

/// Counters are since the session began.
pub fn audio(branch: &Branch, book: &Book) -> Value {
    let told = match branch.demand {
        Demand::Sound { layout, own_sink, .. } => Some((layout, own_sink)),
        Demand::Hands => None,
    };
    let (stats, net) = (book.audio(), book.net());
    let source = book.sound.as_ref().filter(|_| branch.stage == Stage::Wired);
    json!({
        "state": state(branch),
        "obstacle": branch.obstacle,
        "generation": branch.generation.0,
        "layout": told.map(|(told, _)| layout(told)),
        "bitrate_kbps": told.map(|(told, _)| told.bitrate_kbps()),
        "own_sink": told.map(|(_, own_sink)| own_sink),
        "backend": source.map(|source| source.backend.as_str()),
        "sink": source.map(|source| source.sink.as_str()),
        "packets": stats.packets,
        "silent": stats.silent,
        "dropped": stats.dropped,
        "overruns": stats.overruns,
        "quantum": stats.quantum,
        "wait_us": stats.wait_us,
        "sent": net.audio_packets,
        "unsent": net.audio_dropped,
    })
}

/// Counters are since the session began.
pub fn input(branch: &Branch, book: &Book, permissions: Permissions, devices: impl Iterator<Item = String>) -> Value {
    let (stats, net) = (book.input(), book.net());
    let backends = book.hands.filter(|_| branch.stage == Stage::Wired);
    json!({
        "state": state(branch),
        "obstacle": branch.obstacle,
        "generation": branch.generation.0,
        "hands": backends.map(|backends| hands(backends.hands)),
        "touch": backends.map(|backends| touch(backends.touch)),
        "pads": backends.map(|backends| pads(backends.pads)),
        "permissions": clients::names(permissions).collect::<Vec<_>>(),
        "devices": devices.collect::<Vec<_>>(),
        "events": stats.events,
        "forbidden": stats.forbidden,
        "unsupported": stats.unsupported,
        "healed": stats.healed,
        "plugged_in": stats.pads,
        "rumbles": stats.rumbles,
        "wait_us": { "p50": stats.wait_p50_us, "p99": stats.wait_p99_us },
        "received": net.input_events,
        "rejected": net.input_rejected,
        "coalesced": net.input_coalesced,
        "rumbles_sent": net.rumbles,
    })
}

/// A line for each branch that the session has, from its JSON.
pub fn lines(session: &Value, out: &mut String) {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    // What is waited for, or what is in use.
    let how = |branch: &Value, use_: String| match (branch["state"].as_str(), branch["obstacle"].as_str()) {
        (Some("running"), _) => use_,
        (_, Some(obstacle)) => format!("waiting: {obstacle}"),
        _ => "waiting".into(),
    };
    let audio = &session["audio"];
    if audio.is_object() {
        let _ = writeln!(
            out,
            "  audio: {} {}; {} packets sent, {} unsent, {} silent",
            text(&audio["layout"]),
            how(audio, format!("of {} by {}", text(&audio["sink"]), text(&audio["backend"]))),
            audio["sent"],
            audio["unsent"],
            audio["silent"],
        );
    }
    let input = &session["input"];
    if input.is_object() {
        let (hands, touch, pads) = (text(&input["hands"]), text(&input["touch"]), text(&input["pads"]));
        let permissions: Vec<_> = input["permissions"].as_array().into_iter().flatten().map(text).collect();
        let _ = writeln!(
            out,
            "  input: {}; may use {}; {} events, {} forbidden, {} unsupported, {} pads",
            how(input, format!("{hands}, touch {touch}, pads {pads}")),
            if permissions.is_empty() { "nothing".into() } else { permissions.join(", ") },
            input["events"],
            input["forbidden"],
            input["unsupported"],
            input["plugged_in"],
        );
    }
}

#[cfg(test)]
mod tests {
    use ipc::{Generation, InputBackends, InputStats};

    use super::*;
    use lumen_core::audio::PacketTime;

    use crate::book::SoundSource;

    #[test]
    fn what_a_branch_works_with_is_told_while_it_works() {
        let mut book = Book::default();
        book.sound = Some(SoundSource { backend: "pipewire 1.2.3".into(), sink: "Lumen".into() });
        book.hands = Some(InputBackends {
            hands: HandsBackend::Wlroots,
            touch: TouchBackend::Emulated,
            pads: PadsBackend::None,
        });
        book.input_reports(Generation(1), InputStats { events: 7, forbidden: 2, ..InputStats::default() });
        let demand = Demand::Sound { layout: AudioLayout::Surround51, packet: PacketTime::Five, own_sink: true };
        let mut sound = Branch::new(demand, 0);
        let mut hands = Branch::new(Demand::Hands, 0);
        sound.obstacle = Some("no PipeWire answers".into());

        let status = |sound: &Branch, hands: &Branch| {
            let devices = ["pad 0".to_owned()].into_iter();
            let session = json!({
                "audio": audio(sound, &book),
                "input": input(hands, &book, Permissions::POINTER, devices),
            });
            let mut table = String::new();
            lines(&session, &mut table);
            (session, table)
        };
        let (json, table) = status(&sound, &hands);
        assert_eq!((&json["audio"]["sink"], &json["audio"]["state"]), (&Value::Null, &json!("waiting")));
        assert_eq!(json["input"]["hands"], Value::Null, "of a plane that is no more");
        assert!(table.contains("5.1 waiting: no PipeWire answers"), "{table}");

        (sound.stage, sound.obstacle, hands.stage) = (Stage::Wired, None, Stage::Wired);
        let (json, table) = status(&sound, &hands);
        assert_eq!(json["input"]["touch"], "emulated");
        assert_eq!(
            (&json["input"]["permissions"], &json["input"]["devices"]),
            (&json!(["pointer"]), &json!(["pad 0"]))
        );
        assert!(table.contains("audio: 5.1 of Lumen by pipewire 1.2.3;"), "{table}");
        assert!(
            table.contains("input: wlroots, touch emulated, pads none; may use pointer; 7 events, 2 forbidden"),
            "{table}"
        );
    }
}
