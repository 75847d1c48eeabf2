//! What a compositor knows of a plane's devices, so that an heir goes on with the same ones over the same connection.
//!
//! Objects of Wayland are numbers of the connection; whoever has it and knows them has the devices. What a dead plane has
//! left may be wrong: the compositor then closes the connection, and the heir gets another.

use std::os::fd::BorrowedFd;

use ipc::shm::ShmError;

use super::{DESK, Memory};
use crate::keymap::Modifiers;

const MADE: usize = DESK;
const OBJECTS: usize = DESK + 4;
const SYNCS: usize = DESK + 24;
const MODIFIERS: usize = DESK + 28;

/// Objects on a connection, and the numbers of the globals that the devices belong to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Objects {
    pub pointer: u32,
    pub keyboard: u32,
    pub typist: u32,
    pub output: u32,
    pub seat: u32,
}

/// Devices on a compositor.
#[derive(Debug)]
pub struct DeskState(Memory);

impl DeskState {
    /// As [`HeldState::attach`](super::HeldState::attach).
    ///
    /// # Errors
    /// The memory is not what lumend makes.
    pub fn attach(state: BorrowedFd<'_>) -> Result<Self, ShmError> {
        Memory::attach(state).map(Self)
    }

    /// The devices, if there are any.
    pub fn devices(&self) -> Option<Objects> {
        let word = |index: usize| self.word(OBJECTS + 4 * index);
        let [pointer, keyboard, typist, output, seat] = [0, 1, 2, 3, 4].map(word);
        (self.word(MADE) == 1).then_some(Objects { pointer, keyboard, typist, output, seat })
    }

    /// They are made.
    pub fn made(&mut self, objects: Objects) {
        let Objects { pointer, keyboard, typist, output, seat } = objects;
        for (index, object) in [pointer, keyboard, typist, output, seat].into_iter().enumerate() {
            self.0.set(OBJECTS + 4 * index, &object.to_le_bytes());
        }
        self.tell(Modifiers::default());
        super::order();
        self.0.set(MADE, &1_u32.to_le_bytes());
    }

    /// There are none, or none that an heir could use.
    pub fn forget(&mut self) {
        self.0.set(MADE, &[0; 4]);
    }

    /// Callbacks that the compositor may not have done with yet, a bit each.
    pub fn syncs(&self) -> u32 {
        self.word(SYNCS)
    }

    pub fn set_syncs(&mut self, under_way: u32) {
        self.0.set(SYNCS, &under_way.to_le_bytes());
    }

    /// The modifiers that the compositor was told last.
    pub fn told(&self) -> Modifiers {
        let word = |index: usize| self.word(MODIFIERS + 4 * index);
        let [depressed, latched, locked, group] = [0, 1, 2, 3].map(word);
        Modifiers { depressed, latched, locked, group }
    }

    pub fn tell(&mut self, modifiers: Modifiers) {
        let Modifiers { depressed, latched, locked, group } = modifiers;
        for (index, word) in [depressed, latched, locked, group].into_iter().enumerate() {
            self.0.set(MODIFIERS + 4 * index, &word.to_le_bytes());
        }
    }

    fn word(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0.get(at))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use ipc::STATE_BYTES;
    use ipc::shm::sealed_memfd;

    use super::*;

    #[test]
    fn an_heir_finds_the_devices_until_they_are_forgotten() {
        let memory = sealed_memfd("state", STATE_BYTES).unwrap();
        let mut state = DeskState::attach(memory.as_fd()).unwrap();
        assert_eq!(state.devices(), None);
        let objects = Objects { pointer: 20, keyboard: 21, typist: 22, output: 7, seat: u32::MAX };
        state.made(objects);
        let told = Modifiers { depressed: 1, latched: 2, locked: 3, group: 4 };
        state.tell(told);
        state.set_syncs(0x81);
        let mut heir = DeskState::attach(memory.as_fd()).unwrap();
        assert_eq!((heir.devices(), heir.told(), heir.syncs()), (Some(objects), told, 0x81));
        assert!(super::super::HeldState::attach(memory.as_fd()).unwrap().lift().is_empty());
        heir.forget();
        assert_eq!(state.devices(), None);
    }
}
