//! Apps where there is no desktop of lumend's own: the launcher that starts them, from the first one on, or from the start
//! if something has been left to be undone.

use std::os::fd::BorrowedFd;
use std::rc::Rc;

use ipc::{RunId, ToLauncher};
use tracing::warn;

use super::launched::{Launched, Program, Role, Word};
use crate::machine::Event;

#[derive(Debug)]
pub(super) struct Bare {
    program: Rc<Program>,
    running: Option<Launched>,
    stopping: bool,
}

impl Bare {
    pub fn new(program: Program) -> Self {
        let mut bare = Self { program: Rc::new(program), running: None, stopping: false };
        bare.undo();
        bare
    }

    fn launcher(&mut self) -> Result<&mut Launched, String> {
        Ok(match &mut self.running {
            Some(running) => running,
            none => {
                let started = Launched::start(&self.program, Role::Apps);
                none.insert(started.map_err(|error| format!("cannot start the launcher: {error}"))?)
            }
        })
    }

    /// Has a launcher undo what another has left, which it does without being told.
    fn undo(&mut self) {
        if self.program.owes()
            && let Err(reason) = self.launcher()
        {
            warn!("what was prepared for an app is not undone: {reason}");
        }
    }

    pub fn start_app(&mut self, run: RunId, app: u16) -> Result<(), String> {
        self.program.check(app)?;
        self.launcher()?.tell(ToLauncher::StartApp { run, app });
        Ok(())
    }

    pub fn stop_app(&mut self, run: RunId) {
        if let Some(running) = &mut self.running {
            running.tell(ToLauncher::StopApp { run });
        }
    }

    /// Ends all apps; true once they have ended.
    pub fn stop(&mut self, now: u64) -> bool {
        self.stopping = true;
        if let Some(running) = &mut self.running {
            running.close(now);
            if running.reap(now).is_some() {
                self.running = None;
            }
        }
        self.running.is_none()
    }

    pub fn sources(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.running.iter().flat_map(Launched::sources)
    }

    pub fn deadline(&self) -> Option<u64> {
        self.running.as_ref().and_then(Launched::deadline)
    }

    pub fn dispatch(&mut self, now: u64, news: &mut Vec<Event>) {
        let Some(running) = &mut self.running else { return };
        while let Some(word) = running.hear(now) {
            if let Word::AppEnded { run, reason } = word {
                news.push(Event::AppEnded { run, reason });
            }
        }
        if let Some(runs) = running.reap(now) {
            self.running = None;
            // Else the next app starts another one. One that had nothing to do is not replaced, or there would be no end.
            if !runs.is_empty() && !self.stopping {
                self.undo();
            }
            news.extend(runs.into_iter().map(|run| Event::AppEnded { run, reason: "the launcher ended".into() }));
        }
    }
}
