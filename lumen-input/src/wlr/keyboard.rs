//! Two virtual keyboards: one with the session's keymap for keys, one whose keymap is made for the text at hand.
//!
//! Both belong to one seat, and the compositor gives its focused client the keymap and the modifiers of whichever was
//! used last, so text is typed without the modifiers that are held on the other, and these are back with its next key.

use std::os::fd::{AsFd, OwnedFd};

use ipc::shm::{Mapping, sealed_memfd};
use lumen_core::input::KeyCode;

use super::wire::{Arg, Object, Requests};
use crate::inject::{InjectError, Injected};
use crate::keymap::Keys;
use crate::keymap::text::{MAX_BYTES, TextMap};
use crate::state::DeskState;

/// Requests of zwp_virtual_keyboard_v1.
mod request {
    pub const KEYMAP: u16 = 0;
    pub const KEY: u16 = 1;
    pub const MODIFIERS: u16 = 2;
    pub const DESTROY: u16 = 3;
}

/// wl_keyboard.keymap_format: xkb's text, version 1.
const XKB_V1: u32 = 1;

/// Keymaps under way to the compositor at a time.
const PAGES: usize = 8;
/// Keymaps that the longest text may need: 64 characters on 49 keys.
const PAGES_PER_TEXT: usize = 2;
/// Text after a pause brings its keymap along again, known or not: a compositor that reads its configuration anew gives
/// its own keymap to every keyboard, virtual ones too, and tells nobody.
const STALE_NS: u64 = 1_000_000_000;

/// Memory for keymaps of text, made before the lockdown because a sealed plane makes no descriptors.
pub struct Pages(Vec<Page>);

struct Page {
    fd: OwnedFd,
    memory: Mapping,
    /// The compositor reads it until it has answered this `sync`.
    busy_until: u64,
}

impl Pages {
    /// # Errors
    /// The kernel's, if there is no memory.
    pub fn new() -> std::io::Result<Self> {
        let page = |_| {
            let fd = sealed_memfd("lumen-text", MAX_BYTES)?;
            let memory = Mapping::read_write(fd.as_fd(), MAX_BYTES).map_err(std::io::Error::other)?;
            Ok(Page { fd, memory, busy_until: 0 })
        };
        (0..PAGES).map(page).collect::<std::io::Result<_>>().map(Self)
    }

    fn free(&self, answered: u64) -> usize {
        self.0.iter().filter(|page| page.busy_until <= answered).count()
    }
}

/// Keys.
pub(super) struct Keyboard {
    object: Object,
    keys: Keys,
}

impl Keyboard {
    /// A keyboard that has just been made. `memory` holds the text that `keys` was compiled from, `bytes` long.
    pub fn new(requests: &mut Requests, object: Object, keys: Keys, memory: OwnedFd, bytes: u32) -> Self {
        send_keymap(requests, object, memory, bytes);
        Self { object, keys }
    }

    /// One that a plane before this one has made, with the same keymap.
    pub fn inherit(object: Object, mut keys: Keys, kept: &DeskState) -> Self {
        keys.go_on(kept.told());
        Self { object, keys }
    }

    /// That plane has pressed this key. False if there is no such key.
    pub fn adopt(&mut self, code: KeyCode) -> bool {
        let known = self.keys.has(code);
        if known {
            self.keys.hold(code);
        }
        known
    }

    pub fn key(
        &mut self,
        requests: &mut Requests,
        kept: &mut DeskState,
        time_ms: u32,
        code: KeyCode,
        pressed: bool,
    ) -> Injected {
        if !self.keys.has(code) {
            return Injected::Unsupported;
        }
        press(requests, self.object, time_ms, code.get().into(), pressed);
        // After the key, as with a real keyboard: a modifier does not apply to itself.
        if let Some(now) = self.keys.key(code, pressed) {
            kept.tell(now);
            let masks = [now.depressed, now.latched, now.locked, now.group].map(Arg::Uint);
            requests.put(self.object, request::MODIFIERS, &masks);
        }
        Injected::Done
    }

    pub fn destroy(&self, requests: &mut Requests) {
        requests.put(self.object, request::DESTROY, &[]);
    }
}

/// Text.
pub(super) struct Typist {
    object: Object,
    map: TextMap,
    pages: Pages,
    /// When the compositor has last been told the keymap or used it.
    typed_ns: u64,
    focus_key: Option<u32>,
}

impl Typist {
    /// A keyboard that has just been made. `next_sync` is the number of the `sync` that the caller sends next: a keymap is
    /// under way.
    ///
    /// # Errors
    /// As [`Typist::text`].
    pub fn new(
        requests: &mut Requests,
        object: Object,
        pages: Pages,
        focus_key: Option<u32>,
        next_sync: u64,
    ) -> Result<Self, InjectError> {
        let mut typist = Self::inherit(object, pages, focus_key);
        // A keyboard must have a keymap before its first key, and a keymap must have one.
        typist.map.next(" ");
        typist.send_keymap(requests, 0, next_sync)?;
        Ok(typist)
    }

    /// One that a plane before this one has made. Its first text brings a keymap along.
    pub fn inherit(object: Object, pages: Pages, focus_key: Option<u32>) -> Self {
        Self { object, map: TextMap::default(), pages, typed_ns: 0, focus_key }
    }

    /// Brings the seat's focus back to its output; see [`ipc::Hands::Wlroots`]. Nothing is ever held on this keyboard.
    pub fn call_focus(&self, requests: &mut Requests, time_ms: u32) {
        if let Some(code) = self.focus_key {
            press(requests, self.object, time_ms, code, true);
            press(requests, self.object, time_ms, code, false);
        }
    }

    /// True if any one text can be typed now. `answered`: the last `sync` that the compositor has answered.
    pub fn ready(&self, answered: u64) -> bool {
        self.pages.free(answered) >= PAGES_PER_TEXT
    }

    /// Types a text; `next_sync` is the number of the `sync` that the caller sends after it, since a keymap may be under
    /// way.
    ///
    /// # Errors
    /// `Failed` if there is no memory for a keymap, which [`Typist::ready`] precludes.
    pub fn text(
        &mut self,
        requests: &mut Requests,
        now_ns: u64,
        text: &str,
        (answered, next_sync): (u64, u64),
    ) -> Result<Injected, InjectError> {
        let mut stale = now_ns.saturating_sub(self.typed_ns) > STALE_NS;
        let (mut rest, mut untypable) = (text, 0);
        while !rest.is_empty() {
            let run = self.map.next(rest);
            if (run.changed || stale) && !run.keys.is_empty() {
                self.send_keymap(requests, answered, next_sync)?;
                stale = false;
            }
            let time_ms = super::milliseconds(now_ns);
            for code in run.keys {
                press(requests, self.object, time_ms, code.into(), true);
                press(requests, self.object, time_ms, code.into(), false);
            }
            untypable += run.untypable;
            rest = rest.get(run.bytes..).unwrap_or_default();
        }
        self.typed_ns = now_ns;
        Ok(if untypable > 0 { Injected::Unsupported } else { Injected::Done })
    }

    fn send_keymap(&mut self, requests: &mut Requests, answered: u64, next_sync: u64) -> Result<(), InjectError> {
        let keymap = self.map.keymap();
        let page = self.pages.0.iter_mut().find(|page| page.busy_until <= answered);
        let place = page.and_then(|page| {
            let place = page.memory.as_mut_slice()?.get_mut(..keymap.len())?;
            place.copy_from_slice(keymap.as_bytes());
            page.busy_until = next_sync;
            page.fd.try_clone().ok()
        });
        let fd = place.ok_or_else(|| InjectError::Failed("there is no room for a keymap of text".into()))?;
        // At most MAX_BYTES.
        send_keymap(requests, self.object, fd, keymap.len() as u32);
        Ok(())
    }

    pub fn destroy(&self, requests: &mut Requests) {
        requests.put(self.object, request::DESTROY, &[]);
    }
}

fn send_keymap(requests: &mut Requests, keyboard: Object, memory: OwnedFd, bytes: u32) {
    requests.put(keyboard, request::KEYMAP, &[Arg::Uint(XKB_V1), Arg::Uint(bytes)]);
    requests.attach(memory);
}

/// `code` is evdev's: the protocol adds no offset, the keymap does.
fn press(requests: &mut Requests, keyboard: Object, time_ms: u32, code: u32, pressed: bool) {
    // wl_keyboard.key_state: 1 is pressed.
    requests.put(keyboard, request::KEY, &[time_ms, code, pressed.into()].map(Arg::Uint));
}
