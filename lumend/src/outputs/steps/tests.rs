use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::swayipc::{CurrentMode, Rect};

/// A sway that answers in order, of an old or a new kind.
#[derive(Clone, Debug)]
struct World {
    outputs: Vec<Output>,
    made: usize,
    knows_unplug: bool,
    can_disable: bool,
    /// New outputs appear one event after the reply to `create_output`.
    makes_late: bool,
    late: Vec<Output>,
    refuses_create: bool,
    commands: Vec<String>,
}

impl World {
    /// As sway 1.7 with the headless backend was seen to behave.
    fn old() -> Self {
        Self {
            outputs: Vec::new(),
            made: 0,
            knows_unplug: false,
            can_disable: false,
            makes_late: false,
            late: Vec::new(),
            refuses_create: false,
            commands: Vec::new(),
        }
    }

    fn new() -> Self {
        Self { knows_unplug: true, can_disable: true, ..Self::old() }
    }

    fn with_output(mut self, name: &str) -> Self {
        let current_mode = Some(CurrentMode { width: 1920, height: 1080, refresh: 60_000 });
        self.outputs.push(Output {
            name: name.to_owned(),
            active: true,
            current_mode,
            rect: Rect::default(),
            focused: false,
        });
        self.made += 1;
        self
    }

    fn answer(&mut self, request: &Request) -> Reply {
        match request {
            Request::WatchOutputs | Request::WatchReloads => Reply::Watching,
            Request::ListSeats => Reply::Seats(Vec::new()),
            Request::ListOutputs => Reply::Outputs(self.outputs.clone()),
            Request::Run(command) => {
                self.commands.push(command.clone());
                Reply::Ran(self.run(command))
            }
        }
    }

    fn run(&mut self, command: &str) -> Result<(), String> {
        let words: Vec<_> = command.split(' ').collect();
        match words[..] {
            ["create_output"] if self.refuses_create => Err("only for nested backends".to_owned()),
            ["create_output"] => {
                let name = format!("HEADLESS-{}", self.made + 1);
                let made = self.clone().with_output(&name).outputs.pop().unwrap();
                self.made += 1;
                if self.makes_late {
                    self.late.push(made)
                } else {
                    self.outputs.push(made)
                }
                Ok(())
            }
            ["output", _, "unplug"] if !self.knows_unplug => Err("Invalid output subcommand: unplug.".to_owned()),
            ["output", name, "unplug"] => {
                self.outputs.retain(|output| output.name != name);
                Ok(())
            }
            ["output", name, "disable"] => {
                let can = self.can_disable;
                if let Some(output) = self.outputs.iter_mut().find(|output| output.name == name && can) {
                    (output.active, output.current_mode) = (false, None);
                }
                Ok(())
            }
            ["output", name, .., "--custom", mode, "scale", "1"]
            | ["output", name, "enable", "mode", "--custom", mode] => {
                let raw: lumen_core::RawMode = mode.trim_end_matches("Hz").parse().map_err(|_| mode.to_owned())?;
                if let Some(output) = self.outputs.iter_mut().find(|output| output.name == name) {
                    let (width, height) = (raw.width.into(), raw.height.into());
                    output.active = true;
                    output.current_mode = Some(CurrentMode { width, height, refresh: raw.refresh_mhz.into() });
                }
                Ok(())
            }
            _ => Err(format!("Unknown command {command}")),
        }
    }

    /// Serves until nothing is asked any more.
    fn settle(&mut self, steps: &mut Steps) -> Vec<OutputEvent> {
        while self.serve_one(steps) {}
        std::iter::from_fn(|| steps.next_event()).collect()
    }

    fn serve_one(&mut self, steps: &mut Steps) -> bool {
        if let Some(request) = steps.next_request() {
            let reply = self.answer(&request);
            steps.on_reply(0, reply).unwrap();
            return true;
        }
        let late = std::mem::take(&mut self.late);
        let any = !late.is_empty();
        self.outputs.extend(late);
        if any {
            steps.on_reply(0, Reply::OutputsChanged).unwrap();
        }
        any
    }
}

fn mode(width: u16, hz: u32) -> Mode {
    Mode::new(width, 720, hz * 1000).unwrap()
}

fn shown(output: &str) -> Display {
    Display { source: DisplaySource::Output(output.to_owned()), ..Display::default() }
}

fn virtual_steps() -> Steps {
    Steps::new(0, Display::default(), false)
}

const ONE: SessionId = SessionId(1);
const TWO: SessionId = SessionId(2);

fn ready(session: SessionId, name: &str, mode: Mode) -> OutputEvent {
    OutputEvent::Ready { session, name: name.to_owned(), mode, seat: None }
}

#[test]
fn a_new_sway_makes_and_unplugs() {
    let (mut world, mut steps) = (World::new().with_output("DP-1"), virtual_steps());
    let wanted = Mode::new(1280, 720, 59_940).unwrap();
    steps.acquire(0, ONE, wanted);
    assert_eq!(world.settle(&mut steps), [ready(ONE, "HEADLESS-2", wanted)]);
    assert_eq!(world.commands, ["create_output", "output HEADLESS-2 enable mode --custom 1280x720@59.940Hz scale 1"]);
    steps.release(0, ONE);
    assert_eq!(world.settle(&mut steps), []);
    assert_eq!(world.outputs.len(), 1);
    assert_eq!(steps.deadline(), None);
}

#[test]
fn a_sway_without_unplug_disables_and_takes_again() {
    let (mut world, mut steps) = (World { can_disable: true, ..World::old() }, virtual_steps());
    steps.acquire(0, ONE, mode(1280, 60));
    world.settle(&mut steps);
    steps.release(0, ONE);
    world.settle(&mut steps);
    assert!(!world.outputs[0].active);
    steps.acquire(0, TWO, mode(1920, 120));
    assert_eq!(world.settle(&mut steps), [ready(TWO, "HEADLESS-1", mode(1920, 120))]);
    steps.release(0, TWO);
    world.settle(&mut steps);
    assert_eq!(world.commands.iter().filter(|command| *command == "create_output").count(), 1);
    assert_eq!(world.commands.iter().filter(|command| command.ends_with("unplug")).count(), 1, "tried once");
}

#[test]
fn what_cannot_be_disabled_is_parked_at_a_low_rate() {
    let (mut world, mut steps) = (World::old(), virtual_steps());
    steps.acquire(0, ONE, mode(1280, 60));
    world.settle(&mut steps);
    steps.release(0, ONE);
    world.settle(&mut steps);
    assert_eq!(world.outputs[0].current_mode, Some(CurrentMode { width: 1280, height: 720, refresh: 10_000 }));
    steps.acquire(0, TWO, mode(1280, 60));
    assert_eq!(world.settle(&mut steps), [ready(TWO, "HEADLESS-1", mode(1280, 60))]);
}

#[test]
fn what_an_earlier_lumend_has_parked_is_taken_again() {
    let mut world = World::old().with_output("HEADLESS-1");
    for _ in 0..3 {
        // A slow session of this very lumend is none of those: it is still on show.
        let mut steps = virtual_steps();
        steps.acquire(0, ONE, mode(1280, 10));
        steps.acquire(0, TWO, mode(1920, 60));
        let events = world.settle(&mut steps);
        assert_eq!(events, [ready(ONE, "HEADLESS-2", mode(1280, 10)), ready(TWO, "HEADLESS-3", mode(1920, 60))]);
        steps.release(0, ONE);
        steps.release(0, TWO);
        world.settle(&mut steps);
    }
    assert_eq!(world.outputs.len(), 3, "the session's own output and two of lumend's");
    assert_eq!(world.outputs[0].current_mode.unwrap().refresh, 60_000, "the session's own is left alone");
}

#[test]
fn our_own_desktop_lends_the_output_it_was_started_with_and_never_removes_it() {
    let mut world = World::new().with_output("HEADLESS-1");
    let mut steps = Steps::new(0, Display::default(), true);
    steps.acquire(0, ONE, mode(1280, 60));
    steps.acquire(0, TWO, mode(1920, 60));
    let events = world.settle(&mut steps);
    assert_eq!(events, [ready(ONE, "HEADLESS-1", mode(1280, 60)), ready(TWO, "HEADLESS-2", mode(1920, 60))]);
    steps.release(0, ONE);
    steps.release(0, TWO);
    world.settle(&mut steps);
    assert_eq!(world.outputs.len(), 1);
    assert!(world.outputs[0].active);
}

/// The windows of a desktop of our own are on its one output.
#[test]
fn what_a_session_has_left_before_it_came_is_the_next_ones() {
    let mut sway = World::old().with_output("HEADLESS-1");
    let mut steps = Steps::new(0, Display::default(), true);
    assert!(sway.settle(&mut steps).is_empty());
    steps.acquire(0, SessionId(1), mode(1280, 60));
    steps.release(0, SessionId(1));
    steps.acquire(0, SessionId(2), mode(800, 60));
    assert_eq!(sway.settle(&mut steps), [ready(SessionId(2), "HEADLESS-1", mode(800, 60))]);
    assert!(!sway.commands.contains(&"create_output".to_owned()), "{:?}", sway.commands);
}

#[test]
fn an_output_that_comes_late_is_waited_for_and_one_that_never_comes_fails() {
    let (mut world, mut steps) = (World { makes_late: true, ..World::new() }, virtual_steps());
    steps.acquire(0, ONE, mode(1280, 60));
    assert_eq!(world.settle(&mut steps), [ready(ONE, "HEADLESS-1", mode(1280, 60))]);

    steps.acquire(0, TWO, mode(1280, 60));
    for _ in 0..3 {
        let request = steps.next_request().unwrap();
        let reply = world.answer(&request);
        steps.on_reply(0, reply).unwrap();
    }
    assert_eq!(steps.next_request(), None);
    assert!(steps.on_deadline(WITHIN - 1).is_ok());
    assert_eq!(steps.next_event(), None);
    assert!(steps.on_deadline(WITHIN).is_ok());
    assert!(matches!(steps.next_event(), Some(OutputEvent::Failed { session: TWO, .. })));
}

#[test]
fn a_sway_that_does_not_answer_ends_the_connection() {
    let mut steps = virtual_steps();
    steps.acquire(5, ONE, mode(1280, 60));
    assert_eq!(steps.deadline(), Some(5 + WITHIN));
    assert!(steps.on_deadline(5 + WITHIN).is_err());
    assert!(virtual_steps().on_reply(0, Reply::Ran(Ok(()))).is_err(), "an answer to nothing");
}

#[test]
fn a_sway_that_makes_no_outputs_is_a_reason() {
    let (mut world, mut steps) = (World { refuses_create: true, ..World::new() }, virtual_steps());
    steps.acquire(0, ONE, mode(1280, 60));
    let events = world.settle(&mut steps);
    let [OutputEvent::Failed { session: ONE, reason }] = &events[..] else { panic!("{events:?}") };
    assert!(reason.contains("nested backends") && reason.contains("[display]"), "{reason}");
}

#[test]
fn a_spare_output_that_was_unplugged_by_someone_is_replaced() {
    let (mut world, mut steps) = (World::old(), virtual_steps());
    steps.acquire(0, ONE, mode(1280, 60));
    world.settle(&mut steps);
    steps.release(0, ONE);
    world.settle(&mut steps);
    world.outputs.clear();
    steps.acquire(0, TWO, mode(1280, 60));
    assert_eq!(world.settle(&mut steps), [ready(TWO, "HEADLESS-2", mode(1280, 60))]);
}

#[test]
fn an_output_may_refresh_more_often_than_it_is_streamed() {
    for (multiple, hz, expected) in [(1, 60, 60), (2, 60, 120), (4, 120, 480), (4, 240, 960)] {
        let display = Display { refresh_multiple: multiple, ..Display::default() };
        let (mut world, mut steps) = (World::new().with_output("DP-1"), Steps::new(0, display, false));
        steps.acquire(0, ONE, mode(1280, hz));
        assert_eq!(world.settle(&mut steps), [ready(ONE, "HEADLESS-2", mode(1280, hz))], "the stream's own rate");
        assert_eq!(world.outputs[1].current_mode.unwrap().refresh, expected * 1000);
    }
}

#[test]
fn an_existing_output_is_used_as_it_is() {
    let mut world = World::new().with_output("DP-1");
    let commands = |source: &str, world: &mut World| {
        let mut steps = Steps::new(0, shown(source), false);
        steps.acquire(0, ONE, mode(1280, 60));
        let events = world.settle(&mut steps);
        steps.release(0, ONE);
        world.settle(&mut steps);
        events
    };
    let expected = ready(ONE, "DP-1", Mode::new(1920, 1080, 60_000).unwrap());
    assert_eq!(commands("DP-1", &mut world), [expected]);
    assert!(matches!(&commands("DP-2", &mut world)[..], [OutputEvent::Failed { .. }]));
    world.outputs[0].current_mode = Some(CurrentMode { width: 1280, height: 720, refresh: 0 });
    assert_eq!(commands("DP-1", &mut world), [ready(ONE, "DP-1", mode(1280, 60))], "a rate that sway does not know");
    world.outputs[0].active = false;
    assert!(matches!(&commands("DP-1", &mut world)[..], [OutputEvent::Failed { .. }]));
    assert!(world.commands.is_empty(), "nothing is changed");
}

#[test]
fn a_name_that_could_end_a_command_is_never_used() {
    assert!(is_plain("HEADLESS-1") && is_plain("DP-2.1"));
    for name in ["", "-x", "a b", "a;exec x", "a\"", "a,b", "a\nb", &"x".repeat(65)] {
        assert!(!is_plain(name), "{name:?}");
    }
}

#[derive(Clone, Debug)]
enum Deed {
    Acquire(u32, u16),
    Release(u32),
    Serve,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        (0..3u32, 0..4u16).prop_map(|(session, size)| Deed::Acquire(session, 640 + 2 * size)),
        (0..3u32).prop_map(Deed::Release),
        Just(Deed::Serve),
        Just(Deed::Serve),
        Just(Deed::Serve),
    ];
    proptest::collection::vec(deed, 0..60)
}

proptest! {
    /// Whatever is asked in whatever order: in the end each session that wants an output was told of it last, in the
    /// mode of its last wish, no two share one, and nothing else is left on above the parking rate.
    #[test]
    fn outputs_follow_wishes(deeds in deeds(), knows_unplug: bool, can_disable: bool, makes_late: bool, own: bool) {
        let mut world = World { knows_unplug, can_disable, makes_late, ..World::old() };
        if own {
            world = world.with_output("HEADLESS-1");
        }
        let mut steps = Steps::new(0, Display::default(), own);
        let mut wanted = BTreeMap::new();
        let mut told = BTreeMap::new();
        let hear = |events: Vec<OutputEvent>, told: &mut BTreeMap<_, _>, wanted: &BTreeMap<SessionId, Mode>| {
            for event in events {
                let OutputEvent::Ready { session, name, mode, .. } = event else { panic!("{event:?}") };
                assert_eq!(wanted.get(&session), Some(&mode), "an event of an earlier wish");
                told.insert(session, (name, mode));
            }
        };
        for deed in deeds {
            match deed {
                Deed::Acquire(session, width) => {
                    wanted.insert(SessionId(session), mode(width, 60));
                    steps.acquire(0, SessionId(session), mode(width, 60));
                }
                Deed::Release(session) => {
                    wanted.remove(&SessionId(session));
                    told.remove(&SessionId(session));
                    steps.release(0, SessionId(session));
                }
                Deed::Serve => {
                    world.serve_one(&mut steps);
                    hear(std::iter::from_fn(|| steps.next_event()).collect(), &mut told, &wanted);
                }
            }
        }
        hear(world.settle(&mut steps), &mut told, &wanted);
        prop_assert_eq!(steps.deadline(), None);
        prop_assert_eq!(told.iter().map(|(session, (_, mode))| (*session, *mode)).collect::<BTreeMap<_, _>>(), wanted);
        let used: BTreeSet<_> = told.values().map(|(name, _)| name.clone()).collect();
        prop_assert_eq!(used.len(), told.len());
        for (name, mode) in told.values() {
            let output = world.outputs.iter().find(|output| output.name == *name).unwrap();
            prop_assert!(is_in_mode(output, *mode, mode.refresh_mhz()));
        }
        for output in world.outputs.iter().filter(|output| !used.contains(&output.name) && output.active) {
            let parked = output.current_mode.is_some_and(|current| current.refresh == 10_000);
            prop_assert!(parked || (own && output.name == "HEADLESS-1"), "{:?}", output);
        }
    }
}
