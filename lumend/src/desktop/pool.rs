//! The desktops of lumend's own: a compositor for each session that runs at a time, so that people do not meet on it.
//!
//! The first is there from the start. A session gets the free one with the lowest number, and where none is free one
//! more is started for it. What runs on a desktop stays when its session leaves, for whoever gets it next; but while an
//! app runs there that was started for a client, it is kept for that app's next session.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use ipc::{RunId, SessionId};
use lumen_core::Mode;
use tracing::{info, warn};

use super::launched::Program;
use super::own::{News, Own};
use super::screen::{Screen, Sway};
use crate::machine::{Attempt, Event};
use crate::outputs::Terms;

/// The desktop that lumend starts with; its end as a hopeless one is lumend's.
const FIRST: u32 = 1;
/// Desktops at a time, those that nobody looks at among them.
const MOST: usize = 16;

#[derive(Debug)]
pub(super) struct Pool {
    program: Rc<Program>,
    terms: Terms,
    most: u32,
    /// By number, from [`FIRST`] on. None is ever taken away.
    desktops: Vec<OwnDesktop>,
    hopeless: Option<String>,
}

/// One compositor with its launcher. It serves one session at a time.
#[derive(Debug)]
struct OwnDesktop {
    number: u32,
    own: Own,
    screen: Screen,
    /// Apps that were started for clients and have not ended.
    runs: BTreeSet<RunId>,
}

impl Pool {
    /// Starts the first desktop. There will be `most` at most.
    pub fn start(program: Program, terms: Terms, most: u32) -> io::Result<Self> {
        let mut pool = Self { program: Rc::new(program), terms, most, desktops: Vec::new(), hopeless: None };
        pool.add().own.order()?;
        Ok(pool)
    }

    /// One more, which nobody has ordered yet.
    fn add(&mut self) -> &mut OwnDesktop {
        let number = self.desktops.last().map_or(FIRST, |last| last.number + 1);
        let paths = self.program.paths(number);
        let sway = Sway { control: paths.control, wayland: paths.wayland, terms: self.terms.clone() };
        let own = Own::new(Rc::clone(&self.program), number);
        let index = self.desktops.len();
        self.desktops.push(OwnDesktop { number, own, screen: Screen::new(sway), runs: BTreeSet::new() });
        &mut self.desktops[index]
    }

    pub fn name(&self) -> String {
        match self.desktops.len() {
            _ if !self.is_up() => "sway of its own (starting)".into(),
            1 => "sway of its own".into(),
            count => format!("sway of its own, {count} desktops"),
        }
    }

    /// The first is.
    pub fn is_up(&self) -> bool {
        self.desktops.first().is_some_and(|first| first.screen.is_up())
    }

    /// Why the first one, and so all, will never be.
    pub fn hopeless(&mut self) -> Option<String> {
        self.hopeless.take()
    }

    /// True once all have ended.
    pub fn stop(&mut self, now: u64) -> bool {
        let mut ended = true;
        for desktop in &mut self.desktops {
            drop(desktop.screen.disconnect());
            ended &= desktop.own.stop(now);
        }
        ended
    }

    /// An answer, if there is one at once. What `run` names is where the session goes, if that runs.
    pub fn acquire(
        &mut self,
        now: u64,
        session: SessionId,
        attempt: Attempt,
        mode: Mode,
        run: Option<RunId>,
    ) -> Option<Event> {
        let find = |fits: &dyn Fn(&OwnDesktop) -> bool| self.desktops.iter().position(fits);
        let runs_on = |desktop: &OwnDesktop| run.is_some_and(|run| desktop.runs.contains(&run));
        let index = find(&|desktop| desktop.screen.shows(session))
            .or_else(|| find(&|desktop| runs_on(desktop) && desktop.screen.is_free()))
            .or_else(|| find(&|desktop| desktop.screen.is_free() && desktop.runs.is_empty()));
        // Those that are kept do not count as anybody's.
        let (all, kept) = (self.desktops.len(), self.desktops.iter().filter(|desktop| desktop.is_kept()).count());
        let desktop = match index {
            Some(index) => &mut self.desktops[index],
            None if ((all - kept) as u64) < u64::from(self.most) && all < MOST => {
                let desktop = self.add();
                info!(session = session.0, "session {session}: desktop {} is started for it", desktop.number);
                desktop
            }
            None => {
                let reason = match kept {
                    0 => format!("all {all} desktops are taken; see [sessions] max"),
                    _ => format!("all {all} desktops are taken, {kept} of them by apps that clients have left running"),
                };
                return Some(Event::OutputFailed { session, attempt, reason });
            }
        };
        desktop.screen.acquire(now, session, attempt, mode);
        if desktop.own.is_idle() {
            desktop.own.start_again(now);
        }
        None
    }

    pub fn release(&mut self, now: u64, session: SessionId) {
        self.desktops.iter_mut().for_each(|desktop| desktop.screen.release(now, session));
    }

    fn of(&self, session: SessionId) -> Option<&OwnDesktop> {
        self.desktops.iter().find(|desktop| desktop.screen.shows(session))
    }

    /// On the session's desktop, as soon as that is up.
    pub fn start_app(&mut self, session: SessionId, run: RunId, app: u16) -> Result<(), String> {
        let its = self.desktops.iter_mut().find(|desktop| desktop.screen.shows(session));
        let desktop = its.ok_or("its desktop is gone")?;
        desktop.own.start_app(run, app)?;
        desktop.runs.insert(run);
        Ok(())
    }

    pub fn stop_app(&mut self, run: RunId, news: &mut Vec<Event>) {
        let its = self.desktops.iter_mut().find(|desktop| desktop.runs.contains(&run));
        let Some(desktop) = its else { return };
        let mut words = Vec::new();
        desktop.own.stop_app(run, &mut words);
        words.into_iter().for_each(|word| desktop.app_news(word, news));
    }

    pub fn screen(&self, session: SessionId) -> Option<&Screen> {
        self.of(session).map(|desktop| &desktop.screen)
    }

    /// Which desktop a session is on.
    pub fn number(&self, session: SessionId) -> Option<u32> {
        self.of(session).map(|desktop| desktop.number)
    }

    pub fn sources(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        self.desktops.iter().flat_map(|OwnDesktop { own, screen, .. }| {
            screen.source_fd().into_iter().chain(own.sources().map(|fd| (fd, false)))
        })
    }

    pub fn deadline(&self) -> Option<u64> {
        let each = |desktop: &OwnDesktop| [desktop.own.deadline(), desktop.screen.deadline()];
        self.desktops.iter().flat_map(each).flatten().min()
    }

    pub fn dispatch(&mut self, now: u64, news: &mut Vec<Event>) {
        for desktop in &mut self.desktops {
            for word in desktop.own.dispatch(now) {
                match word {
                    News::Up => desktop.up(now, news),
                    News::Down { reason } => desktop.lost(now, &reason, news),
                    News::Hopeless { reason } if desktop.number == FIRST => self.hopeless = Some(reason),
                    News::Hopeless { reason } => desktop.gave_up(&reason, news),
                    word @ News::AppEnded { .. } => desktop.app_news(word, news),
                }
            }
            if let Some(reason) = desktop.screen.dispatch(now, news) {
                desktop.lost(now, &reason, news);
            }
        }
    }
}

impl OwnDesktop {
    /// Nobody looks at it, but an app runs on it that a client may come back to.
    fn is_kept(&self) -> bool {
        self.screen.is_free() && !self.runs.is_empty()
    }

    fn app_news(&mut self, word: News, news: &mut Vec<Event>) {
        if let News::AppEnded { run, reason } = word
            && self.runs.remove(&run)
        {
            news.push(Event::AppEnded { run, reason });
        }
    }

    fn up(&mut self, now: u64, news: &mut Vec<Event>) {
        if self.screen.is_up() {
            return;
        }
        match self.screen.connect(now) {
            Ok(()) if self.number == FIRST => news.push(Event::DesktopUp),
            Ok(()) => info!("desktop {} is up", self.number),
            Err(error) => self.lost(now, &format!("it cannot be reached: {error}"), news),
        }
    }

    /// It comes back, empty, and its session asks again for what went with it.
    fn lost(&mut self, now: u64, reason: &str, news: &mut Vec<Event>) {
        if self.screen.is_up() {
            warn!("desktop {} is gone: {reason}", self.number);
        }
        let lost = self.screen.disconnect();
        news.extend(lost.map(|(session, _)| Event::OutputLost { session, reason: reason.to_owned() }));
        self.own.start_again(now);
    }

    /// It has never been there. The next session that gets it tries again.
    fn gave_up(&mut self, reason: &str, news: &mut Vec<Event>) {
        warn!("desktop {} does not come up: {reason}", self.number);
        let reason = format!("desktop {} does not come up: {reason}", self.number);
        let failed = self.screen.disconnect();
        news.extend(failed.map(|(session, attempt)| Event::OutputFailed { session, attempt, reason: reason.clone() }));
    }
}

#[cfg(test)]
mod tests;
