//! The service manager and its helpers, which have to hear of what was installed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::geteuid;

use super::Scope;

/// What it has to hear of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Done {
    Installed,
    Removed,
}

/// What was found of it.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Found {
    There,
    /// A user's, with its runtime directory.
    Session(PathBuf),
    Nobody,
    /// Nothing was installed into the running system, and nobody is asked.
    Apart,
}

#[derive(Debug)]
pub struct Manager {
    scope: Scope,
    found: Found,
}

impl Manager {
    /// The one that will run what was installed; with `apart` that is not this machine's.
    pub fn of(scope: Scope, apart: bool) -> Self {
        let machine = || if Path::new("/run/systemd/system").is_dir() { Found::There } else { Found::Nobody };
        // Whoever came by su or by a job has no variable, and a manager all the same.
        let named = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let usual = PathBuf::from(format!("/run/user/{}", geteuid()));
        let found = match scope {
            _ if apart => Found::Apart,
            Scope::System | Scope::Devices => machine(),
            Scope::User => session(named.into_iter().chain([usual])),
        };
        Self { scope, found }
    }

    /// Reads units, users, directories and rules anew.
    pub fn take_notice(&self, done: Done) {
        for words in self.notice(done) {
            self.say(words);
        }
        // As in a container, where devices are somebody else's.
        if self.is_there() && self.scope != Scope::User && Path::new("/run/udev/control").exists() {
            self.say(&["udevadm", "control", "--reload"]);
            // The rule reaches the device, if there is one, without a restart.
            self.say(&["udevadm", "trigger", "--subsystem-match=misc", "--sysname-match=uinput"]);
        }
    }

    /// The commands that it takes. Users and directories stay when what asked for them goes.
    fn notice(&self, done: Done) -> Vec<&'static [&'static str]> {
        const USERS: &[&str] = &["systemd-sysusers", "lumen.conf"];
        const DIRECTORIES: &[&str] = &["systemd-tmpfiles", "--create", "lumen.conf"];
        const UNITS: &[&str] = &["systemctl", "daemon-reload"];
        match (self.scope, done) {
            _ if !self.is_there() => vec![],
            (Scope::User, _) => vec![&["systemctl", "--user", "daemon-reload"]],
            (Scope::System, Done::Installed) => vec![USERS, DIRECTORIES, UNITS],
            (Scope::System, Done::Removed) => vec![UNITS],
            (Scope::Devices, Done::Installed) => vec![USERS],
            (Scope::Devices, Done::Removed) => vec![],
        }
    }

    /// Stops a running lumend, and keeps it from being started again; or says that it cannot.
    pub fn stop(&self) {
        match (self.scope, &self.found) {
            (Scope::Devices, _) | (_, Found::Apart) => {}
            (_, Found::Nobody) => println!("{}", self.unstopped()),
            (_, Found::There | Found::Session(_)) => {
                self.say(&[self.words(), &["disable", "--now", "--quiet", "lumend.service"]].concat());
            }
        }
    }

    fn unstopped(&self) -> String {
        let systemctl = self.words().join(" ");
        format!(
            "lumend could not be stopped, as no systemd was found (for a user it is in XDG_RUNTIME_DIR); if it runs, say \
             where there is one: {systemctl} disable --now lumend"
        )
    }

    /// What the person is to say now.
    pub fn next(&self) -> String {
        let systemctl = self.words().join(" ");
        match self.scope {
            Scope::Devices => {
                "gamepads can be made and used by whoever sits at this machine; another user needs: usermod -aG \
                 lumen,lumen-pads USER"
                    .into()
            }
            _ if !self.is_there() => format!("next, with systemd running: {systemctl} enable --now lumend"),
            _ if self.is_active() => format!("next, to run what was installed: {systemctl} restart lumend"),
            _ => format!("next: {systemctl} enable --now lumend"),
        }
    }

    fn words(&self) -> &'static [&'static str] {
        if self.scope == Scope::User { &["systemctl", "--user"] } else { &["systemctl"] }
    }

    fn is_there(&self) -> bool {
        matches!(self.found, Found::There | Found::Session(_))
    }

    /// Of these words, with the person's manager where it is.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        if let Found::Session(directory) = &self.found {
            command.env("XDG_RUNTIME_DIR", directory);
        }
        command.stdin(Stdio::null());
        command
    }

    /// What goes wrong here is no reason to give up: it can be said by hand.
    fn say(&self, words: &[&str]) {
        let [program, arguments @ ..] = words else { return };
        let status = self.command(program).args(arguments).status();
        if !status.is_ok_and(|status| status.success()) {
            println!("failed, say it by hand: {}", words.join(" "));
        }
    }

    fn is_active(&self) -> bool {
        let [program, first @ ..] = self.words() else { return false };
        let mut command = self.command(program);
        command.args(first).args(["is-active", "--quiet", "lumend.service"]);
        command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }
}

/// Of the first of these runtime directories in which there is a manager.
fn session(directories: impl IntoIterator<Item = PathBuf>) -> Found {
    let first = directories.into_iter().find(|directory| directory.join("systemd/private").exists());
    first.map_or(Found::Nobody, Found::Session)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_not_looked_for() {
        let manager = |scope| Manager { scope, found: Found::There };
        for scope in [Scope::System, Scope::Devices] {
            let said = |done| manager(scope).notice(done).concat();
            assert!(said(Done::Installed).contains(&"lumen.conf"));
            assert!(!said(Done::Removed).contains(&"lumen.conf"), "it has been removed");
        }
        assert_eq!(manager(Scope::System).notice(Done::Removed), [["systemctl", "daemon-reload"]]);
        assert!(Manager { scope: Scope::System, found: Found::Apart }.notice(Done::Installed).is_empty());
    }

    #[test]
    fn a_persons_manager_is_found_without_a_variable_and_missed_aloud() {
        let directory = std::env::temp_dir().join(format!("lumen-manager-{}", std::process::id()));
        let [named, usual] = ["named", "usual"].map(|name| directory.join(name));
        std::fs::create_dir_all(usual.join("systemd/private")).unwrap();
        let look = || session([named.clone(), usual.clone()]);
        assert_eq!((look(), session([usual.clone()])), (Found::Session(usual.clone()), Found::Session(usual.clone())));
        let manager = Manager { scope: Scope::User, found: look() };
        let environment: Vec<_> =
            manager.command("systemctl").get_envs().map(|(_, value)| value.map(PathBuf::from)).collect();
        assert_eq!(environment, [Some(usual.clone())]);
        std::fs::remove_dir_all(&directory).unwrap();
        let unstopped = Manager { scope: Scope::User, found: look() }.unstopped();
        assert!(
            unstopped.contains("could not be stopped") && unstopped.contains("systemctl --user disable --now lumend")
        );
    }
}
