//! One force-feedback effect: what a reader of the pad has uploaded, and how strong it is at a time.
//!
//! Rumble, periodic and constant effects, their length, delay, repetitions and envelope, as the kernel's own
//! emulation for rumble pads has them (drivers/input/ff-memless.c). A rumble pad has no waveform: period, phase and
//! offset of a periodic effect say nothing to it, its magnitude drives both motors; a constant force drives the large
//! one. The direction of an effect is not looked at.

use crate::state::EFFECT_BYTES;
use crate::uinput::codes::{FF_CONSTANT, FF_PERIODIC, FF_RUMBLE};

/// How finely an envelope's slope is followed, as in ff-memless.c.
const SLOPE_NS: u64 = 50_000_000;
const MS: u64 = 1_000_000;
/// The top of an effect's level; ff-memless.c scales it to the motors' 0xFFFF.
const LEVEL_MAX: u32 = 0x7FFF;

/// Strength of the two motors, 0 to 65535.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Motors {
    /// The large, slow one.
    pub low: u16,
    /// The small, fast one.
    pub high: u16,
}

impl Motors {
    pub const STILL: Self = Self { low: 0, high: 0 };

    /// Both effects at once, as far as the motors go.
    pub fn with(self, other: Self) -> Self {
        Self { low: self.low.saturating_add(other.low), high: self.high.saturating_add(other.high) }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Force {
    Rumble {
        strong: u16,
        weak: u16,
    },
    /// The magnitude without its sign, 0 to 32768.
    Periodic {
        level: u16,
    },
    Constant {
        level: u16,
    },
}

/// Times in milliseconds, levels 0 to 32767.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Envelope {
    attack_ms: u16,
    attack_level: u16,
    fade_ms: u16,
    fade_level: u16,
}

/// An effect as uploaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Effect {
    force: Force,
    /// 0: until stopped.
    length_ms: u16,
    delay_ms: u16,
    envelope: Envelope,
}

/// An effect and whether it plays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot {
    pub effect: Effect,
    /// Times to play; 0: it is stopped.
    pub count: u32,
    /// When it was started, CLOCK_MONOTONIC.
    pub started_ns: u64,
}

impl Effect {
    /// Reads `struct ff_effect`; `None` of a type that the pad does not have.
    pub fn parse(raw: &libc::ff_effect) -> Option<Self> {
        let mut union = [0; 32];
        for (bytes, word) in union.chunks_exact_mut(8).zip(raw.u) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        let at = |index: usize| u16::from_ne_bytes([union[index], union[index + 1]]);
        let level = |index: usize| (at(index) as i16).unsigned_abs();
        let envelope = |index: usize| Envelope {
            attack_ms: at(index),
            attack_level: at(index + 2),
            fade_ms: at(index + 4),
            fade_level: at(index + 6),
        };
        // Offsets of the members of `ff_rumble_effect`, `ff_periodic_effect` and `ff_constant_effect`.
        let (force, envelope) = match raw.type_ {
            FF_RUMBLE => (Force::Rumble { strong: at(0), weak: at(2) }, Envelope::default()),
            FF_PERIODIC => (Force::Periodic { level: level(4) }, envelope(10)),
            FF_CONSTANT => (Force::Constant { level: level(0) }, envelope(2)),
            _ => return None,
        };
        Some(Self { force, length_ms: raw.replay.length, delay_ms: raw.replay.delay, envelope })
    }

    /// The motors when the effect is in its `playing_ms`-th millisecond.
    fn motors(&self, playing_ms: u64) -> Motors {
        match self.force {
            Force::Rumble { strong, weak } => Motors { low: strong, high: weak },
            Force::Periodic { level } => {
                let strength = self.strength(level, playing_ms);
                Motors { low: strength, high: strength }
            }
            Force::Constant { level } => Motors { low: self.strength(level, playing_ms), high: 0 },
        }
    }

    /// A level under its envelope, scaled to a motor's range.
    fn strength(&self, level: u16, playing_ms: u64) -> u16 {
        let Envelope { attack_ms, attack_level, fade_ms, fade_level } = self.envelope;
        let left_ms = u64::from(self.length_ms).saturating_sub(playing_ms);
        let level = if playing_ms < u64::from(attack_ms) {
            between(attack_level, level, playing_ms, attack_ms)
        } else if self.length_ms != 0 && left_ms < u64::from(fade_ms) {
            between(fade_level, level, left_ms, fade_ms)
        } else {
            level.into()
        };
        (level.min(LEVEL_MAX) * 0xFFFF / LEVEL_MAX) as u16
    }

    /// True while the envelope changes the strength.
    fn slopes(&self, playing_ms: u64) -> bool {
        let left_ms = u64::from(self.length_ms).saturating_sub(playing_ms);
        !matches!(self.force, Force::Rumble { .. })
            && (playing_ms < self.envelope.attack_ms.into()
                || (self.length_ms != 0 && left_ms <= self.envelope.fade_ms.into()))
    }

    /// When the envelope's fade begins, in milliseconds of playing.
    fn fades_at(&self) -> Option<u64> {
        let fade = self.length_ms != 0 && self.envelope.fade_ms != 0 && !matches!(self.force, Force::Rumble { .. });
        fade.then(|| u64::from(self.length_ms.saturating_sub(self.envelope.fade_ms)))
    }
}

/// The line from `edge` at 0 to `level` at `whole`.
fn between(edge: u16, level: u16, at: u64, whole: u16) -> u32 {
    let (edge, level, whole) = (i64::from(edge.min(LEVEL_MAX as u16)), i64::from(level), i64::from(whole.max(1)));
    let at = (at as i64).min(whole);
    (edge + (level - edge) * at / whole).max(0) as u32
}

impl Slot {
    pub fn stopped(effect: Effect) -> Self {
        Self { effect, count: 0, started_ns: 0 }
    }

    /// What the motors do at a time, and when that changes next by itself.
    pub fn at(&self, now_ns: u64) -> (Motors, Option<u64>) {
        let Effect { length_ms, delay_ms, .. } = self.effect;
        let (length, delay) = (u64::from(length_ms), u64::from(delay_ms));
        if self.count == 0 {
            return (Motors::STILL, None);
        }
        let elapsed = now_ns.saturating_sub(self.started_ns) / MS;
        // An effect without end has no repetitions.
        let (turn, within) = match (length + delay, length) {
            (_, 0) => (0, elapsed),
            (cycle, _) => (elapsed / cycle, elapsed % cycle),
        };
        if turn >= self.count.into() {
            return (Motors::STILL, None);
        }
        let begin_ms = turn * (length + delay);
        let time = |ms: u64| self.started_ns.saturating_add((begin_ms + ms) * MS);
        if within < delay {
            return (Motors::STILL, Some(time(delay)));
        }
        let playing = within - delay;
        let end = (length != 0).then(|| time(delay + length));
        let slope = self.effect.slopes(playing).then(|| now_ns.saturating_add(SLOPE_NS));
        let fade = self.effect.fades_at().filter(|&at| at > playing).map(|at| time(delay + at));
        (self.effect.motors(playing), [end, slope, fade].into_iter().flatten().min())
    }

    /// The record in the kept memory: 0 u8 1, 1 u8 kind, then little-endian u16s: length, delay, two levels, the
    /// envelope's four; at 24 u32 count, at 32 u64 started.
    pub fn encode(&self) -> [u8; EFFECT_BYTES] {
        let (kind, first, second) = match self.effect.force {
            Force::Rumble { strong, weak } => (1, strong, weak),
            Force::Periodic { level } => (2, level, 0),
            Force::Constant { level } => (3, level, 0),
        };
        let Effect { length_ms, delay_ms, envelope, .. } = self.effect;
        let words = [
            length_ms,
            delay_ms,
            first,
            second,
            envelope.attack_ms,
            envelope.attack_level,
            envelope.fade_ms,
            envelope.fade_level,
        ];
        let mut record = [0; EFFECT_BYTES];
        record[..2].copy_from_slice(&[1, kind]);
        for (bytes, word) in record[2..].chunks_exact_mut(2).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        record[24..28].copy_from_slice(&self.count.to_le_bytes());
        record[32..40].copy_from_slice(&self.started_ns.to_le_bytes());
        record
    }

    /// `None` where nothing, or nothing that makes sense, was kept.
    pub fn decode(record: &[u8; EFFECT_BYTES]) -> Option<Self> {
        let word = |index: usize| u16::from_le_bytes([record[2 + 2 * index], record[3 + 2 * index]]);
        let force = match record[..2] {
            [1, 1] => Force::Rumble { strong: word(2), weak: word(3) },
            [1, 2] => Force::Periodic { level: word(2) },
            [1, 3] => Force::Constant { level: word(2) },
            _ => return None,
        };
        let envelope = Envelope { attack_ms: word(4), attack_level: word(5), fade_ms: word(6), fade_level: word(7) };
        Some(Self {
            effect: Effect { force, length_ms: word(0), delay_ms: word(1), envelope },
            count: u32::from_le_bytes(record[24..28].try_into().ok()?),
            started_ns: u64::from_le_bytes(record[32..40].try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(kind: u16, length: u16, delay: u16, union: [u16; 16]) -> libc::ff_effect {
        let mut words = [0; 4];
        for (word, four) in words.iter_mut().zip(union.chunks_exact(4)) {
            let mut bytes = [0; 8];
            for (to, from) in bytes.chunks_exact_mut(2).zip(four) {
                to.copy_from_slice(&from.to_ne_bytes());
            }
            *word = u64::from_ne_bytes(bytes);
        }
        libc::ff_effect {
            type_: kind,
            id: 0,
            direction: 0,
            trigger: libc::ff_trigger { button: 0, interval: 0 },
            replay: libc::ff_replay { length, delay },
            u: words,
        }
    }

    fn playing(raw: &libc::ff_effect, count: u32) -> Slot {
        Slot { effect: Effect::parse(raw).unwrap(), count, started_ns: 1000 * MS }
    }

    fn rumble(length: u16, delay: u16) -> libc::ff_effect {
        let mut union = [0; 16];
        (union[0], union[1]) = (0xC000, 0x4000);
        raw(FF_RUMBLE, length, delay, union)
    }

    const ON: Motors = Motors { low: 0xC000, high: 0x4000 };

    #[test]
    fn length_delay_and_repetitions() {
        let slot = playing(&rumble(100, 20), 2);
        assert_eq!(slot.at(1000 * MS), (Motors::STILL, Some(1020 * MS)));
        assert_eq!(slot.at(1020 * MS), (ON, Some(1120 * MS)));
        assert_eq!(slot.at(1119 * MS), (ON, Some(1120 * MS)));
        assert_eq!(slot.at(1120 * MS), (Motors::STILL, Some(1140 * MS)));
        assert_eq!(slot.at(1140 * MS), (ON, Some(1240 * MS)));
        assert_eq!(slot.at(1240 * MS), (Motors::STILL, None));
        let endless = playing(&rumble(0, 0), 1);
        assert_eq!(endless.at(u64::MAX), (ON, None));
        assert_eq!(Slot { count: 0, ..endless }.at(2000 * MS), (Motors::STILL, None));
        // A clock that went back, which an heir's kept record may look like.
        assert_eq!(endless.at(0), (ON, None));
    }

    #[test]
    fn an_envelope_rises_and_falls_in_lines() {
        let mut union = [0; 16];
        // Level, then attack 100 ms from 0, fade 200 ms to 0.
        union[..5].copy_from_slice(&[0x7FFF, 100, 0, 200, 0]);
        let slot = playing(&raw(FF_CONSTANT, 1000, 0, union), 1);
        let low = |ms: u64| slot.at((1000 + ms) * MS).0.low;
        assert_eq!((low(0), low(50), low(100), low(799)), (0, 0x7FFE, 0xFFFF, 0xFFFF));
        assert!((0x7F00..0x8100).contains(&low(900)) && low(999) < 0x200, "{} {}", low(900), low(999));
        assert_eq!(slot.at(1000 * MS).1, Some(1050 * MS));
        assert_eq!(slot.at(1500 * MS).1, Some(1800 * MS));
        assert_eq!(slot.at(1990 * MS).1, Some(2000 * MS));
        assert_eq!(slot.at(1500 * MS).0.high, 0);
    }

    #[test]
    fn a_periodic_effect_drives_both_motors_by_its_size_whatever_its_sign() {
        for magnitude in [0x4000_i16, -0x4000, i16::MIN, i16::MAX] {
            let mut union = [0; 16];
            union[..3].copy_from_slice(&[0x5a, 10, magnitude as u16]);
            let motors = playing(&raw(FF_PERIODIC, 0, 0, union), 1).at(2000 * MS).0;
            let expected = (u32::from(magnitude.unsigned_abs()).min(0x7FFF) * 0xFFFF / 0x7FFF) as u16;
            assert_eq!(motors, Motors { low: expected, high: expected });
        }
    }

    #[test]
    fn a_record_reads_back_and_others_are_nothing() {
        let mut union = [0; 16];
        union[..9].copy_from_slice(&[0x5a, 10, 0x1234, 1, 2, 3, 4, 5, 6]);
        for raw in [rumble(100, 20), raw(FF_PERIODIC, 1, 2, union), raw(FF_CONSTANT, 0, 9, union)] {
            let slot = playing(&raw, 7);
            assert_eq!(Slot::decode(&slot.encode()), Some(slot));
            for (at, value) in [(0, 0), (0, 2), (1, 0), (1, 4)] {
                let mut record = slot.encode();
                record[at] = value;
                assert_eq!(Slot::decode(&record), None);
            }
        }
        assert_eq!(Effect::parse(&raw(0x54, 0, 0, union)), None);
    }
}
