//! Clients that come back: after the plane before this one was killed, or after their own connection was lost.

use std::time::{Duration, Instant};

use ipc::{AskId, EndCode, Generation, ToNet};
use lumen_core::hello::{ClientHello, ClientMessage, Code, HostMessage, Welcome};
use lumen_core::input::INPUT_ACK_DATAGRAM;
use lumen_core::input::{InputEvent, KeyCode};
use lumen_core::packet::Kind;
use lumen_core::{Resume, ResumeToken};

use super::client::{Client, Identity, Media, Stream, bytes, hello};
use super::host::{Encoder, Host};
use super::session::Session;

/// Long enough for a datagram on this machine, if one has been sent.
const MOMENT: Duration = Duration::from_millis(200);

const NEXT: ResumeToken = ResumeToken([0x77; 32]);

fn key(number: u32) -> InputEvent {
    InputEvent::Key { code: KeyCode::new(1 + number as u16).unwrap(), pressed: true }
}

/// A client on its way back.
struct Back {
    client: Client,
    stream: Stream,
    ask: AskId,
}

/// Dials again, with what the client had; lumend is asked.
fn dial(host: &mut Host, identity: &Identity, token: ResumeToken, first_event: u32) -> Back {
    let client = Client::connect(host, Some(identity)).unwrap();
    let resume = Some(Resume { token: token.clone(), first_event });
    let stream = client.open(&bytes(&ClientMessage::Hello(ClientHello { resume, ..hello() })));
    let (ask, fingerprint, wish) = host.expect_ask();
    assert_eq!((fingerprint, wish.resume), (identity.fingerprint(), Some(token)));
    Back { client, stream, ask }
}

impl Back {
    fn welcome(&mut self) -> Welcome {
        match self.client.hear(&mut self.stream) {
            HostMessage::Welcome(welcome) => welcome,
            other => panic!("{other:?} instead of a welcome"),
        }
    }

    /// Says `Start`, and sees the first frame.
    fn stream(&mut self, host: &mut Host, welcome: &Welcome, encoder: &mut Encoder) -> Media {
        self.client.say(&mut self.stream, &ClientMessage::Start);
        assert_eq!(host.expect_started().1, self.ask);
        let mut media = Media::new(host, welcome);
        media.send_probe();
        media.expect(Kind::Pong);
        let payload = encoder.frame(20_000, true);
        assert_eq!(media.expect_frame(0, &payload).generation, encoder.generation);
        media
    }
}

#[test]
fn a_plane_resets_the_connections_of_the_one_before_at_once() {
    let mut host = Host::program();
    let sessions: Vec<Session> = (1..=8).map(|number| Session::started(&mut host, number)).collect();
    host.succeed();
    let began = Instant::now();
    for session in &sessions {
        // As little as a client ever sends; none is too late to be reset who has been already.
        let _ = session.client.send_datagram(&[0]);
    }
    assert!(sessions.iter().all(|session| session.client.is_reset()));
    // A client would find out by itself after four seconds.
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn a_client_of_a_killed_plane_has_its_session_again() {
    let mut host = Host::program();
    let session = Session::started(&mut host, 1);
    let (token, secret) = (session.welcome.resume.clone().unwrap(), session.welcome.secret.clone());
    host.succeed();
    host.permit(session.identity.fingerprint());
    let mut back = dial(&mut host, &session.identity, token, 0);
    let mut encoder = host.wire_resumed(session.id, 2, back.ask, NEXT);
    let welcome = back.welcome();
    assert_eq!((welcome.session, welcome.generation, welcome.resumed), (1, 2, true));
    assert_eq!(welcome.resume, Some(NEXT));
    assert!(welcome.secret != secret, "no key meets a nonce twice");
    back.stream(&mut host, &welcome, &mut encoder);
    assert!(host.stop().success());
}

#[test]
fn a_resumed_sessions_events_go_on_where_its_input_plane_is() {
    let mut host = Host::program();
    let session = Session::started(&mut host, 1);
    host.succeed();
    host.permit(session.identity.fingerprint());
    // The client has event 2 still; the input plane has taken it and the next. Or the client has none before 6.
    for (round, first, next, begins) in [(0, 2, 4, 4), (1, 6, 4, 6), (2, u32::MAX, 1, 1)] {
        let generation = 2 + round;
        let mut back = dial(&mut host, &session.identity, ResumeToken([1; 32]), first);
        let mut encoder = host.wire_resumed(session.id, generation, back.ask, NEXT);
        let welcome = back.welcome();
        back.stream(&mut host, &welcome, &mut encoder);
        let send = |from: u32| {
            let events: Vec<_> = (0..6).map(|at| key(from.wrapping_add(at) % 200)).collect();
            assert!(back.client.send_datagram(&super::hands::datagram(from, &events)));
        };
        send(first);
        let mut plane = host.wire_input(session.id, generation);
        let early = back.client.datagram_within(INPUT_ACK_DATAGRAM, MOMENT);
        assert_eq!(early, None, "nobody knows yet what it has");
        // Of a generation that is no more.
        host.tell(ToNet::InputFrom { session: session.id, generation: Generation(generation - 1), next: 9 });
        host.tell(ToNet::InputFrom { session: session.id, generation: Generation(generation), next });
        let ack = back.client.datagram(INPUT_ACK_DATAGRAM);
        assert_eq!(super::hands::acked(&ack), begins, "what was asked meanwhile is answered");
        send(first);
        let last = first.wrapping_add(6);
        while super::hands::acked(&back.client.datagram(INPUT_ACK_DATAGRAM)) != last {}
        for number in begins..last {
            assert_eq!(plane.next(number), key(number % 200));
        }
        assert_eq!(plane.take(last), None);
    }
}

#[test]
fn who_hoped_for_a_session_and_got_another_begins_with_it() {
    let mut host = Host::program();
    let identity = Identity::new();
    host.permit(identity.fingerprint());
    let mut back = dial(&mut host, &identity, ResumeToken([9; 32]), 77);
    let mut encoder = host.wire(5, 1, Some(back.ask));
    let welcome = back.welcome();
    assert_eq!((welcome.session, welcome.resumed), (5, false));
    back.stream(&mut host, &welcome, &mut encoder);
    let mut plane = host.wire_input(ipc::SessionId(5), 1);
    assert!(back.client.send_datagram(&super::hands::datagram(0, &[key(0)])));
    assert_eq!(plane.next(0), key(0));
}

#[test]
fn a_session_that_its_client_has_again_is_no_longer_the_connections_before() {
    let mut host = Host::program();
    let mut session = Session::welcomed(&mut host, 1);
    let first = session.stream(&mut host);
    session.frame(0, 20_000, true);
    let mut back = dial(&mut host, &session.identity, session.welcome.resume.clone().unwrap(), 0);
    assert_ne!(first, back.ask);
    // As lumend does: nothing of the generation before is left with the plane.
    host.tell(ToNet::Retire { session: session.id, generation: Generation(1) });
    let mut encoder = host.wire_resumed(session.id, 2, back.ask, NEXT);
    let welcome = back.welcome();
    match session.client.hear(&mut session.stream) {
        HostMessage::End { code, .. } => assert_eq!(code, Code::Stopped as u16),
        other => panic!("{other:?} instead of an end"),
    }
    let mut media = back.stream(&mut host, &welcome, &mut encoder);
    drop(session.client);
    let payload = encoder.frame(20_000, false);
    media.expect_frame(1, &payload);
    // The only end that lumend hears of is that of the connection that has the session now.
    back.client.say(&mut back.stream, &ClientMessage::Bye);
    assert_eq!(host.expect_gone_by(), (session.id, Some(back.ask)));
}

#[test]
fn clients_of_a_host_that_shuts_down_are_told_before_their_connection_ends() {
    let mut host = Host::program();
    let mut ended: Vec<Session> = (1..=4).map(|number| Session::started(&mut host, number)).collect();
    let goes_on = Session::started(&mut host, 5);
    for session in &ended {
        let reason = "the host is shutting down".into();
        host.tell(ToNet::End { session: session.id, code: EndCode::Shutdown, reason });
    }
    // Right behind, as lumend's is.
    assert!(host.stop().success());
    for session in &mut ended {
        match session.client.hear(&mut session.stream) {
            HostMessage::End { code, .. } => assert_eq!(code, Code::Shutdown as u16),
            other => panic!("{other:?} instead of an end"),
        }
        assert_eq!(session.client.closed().0, Code::Shutdown as u64);
    }
    assert_eq!(goes_on.client.closed().0, 0, "no end code, no end");
}

#[test]
fn five_hundred_returns_leave_nothing_in_the_plane() {
    let mut host = Host::program();
    let session = Session::started(&mut host, 1);
    let held = |host: &Host| {
        let of = |what: &str| std::fs::read_dir(format!("/proc/{}/{what}", host.pid())).unwrap().count();
        let status = std::fs::read_to_string(format!("/proc/{}/status", host.pid())).unwrap();
        let rss = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")).unwrap();
        (of("fd"), of("task"), rss.trim().parse::<u64>().unwrap())
    };
    let mut before = (0, 0, 0);
    let mut last: Option<(Back, Encoder)> = None;
    for round in 0..500 {
        let mut back = dial(&mut host, &session.identity, ResumeToken([1; 32]), 0);
        let encoder = host.wire_resumed(session.id, round + 2, back.ask, NEXT);
        let welcome = back.welcome();
        assert_eq!(welcome.generation, round + 2);
        // What is made once is there by now.
        if round == 100 {
            before = held(&host);
        }
        if let Some((mut before, _)) = last.replace((back, encoder)) {
            assert!(matches!(before.client.hear(&mut before.stream), HostMessage::End { .. }));
            assert_eq!(before.client.closed().0, Code::Stopped as u64);
        }
    }
    let settled = || {
        let now = held(&host);
        now.0 <= before.0 && now.1 == before.1 && now.2 < before.2 + 2048
    };
    let deadline = Instant::now() + super::host::PATIENCE;
    while !settled() {
        assert!(Instant::now() < deadline, "{before:?} then {:?}", held(&host));
        std::thread::park_timeout(Duration::from_millis(50));
    }
    drop(last);
}
