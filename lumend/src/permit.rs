//! What `lumend permit` changes: the list of permissions as people write it, and what it makes of a client's.

use std::str::FromStr;

use ipc::ctl::Permission;
use lumen_core::Permissions;

/// Permissions to add and to take away.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    pub grant: Vec<Permission>,
    pub deny: Vec<Permission>,
}

impl Change {
    pub fn apply(&self, before: Permissions) -> Permissions {
        let granted = self.grant.iter().fold(before, |sum, one| sum.with(one.bit(), true));
        self.deny.iter().fold(granted, |sum, one| sum.with(one.bit(), false))
    }
}

/// `all`, `none`, a list of what is permitted from now on, or one with signs of what is added and taken away. A sign
/// holds until the next one.
impl FromStr for Change {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = || Permission::ALL.to_vec();
        match text {
            "all" => return Ok(Self { grant: all(), deny: Vec::new() }),
            "none" => return Ok(Self { grant: Vec::new(), deny: all() }),
            _ => {}
        }
        let mut change = Self { grant: Vec::new(), deny: Vec::new() };
        let mut sign = None;
        for item in text.split(',') {
            let (name, its) = match item.strip_prefix(['+', '-']) {
                Some(name) => (name, item.chars().next()),
                None => (item, sign),
            };
            if change != (Self { grant: Vec::new(), deny: Vec::new() }) && sign.is_none() != its.is_none() {
                return Err("begin with a sign, or use none: pointer,keyboard or +pointer,-keyboard".into());
            }
            sign = its;
            let one = Permission::from_name(name)
                .ok_or_else(|| format!("{name:?} is not pointer, keyboard or gamepad (or all, or none)"))?;
            if sign == Some('-') { &mut change.deny } else { &mut change.grant }.push(one);
        }
        if sign.is_none() {
            change.deny = Permission::ALL.into_iter().filter(|one| !change.grant.contains(one)).collect();
        }
        Ok(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINTER: Permissions = Permissions::POINTER;
    const KEYBOARD: Permissions = Permissions::KEYBOARD;
    const GAMEPAD: Permissions = Permissions::GAMEPAD;

    fn after(before: Permissions, text: &str) -> Permissions {
        text.parse::<Change>().unwrap().apply(before)
    }

    #[test]
    fn lists_set_and_signs_change() {
        assert_eq!(after(Permissions::NONE, "all"), Permissions::ALL);
        assert_eq!(after(Permissions::ALL, "none"), Permissions::NONE);
        assert_eq!(after(GAMEPAD, "pointer,keyboard"), POINTER.with(KEYBOARD, true));
        assert_eq!(after(GAMEPAD, "+pointer"), POINTER.with(GAMEPAD, true));
        assert_eq!(after(Permissions::ALL, "-pointer,gamepad"), KEYBOARD);
        assert_eq!(after(KEYBOARD, "+pointer,-keyboard"), POINTER);
    }

    #[test]
    fn what_is_not_understood_is_not_guessed() {
        for text in ["", "feet", "pointer,", "+", "pointer,-keyboard", "all,-keyboard", "Pointer", "++pointer"] {
            assert!(text.parse::<Change>().is_err(), "{text:?}");
        }
    }
}
