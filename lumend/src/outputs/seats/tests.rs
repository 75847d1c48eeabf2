use super::*;
use crate::swayipc::{Device, Rect};

/// A sway that answers in order.
#[derive(Default)]
struct World {
    outputs: Vec<Output>,
    seats: Vec<swayipc::Seat>,
    /// Devices stay on their seats when a seat is made, because one of them is the fallback.
    has_fallback: bool,
    refuses: bool,
    commands: Vec<String>,
}

impl World {
    fn with_output(mut self, name: &str, x: i64) -> Self {
        let rect = Rect { x, y: -100, width: 1280, height: 720 };
        self.outputs.push(Output { name: name.to_owned(), active: true, current_mode: None, rect, focused: false });
        self
    }

    fn with_device(mut self, seat: &str) -> Self {
        let devices = vec![Device { identifier: "0:0:wlr_virtual_pointer_v1".to_owned() }];
        self.seats.push(swayipc::Seat { name: seat.to_owned(), devices, focus: 0 });
        self
    }

    fn answer(&mut self, request: Request) -> Reply {
        match request {
            Request::ListSeats => Reply::Seats(self.seats.clone()),
            Request::ListOutputs => Reply::Outputs(self.outputs.clone()),
            Request::WatchOutputs | Request::WatchReloads => Reply::Watching,
            Request::Run(_) if self.refuses => Reply::Ran(Err("Unknown/invalid command".to_owned())),
            Request::Run(commands) => {
                for command in commands.split("; ") {
                    self.run(command);
                }
                Reply::Ran(Ok(()))
            }
        }
    }

    fn run(&mut self, command: &str) {
        if let ["seat", name, setting, _] = command.split(' ').collect::<Vec<_>>()[..] {
            if self.seats.iter().all(|seat| seat.name != name) {
                self.seats.push(swayipc::Seat { name: name.to_owned(), devices: Vec::new(), focus: 0 });
            }
            self.has_fallback |= setting == "fallback";
            if !self.has_fallback {
                self.seats.iter_mut().for_each(|seat| seat.devices.clear());
            }
        }
        self.commands.push(command.to_owned());
    }

    fn settle(&mut self, seats: &mut Seats) -> Vec<SeatEvent> {
        while let Some(request) = seats.next_request() {
            let reply = self.answer(request);
            seats.on_reply(0, reply).unwrap();
        }
        assert_eq!(seats.deadline(), None);
        std::iter::from_fn(|| seats.next_event()).collect()
    }

    fn made(&self) -> usize {
        self.commands.iter().filter(|command| command.contains("shortcuts_inhibitor")).count()
    }
}

const ONE: SessionId = SessionId(1);
const TWO: SessionId = SessionId(2);
const THREE: SessionId = SessionId(3);

fn settled(session: SessionId, number: u32) -> SeatEvent {
    SeatEvent::Settled { session, seat: Some(Seat { name: name(number), focus_key: 0x300 + number }) }
}

#[test]
fn all_seats_are_made_before_the_first_is_used_and_then_numbers_go_round() {
    let mut world = World::default().with_output("DP-1", -500).with_output("HEADLESS-2", 780);
    let mut seats = Seats::new(2);
    seats.settle(0, ONE, "HEADLESS-2");
    assert_eq!(world.settle(&mut seats), [settled(ONE, 1)]);
    assert_eq!(world.made(), 2);
    assert_eq!(
        world.commands[2..],
        ["bindcode --no-warn --inhibited 777 focus output HEADLESS-2", "seat lumen-1 cursor set 1920 360"]
    );

    seats.settle(0, TWO, "DP-1");
    assert_eq!(world.settle(&mut seats), [settled(TWO, 2)]);
    seats.settle(0, ONE, "HEADLESS-2");
    assert_eq!(world.settle(&mut seats), [settled(ONE, 1)], "another mode, the same seat");
    seats.settle(0, THREE, "DP-1");
    assert_eq!(world.settle(&mut seats), [SeatEvent::Settled { session: THREE, seat: None }], "one too many");

    seats.release(0, ONE);
    assert_eq!(world.settle(&mut seats), []);
    assert_eq!(world.commands.last().unwrap(), "unbindcode --inhibited 777");
    seats.settle(0, THREE, "DP-1");
    assert_eq!(world.settle(&mut seats), [settled(THREE, 1)]);
    assert_eq!(world.made(), 2, "no seat is made twice");
}

#[test]
fn no_seat_begins_with_a_window_that_has_not_asked_for_its_keyboard() {
    let mut world = World { has_fallback: true, ..World::default().with_output("HEADLESS-1", 0).with_device("seat0") };
    world.seats[0].focus = 7;
    let mut seats = Seats::new(1);
    seats.settle(0, ONE, "HEADLESS-1");
    world.settle(&mut seats);
    assert_eq!(world.commands[..3], ["focus parent".to_owned(), making(1), "[con_id=7] focus".to_owned()]);
}

#[test]
fn seats_that_an_earlier_lumend_has_made_are_used_again() {
    let mut world = World::default().with_output("HEADLESS-1", 0);
    let mut first = Seats::new(2);
    first.settle(0, ONE, "HEADLESS-1");
    world.settle(&mut first);
    let mut second = Seats::new(3);
    second.settle(0, ONE, "HEADLESS-1");
    assert_eq!(world.settle(&mut second), [settled(ONE, 1)]);
    assert_eq!(world.made(), 3);
    assert_eq!(world.seats.len(), 3);
}

#[test]
fn nobody_elses_devices_are_lost() {
    let mut world = World::default().with_output("HEADLESS-1", 0).with_device("seat0");
    let mut seats = Seats::new(1);
    seats.settle(0, ONE, "HEADLESS-1");
    assert_eq!(world.settle(&mut seats), [settled(ONE, 1)]);
    assert_eq!(world.commands[1], "seat seat0 fallback true");

    let mut world = World { has_fallback: true, ..World::default().with_output("HEADLESS-1", 0).with_device("mine") };
    let mut seats = Seats::new(1);
    seats.settle(0, ONE, "HEADLESS-1");
    world.settle(&mut seats);
    assert!(world.commands.iter().all(|command| !command.contains("fallback")));
}

#[test]
fn a_configuration_that_is_read_again_is_told_anew() {
    let mut world = World::default().with_output("HEADLESS-1", 0).with_output("HEADLESS-2", 1280);
    let mut seats = Seats::new(2);
    seats.settle(0, ONE, "HEADLESS-1");
    seats.settle(0, TWO, "HEADLESS-2");
    world.settle(&mut seats);
    seats.release(0, ONE);
    world.settle(&mut seats);
    world.commands.clear();
    world.seats.clear();
    seats.reloaded(0);
    assert_eq!(world.settle(&mut seats), [SeatEvent::Disturbed { session: TWO }]);
    assert_eq!(world.made(), 2);
    assert!(world.commands[2].starts_with("bindcode") && world.commands[2].ends_with("focus output HEADLESS-2"));

    seats.release(0, TWO);
    world.settle(&mut seats);
    world.seats.clear();
    seats.reloaded(0);
    assert_eq!((world.settle(&mut seats), world.seats.len()), (vec![], 0), "nobody needs one");
    seats.settle(0, ONE, "HEADLESS-1");
    assert_eq!(world.settle(&mut seats), [settled(ONE, 1)]);
    assert_eq!(world.seats.len(), 2);
}

#[test]
fn a_session_that_ends_in_the_middle_is_told_nothing() {
    for answered in 0..=6 {
        let mut world = World::default().with_output("HEADLESS-1", 0);
        let mut seats = Seats::new(1);
        seats.settle(0, ONE, "HEADLESS-1");
        for _ in 0..answered {
            let Some(request) = seats.next_request() else { break };
            let reply = world.answer(request);
            seats.on_reply(0, reply).unwrap();
        }
        let early: Vec<_> = std::iter::from_fn(|| seats.next_event()).collect();
        seats.release(0, ONE);
        assert_eq!(world.settle(&mut seats), [], "after {answered} answers");
        assert_eq!(early, if answered == 6 { vec![settled(ONE, 1)] } else { vec![] });
        seats.settle(0, TWO, "HEADLESS-1");
        assert_eq!(world.settle(&mut seats), [settled(TWO, 1)]);
    }
}

#[test]
fn without_seats_a_session_still_gets_its_output() {
    let mut world = World { refuses: true, ..World::default().with_output("HEADLESS-1", 0) };
    let mut seats = Seats::new(1);
    seats.settle(0, ONE, "HEADLESS-1");
    assert_eq!(world.settle(&mut seats), [SeatEvent::Settled { session: ONE, seat: None }]);

    let mut none = Seats::new(0);
    none.settle(0, ONE, "HEADLESS-1");
    assert_eq!(none.next_event(), Some(SeatEvent::Settled { session: ONE, seat: None }));
    assert_eq!(none.next_request(), None, "not even to be told of anything");
}

#[test]
fn a_name_that_could_end_a_command_is_not_put_into_one() {
    let mut seats = Seats::new(1);
    seats.settle(0, ONE, "DP-1; exec true");
    assert_eq!(seats.next_event(), Some(SeatEvent::Settled { session: ONE, seat: None }));
    assert_eq!((seats.next_request(), seats.next_request()), (Some(Request::WatchReloads), None));
}

#[test]
fn silence_and_nonsense_end_the_connection() {
    let mut seats = Seats::new(1);
    assert!(seats.on_reply(0, Reply::Ran(Ok(()))).is_err());
    seats.settle(0, ONE, "HEADLESS-1");
    assert!(seats.on_deadline(WITHIN - 1).is_ok() && seats.on_deadline(WITHIN).is_err());
    assert!(seats.on_reply(0, Reply::Outputs(Vec::new())).is_err());
}
