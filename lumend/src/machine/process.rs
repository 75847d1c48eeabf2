//! One plane as the machine sees it: a process with a life, and the slot that its heirs fill after it.

use ipc::{PlaneKind, SessionId};

use super::event::{Exit, PlaneId};
use super::policy::{
    Crashes, EXIT_WITHIN, FAILED_FOR, HELLO_WITHIN, PING_EVERY, PINGS_MISSED, STOP_AUDIO_WITHIN, STOP_WITHIN,
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Started, no `Hello` yet.
    Starting { until: u64 },
    /// May be sent messages.
    Ready { ping_at: u64, token: u64, unanswered: u32 },
    /// Its link is closed, by us or by itself; killed at `until`.
    Closing { until: u64 },
    /// SIGKILL is on its way; nothing is left but its exit status.
    Killed,
}

/// A process that lives, or has not been reaped yet.
#[derive(Clone, Debug)]
pub struct Process {
    pub kind: PlaneKind,
    pub session: Option<SessionId>,
    pub phase: Phase,
    pub started_at: u64,
}

/// What a process's clock asks for.
#[derive(PartialEq, Eq, Debug)]
pub enum Due {
    Ping(u64),
    /// It should have spoken, answered or exited by now; the reason is for people.
    Kill(&'static str),
}

impl Process {
    pub fn started(kind: PlaneKind, session: Option<SessionId>, now: u64) -> Self {
        Self { kind, session, phase: Phase::Starting { until: now + HELLO_WITHIN }, started_at: now }
    }

    pub fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready { .. })
    }

    /// True once its link is closed or its end decided: it must not be sent anything.
    pub fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Closing { .. } | Phase::Killed)
    }

    /// `Hello` came. False where none was due.
    pub fn greet(&mut self, now: u64) -> bool {
        let due = matches!(self.phase, Phase::Starting { .. });
        if due {
            self.phase = Phase::Ready { ping_at: now + PING_EVERY, token: 0, unanswered: 0 };
        }
        due
    }

    /// An answer shows that the plane lived when it got that ping; those sent since are still open. One to a ping that
    /// was never sent, or was answered before, shows nothing.
    pub fn pong(&mut self, answer: u64) {
        if let Phase::Ready { token, unanswered, .. } = &mut self.phase
            && let Some(since) = token.checked_sub(answer).filter(|&since| since < u64::from(*unanswered))
        {
            *unanswered = since as u32;
        }
    }

    pub fn close(&mut self, now: u64) {
        let within = if self.kind == PlaneKind::Audio { STOP_AUDIO_WITHIN } else { STOP_WITHIN };
        self.phase = Phase::Closing { until: now + within };
    }

    pub fn closed_itself(&mut self, now: u64) {
        if !self.is_leaving() {
            self.phase = Phase::Closing { until: now + EXIT_WITHIN };
        }
    }

    pub fn deadline(&self) -> Option<u64> {
        match self.phase {
            Phase::Starting { until } | Phase::Closing { until } => Some(until),
            Phase::Ready { ping_at, .. } => Some(ping_at),
            Phase::Killed => None,
        }
    }

    /// Advances the clock; the caller acts on the answer.
    pub fn tick(&mut self, now: u64) -> Option<Due> {
        match &mut self.phase {
            Phase::Starting { until } if now >= *until => Some(Due::Kill("it did not come up within 3 s")),
            Phase::Closing { until } if now >= *until => Some(Due::Kill("it did not exit when told to")),
            Phase::Ready { ping_at, unanswered, .. } if now >= *ping_at && *unanswered >= PINGS_MISSED => {
                Some(Due::Kill("it left four pings unanswered"))
            }
            Phase::Ready { ping_at, token, unanswered } if now >= *ping_at => {
                *ping_at = now + PING_EVERY;
                *token += 1;
                *unanswered += 1;
                Some(Due::Ping(*token))
            }
            _ => None,
        }
    }
}

/// The place of a plane in a session, or of net in the host: at most one process at a time, and its history.
#[derive(Clone, Debug)]
pub struct Slot {
    pub kind: PlaneKind,
    pub current: Option<PlaneId>,
    /// When to start the next process, while there is none.
    pub retry_at: Option<u64>,
    /// Processes that had to be replaced: crashes and a person's restarts, but no `Reopen`.
    pub restarts: u32,
    pub reopens: u32,
    pub last_exit: Option<String>,
    /// It failed five times in a minute, and nothing has been tried since.
    pub failed: bool,
    crashes: Crashes,
    reopening: Crashes,
}

impl Slot {
    pub fn new(kind: PlaneKind) -> Self {
        Self {
            kind,
            current: None,
            retry_at: None,
            restarts: 0,
            reopens: 0,
            last_exit: None,
            failed: false,
            crashes: Crashes::default(),
            reopening: Crashes::default(),
        }
    }

    /// A process takes the place.
    pub fn fill(&mut self, plane: PlaneId) {
        self.current = Some(plane);
        self.failed = false;
    }

    /// Its process, which was started `lived` ago, is gone, or as good as gone. Plans the next one; an `Err` says that
    /// there will be none soon, and why.
    pub fn lost(&mut self, exit: &Exit, lived: u64, now: u64) -> Result<(), String> {
        self.current = None;
        self.last_exit = Some(exit.to_string());
        if *exit == Exit::Reopen {
            self.reopens += 1;
            self.retry_at = Some(self.reopening.pace(lived, now));
            return Ok(());
        }
        self.retry_at = self.crashes.charge(lived, now);
        if self.retry_at.is_none() {
            self.failed = true;
            // Its session ends; what has none is tried again.
            self.retry_at = Some(now + FAILED_FOR);
            return Err(format!("the {} plane failed five times in a minute; last: {exit}", self.kind));
        }
        self.restarts += 1;
        Ok(())
    }

    /// A person wants a fresh process: at once, and with a clean record.
    pub fn renew(&mut self, now: u64) {
        self.current = None;
        self.last_exit = Some("restarted by hand".into());
        self.restarts += 1;
        self.failed = false;
        self.crashes.forget();
        self.retry_at = Some(now);
    }

    /// It is sent away through no fault of its own; the next comes at `again_at`, or as after a `Reopen`.
    pub fn replace(&mut self, reason: &str, again_at: Option<u64>, now: u64) {
        self.current = None;
        self.last_exit = Some(reason.to_owned());
        self.reopens += 1;
        let pace = self.reopening.pace(0, now);
        self.retry_at = Some(again_at.unwrap_or(pace));
    }

    pub fn is_due(&self, now: u64) -> bool {
        self.current.is_none() && self.retry_at.is_some_and(|at| now >= at)
    }
}
