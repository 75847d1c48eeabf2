//! lumend's end of a desktop of its own: it keeps a compositor running, at the pace of the restart policy, and apps on
//! it.

use std::io;
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use ipc::{RunId, ToLauncher};

use super::launched::{Launched, Program, Role, Word};
use crate::machine::Crashes;

/// What the launcher has to tell.
#[derive(Debug)]
pub enum News {
    Up,
    Down {
        reason: String,
    },
    /// It did not even come up once: the reason is one that trying again does not mend.
    Hopeless {
        reason: String,
    },
    AppEnded {
        run: RunId,
        reason: String,
    },
}

/// The launcher of one desktop, and when to order what from it.
#[derive(Debug)]
pub struct Own {
    program: Rc<Program>,
    number: u32,
    running: Option<Launched>,
    /// A desktop has been ordered, and not been said to be gone since.
    ordered: bool,
    /// It has been told to go, and has not been said to be gone: what the launcher says until then is about that one.
    leaving: bool,
    start_at: Option<u64>,
    /// Apps for the desktop that is to be ordered.
    wanted: Vec<(RunId, u16)>,
    pace: Crashes,
    was_up: bool,
    /// Since when it has been up, if it is.
    up_since: Option<u64>,
    stopping: bool,
}

impl Own {
    /// Nothing is started yet.
    pub fn new(program: Rc<Program>, number: u32) -> Self {
        Self {
            program,
            number,
            running: None,
            ordered: false,
            leaving: false,
            start_at: None,
            wanted: Vec::new(),
            pace: Crashes::default(),
            was_up: false,
            up_since: None,
            stopping: false,
        }
    }

    /// Orders a desktop, of a launcher that is started if there is none.
    pub fn order(&mut self) -> io::Result<()> {
        let running = match &mut self.running {
            Some(running) => running,
            none => none.insert(Launched::start(&self.program, Role::Desktop(self.number))?),
        };
        self.ordered = true;
        running.tell(ToLauncher::StartDesktop);
        for (run, app) in self.wanted.drain(..) {
            running.tell(ToLauncher::StartApp { run, app });
        }
        Ok(())
    }

    /// There is no desktop, and none is on its way.
    pub const fn is_idle(&self) -> bool {
        !self.ordered && self.start_at.is_none()
    }

    /// Starts an app as soon as the desktop is up.
    pub fn start_app(&mut self, run: RunId, app: u16) -> Result<(), String> {
        self.program.check(app)?;
        match &mut self.running {
            Some(running) if self.ordered => running.tell(ToLauncher::StartApp { run, app }),
            _ => self.wanted.push((run, app)),
        }
        Ok(())
    }

    /// Ends a run of this desktop's. That it has ended is told now or later.
    pub fn stop_app(&mut self, run: RunId, news: &mut Vec<News>) {
        if let Some(at) = self.wanted.iter().position(|wanted| wanted.0 == run) {
            self.wanted.remove(at);
            news.push(News::AppEnded { run, reason: "it was stopped".into() });
        } else if let Some(running) = &mut self.running {
            running.tell(ToLauncher::StopApp { run });
        }
    }

    /// Whatever is left of the desktop is ended, and a new one started when it is time.
    pub fn start_again(&mut self, now: u64) {
        if self.start_at.is_none() && !self.stopping {
            self.leaving |= std::mem::take(&mut self.ordered);
            if let Some(running) = &mut self.running {
                running.tell(ToLauncher::StopDesktop);
            }
            let lived = self.up_since.take().map_or(0, |since| now.saturating_sub(since));
            self.start_at = Some(self.pace.pace(lived, now));
        }
    }

    /// Ends the launcher and with it the desktop; true once it has ended.
    pub fn stop(&mut self, now: u64) -> bool {
        self.stopping = true;
        self.start_at = None;
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
        let start_at = self.start_at.filter(|_| !self.leaving);
        [start_at, self.running.as_ref().and_then(Launched::deadline)].into_iter().flatten().min()
    }

    pub fn dispatch(&mut self, now: u64) -> Vec<News> {
        let mut news = Vec::new();
        while let Some(word) = self.running.as_mut().and_then(|running| running.hear(now)) {
            match word {
                Word::Ready if self.leaving => {}
                Word::Gone { .. } if self.leaving => self.leaving = false,
                Word::Ready => {
                    (self.was_up, self.ordered) = (true, true);
                    self.up_since = Some(now);
                    news.push(News::Up);
                }
                Word::Gone { reason } => self.down(reason, &mut news),
                Word::AppEnded { run, reason } => news.push(News::AppEnded { run, reason }),
            }
        }
        if let Some(runs) = self.running.as_mut().and_then(|running| running.reap(now)) {
            (self.running, self.leaving) = (None, false);
            news.extend(runs.into_iter().map(|run| News::AppEnded { run, reason: "the launcher ended".into() }));
            if !self.stopping {
                self.down("the launcher ended".into(), &mut news);
            }
        }
        if !self.leaving && self.start_at.is_some_and(|at| now >= at) {
            self.start_at = None;
            if let Err(error) = self.order() {
                self.down(format!("cannot start the launcher: {error}"), &mut news);
            }
        }
        news
    }

    fn down(&mut self, reason: String, news: &mut Vec<News>) {
        self.ordered = false;
        if self.was_up {
            return news.push(News::Down { reason });
        }
        // What waited for the desktop waits no longer.
        let ended = |(run, _)| News::AppEnded { run, reason: format!("its desktop does not come up: {reason}") };
        news.extend(self.wanted.drain(..).map(ended));
        news.push(News::Hopeless { reason });
    }
}

#[cfg(test)]
mod tests {
    use ipc::FromLauncher;
    use ipc::link::Link;

    use super::super::launched::tests::Manager;
    use super::*;

    const LIVED: u64 = 3_000_000_000;

    fn orders(link: &Link) -> Vec<ToLauncher> {
        std::iter::from_fn(|| link.recv::<ToLauncher>().unwrap().map(|received| received.message)).collect()
    }

    /// lumend sees the compositor's end on its own connection before the launcher can tell of it.
    #[test]
    fn the_end_of_a_desktop_is_not_taken_for_that_of_its_successor() {
        let manager = Manager::new("own");
        let mut own = Own::new(Rc::new(manager.program()), 1);
        own.order().unwrap();
        let link = manager.launcher();
        link.send(FromLauncher::DesktopReady).unwrap();
        assert!(matches!(own.dispatch(0)[..], [News::Up]));
        assert!(matches!(orders(&link)[..], [ToLauncher::Begin { .. }, ToLauncher::StartDesktop]));

        own.start_again(LIVED);
        assert!(own.dispatch(LIVED).is_empty() && own.deadline().is_none_or(|at| at > LIVED), "it waits");
        assert!(matches!(orders(&link)[..], [ToLauncher::StopDesktop]));
        link.send(FromLauncher::DesktopGone { reason: "it was stopped".into() }).unwrap();
        assert!(own.dispatch(LIVED).is_empty(), "which is known");
        assert!(matches!(orders(&link)[..], [ToLauncher::StartDesktop]), "at once, since the first had lived");

        link.send(FromLauncher::DesktopGone { reason: "it dies".into() }).unwrap();
        assert!(matches!(own.dispatch(LIVED)[..], [News::Down { .. }]), "which is news");
    }
}
