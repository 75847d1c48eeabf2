//! Somebody else's sway: it is there or it is not, and then it is tried again.

use std::io;
use std::path::PathBuf;

use super::screen::{Screen, Sway};
use crate::machine::Event;
use crate::outputs::Terms;

/// Between tries to reach a compositor that went away.
const RETRY: u64 = 500_000_000;

/// No desktop to show. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum NoDesktop {
    #[error(
        "no sway session found: start lumend inside one, or use --desktop sway for a headless desktop of its own, \
         or --desktop pattern for a test picture"
    )]
    NotFound,
    #[error(
        "cannot reach the sway session at {}: {error}; start lumend as its user, or use --desktop sway",
        path.display()
    )]
    Unreachable { path: PathBuf, error: io::Error },
}

#[derive(Debug)]
pub(super) struct Found {
    pub screen: Screen,
    retry_at: Option<u64>,
}

impl Found {
    /// The session lumend was started in, as SWAYSOCK, WAYLAND_DISPLAY and XDG_RUNTIME_DIR name it.
    pub fn connect(now: u64, terms: Terms) -> Result<Self, NoDesktop> {
        let (control, wayland) = environment().ok_or(NoDesktop::NotFound)?;
        let mut screen = Screen::new(Sway { control, wayland, terms });
        match screen.connect(now) {
            Ok(()) => Ok(Self { screen, retry_at: None }),
            Err(error) => Err(NoDesktop::Unreachable { path: screen.sway().control.clone(), error }),
        }
    }

    pub fn deadline(&self) -> Option<u64> {
        [self.retry_at, self.screen.deadline()].into_iter().flatten().min()
    }

    pub fn dispatch(&mut self, now: u64, news: &mut Vec<Event>) {
        if self.retry_at.is_some_and(|at| now >= at) {
            // The next try is planned; a failure of this one is no news.
            self.retry_at = match self.screen.connect(now) {
                Ok(()) => {
                    news.push(Event::DesktopUp);
                    None
                }
                Err(_) => Some(now + RETRY),
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

/// Control and Wayland socket of the session that this process was started in.
pub fn environment() -> Option<(PathBuf, PathBuf)> {
    let path = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // An absolute WAYLAND_DISPLAY replaces the directory, as it does for every Wayland client.
    let wayland = path("XDG_RUNTIME_DIR").unwrap_or_default().join(path("WAYLAND_DISPLAY")?);
    Some((path("SWAYSOCK")?, wayland))
}
