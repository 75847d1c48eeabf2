//! The service manager and its helpers, which have to hear of what was installed.

use std::path::Path;
use std::process::{Command, Stdio};

use super::Scope;
use super::layout::Layout;

#[derive(Debug)]
pub struct Manager {
    scope: Scope,
    /// None to be left alone, as there is nobody, or nothing was installed into the running system.
    there: bool,
}

impl Manager {
    /// The one that will run what `layout` installs; with `apart` that is not this machine's.
    pub fn of(layout: &Layout, apart: bool) -> Self {
        let there = match layout.scope {
            Scope::System | Scope::Devices => Path::new("/run/systemd/system").is_dir(),
            Scope::User => std::env::var_os("XDG_RUNTIME_DIR")
                .is_some_and(|directory| Path::new(&directory).join("systemd/private").exists()),
        };
        Self { scope: layout.scope, there: there && !apart }
    }

    /// Reads units, users, directories and rules anew.
    pub fn take_notice(&self) {
        if !self.there {
            return;
        }
        match self.scope {
            Scope::User => self.systemctl(&["daemon-reload"]),
            Scope::System => {
                say("systemd-sysusers", &["lumen.conf"]);
                say("systemd-tmpfiles", &["--create", "lumen.conf"]);
                self.systemctl(&["daemon-reload"]);
                devices();
            }
            Scope::Devices => {
                say("systemd-sysusers", &["lumen.conf"]);
                devices();
            }
        }
    }

    /// Stops a running lumend, and keeps it from being started again.
    pub fn stop(&self) {
        if self.there && self.scope != Scope::Devices {
            self.systemctl(&["disable", "--now", "--quiet", "lumend.service"]);
        }
    }

    /// What the person is to say now.
    pub fn next(&self) -> String {
        let systemctl = self.words().join(" ");
        match self.scope {
            Scope::Devices => {
                "gamepads can be made by whoever sits at this machine; another user needs: usermod -aG lumen \
                               USER"
                    .into()
            }
            _ if !self.there => format!("next, with systemd running: {systemctl} enable --now lumend"),
            _ if self.is_active() => format!("next, to run what was installed: {systemctl} restart lumend"),
            _ => format!("next: {systemctl} enable --now lumend"),
        }
    }

    fn words(&self) -> &'static [&'static str] {
        if self.scope == Scope::User { &["systemctl", "--user"] } else { &["systemctl"] }
    }

    fn systemctl(&self, arguments: &[&str]) {
        let [program, first @ ..] = self.words() else { return };
        say(program, &[first, arguments].concat());
    }

    fn is_active(&self) -> bool {
        let [program, first @ ..] = self.words() else { return false };
        let mut command = Command::new(program);
        command.args(first).args(["is-active", "--quiet", "lumend.service"]);
        command.stdin(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }
}

/// The rule reaches the device, if there is one, without a restart.
fn devices() {
    // As in a container, where devices are somebody else's.
    if Path::new("/run/udev/control").exists() {
        say("udevadm", &["control", "--reload"]);
        say("udevadm", &["trigger", "--subsystem-match=misc", "--sysname-match=uinput"]);
    }
}

/// What goes wrong here is no reason to give up: it can be said by hand.
fn say(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).stdin(Stdio::null()).status();
    if !status.is_ok_and(|status| status.success()) {
        println!("failed, say it by hand: {program} {}", arguments.join(" "));
    }
}
