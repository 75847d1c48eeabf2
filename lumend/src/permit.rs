//! What `lumend permit` changes: the list of permissions as people write it, and what it makes of a client's.

use std::str::FromStr;

use ipc::ctl::Permission;

use crate::clients::Rights;

/// Permissions to add and to take away.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    pub grant: Vec<Permission>,
    pub deny: Vec<Permission>,
}

impl Change {
    pub fn apply(&self, before: Rights) -> Rights {
        let granted = self.grant.iter().fold(before, |sum, &one| sum.with(one, true));
        self.deny.iter().fold(granted, |sum, &one| sum.with(one, false))
    }
}

/// `all`, `none`, a list of what is permitted from now on, or one with signs of what is added and taken away. A sign
/// holds until the next one. Hands are of use to those who see: a list without signs permits that in any case.
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
                .ok_or_else(|| format!("{name:?} is not {} (or all, or none)", Permission::LIST))?;
            if sign == Some('-') { &mut change.deny } else { &mut change.grant }.push(one);
        }
        if sign.is_none() {
            if !change.grant.contains(&Permission::View) {
                change.grant.push(Permission::View);
            }
            change.deny = Permission::ALL.into_iter().filter(|one| !change.grant.contains(one)).collect();
        }
        Ok(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(before: Rights, text: &str) -> Rights {
        text.parse::<Change>().unwrap().apply(before)
    }

    fn rights(names: &[Permission]) -> Rights {
        names.iter().fold(Rights::NONE, |sum, &one| sum.with(one, true))
    }

    #[test]
    fn lists_set_and_signs_change() {
        use Permission::{Gamepad, Keyboard, Launch, Pointer, View};
        let pads = rights(&[View, Gamepad, Launch]);
        assert_eq!(after(Rights::NONE, "all"), Rights::ALL);
        assert_eq!(after(Rights::ALL, "none"), Rights::NONE);
        assert_eq!(after(pads, "pointer,keyboard"), rights(&[View, Pointer, Keyboard]));
        assert_eq!(after(pads, "view,launch"), rights(&[View, Launch]));
        assert_eq!(after(pads, "+pointer"), rights(&[View, Pointer, Gamepad, Launch]));
        assert_eq!(after(Rights::ALL, "-pointer,gamepad,launch"), rights(&[View, Keyboard]));
        assert_eq!(after(Rights::ALL, "-view"), rights(&[Pointer, Keyboard, Gamepad, Launch]));
        assert_eq!(after(rights(&[Keyboard]), "+pointer,-keyboard"), rights(&[Pointer]));
    }

    #[test]
    fn what_is_not_understood_is_not_guessed() {
        for text in ["", "feet", "pointer,", "+", "pointer,-keyboard", "all,-keyboard", "Pointer", "++pointer"] {
            assert!(text.parse::<Change>().is_err(), "{text:?}");
        }
    }
}
