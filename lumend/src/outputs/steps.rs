//! The sequence of requests that gives a session its output and takes it back, without a socket or a clock.
//!
//! One job runs at a time, because sway answers in order and a new output is known only by its absence before. What
//! sessions want is kept beside the jobs: a job that ends checks it, so that an acquire may be changed or withdrawn at
//! any moment.

use std::collections::{BTreeMap, VecDeque};

use ipc::SessionId;
use lumen_core::Mode;

use super::{OutputEvent, is_plain};
use crate::config::{Display, DisplaySource};
use crate::swayipc::{Output, Reply, Request};

/// A job that takes longer has failed.
const WITHIN: u64 = 3_000_000_000;

/// What an output without a rate of its own is drawn at: the default of the headless backend.
const UNSTATED_MHZ: u32 = 60_000;

/// Rate of an output that nobody watches and that cannot be switched off.
const PARKED_HZ: u32 = 10;

/// The headless backend's refresh is a timer of whole milliseconds: a faster output would never be drawn.
const FASTEST_MHZ: u32 = 1_000_000;

/// An output that lumend may give to a session.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Virtual {
    name: String,
    /// The desktop needs it: sway 1.7 aborts when a window opens and there is no output. It is never removed.
    keep: bool,
}

#[derive(Debug)]
enum Job {
    /// Adopt the outputs that a desktop of our own was started with.
    Survey,
    Acquire(SessionId),
    Release(Virtual),
}

/// Where the running job stands: what the next answer means.
#[derive(Debug)]
enum Step {
    Survey,
    Look(Acquire),
    Create(Acquire, Vec<String>),
    Find(Acquire, Vec<String>),
    Configure(Acquire, Virtual),
    Verify(Acquire, Virtual),
    Existing(Acquire, String),
    Unplug(Virtual),
    Disable(Virtual),
    VerifyDisabled(Virtual),
    Park(Virtual),
}

#[derive(Clone, Copy, Debug)]
struct Acquire {
    session: SessionId,
    mode: Mode,
}

#[derive(Debug)]
struct Running {
    step: Step,
    deadline: u64,
    /// A request is on its way; otherwise the job waits for sway to tell of a change.
    asked: bool,
    /// An output changed since the last list was asked for, so that list may be stale.
    changed: bool,
}

/// Whether this sway knows `output NAME unplug` (since 1.8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unplug {
    Untried,
    Missing,
}

#[derive(Debug)]
pub struct Steps {
    display: Display,
    unplug: Unplug,
    wanted: BTreeMap<SessionId, Mode>,
    held: BTreeMap<SessionId, Virtual>,
    spare: Vec<Virtual>,
    queue: VecDeque<Job>,
    running: Option<Running>,
    requests: VecDeque<Request>,
    events: VecDeque<OutputEvent>,
}

impl Steps {
    /// `own` says that the desktop is lumend's, and so are the outputs it was started with.
    pub fn new(now: u64, display: Display, own: bool) -> Self {
        let mut steps = Self {
            display,
            unplug: Unplug::Untried,
            wanted: BTreeMap::new(),
            held: BTreeMap::new(),
            spare: Vec::new(),
            queue: VecDeque::new(),
            running: None,
            requests: VecDeque::from([Request::WatchOutputs]),
            events: VecDeque::new(),
        };
        if own && steps.display.source == DisplaySource::Virtual {
            steps.queue.push_back(Job::Survey);
            steps.advance(now);
        }
        steps
    }

    pub fn acquire(&mut self, now: u64, session: SessionId, mode: Mode) {
        self.wanted.insert(session, mode);
        let queued = self.queue.iter().any(|job| matches!(job, Job::Acquire(other) if *other == session));
        // A running acquire looks at the wish again when it ends.
        if !queued && !self.is_acquiring(session) {
            self.queue.push_back(Job::Acquire(session));
            self.advance(now);
        }
    }

    pub fn release(&mut self, now: u64, session: SessionId) {
        self.wanted.remove(&session);
        if !self.is_acquiring(session)
            && let Some(output) = self.held.remove(&session)
        {
            self.queue.push_back(Job::Release(output));
            self.advance(now);
        }
    }

    pub fn next_request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    pub fn next_event(&mut self) -> Option<OutputEvent> {
        self.events.pop_front()
    }

    pub fn deadline(&self) -> Option<u64> {
        self.running.as_ref().map(|running| running.deadline)
    }

    /// The time named by [`Self::deadline`] has come. Without an answer sway itself is stuck, and so is the connection.
    pub fn on_deadline(&mut self, now: u64) -> Result<(), &'static str> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Ok(());
        }
        let Some(running) = self.running.take() else { return Ok(()) };
        if running.asked {
            return Err("sway does not answer");
        }
        match running.step {
            Step::Find(acquire, _) => self.failed(acquire, None, "sway made no output".to_owned()),
            Step::Verify(acquire, output) => {
                self.failed(acquire, Some(output), format!("sway does not give an output the mode {}", acquire.mode));
            }
            // No other step waits for a change.
            _ => {}
        }
        self.advance(now);
        Ok(())
    }

    pub fn on_reply(&mut self, now: u64, reply: Reply) -> Result<(), &'static str> {
        match reply {
            Reply::Watching => return Ok(()),
            Reply::OutputsChanged => {
                if let Some(running) = &mut self.running {
                    running.changed = true;
                    if !running.asked {
                        self.list_again();
                    }
                }
                return Ok(());
            }
            Reply::Ran(_) | Reply::Outputs(_) => {}
            Reply::Seats(_) | Reply::Reloaded => return Err("sway answers what nobody asked"),
        }
        let Some(running) = self.running.take() else { return Err("sway answers what nobody asked") };
        if !running.asked {
            return Err("sway answers what nobody asked");
        }
        match reply {
            Reply::Ran(outcome) => self.on_ran(now, running, outcome)?,
            Reply::Outputs(outputs) => self.on_list(now, running, &outputs)?,
            Reply::Seats(_) | Reply::Reloaded | Reply::Watching | Reply::OutputsChanged => {}
        }
        self.advance(now);
        Ok(())
    }

    fn on_ran(&mut self, now: u64, running: Running, outcome: Result<(), String>) -> Result<(), &'static str> {
        match (running.step, outcome) {
            (Step::Create(acquire, before), Ok(())) => self.list(now, Step::Find(acquire, before)),
            (Step::Create(acquire, _), Err(error)) => {
                let way_out = "set [display] source to an existing output, or run lumend with --desktop sway";
                self.failed(acquire, None, format!("this sway makes no virtual outputs ({error}); {way_out}"));
            }
            (Step::Configure(acquire, output), Ok(())) => self.list(now, Step::Verify(acquire, output)),
            (Step::Configure(acquire, output), Err(error)) => {
                self.failed(acquire, Some(output), format!("sway refuses the mode {}: {error}", acquire.mode));
            }
            (Step::Unplug(_), Ok(())) => {}
            (Step::Unplug(output), Err(_)) => {
                self.unplug = Unplug::Missing;
                self.disable(now, output);
            }
            // Sway 1.7 says that it disabled a headless output, and leaves it on.
            (Step::Disable(output), _) => self.list(now, Step::VerifyDisabled(output)),
            (Step::Park(output), _) => self.spare.push(output),
            (_, _) => return Err("sway answers out of order"),
        }
        Ok(())
    }

    fn on_list(&mut self, now: u64, running: Running, outputs: &[Output]) -> Result<(), &'static str> {
        let find = |name: &str| outputs.iter().find(|output| output.name == name);
        let stale = running.changed;
        match running.step {
            Step::Survey => {
                let ours = outputs.iter().filter(|output| is_headless(&output.name) && is_plain(&output.name));
                self.spare.extend(ours.map(|output| Virtual { name: output.name.clone(), keep: true }));
            }
            Step::Look(acquire) if let Some(name) = self.left_parked(outputs) => {
                self.configure(now, acquire, Virtual { name, keep: false });
            }
            Step::Look(acquire) => {
                let before = outputs.iter().map(|output| output.name.clone()).collect();
                self.run(now, "create_output".to_owned(), Step::Create(acquire, before));
            }
            Step::Find(acquire, before) => match newest(outputs, &before) {
                Some(name) => self.configure(now, acquire, Virtual { name, keep: false }),
                None => self.wait(running.deadline, Step::Find(acquire, before), stale),
            },
            Step::Verify(acquire, output) => match find(&output.name) {
                // It was unplugged while it was spare.
                None => self.queue.push_front(Job::Acquire(acquire.session)),
                Some(now_is) if is_in_mode(now_is, acquire.mode, self.rate(acquire.mode)) => {
                    self.ready(acquire, output)
                }
                Some(_) => self.wait(running.deadline, Step::Verify(acquire, output), stale),
            },
            Step::Existing(acquire, name) => match find(&name).map(mode_of) {
                Some(Some(mode)) => self.found(acquire, name, mode),
                Some(None) => {
                    self.failed(
                        acquire,
                        None,
                        format!("the output {name} is off or in a mode that cannot be streamed"),
                    );
                }
                None => self.failed(acquire, None, format!("sway has no output {name}; see swaymsg -t get_outputs")),
            },
            Step::VerifyDisabled(output) => match find(&output.name) {
                None => {}
                Some(still) if still.active => self.park(now, output, still),
                Some(_) => self.spare.push(output),
            },
            _ => return Err("sway answers out of order"),
        }
        Ok(())
    }

    /// Starts the next job if none runs.
    fn advance(&mut self, now: u64) {
        while self.running.is_none() {
            match self.queue.pop_front() {
                None => return,
                Some(Job::Survey) => self.list(now, Step::Survey),
                Some(Job::Acquire(session)) => {
                    // Withdrawn while it waited: whatever the session had is given back below.
                    let Some(&mode) = self.wanted.get(&session) else { continue };
                    self.begin(now, Acquire { session, mode });
                }
                Some(Job::Release(output)) if output.keep => self.list(now, Step::VerifyDisabled(output)),
                Some(Job::Release(output)) if self.unplug == Unplug::Missing => self.disable(now, output),
                Some(Job::Release(output)) => {
                    self.run(now, format!("output {} unplug", output.name), Step::Unplug(output));
                }
            }
        }
    }

    fn begin(&mut self, now: u64, acquire: Acquire) {
        if let DisplaySource::Output(name) = &self.display.source {
            let step = Step::Existing(acquire, name.clone());
            self.list(now, step);
        } else if let Some(output) = self.held.remove(&acquire.session) {
            self.configure(now, acquire, output);
        } else if self.spare.is_empty() {
            self.list(now, Step::Look(acquire));
        } else {
            // The oldest first: on a desktop of our own that is the one with the windows on it.
            let output = self.spare.remove(0);
            self.configure(now, acquire, output);
        }
    }

    fn configure(&mut self, now: u64, acquire: Acquire, output: Virtual) {
        let mode = acquire.mode;
        let rate = self.rate(mode);
        let (hertz, thousandths) = (rate / 1000, rate % 1000);
        let size = format!("{}x{}", mode.width(), mode.height());
        let command = format!("output {} enable mode --custom {size}@{hertz}.{thousandths:03}Hz scale 1", output.name);
        self.run(now, command, Step::Configure(acquire, output));
    }

    /// Thousandths of a hertz at which an output refreshes for a stream in this mode.
    fn rate(&self, mode: Mode) -> u32 {
        let most = (FASTEST_MHZ / mode.refresh_mhz()).max(1);
        mode.refresh_mhz() * self.display.refresh_multiple.clamp(1, most)
    }

    fn disable(&mut self, now: u64, output: Virtual) {
        self.run(now, format!("output {} disable", output.name), Step::Disable(output));
    }

    /// With `enable`, because sway 1.7 remembers the `disable` that it did not carry out, and then ignores modes.
    fn park(&mut self, now: u64, output: Virtual, still: &Output) {
        match still.current_mode {
            Some(mode) => {
                let command =
                    format!("output {} enable mode --custom {}x{}@{PARKED_HZ}Hz", output.name, mode.width, mode.height);
                self.run(now, command, Step::Park(output));
            }
            None => self.spare.push(output),
        }
    }

    /// The output is the session's, if the session still wants it, and wants it so.
    fn ready(&mut self, acquire: Acquire, output: Virtual) {
        let name = output.name.clone();
        match self.wanted.get(&acquire.session) {
            // Before anybody else is served: a desktop of our own has one output with windows, which the next should get.
            None => self.queue.push_front(Job::Release(output)),
            Some(&mode) => {
                self.held.insert(acquire.session, output);
                if mode == acquire.mode {
                    self.events.push_back(OutputEvent::Ready { session: acquire.session, name, mode, seat: None });
                } else {
                    self.queue.push_back(Job::Acquire(acquire.session));
                }
            }
        }
    }

    fn found(&mut self, acquire: Acquire, name: String, mode: Mode) {
        if self.wanted.contains_key(&acquire.session) {
            self.events.push_back(OutputEvent::Ready { session: acquire.session, name, mode, seat: None });
        }
    }

    fn failed(&mut self, acquire: Acquire, output: Option<Virtual>, reason: String) {
        if let Some(output) = output {
            self.queue.push_front(Job::Release(output));
        }
        match self.wanted.get(&acquire.session) {
            None => {}
            Some(&mode) if mode == acquire.mode => {
                self.wanted.remove(&acquire.session);
                self.events.push_back(OutputEvent::Failed { session: acquire.session, reason });
            }
            Some(_) => self.queue.push_back(Job::Acquire(acquire.session)),
        }
    }

    fn run(&mut self, now: u64, command: String, step: Step) {
        self.requests.push_back(Request::Run(command));
        self.running = Some(Running { step, deadline: now + WITHIN, asked: true, changed: false });
    }

    fn list(&mut self, now: u64, step: Step) {
        self.requests.push_back(Request::ListOutputs);
        self.running = Some(Running { step, deadline: now + WITHIN, asked: true, changed: false });
    }

    /// The list does not show yet what it should: ask again when an output changes, or at once if one just did.
    fn wait(&mut self, deadline: u64, step: Step, stale: bool) {
        self.running = Some(Running { step, deadline, asked: false, changed: false });
        if stale {
            self.list_again();
        }
    }

    fn list_again(&mut self) {
        if let Some(running) = &mut self.running {
            running.asked = true;
            running.changed = false;
            self.requests.push_back(Request::ListOutputs);
        }
    }

    /// An output that an earlier lumend has made in this session, and could not remove.
    fn left_parked(&self, outputs: &[Output]) -> Option<String> {
        let ours = |name: &str| {
            let released = |job: &Job| matches!(job, Job::Release(output) if output.name == name);
            self.held.values().any(|output| output.name == name) || self.queue.iter().any(released)
        };
        let parked = |output: &&Output| {
            output.active && output.current_mode.is_some_and(|mode| mode.refresh == i64::from(PARKED_HZ) * 1000)
        };
        let headless = outputs.iter().filter(|output| is_headless(&output.name));
        let mut left = headless.filter(parked).map(|output| &output.name);
        left.find(|name| is_plain(name) && !ours(name)).cloned()
    }

    fn is_acquiring(&self, session: SessionId) -> bool {
        match self.running.as_ref().map(|running| &running.step) {
            Some(
                Step::Look(acquire)
                | Step::Create(acquire, _)
                | Step::Find(acquire, _)
                | Step::Configure(acquire, _)
                | Step::Verify(acquire, _)
                | Step::Existing(acquire, _),
            ) => acquire.session == session,
            _ => false,
        }
    }
}

/// By its name, because sway tells no make of such an output any more (1.7: "headless", 1.10: "Unknown").
fn is_headless(name: &str) -> bool {
    name.starts_with("HEADLESS-")
}

/// The output that was not there before. People may plug in a monitor at the same moment, so a headless one is
/// preferred.
fn newest(outputs: &[Output], before: &[String]) -> Option<String> {
    let fresh = || outputs.iter().map(|output| &output.name).filter(|name| is_plain(name) && !before.contains(name));
    fresh().find(|name| is_headless(name)).or_else(|| fresh().next()).cloned()
}

/// Sway takes the rate as a decimal fraction and may round it.
fn is_in_mode(output: &Output, mode: Mode, rate_mhz: u32) -> bool {
    output.active
        && output.current_mode.is_some_and(|current| {
            let size = (current.width, current.height) == (mode.width().into(), mode.height().into());
            size && (current.refresh - i64::from(rate_mhz)).abs() <= 10
        })
}

fn mode_of(output: &Output) -> Option<Mode> {
    let current = output.current_mode.filter(|_| output.active)?;
    let (width, height) = (current.width.try_into().ok()?, current.height.try_into().ok()?);
    let refresh_mhz = if current.refresh == 0 { UNSTATED_MHZ } else { current.refresh.try_into().ok()? };
    Mode::new(width, height, refresh_mhz).ok()
}

#[cfg(test)]
mod tests;
