//! What is asked of the compositor and what it says: every event is only recorded, [`super::Wlr`] decides.
//!
//! Numbers of objects are given in a fixed order, and none is given after the devices have been made: an heir that knows
//! the devices' numbers knows all that it needs.

use super::wire::{Arg, Event, Object, Requests};
use crate::inject::InjectError;
use crate::state::{DeskState, Objects};

const DISPLAY: Object = 1;
const REGISTRY: Object = 2;
/// The callbacks of all `sync`s: used again and again, since an heir could not know the number of another.
const CALLBACKS: std::ops::Range<Object> = 3..11;
const FIRST_FREE: Object = CALLBACKS.end;

/// `create_virtual_pointer_with_output` came with 2.
const POINTERS: (&str, u32) = ("zwlr_virtual_pointer_manager_v1", 2);
const KEYBOARDS: (&str, u32) = ("zwp_virtual_keyboard_manager_v1", 1);
/// `wl_output.name` came with 4.
const OUTPUT: (&str, u32) = ("wl_output", 4);
/// `wl_seat.name` came with 2.
const SEAT: (&str, u32) = ("wl_seat", 2);
/// More screens, or seats, than anyone has; a compositor that offers more is not listened to about them.
const MAX_NAMED: usize = 64;
/// Most characters of a name that is kept.
const MAX_NAME: usize = 1000;

/// Everything known about the compositor.
pub(super) struct State {
    pub pointers: Option<Object>,
    pub keyboards: Option<Object>,
    pub outputs: Vec<Named>,
    pub seats: Vec<Named>,
    pub syncs: Syncs,
    next: Object,
    /// Globals are of interest until the devices are made.
    looking: bool,
}

/// An output or a seat.
pub(super) struct Named {
    pub global: u32,
    pub object: Object,
    pub name: Option<String>,
    pub gone: bool,
}

impl State {
    /// Asks a compositor that has not been spoken to for all that it has.
    pub fn ask(requests: &mut Requests, kept: &mut DeskState) -> Self {
        kept.forget();
        requests.put(DISPLAY, 1, &[Arg::Uint(REGISTRY)]);
        let mut syncs = Syncs { under_way: [None; SYNCS], asked: 0, answered: 0, waiting: false };
        // All of them, so that every number is known to the compositor from now on.
        for _ in CALLBACKS {
            syncs.ask(requests, kept);
        }
        let (pointers, keyboards, outputs, seats) = (None, None, Vec::new(), Vec::new());
        Self { pointers, keyboards, outputs, seats, syncs, next: FIRST_FREE, looking: true }
    }

    /// Goes on where a dead plane has left off, which had made these devices in this place.
    pub fn inherit(objects: Objects, output: &str, seat: &str, kept: &DeskState) -> Self {
        let named = |global, name: &str| Named { global, object: 0, name: Some(name.to_owned()), gone: false };
        Self {
            pointers: None,
            keyboards: None,
            outputs: vec![named(objects.output, output)],
            seats: vec![named(objects.seat, seat)],
            syncs: Syncs::inherit(kept.syncs()),
            next: 0,
            looking: false,
        }
    }

    /// Everything that is needed has been found: no object is made after these three, a pointer and two keyboards.
    pub fn make(&mut self, requests: &mut Requests, seat: usize, output: usize) -> Option<Objects> {
        let (pointers, keyboards) = (self.pointers?, self.keyboards?);
        let (seat, output) = (self.seats.get(seat)?, self.outputs.get(output)?);
        let (seat_object, output_object) = (Arg::Uint(seat.object), Arg::Uint(output.object));
        let [pointer, keyboard, typist] = [0, 1, 2].map(|index| self.next + index);
        // create_virtual_pointer_with_output, and twice create_virtual_keyboard.
        requests.put(pointers, 2, &[seat_object, output_object, Arg::Uint(pointer)]);
        requests.put(keyboards, 0, &[seat_object, Arg::Uint(keyboard)]);
        requests.put(keyboards, 0, &[seat_object, Arg::Uint(typist)]);
        self.looking = false;
        Some(Objects { pointer, keyboard, typist, output: output.global, seat: seat.global })
    }

    /// Records an event.
    ///
    /// # Errors
    /// The compositor says that it has ended the connection; an event without its arguments.
    pub fn hear(&mut self, event: Event<'_>, requests: &mut Requests, kept: &mut DeskState) -> Result<(), InjectError> {
        self.record(event, requests, kept).unwrap_or_else(|| {
            Err(InjectError::Failed(format!("the compositor sent event {} without its arguments", event.opcode)))
        })
    }

    /// `None` if an argument is missing.
    fn record(
        &mut self,
        event: Event<'_>,
        requests: &mut Requests,
        kept: &mut DeskState,
    ) -> Option<Result<(), InjectError>> {
        let mut arguments = event.arguments;
        match (event.object, event.opcode) {
            (DISPLAY, 0) => {
                let (object, code) = (arguments.uint()?, arguments.uint()?);
                let text: String = arguments.text()?.chars().take(MAX_NAME).collect();
                let text = format!("the compositor refused a request: {text} (object {object}, error {code})");
                return Some(Err(InjectError::Failed(text)));
            }
            (DISPLAY, 1) => {
                let object = arguments.uint()?;
                if CALLBACKS.contains(&object) {
                    self.syncs.deleted(object, requests, kept);
                }
            }
            (REGISTRY, 0) => {
                let (global, interface, version) = (arguments.uint()?, arguments.text()?, arguments.uint()?);
                if self.looking {
                    self.global(global, &interface, version, requests);
                }
            }
            (REGISTRY, 1) => {
                let global = arguments.uint()?;
                let mut named = self.outputs.iter_mut().chain(&mut self.seats);
                named.by_ref().filter(|named| named.global == global).for_each(|named| named.gone = true);
            }
            (object, 0) if CALLBACKS.contains(&object) => self.syncs.answered(object),
            // wl_output.name and wl_seat.name
            (object, 4) => name(&mut self.outputs, object, &mut arguments)?,
            (object, 1) => name(&mut self.seats, object, &mut arguments)?,
            _ => {}
        }
        Some(Ok(()))
    }

    fn global(&mut self, global: u32, interface: &str, version: u32, requests: &mut Requests) {
        let object = self.next;
        let named = || Named { global, object, name: None, gone: false };
        let (interface, bound) = match interface {
            _ if interface == POINTERS.0 && version >= POINTERS.1 && self.pointers.is_none() => {
                self.pointers = Some(object);
                POINTERS
            }
            _ if interface == KEYBOARDS.0 && self.keyboards.is_none() => {
                self.keyboards = Some(object);
                KEYBOARDS
            }
            _ if interface == OUTPUT.0 && version >= OUTPUT.1 && self.outputs.len() < MAX_NAMED => {
                self.outputs.push(named());
                OUTPUT
            }
            _ if interface == SEAT.0 && version >= SEAT.1 && self.seats.len() < MAX_NAMED => {
                self.seats.push(named());
                SEAT
            }
            _ => return,
        };
        self.next += 1;
        requests.put(REGISTRY, 0, &[Arg::Uint(global), Arg::Text(interface), Arg::Uint(bound), Arg::Uint(object)]);
    }
}

fn name(all: &mut [Named], object: Object, arguments: &mut super::wire::Arguments<'_>) -> Option<()> {
    if let Some(named) = all.iter_mut().find(|named| named.object == object && object != 0) {
        named.name = Some(arguments.text()?.chars().take(MAX_NAME).collect());
    }
    Some(())
}

const SYNCS: usize = (CALLBACKS.end - CALLBACKS.start) as usize;

/// How far the compositor is with what it was asked. Each `sync` has a number; they count from 1.
pub(super) struct Syncs {
    /// The number asked with each callback that is not known to be free.
    under_way: [Option<u64>; SYNCS],
    asked: u64,
    answered: u64,
    /// The last one asked for goes out with the next callback that becomes free.
    waiting: bool,
}

impl Syncs {
    /// Callbacks under way may never be heard of again: the dead plane may have taken the answer with it.
    fn inherit(under_way: u32) -> Self {
        let under_way = std::array::from_fn(|index| (under_way & 1 << index != 0).then_some(0));
        Self { under_way, asked: 0, answered: 0, waiting: false }
    }

    /// True if there is no callback left that could be asked with.
    pub fn are_spent(&self) -> bool {
        self.under_way.iter().all(Option::is_some)
    }

    /// Asks the compositor to say when it has come this far.
    pub fn ask(&mut self, requests: &mut Requests, kept: &mut DeskState) -> u64 {
        self.asked += 1;
        self.send(requests, kept);
        self.asked
    }

    /// The number of the last that was asked for, and of the last that has been answered.
    pub fn numbers(&self) -> (u64, u64) {
        (self.asked, self.answered)
    }

    fn send(&mut self, requests: &mut Requests, kept: &mut DeskState) {
        let free = self.under_way.iter_mut().zip(CALLBACKS).find(|(number, _)| number.is_none());
        self.waiting = free.is_none();
        if let Some((number, callback)) = free {
            *number = Some(self.asked);
            requests.put(DISPLAY, 0, &[Arg::Uint(callback)]);
            self.note(kept);
        }
    }

    fn answered(&mut self, callback: Object) {
        let number = self.under_way.get((callback - CALLBACKS.start) as usize).copied().flatten();
        self.answered = self.answered.max(number.unwrap_or(0));
    }

    fn deleted(&mut self, callback: Object, requests: &mut Requests, kept: &mut DeskState) {
        if let Some(number) = self.under_way.get_mut((callback - CALLBACKS.start) as usize) {
            *number = None;
        }
        self.note(kept);
        if self.waiting {
            self.send(requests, kept);
        }
    }

    fn note(&self, kept: &mut DeskState) {
        let bits = self.under_way.iter().enumerate().map(|(index, number)| u32::from(number.is_some()) << index);
        kept.set_syncs(bits.sum());
    }
}
