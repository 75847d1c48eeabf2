//! Two virtual keyboards: one with the session's keymap for keys, one whose keymap is made for the text at hand.
//!
//! Both belong to one seat, and the compositor gives its focused client the keymap and the modifiers of whichever was
//! used last, so text is typed without the modifiers that are held on the other, and these are back with its next key.

use std::os::fd::{AsFd, OwnedFd};

use ipc::shm::{Mapping, sealed_memfd};
use lumen_core::input::KeyCode;
use wayland_client::protocol::wl_keyboard::KeymapFormat;
use wayland_protocols_misc::zwp_virtual_keyboard_v1::client::zwp_virtual_keyboard_v1::ZwpVirtualKeyboardV1;

use crate::inject::{InjectError, Injected};
use crate::keymap::Keys;
use crate::keymap::text::{MAX_BYTES, TextMap};

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
    proxy: ZwpVirtualKeyboardV1,
    keys: Keys,
}

impl Keyboard {
    /// `memory` holds the text that `keys` was compiled from, `bytes` long.
    pub fn new(proxy: ZwpVirtualKeyboardV1, keys: Keys, memory: &OwnedFd, bytes: u32) -> Self {
        proxy.keymap(KeymapFormat::XkbV1.into(), memory.as_fd(), bytes);
        Self { proxy, keys }
    }

    pub fn key(&mut self, time_ms: u32, code: KeyCode, pressed: bool) -> Injected {
        if !self.keys.has(code) {
            return Injected::Unsupported;
        }
        press(&self.proxy, time_ms, code.get().into(), pressed);
        // After the key, as with a real keyboard: a modifier does not apply to itself.
        if let Some(now) = self.keys.key(code, pressed) {
            self.proxy.modifiers(now.depressed, now.latched, now.locked, now.group);
        }
        Injected::Done
    }
}

/// Text.
pub(super) struct Typist {
    proxy: ZwpVirtualKeyboardV1,
    map: TextMap,
    pages: Pages,
    /// When the compositor has last been told the keymap or used it.
    typed_ns: u64,
    focus_key: Option<u32>,
}

impl Typist {
    /// `next_sync` is the number of the `sync` that the caller sends next: a keymap is under way.
    ///
    /// # Errors
    /// As [`Typist::text`].
    pub fn new(
        proxy: ZwpVirtualKeyboardV1,
        pages: Pages,
        focus_key: Option<u32>,
        next_sync: u64,
    ) -> Result<Self, InjectError> {
        let mut typist = Self { proxy, map: TextMap::default(), pages, typed_ns: 0, focus_key };
        // A keyboard must have a keymap before its first key, and a keymap must have one.
        typist.map.next(" ");
        typist.send_keymap(0, next_sync)?;
        Ok(typist)
    }

    /// Brings the seat's focus back to its output; see [`ipc::Hands::Wlroots`]. Nothing is ever held on this keyboard.
    pub fn call_focus(&self, time_ms: u32) {
        if let Some(code) = self.focus_key {
            press(&self.proxy, time_ms, code, true);
            press(&self.proxy, time_ms, code, false);
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
    pub fn text(&mut self, now_ns: u64, text: &str, answered: u64, next_sync: u64) -> Result<Injected, InjectError> {
        let mut stale = now_ns.saturating_sub(self.typed_ns) > STALE_NS;
        let (mut rest, mut untypable) = (text, 0);
        while !rest.is_empty() {
            let run = self.map.next(rest);
            if (run.changed || stale) && !run.keys.is_empty() {
                self.send_keymap(answered, next_sync)?;
                stale = false;
            }
            let time_ms = super::milliseconds(now_ns);
            for code in run.keys {
                press(&self.proxy, time_ms, code.into(), true);
                press(&self.proxy, time_ms, code.into(), false);
            }
            untypable += run.untypable;
            rest = rest.get(run.bytes..).unwrap_or_default();
        }
        self.typed_ns = now_ns;
        Ok(if untypable > 0 { Injected::Unsupported } else { Injected::Done })
    }

    fn send_keymap(&mut self, answered: u64, next_sync: u64) -> Result<(), InjectError> {
        let keymap = self.map.keymap();
        let page = self.pages.0.iter_mut().find(|page| page.busy_until <= answered);
        let place = page.and_then(|page| {
            let place = page.memory.as_mut_slice()?.get_mut(..keymap.len())?;
            place.copy_from_slice(keymap.as_bytes());
            page.busy_until = next_sync;
            Some(&page.fd)
        });
        let fd = place.ok_or_else(|| InjectError::Failed("there is no room for a keymap of text".into()))?;
        // At most MAX_BYTES.
        self.proxy.keymap(KeymapFormat::XkbV1.into(), fd.as_fd(), keymap.len() as u32);
        Ok(())
    }
}

/// `code` is evdev's: the protocol adds no offset, the keymap does.
fn press(proxy: &ZwpVirtualKeyboardV1, time_ms: u32, code: u32, pressed: bool) {
    // wl_keyboard.key_state: 1 is pressed.
    proxy.key(time_ms, code, pressed.into());
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        self.proxy.destroy();
    }
}

impl Drop for Typist {
    fn drop(&mut self) {
        self.proxy.destroy();
    }
}
