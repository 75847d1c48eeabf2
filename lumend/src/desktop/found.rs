//! Somebody else's sway: it is there, or it is looked for until it is.

use std::ffi::OsString;
use std::path::PathBuf;

use tracing::info;

use super::screen::{Screen, Sway};
use super::search::sway_in;
use crate::machine::Event;
use crate::outputs::Terms;

/// Between looks for a compositor that is not there.
const RETRY: u64 = 500_000_000;

#[derive(Debug)]
pub(super) struct Found {
    pub screen: Screen,
    /// Set while there is none.
    retry_at: Option<u64>,
    met: bool,
}

impl Found {
    /// The session lumend was started in, as SWAYSOCK, WAYLAND_DISPLAY and XDG_RUNTIME_DIR name it, or the first that
    /// comes up in XDG_RUNTIME_DIR.
    pub fn new(now: u64, terms: Terms) -> Self {
        // Replaced before anything is asked of it.
        let nowhere = Sway { control: PathBuf::new(), wayland: PathBuf::new(), terms };
        let mut found = Self { screen: Screen::new(nowhere), retry_at: None, met: false };
        if !found.connect(now) {
            info!(
                "no sway session found yet, so sessions have to wait for one; use --desktop sway for a headless desktop \
                 of lumend's own, or --desktop pattern for a test picture"
            );
            found.retry_at = Some(now + RETRY);
        }
        found
    }

    fn connect(&mut self, now: u64) -> bool {
        let own = || sway_in(&PathBuf::from(variable("XDG_RUNTIME_DIR")?));
        environment().is_some_and(|place| self.connect_to(place, now))
            || own().is_some_and(|place| self.connect_to(place, now))
    }

    fn connect_to(&mut self, (control, wayland): (PathBuf, PathBuf), now: u64) -> bool {
        self.screen.move_to(control, wayland);
        let connected = self.screen.connect(now).is_ok();
        self.met |= connected;
        connected
    }

    /// For people.
    pub fn name(&self) -> String {
        let control = self.screen.sway().control.display();
        match (self.screen.is_up(), self.met) {
            (true, _) => format!("sway at {control}"),
            (false, true) => format!("sway at {control} (gone), waits for a desktop"),
            (false, false) => "none: waits for a desktop".into(),
        }
    }

    pub fn deadline(&self) -> Option<u64> {
        [self.retry_at, self.screen.deadline()].into_iter().flatten().min()
    }

    pub fn dispatch(&mut self, now: u64, news: &mut Vec<Event>) {
        if self.retry_at.is_some_and(|at| now >= at) {
            // The next try is planned; a failure of this one is no news.
            self.retry_at = if self.connect(now) {
                info!("desktop {}", self.name());
                news.push(Event::DesktopUp);
                None
            } else {
                Some(now + RETRY)
            };
        }
        if let Some(reason) = self.screen.dispatch(now, news) {
            // The machine wants all its outputs anew when it hears this.
            drop(self.screen.disconnect());
            self.retry_at = Some(now + RETRY);
            news.push(Event::DesktopDown { reason });
        }
    }
}

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Control and Wayland socket of the session that this process was started in.
pub fn environment() -> Option<(PathBuf, PathBuf)> {
    // An absolute WAYLAND_DISPLAY replaces the directory, as it does for every Wayland client.
    let wayland = PathBuf::from(variable("XDG_RUNTIME_DIR").unwrap_or_default()).join(variable("WAYLAND_DISPLAY")?);
    Some((variable("SWAYSOCK")?.into(), wayland))
}
