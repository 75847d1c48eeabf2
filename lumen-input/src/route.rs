//! What is injected for what a client says: its permissions, what is held, touch where there is no touch screen.
//!
//! Decides only; the plane injects what comes out. Presses and releases leave here in pairs, whatever comes in.

use lumen_core::input::{Button, Hands, MAX_HELD, PadIndex, PadState, TouchPhase};
use lumen_core::{InputEvent, Permissions};

/// Which event goes where, and what is held.
pub struct Route {
    permissions: Permissions,
    /// What the client holds.
    hands: Hands,
    /// Where touch acts as the pointer: the contact that does.
    touch: Touch,
    /// Pads that have arrived, a bit each.
    pads: u16,
}

enum Touch {
    Native,
    Emulated(Option<u8>),
}

/// What became of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// What is to be injected has been appended; nothing if the event changes nothing.
    Passed,
    /// The client may not do this.
    Forbidden,
    /// More keys at once than can be kept track of.
    TooMany,
    /// So many keys, buttons and contacts are lifted because the client no longer names them.
    Healed(u64),
}

impl Route {
    /// With `emulate_touch` the first contact acts as the pointer with its left button.
    pub fn new(permissions: Permissions, emulate_touch: bool) -> Self {
        let touch = if emulate_touch { Touch::Emulated(None) } else { Touch::Native };
        Self { permissions, hands: Hands::default(), touch, pads: 0 }
    }

    /// What this event would release is held already. `acting`: the contact that acts as the pointer.
    pub fn adopt(&mut self, release: &InputEvent, acting: Option<u8>) {
        match (*release, acting, &mut self.touch) {
            (InputEvent::Key { code, .. }, _, _) => self.hands.apply(&InputEvent::Key { code, pressed: true }),
            (InputEvent::Button { button: Button::Left, .. }, Some(contact), Touch::Emulated(finger)) => {
                *finger = Some(contact);
                self.hold_contact(contact);
            }
            (InputEvent::Button { button, .. }, _, _) => {
                self.hands.apply(&InputEvent::Button { button, pressed: true });
            }
            (InputEvent::Touch { contact, .. }, _, _) => self.hold_contact(contact),
            _ => {}
        }
    }

    fn hold_contact(&mut self, contact: u8) {
        // Nobody remembers where; it is the next that is told of it.
        self.hands.apply(&InputEvent::Touch { contact, phase: TouchPhase::Down, x: 0, y: 0, pressure: 0 });
    }

    /// The contact that acts as the pointer.
    pub fn acting(&self) -> Option<u8> {
        match self.touch {
            Touch::Native => None,
            Touch::Emulated(acting) => acting,
        }
    }

    pub fn permissions(&self) -> Permissions {
        self.permissions
    }

    /// Appends what is to be injected for `event`.
    pub fn event(&mut self, event: &InputEvent, out: &mut Vec<InputEvent>) -> Verdict {
        if let InputEvent::Held(held) = event {
            let lifted = self.hands.clone().lift(held);
            return Verdict::Healed(lifted.map(|event| self.follow(&event, out)).count() as u64);
        }
        if !self.permissions.has(event.needs()) {
            return Verdict::Forbidden;
        }
        if let InputEvent::Key { code, pressed: true } = *event
            && !self.hands.is_key_down(code)
            && self.hands.keys().count() >= MAX_HELD
        {
            return Verdict::TooMany;
        }
        self.follow(event, out);
        Verdict::Passed
    }

    /// From now on; what is held without the permission for it is let go.
    pub fn permit(&mut self, permissions: Permissions, out: &mut Vec<InputEvent>) {
        self.permissions = permissions;
        self.lift(|event| !permissions.has(event.needs()), out);
        if !permissions.has(Permissions::GAMEPAD) {
            let pads = self.pads;
            let arrived = (0..16).filter(|pad| pads & 1 << pad != 0).filter_map(PadIndex::new);
            out.extend(arrived.map(|pad| InputEvent::PadState { pad, state: PadState::default() }));
        }
    }

    /// Lets go of everything.
    pub fn let_go(&mut self, out: &mut Vec<InputEvent>) {
        self.lift(|_| true, out);
    }

    fn lift(&mut self, which: impl Fn(&InputEvent) -> bool, out: &mut Vec<InputEvent>) {
        for event in self.hands.clone().lift_all().filter(which) {
            self.follow(&event, out);
        }
    }

    /// Appends what `event` changes, and remembers it.
    fn follow(&mut self, event: &InputEvent, out: &mut Vec<InputEvent>) {
        match *event {
            InputEvent::Key { code, pressed } => {
                let down = self.hands.is_key_down(code);
                self.hands.apply(event);
                if down != pressed {
                    out.push(*event);
                }
            }
            InputEvent::Button { button, .. } => self.button(button, out, |route| route.hands.apply(event)),
            InputEvent::Touch { contact, phase, x, y, pressure } => {
                let down = self.hands.is_contact_down(contact);
                // The beginning of a contact that is there moves it; what ends or moves one that is not is late.
                let phase = if down && phase == TouchPhase::Down { TouchPhase::Move } else { phase };
                if down || phase == TouchPhase::Down {
                    let event = InputEvent::Touch { contact, phase, x, y, pressure };
                    self.contact(&event, out);
                }
            }
            InputEvent::PadArrived { pad, .. } => {
                self.pads |= 1 << pad.get();
                out.push(*event);
            }
            InputEvent::PadRemoved { pad } => {
                self.pads &= !(1 << pad.get());
                out.push(*event);
            }
            InputEvent::Text(_)
            | InputEvent::Motion { .. }
            | InputEvent::Position { .. }
            | InputEvent::Scroll { .. }
            | InputEvent::PadState { .. } => out.push(*event),
            // Dealt with before.
            InputEvent::Held(_) => {}
        }
    }

    /// Appends the button's change, if `change` makes one.
    fn button(&mut self, button: Button, out: &mut Vec<InputEvent>, change: impl FnOnce(&mut Self)) {
        let before = self.is_down(button);
        change(self);
        let pressed = self.is_down(button);
        if before != pressed {
            out.push(InputEvent::Button { button, pressed });
        }
    }

    /// Held by the mouse, or by the finger that acts as one.
    fn is_down(&self, button: Button) -> bool {
        self.hands.is_button_down(button) || button == Button::Left && matches!(self.touch, Touch::Emulated(Some(_)))
    }

    /// A touch event that goes with what is down.
    fn contact(&mut self, event: &InputEvent, out: &mut Vec<InputEvent>) {
        let InputEvent::Touch { contact, phase, x, y, .. } = *event else { return };
        self.hands.apply(event);
        let Touch::Emulated(acting) = self.touch else { return out.push(*event) };
        match phase {
            TouchPhase::Down if acting.is_some() => {}
            TouchPhase::Down => {
                out.push(InputEvent::Position { x, y });
                self.button(Button::Left, out, |route| route.touch = Touch::Emulated(Some(contact)));
            }
            _ if acting != Some(contact) => {}
            TouchPhase::Move => out.push(InputEvent::Position { x, y }),
            TouchPhase::Up | TouchPhase::Cancel => {
                if phase == TouchPhase::Up {
                    out.push(InputEvent::Position { x, y });
                }
                self.button(Button::Left, out, |route| route.touch = Touch::Emulated(None));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use lumen_core::input::{Held, KeyCode, PadKind, Text};

    use super::*;

    const A: u16 = 30;

    fn key(code: u16, pressed: bool) -> InputEvent {
        InputEvent::Key { code: KeyCode::new(code).unwrap(), pressed }
    }

    fn button(button: Button, pressed: bool) -> InputEvent {
        InputEvent::Button { button, pressed }
    }

    fn touch(contact: u8, phase: TouchPhase, x: u16) -> InputEvent {
        InputEvent::Touch { contact, phase, x, y: 7, pressure: 0 }
    }

    fn held(keys: &[u16], buttons: u8, contacts: u16) -> InputEvent {
        InputEvent::Held(Held::new(keys.iter().filter_map(|&code| KeyCode::new(code)), buttons, contacts))
    }

    fn route(route: &mut Route, events: &[InputEvent]) -> Vec<InputEvent> {
        let mut out = Vec::new();
        for event in events {
            route.event(event, &mut out);
        }
        out
    }

    fn position(x: u16) -> InputEvent {
        InputEvent::Position { x, y: 7 }
    }

    #[test]
    fn presses_and_releases_leave_in_pairs() {
        let mut all = Route::new(Permissions::ALL, false);
        let said = [key(A, true), key(A, true), key(A, false), key(A, false), button(Button::Left, false)];
        assert_eq!(route(&mut all, &said), [key(A, true), key(A, false)]);
    }

    #[test]
    fn what_the_client_no_longer_names_is_lifted() {
        let mut all = Route::new(Permissions::ALL, false);
        let said = [key(A, true), key(31, true), button(Button::Side, true), touch(3, TouchPhase::Down, 1)];
        assert_eq!(route(&mut all, &said), said);
        let mut out = Vec::new();
        assert_eq!(all.event(&held(&[A, 99], 1 << 3, 1 << 3), &mut out), Verdict::Healed(1));
        assert_eq!(out, [key(31, false)]);
        out.clear();
        assert_eq!(all.event(&held(&[], 0, 0), &mut out), Verdict::Healed(3));
        assert_eq!(out, [touch(3, TouchPhase::Cancel, 1), button(Button::Side, false), key(A, false)]);
        assert_eq!(all.event(&held(&[], 0, 0), &mut out), Verdict::Healed(0));
    }

    #[test]
    fn permissions_are_asked_for_each_event_and_live() {
        let mut pointer = Route::new(Permissions::POINTER, false);
        let mut out = Vec::new();
        assert_eq!(pointer.event(&key(A, true), &mut out), Verdict::Forbidden);
        assert_eq!(pointer.event(&InputEvent::Text(Text::new("x").unwrap()), &mut out), Verdict::Forbidden);
        assert_eq!(pointer.event(&button(Button::Left, true), &mut out), Verdict::Passed);
        pointer.permit(Permissions::KEYBOARD, &mut out);
        assert_eq!(pointer.event(&key(A, true), &mut out), Verdict::Passed);
        assert_eq!(pointer.event(&InputEvent::Motion { dx: 1, dy: 1 }, &mut out), Verdict::Forbidden);
        assert_eq!(out, [button(Button::Left, true), button(Button::Left, false), key(A, true)]);
        out.clear();
        pointer.permit(Permissions::NONE, &mut out);
        assert_eq!(out, [key(A, false)]);
    }

    #[test]
    fn a_pad_without_permission_comes_to_rest() {
        let mut all = Route::new(Permissions::ALL, false);
        let pad = PadIndex::new(2).unwrap();
        route(&mut all, &[InputEvent::PadArrived { pad, kind: PadKind::Xbox }]);
        let mut out = Vec::new();
        all.permit(Permissions::POINTER, &mut out);
        assert_eq!(out, [InputEvent::PadState { pad, state: PadState::default() }]);
    }

    #[test]
    fn the_first_finger_acts_as_the_pointer() {
        let mut all = Route::new(Permissions::ALL, true);
        use TouchPhase::{Cancel, Down, Move, Up};
        let said = [touch(4, Down, 1), touch(4, Move, 2), touch(5, Down, 9), touch(5, Move, 8), touch(4, Up, 3)];
        let left = |pressed| button(Button::Left, pressed);
        assert_eq!(route(&mut all, &said), [position(1), left(true), position(2), position(3), left(false)]);
        // The second finger was there before; it does not take over.
        assert_eq!(route(&mut all, &[touch(5, Move, 7), touch(5, Up, 7)]), []);
        assert_eq!(route(&mut all, &[touch(5, Down, 6), touch(5, Cancel, 0)]), [position(6), left(true), left(false)]);
    }

    #[test]
    fn a_button_held_twice_is_one_button() {
        let mut all = Route::new(Permissions::ALL, true);
        let left = |pressed| button(Button::Left, pressed);
        let said = [left(true), touch(0, TouchPhase::Down, 1), left(false), touch(0, TouchPhase::Up, 1)];
        assert_eq!(route(&mut all, &said), [left(true), position(1), position(1), left(false)]);
        route(&mut all, &[touch(0, TouchPhase::Down, 1)]);
        assert_eq!(route(&mut all, &[held(&[], 0, 0)]), [left(false)]);
    }

    #[test]
    fn what_is_adopted_is_released_once_and_not_pressed_again() {
        let mut heir = Route::new(Permissions::ALL, true);
        heir.adopt(&key(A, false), None);
        heir.adopt(&button(Button::Right, false), None);
        assert_eq!(route(&mut heir, &[key(A, true), button(Button::Right, true)]), []);
        let released = [key(A, false), button(Button::Right, false)];
        assert_eq!(route(&mut heir, &released), released);
        assert_eq!(route(&mut heir, &released), []);
        heir.adopt(&key(A, false), None);
        assert_eq!(route(&mut heir, &[held(&[], 0, 0)]), [key(A, false)]);
    }

    #[test]
    fn the_finger_that_acts_as_the_pointer_goes_on_doing_so() {
        let mut heir = Route::new(Permissions::ALL, true);
        heir.adopt(&button(Button::Left, false), Some(4));
        assert_eq!(heir.acting(), Some(4));
        let said = [touch(4, TouchPhase::Move, 2), touch(4, TouchPhase::Up, 3)];
        assert_eq!(route(&mut heir, &said), [position(2), position(3), button(Button::Left, false)]);
        assert_eq!(heir.acting(), None);
    }

    #[test]
    fn letting_go_leaves_nothing() {
        let mut all = Route::new(Permissions::ALL, true);
        route(&mut all, &[key(A, true), touch(1, TouchPhase::Down, 1)]);
        let mut out = Vec::new();
        all.let_go(&mut out);
        assert_eq!(out, [button(Button::Left, false), key(A, false)]);
        out.clear();
        all.let_go(&mut out);
        assert_eq!(out, []);
    }

    #[test]
    fn more_keys_than_can_be_held_are_refused() {
        let mut all = Route::new(Permissions::ALL, false);
        let mut out = Vec::new();
        for code in 1..=MAX_HELD as u16 {
            assert_eq!(all.event(&key(code, true), &mut out), Verdict::Passed);
        }
        assert_eq!(all.event(&key(100, true), &mut out), Verdict::TooMany);
        assert_eq!(all.event(&key(1, false), &mut out), Verdict::Passed);
        assert_eq!(all.event(&key(100, true), &mut out), Verdict::Passed);
    }
}
