//! Force feedback of one pad: its effects mixed to two motors, and when to tell them.

pub mod effect;

use ipc::Generation;
use ipc::ring::{ChunkFlags, ChunkHeader, RingProducer};
use ipc::shm::Violation;
use lumen_core::input::{PadIndex, Rumble};

use self::effect::{Effect, Motors, Slot};
use crate::state::{MAX_EFFECTS, PadsState};

/// A motor's state is told again after this long: the datagram that carries it may be lost.
const AGAIN_NS: u64 = 500_000_000;
/// How often stillness is told before the pad falls silent.
const STILL_TELLS: u8 = 4;
/// Motors change no faster than this, however a game plays its effects: 200 datagrams a second at most.
const QUICKEST_NS: u64 = 5_000_000;
/// Gain before a reader of the pad has told one.
const FULL_GAIN: u16 = u16::MAX;

/// The effects of one pad, and what was last told of them. Every change is noted in the kept state.
#[derive(Debug)]
pub struct Effects {
    pad: PadIndex,
    slots: [Option<Slot>; MAX_EFFECTS],
    gain: u16,
    /// Set by everything that may have changed the motors.
    due: Option<u64>,
    told: Motors,
    again: Option<u64>,
    stills: u8,
    /// No change is told before this.
    calm_until: u64,
}

impl Effects {
    /// Of a new pad: whatever was kept under its number is another's.
    pub fn fresh(pad: PadIndex, state: &mut PadsState) -> Self {
        state.clear(pad);
        Self::inherited(pad, state, 0)
    }

    /// Of a pad that a plane before this one has made. What played then still plays.
    pub fn inherited(pad: PadIndex, state: &PadsState, now_ns: u64) -> Self {
        let slots = std::array::from_fn(|effect| Slot::decode(&state.effect(pad, effect)));
        let gain = state.gain(pad).unwrap_or(FULL_GAIN);
        let due = slots.iter().flatten().any(|slot| slot.count != 0).then_some(now_ns);
        Self { pad, slots, gain, due, told: Motors::STILL, again: None, stills: 0, calm_until: 0 }
    }

    /// Stores an effect; an upload over one that plays starts it anew. False if it cannot be stored.
    pub fn upload(&mut self, raw: &libc::ff_effect, state: &mut PadsState, now_ns: u64) -> bool {
        let (Ok(index), Some(effect)) = (usize::try_from(raw.id), Effect::parse(raw)) else { return false };
        let Some(entry) = self.slots.get_mut(index) else { return false };
        let slot = match *entry {
            Some(old) if old.count != 0 => Slot { effect, started_ns: now_ns, ..old },
            _ => Slot::stopped(effect),
        };
        *entry = Some(slot);
        state.set_effect(self.pad, index, &slot.encode());
        self.due = Some(now_ns);
        true
    }

    pub fn erase(&mut self, index: usize, state: &mut PadsState, now_ns: u64) {
        if let Some(entry) = self.slots.get_mut(index) {
            *entry = None;
            state.set_effect(self.pad, index, &[0; crate::state::EFFECT_BYTES]);
            self.due = Some(now_ns);
        }
    }

    /// Plays an effect so many times; 0 stops it.
    pub fn play(&mut self, index: usize, count: i32, state: &mut PadsState, now_ns: u64) {
        if let Some(Some(slot)) = self.slots.get_mut(index) {
            slot.count = u32::try_from(count).unwrap_or(0);
            slot.started_ns = now_ns;
            state.set_effect(self.pad, index, &slot.encode());
            self.due = Some(now_ns);
        }
    }

    /// Strength of everything, 0 to 65535.
    pub fn gain(&mut self, gain: i32, state: &mut PadsState, now_ns: u64) {
        if let Ok(gain) = u16::try_from(gain) {
            self.gain = gain;
            state.set_gain(self.pad, gain);
            self.due = Some(now_ns);
        }
    }

    /// When [`Effects::tell`] has something to do.
    pub fn deadline(&self) -> Option<u64> {
        let due = self.due.map(|due| due.max(self.calm_until));
        [due, self.again].into_iter().flatten().min()
    }

    /// What is to be told now, if anything: a change, or the same once more.
    pub fn tell(&mut self, now_ns: u64) -> Option<Rumble> {
        if self.due.is_some_and(|due| due.max(self.calm_until) <= now_ns) {
            let (motors, next) = self.mix(now_ns);
            self.due = next;
            self.calm_until = now_ns.saturating_add(QUICKEST_NS);
            if motors != self.told {
                self.told = motors;
                self.stills = 0;
                self.again = Some(now_ns);
            }
        }
        if self.again.is_none_or(|again| again > now_ns) {
            return None;
        }
        if self.told == Motors::STILL {
            self.stills += 1;
        }
        self.again = (self.stills < STILL_TELLS).then(|| now_ns.saturating_add(AGAIN_NS));
        Some(self.rumble())
    }

    /// The last word of a pad that goes away, or of a session that ends: still, if it was not.
    pub fn hush(&mut self) -> Option<Rumble> {
        let moved = self.told != Motors::STILL;
        (self.told, self.due, self.again) = (Motors::STILL, None, None);
        moved.then(|| self.rumble())
    }

    fn rumble(&self) -> Rumble {
        Rumble { pad: self.pad, low: self.told.low, high: self.told.high }
    }

    fn mix(&self, now_ns: u64) -> (Motors, Option<u64>) {
        let mut sum = Motors::STILL;
        let mut next: Option<u64> = None;
        for slot in self.slots.iter().flatten() {
            let (motors, change) = slot.at(now_ns);
            sum = sum.with(motors);
            next = [next, change].into_iter().flatten().min();
        }
        let scale = |motor: u16| (u32::from(motor) * u32::from(self.gain) / u32::from(FULL_GAIN)) as u16;
        (Motors { low: scale(sum.low), high: scale(sum.high) }, next)
    }
}

/// The way to the client: the ring to net.
#[derive(Debug)]
pub struct Haptics {
    ring: RingProducer,
    generation: Generation,
    sent: u64,
}

impl Haptics {
    pub fn new(ring: RingProducer, generation: Generation) -> Self {
        Self { ring, generation, sent: 0 }
    }

    /// Goes on into another network plane's ring.
    pub fn move_to(&mut self, ring: RingProducer, generation: Generation) {
        (self.ring, self.generation, self.sent) = (ring, generation, 0);
    }

    /// Hands a rumble to net. Where the ring is full it is dropped: what the motors do is told again soon.
    pub fn send(&mut self, rumble: Rumble, now_ns: u64) {
        let Some(mut frame) = self.ring.reserve() else { return };
        let header = ChunkHeader {
            generation: self.generation.0,
            frame: self.sent as u32,
            captured_ns: now_ns,
            flags: ChunkFlags::LAST,
            ..ChunkHeader::default()
        };
        if frame.commit(header, &rumble.encode()).is_ok() {
            self.sent += 1;
        }
    }

    /// Rumbles handed over.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// # Errors
    /// Net broke the rules of the ring.
    pub fn check(&self) -> Result<(), Violation> {
        self.ring.check()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use ipc::STATE_BYTES;
    use ipc::shm::sealed_memfd;

    use super::*;
    use crate::uinput::codes::FF_RUMBLE;

    const MS: u64 = 1_000_000;

    fn pad() -> PadIndex {
        PadIndex::new(15).unwrap()
    }

    fn state() -> PadsState {
        PadsState::attach(sealed_memfd("state", STATE_BYTES).unwrap().as_fd()).unwrap()
    }

    /// A rumble effect: both motors, and a length in milliseconds.
    fn effect(id: i16, strong: u16, weak: u16, length: u16) -> libc::ff_effect {
        let [a, b] = strong.to_ne_bytes();
        let [c, d] = weak.to_ne_bytes();
        libc::ff_effect {
            type_: FF_RUMBLE,
            id,
            direction: 0,
            trigger: libc::ff_trigger { button: 0, interval: 0 },
            replay: libc::ff_replay { length, delay: 0 },
            u: [u64::from_ne_bytes([a, b, c, d, 0, 0, 0, 0]), 0, 0, 0],
        }
    }

    fn told(low: u16, high: u16) -> Option<Rumble> {
        Some(Rumble { pad: pad(), low, high })
    }

    /// Everything that is told up to a time, as the plane's loop would.
    fn run(effects: &mut Effects, until_ms: u64) -> Vec<(u64, u16, u16)> {
        let mut out = Vec::new();
        while let Some(deadline) = effects.deadline().filter(|&deadline| deadline <= until_ms * MS) {
            out.extend(effects.tell(deadline).map(|rumble| (deadline / MS, rumble.low, rumble.high)));
        }
        out
    }

    #[test]
    fn effects_add_up_under_the_gain_and_are_told_again_until_they_end() {
        let (mut state, now) = (state(), 0);
        let mut effects = Effects::fresh(pad(), &mut state);
        assert!(effects.upload(&effect(0, 0x8000, 0x1000, 1200), &mut state, now));
        assert!(effects.upload(&effect(1, 0xC000, 0x1000, 600), &mut state, now));
        assert_eq!(run(&mut effects, 10), []);
        effects.play(0, 1, &mut state, 10 * MS);
        assert_eq!(run(&mut effects, 400), [(10, 0x8000, 0x1000)]);
        effects.play(1, 1, &mut state, 400 * MS);
        let both = (0xFFFF, 0x2000);
        let rest = [
            (400, both.0, both.1),
            (900, both.0, both.1),
            (1000, 0x8000, 0x1000),
            (1210, 0, 0),
            (1710, 0, 0),
            (2210, 0, 0),
            (2710, 0, 0),
        ];
        assert_eq!(run(&mut effects, 60_000), rest);
        assert_eq!(effects.deadline(), None);
        effects.gain(0x8000, &mut state, 60_000 * MS);
        effects.play(0, 1, &mut state, 60_000 * MS);
        assert_eq!(run(&mut effects, 60_100), [(60_000, 0x4000, 0x0800)]);
        effects.play(0, 0, &mut state, 60_100 * MS);
        assert_eq!(run(&mut effects, 60_200), [(60_100, 0, 0)]);
    }

    #[test]
    fn an_heir_goes_on_playing_and_a_new_pad_does_not() {
        let mut state = state();
        let mut effects = Effects::fresh(pad(), &mut state);
        assert!(effects.upload(&effect(3, 0x1000, 0x2000, 0), &mut state, 0));
        effects.play(3, 1, &mut state, 5 * MS);
        effects.gain(0xFFFF, &mut state, 5 * MS);
        let mut heir = Effects::inherited(pad(), &state, 100 * MS);
        assert_eq!(heir.tell(100 * MS), told(0x1000, 0x2000));
        assert_eq!(heir.hush(), told(0, 0));
        assert_eq!((heir.hush(), heir.deadline()), (None, None));
        heir.erase(3, &mut state, 200 * MS);
        assert_eq!(Effects::inherited(pad(), &state, 0).deadline(), None);
        assert!(heir.upload(&effect(3, 1, 1, 0), &mut state, 0));
        heir.play(3, 1, &mut state, 0);
        assert_eq!(Effects::fresh(pad(), &mut state).deadline(), None);
        assert_eq!(Effects::inherited(pad(), &state, 0).deadline(), None);
    }

    #[test]
    fn what_cannot_be_is_refused_and_a_storm_is_calmed() {
        let mut state = state();
        let mut effects = Effects::fresh(pad(), &mut state);
        assert!(!effects.upload(&effect(-1, 1, 1, 0), &mut state, 0));
        assert!(!effects.upload(&effect(MAX_EFFECTS as i16, 1, 1, 0), &mut state, 0));
        effects.play(7, 1, &mut state, 0);
        effects.play(usize::MAX, i32::MAX, &mut state, 0);
        effects.gain(-1, &mut state, 0);
        effects.gain(0x1_0000, &mut state, 0);
        effects.erase(usize::MAX, &mut state, 0);
        assert_eq!(run(&mut effects, 1000), []);
        let mut tells = 0;
        for ms in 1000..2000 {
            assert!(effects.upload(&effect(0, ms as u16, 1, 0), &mut state, ms * MS));
            effects.play(0, 1, &mut state, ms * MS);
            tells += run(&mut effects, ms).len();
        }
        assert!((190..=200).contains(&tells), "{tells}");
    }
}
