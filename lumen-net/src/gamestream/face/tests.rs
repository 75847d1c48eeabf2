//! The face, told what happens by a test.

use std::net::SocketAddr;
use std::sync::LazyLock;

use ipc::{Colour, EndCode, Matrix, Tuning};
use lumen_core::audio::PacketTime;
use lumen_core::gamestream::video::{PacketSize, VideoConfig};
use lumen_core::{AudioLayout, Mode};
use tokio::sync::oneshot::Receiver;

use super::*;
use crate::gamestream::http::{Entrance, Reply};
use crate::gamestream::hub::HubEvent;
use crate::gamestream::moonlight::{Identity, text_of};
use crate::gamestream::request::Page;
use crate::media::GuestMedia;

static HOST: LazyLock<Identity> = LazyLock::new(Identity::new);

const ALICE: Fingerprint = Fingerprint([1; 32]);
const BOB: Fingerprint = Fingerprint([2; 32]);
const LAUNCH: &str = "mode=1280x720x60&rikey=KEY&rikeyid=7&surroundAudioInfo=196610&corever=1";

struct Stage {
    face: Face,
    asks: AskNumbers,
    now: Instant,
    /// Of the next launch.
    key: u128,
    _visits: mpsc::Receiver<Visit>,
}

fn app(id: u32) -> AppId {
    AppId::new(id).unwrap()
}

fn mode() -> Mode {
    Mode::new(1280, 720, 60_000).unwrap()
}

impl Stage {
    /// A face that serves Alice and Bob the apps 5 and 6, on no sockets at all.
    fn new(encryption: Encryption) -> Self {
        let (sender, visits) = mpsc::channel(1);
        let mut face = Face::new(sender, Arc::default());
        let names = HostNames { unique_id: [0; 16], host_name: "host".into(), base_port: 47_989 };
        let (ours, _) = ipc::link::Link::pair().unwrap();
        face.listening = Some(Listening {
            names,
            certificate: HostCertificate::new(HOST.certificate.clone()).unwrap(),
            encryption,
            signer: Signer::new(ours.into_fd()).unwrap(),
            turns: Arc::default(),
            _doors: JoinSet::new(),
        });
        for id in [5, 6] {
            face.app(App { app: app(id), title: format!("App {id}"), image: None });
        }
        let mut stage = Self { face, asks: AskNumbers::default(), now: Instant::now(), key: 0, _visits: visits };
        for client in [ALICE, BOB] {
            assert!(stage.act(|face, acts| face.permit(client, true, acts)).is_empty());
        }
        stage
    }

    fn act(&mut self, tell: impl FnOnce(&mut Face, &mut Acts)) -> Acts {
        let mut acts = Acts::new();
        tell(&mut self.face, &mut acts);
        acts
    }

    /// A key in it is a new one.
    fn visit(&mut self, entrance: Entrance, target: &str) -> (Receiver<Reply>, Acts) {
        self.key += 1;
        let target = &target.replace("KEY", &format!("{:032x}", self.key));
        let (answer, reply) = Answer::new();
        let peer = SocketAddr::from(([192, 0, 2, 1], 50_000));
        let local = SocketAddr::from(([192, 0, 2, 9], 47_984));
        let visit = Visit { entrance, peer, local, page: Page::parse(target), answer };
        let (now, mut acts) = (self.now, Acts::new());
        self.face.visit(now, visit, &mut self.asks, &mut acts);
        (reply, acts)
    }

    fn of(&mut self, client: Fingerprint, target: &str) -> (Receiver<Reply>, Acts) {
        self.visit(Entrance::Https(Some(client)), target)
    }

    /// A client asks for an app, and what it had is taken back first; the request, and the reply to come.
    fn launch(&mut self, client: Fingerprint, id: u32) -> (AskId, Receiver<Reply>) {
        let (reply, acts) = self.of(client, &format!("/launch?appid={id}&{LAUNCH}"));
        let Some(Act::Lumend(FromNet::Ask { ask, client: asking, wish, .. })) = acts.last() else {
            panic!("{:?}", names(&acts));
        };
        assert_eq!((*asking, wish.app, wish.audio), (client, Some(app(id)), Some(AudioLayout::Stereo)));
        assert!(wish.own_sink && wish.input && wish.face == ipc::Face::GameStream);
        (*ask, reply)
    }

    /// The same, granted.
    fn session(&mut self, client: Fingerprint, id: u32, session: u32) {
        let (ask, mut reply) = self.launch(client, id);
        let acts = self.act(|face, acts| face.accepted(ask, SessionId(session), mode(), acts).unwrap());
        assert_eq!(names(&acts), ["hub open"]);
        assert!(text(&mut reply).contains("rtspenc://192.0.2.9:48010"));
        self.face.running(client, Some(app(id)));
    }
}

fn tuned(session: u32) -> HubEvent {
    let colour = Colour { matrix: Matrix::Bt709, full_range: true };
    let (audio, audio_packet) = (AudioLayout::Stereo, PacketTime::Five);
    let tuning = Tuning { bitrate_kbps: 10_000, colour, frame_bytes: 100_000, audio, audio_packet };
    let config = VideoConfig { packet_size: PacketSize::new(1024).unwrap(), min_parity: 2, key: None };
    let media = Box::new(GuestMedia { ping: [0; 16], address: None, config });
    HubEvent::Tuned { session: SessionId(session), tuning, media }
}

/// What follows, in words.
fn names(acts: &Acts) -> Vec<&'static str> {
    let name = |act: &Act| match act {
        Act::Lumend(FromNet::Ask { .. }) => "ask",
        Act::Lumend(FromNet::Withdrawn { .. }) => "withdrawn",
        Act::Lumend(FromNet::Gone { .. }) => "gone",
        Act::Lumend(FromNet::Quit { .. }) => "quit",
        Act::Lumend(FromNet::Tune { .. }) => "tune",
        Act::Lumend(_) => "another message",
        Act::Media(MediaCommand::End { .. }) => "media end",
        Act::Media(MediaCommand::Keyframe { .. }) => "media keyframe",
        Act::Media(_) => "another command",
        Act::Hub(HubOrder::Open(_)) => "hub open",
        Act::Hub(HubOrder::End { .. }) => "hub end",
        Act::Hub(_) => "another order",
    };
    acts.iter().map(name).collect()
}

fn text(reply: &mut Receiver<Reply>) -> String {
    match reply.try_recv() {
        Ok(Reply::Xml(text)) => text,
        other => panic!("{other:?}"),
    }
}

fn status(reply: &mut Receiver<Reply>) -> u16 {
    let text = text(reply);
    let (_, rest) = text.split_once("status_code=\"").unwrap();
    rest.split_once('"').unwrap().0.parse().unwrap()
}

#[test]
fn only_who_is_paired_sees_more_than_the_doorplate() {
    let mut stage = Stage::new(Encryption::Auto);
    let stranger = Entrance::Https(Some(Fingerprint([9; 32])));
    for entrance in [Entrance::Http, Entrance::Https(None), stranger] {
        // Nor is it told what is wrong with what it asks.
        for page in ["/applist", "/appasset?appid=5", "/appasset", "/launch?appid=5", "/resume?rikey=0", "/cancel"]
            .map(str::to_owned)
            .into_iter()
            .chain([format!("/launch?appid=5&{LAUNCH}"), format!("/resume?{LAUNCH}")])
        {
            let (mut reply, acts) = stage.visit(entrance, &page);
            assert_eq!((status(&mut reply), acts.len()), (401, 0), "{entrance:?} {page}");
        }
        let (mut reply, _) = stage.visit(entrance, "/serverinfo");
        assert_eq!(status(&mut reply), if entrance == Entrance::Http { 200 } else { 401 });
        let (mut reply, _) = stage.visit(entrance, "/pair?phrase=pairchallenge");
        assert_eq!(text_of(&text(&mut reply), "paired"), Some("0"));
    }
    let (mut reply, _) = stage.of(ALICE, "/serverinfo");
    assert_eq!(text_of(&text(&mut reply), "PairStatus"), Some("1"));
    let (mut reply, _) = stage.visit(Entrance::Http, "/serverinfo");
    assert_eq!(text_of(&text(&mut reply), "PairStatus"), Some("0"));
    let (mut reply, _) = stage.of(ALICE, "/pair?phrase=pairchallenge");
    assert_eq!(text_of(&text(&mut reply), "paired"), Some("1"));
    let (mut reply, _) = stage.of(ALICE, "/applist");
    let list = text(&mut reply);
    assert!(list.contains("<AppTitle>App 5</AppTitle><ID>5</ID>") && list.contains("<ID>6</ID>"), "{list}");
    let (mut reply, _) = stage.of(ALICE, "/appasset?appid=5");
    assert!(matches!(reply.try_recv(), Ok(Reply::Png(_))));
    assert_eq!(status(&mut stage.of(ALICE, "/appasset?appid=7").0), 404);
    assert_eq!(status(&mut stage.of(ALICE, "/nowhere").0), 404);
    for page in ["/appasset", "/launch?appid=5", "/resume?rikey=0"] {
        assert_eq!(status(&mut stage.of(ALICE, page).0), 400, "{page}");
    }
}

#[test]
fn what_runs_is_each_clients_own() {
    let mut stage = Stage::new(Encryption::Auto);
    stage.session(ALICE, 5, 1);
    let seen = |stage: &mut Stage, client| text(&mut stage.of(client, "/serverinfo").0);
    assert_eq!(text_of(&seen(&mut stage, ALICE), "currentgame"), Some("5"));
    assert!(seen(&mut stage, ALICE).contains("_SERVER_BUSY<"));
    assert_eq!(text_of(&seen(&mut stage, BOB), "currentgame"), Some("0"));
    assert!(seen(&mut stage, BOB).contains("_SERVER_FREE<"));
    assert_eq!(status(&mut stage.of(BOB, &format!("/resume?{LAUNCH}")).0), 503);
    assert_eq!(status(&mut stage.of(BOB, &format!("/launch?appid=7&{LAUNCH}")).0), 404);
}

#[test]
fn a_client_has_one_session_at_most() {
    let mut stage = Stage::new(Encryption::Auto);
    stage.session(ALICE, 5, 1);
    stage.session(BOB, 5, 2);
    let (reply, acts) = stage.of(ALICE, &format!("/resume?appid=6&{LAUNCH}"));
    assert_eq!(names(&acts), ["hub end", "media end", "gone", "ask"]);
    assert!(matches!(&acts[3], Act::Lumend(FromNet::Ask { wish, .. }) if wish.app == Some(app(5))), "what runs");
    assert!(!stage.face.has(SessionId(1)) && stage.face.has(SessionId(2)));
    // It asks again before it has been answered.
    let (_again, acts) = stage.of(ALICE, &format!("/resume?{LAUNCH}"));
    assert_eq!(names(&acts), ["withdrawn", "ask"]);
    assert_eq!(status(&mut { reply }), 503);
}

#[test]
fn who_asks_for_another_app_keeps_its_stream_until_lumend_has_decided() {
    let mut stage = Stage::new(Encryption::Auto);
    stage.session(ALICE, 5, 1);
    let (mut reply, acts) = stage.of(ALICE, &format!("/launch?appid=6&{LAUNCH}"));
    assert_eq!(names(&acts), ["ask"]);
    let Some(Act::Lumend(FromNet::Ask { ask, .. })) = acts.first() else { panic!() };
    assert!(stage.face.refuse(*ask, EndCode::Unavailable, "quit it first"));
    assert_eq!((status(&mut reply), stage.face.has(SessionId(1))), (503, true));
    // Where the bare desktop gives way, lumend ends what showed it.
    let (_reply, acts) = stage.of(ALICE, &format!("/launch?appid=6&{LAUNCH}"));
    let Some(Act::Lumend(FromNet::Ask { ask, .. })) = acts.first() else { panic!() };
    let ended = stage.act(|face, acts| face.end(SessionId(1), EndCode::Stopped, acts));
    assert_eq!(names(&ended), ["hub end", "media end"]);
    stage.act(|face, acts| face.accepted(*ask, SessionId(2), mode(), acts).unwrap());
    assert!(stage.face.has(SessionId(2)));
}

#[test]
fn who_comes_back_without_a_mode_leaves_it_to_lumend() {
    let mut stage = Stage::new(Encryption::Auto);
    stage.session(ALICE, 5, 1);
    let (_reply, acts) = stage.of(ALICE, "/resume?rikey=KEY&rikeyid=7");
    let Some(Act::Lumend(FromNet::Ask { wish, .. })) = acts.last() else { panic!("{:?}", names(&acts)) };
    assert_eq!((wish.mode, wish.app, wish.audio), (None, Some(app(5)), Some(AudioLayout::Stereo)));
}

#[test]
fn a_refusal_is_told_in_words() {
    let mut stage = Stage::new(Encryption::Auto);
    let (ask, mut reply) = stage.launch(ALICE, 5);
    assert!(stage.face.refuse(ask, EndCode::Full, "as many sessions as may be are running"));
    let text = text(&mut reply);
    assert!(text.contains("status_code=\"503\" status_message=\"as many sessions"), "{text}");
    assert_eq!(text_of(&text, "gamesession"), Some("0"));
    assert!(!stage.face.refuse(ask, EndCode::Full, "again"), "it is some other face's");
}

#[test]
fn a_client_that_cannot_encrypt_is_turned_away_where_it_must() {
    let mut stage = Stage::new(Encryption::Required);
    let (mut reply, acts) = stage.of(ALICE, &format!("/launch?appid=5&{}", LAUNCH.replace("&corever=1", "")));
    assert_eq!((status(&mut reply), acts.len()), (403, 0));
    stage.launch(ALICE, 5);
}

#[test]
fn nobody_waits_for_ever() {
    let mut stage = Stage::new(Encryption::Auto);
    let (gone, reply) = stage.launch(ALICE, 5);
    let (_waits, mut reply_of_bob) = stage.launch(BOB, 5);
    drop(reply);
    let now = stage.now;
    assert_eq!(names(&stage.act(|face, acts| face.tick(now, acts))), ["withdrawn"]);
    // An answer that comes after all makes no session.
    let acts = stage.act(|face, acts| face.accepted(gone, SessionId(1), mode(), acts).unwrap());
    assert_eq!((names(&acts), stage.face.has(SessionId(1))), (vec!["gone"], false));
    assert_eq!(names(&stage.act(|face, acts| face.tick(now + Duration::from_secs(61), acts))), ["withdrawn"]);
    assert_eq!(status(&mut reply_of_bob), 503);
}

#[test]
fn what_runs_is_ended_by_lumend_and_then_answered() {
    let mut stage = Stage::new(Encryption::Auto);
    let (mut reply, acts) = stage.of(ALICE, "/cancel");
    assert_eq!((text_of(&text(&mut reply), "cancel"), acts.len()), (Some("1"), 0), "nothing runs");
    stage.session(ALICE, 5, 1);
    let (mut reply, acts) = stage.of(ALICE, "/cancel");
    assert_eq!(names(&acts), ["quit"]);
    assert_eq!(
        names(&stage.act(|face, acts| face.end(SessionId(1), EndCode::AppEnded, acts))),
        ["hub end", "media end"]
    );
    assert!(reply.try_recv().is_err());
    stage.face.running(ALICE, None);
    assert_eq!(text_of(&text(&mut reply), "cancel"), Some("1"));
    assert_eq!(text_of(&text(&mut stage.of(ALICE, "/serverinfo").0), "currentgame"), Some("0"));
    // A lumend that does not end it is not waited for.
    stage.session(ALICE, 5, 2);
    let (mut reply, _) = stage.of(ALICE, "/cancel");
    let later = stage.now + FOR_THE_QUIT;
    assert!(stage.act(|face, acts| face.tick(later, acts)).is_empty());
    assert_eq!(status(&mut reply), 503);
}

#[test]
fn a_client_that_is_removed_loses_all_it_has() {
    let mut stage = Stage::new(Encryption::Auto);
    stage.session(ALICE, 5, 1);
    let (mut quit, _) = stage.of(ALICE, "/cancel");
    let (_, mut launch) = stage.launch(BOB, 6);
    assert_eq!(names(&stage.act(|face, acts| face.permit(ALICE, false, acts))), ["hub end", "media end", "gone"]);
    assert_eq!(names(&stage.act(|face, acts| face.permit(BOB, false, acts))), ["withdrawn"]);
    assert_eq!((status(&mut quit), status(&mut launch)), (401, 503));
    for client in [ALICE, BOB] {
        assert_eq!(status(&mut stage.of(client, "/applist").0), 401);
    }
}

#[test]
fn the_hub_is_heard_of_living_sessions_only() {
    let mut stage = Stage::new(Encryption::Auto);
    stage.session(ALICE, 5, 1);
    assert_eq!(names(&stage.act(|face, acts| face.hub(tuned(1), acts))), ["tune"]);
    assert!(stage.act(|face, acts| face.hub(tuned(1), acts)).is_empty(), "once");
    assert!(stage.act(|face, acts| face.hub(tuned(2), acts)).is_empty());
    let session = SessionId(1);
    assert!(stage.act(|face, acts| face.hub(HubEvent::Started { session }, acts)).is_empty(), "it is not wired yet");
    assert_eq!(names(&stage.act(|face, acts| face.hub(HubEvent::Keyframe { session }, acts))), ["media keyframe"]);
    let gone = || HubEvent::Gone { session, reason: "it left".into() };
    assert_eq!(names(&stage.act(|face, acts| face.hub(gone(), acts))), ["media end", "gone"]);
    assert!(stage.act(|face, acts| face.hub(gone(), acts)).is_empty());
    assert!(stage.act(|face, acts| face.hub(HubEvent::Keyframe { session }, acts)).is_empty());
    assert!(stage.act(|face, acts| face.broken(session, "late".into(), acts)).is_empty());
}

#[test]
fn no_two_sessions_have_the_same_key() {
    let mut stage = Stage::new(Encryption::Auto);
    stage.session(ALICE, 5, 1);
    let had = LAUNCH.replace("KEY", &format!("{:032x}", stage.key));
    for (client, page) in [(ALICE, format!("/resume?{had}")), (BOB, format!("/launch?appid=5&{had}"))] {
        let (mut reply, acts) = stage.of(client, &page);
        assert_eq!((status(&mut reply), acts.len()), (400, 0), "{page}");
    }
    // Two that ask at once: the first that is let in has it.
    let same = LAUNCH.replace("KEY", &"ab".repeat(16));
    let asked = [ALICE, BOB].map(|client| stage.of(client, &format!("/launch?appid=5&{same}")));
    let [(mut first, first_acts), (mut second, second_acts)] = asked;
    let ask = |acts: &Acts| match acts.last() {
        Some(Act::Lumend(FromNet::Ask { ask, .. })) => *ask,
        _ => panic!("nothing was asked"),
    };
    let (first_ask, second_ask) = (ask(&first_acts), ask(&second_acts));
    let acts = stage.act(|face, acts| face.accepted(first_ask, SessionId(2), mode(), acts).unwrap());
    assert_eq!((names(&acts), status(&mut first)), (vec!["hub open"], 200));
    let acts = stage.act(|face, acts| face.accepted(second_ask, SessionId(3), mode(), acts).unwrap());
    assert_eq!((names(&acts), status(&mut second)), (vec!["gone"], 400));
}
