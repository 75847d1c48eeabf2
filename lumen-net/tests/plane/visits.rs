//! Moonlight clients at the plane's door: who they are, what they see, and how they are paired.

use std::io::{Read, Write};
use std::net::TcpStream;

use ipc::{AppId, EndCode, Face, FromNet, SessionId, ToNet};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::host::{Host, PATIENCE};
use super::https::{Guesthouse, LAUNCH, TLS12, TLS13, ask, connect_from, pair, with_key};
use super::moonlight::{Attempt, Identity, RSA};

#[test]
fn a_client_pairs_in_five_phases() {
    let mut host = Host::program();
    let house = Guesthouse::open(&host);
    let client = Identity::new();
    let mut attempt = Attempt::new(&client, "0815");
    let (pairing, secret) = house.meet(&mut host, &mut attempt, "0815");
    assert_eq!(attempt.host_is(&RSA, &secret), (true, true));
    assert_eq!(house.get_as(&client, &pair("phrase=pairchallenge")).element("paired"), Some("0"), "not yet");
    let held = house.ask(&pair(&attempt.secret()));
    host.expect(|message| matches!(message, FromNet::Paired { pairing: done } if done == pairing).then_some(()));
    house.permit(&host, &client);
    assert_eq!(held.told().unwrap().element("paired"), Some("1"));
    assert_eq!(house.get_as(&client, &pair("phrase=pairchallenge")).element("paired"), Some("1"));
    assert_eq!(house.get_as(&client, "/serverinfo").element("PairStatus"), Some("1"));
    assert_eq!(house.get("/serverinfo").element("PairStatus"), Some("0"));
    assert!(host.stop().success());
}

#[test]
fn a_wrong_pin_ends_the_attempt_and_pairs_nobody() {
    let mut host = Host::program();
    let house = Guesthouse::open(&host);
    let client = Identity::new();
    for _ in 0..4 {
        let mut attempt = Attempt::new(&client, "0815");
        let (pairing, secret) = house.meet(&mut host, &mut attempt, "4711");
        assert_eq!(attempt.host_is(&RSA, &secret), (true, false));
        assert_eq!(house.phase(&attempt.secret()).element("paired"), Some("0"));
        let failed = host.expect(|message| match message {
            FromNet::PairingFailed { pairing, .. } => Some(pairing),
            FromNet::Paired { .. } => panic!("paired with a wrong PIN"),
            _ => None,
        });
        assert_eq!(failed, pairing);
        // It is not trusted, nor heard again.
        assert_eq!(house.phase(&attempt.secret()).status(), 400);
        assert_eq!(house.get_as(&client, "/applist").status(), 401);
        assert_eq!(house.get_as(&client, &pair("phrase=pairchallenge")).element("paired"), Some("0"));
    }
    assert!(host.stop().success());
}

#[test]
fn pairings_end_with_their_client_and_with_lumends_word() {
    let mut host = Host::program();
    let house = Guesthouse::open(&host);
    let client = Identity::new();
    let (held, pairing, fingerprint) = house.begin(&mut host, &Attempt::new(&client, "1234"));
    assert_eq!(fingerprint, client.fingerprint());
    drop(held);
    let failed = |message| match message {
        FromNet::PairingFailed { pairing, .. } => Some(pairing),
        _ => None,
    };
    assert_eq!(host.expect(failed), pairing);
    let (held, pairing, _) = house.begin(&mut host, &Attempt::new(&client, "1234"));
    host.tell(ToNet::DropPairing { pairing, reason: "not today".into() });
    let told = held.told().unwrap();
    assert_eq!(told.element("paired"), Some("0"));
    assert!(told.text().contains("not today"), "{}", told.text());
    // Seven starts a minute are too many.
    let waiting: Vec<_> = (0..4).map(|_| house.begin(&mut host, &Attempt::new(&client, "1234"))).collect();
    assert_eq!(house.phase(&Attempt::new(&client, "1234").begin()).status(), 503);
    host.expect_counters(|counters| counters.pairings_refused == 1);
    drop(waiting);
    assert!(host.stop().success());
}

#[test]
fn handshakes_of_both_versions_tell_clients_apart() {
    let host = Host::program();
    let house = Guesthouse::open(&host);
    let (known, other, old) = (Identity::new(), Identity::new(), Identity::new().in_version_1());
    house.permit(&host, &known);
    house.permit(&host, &old);
    for version in [&TLS12, &TLS13] {
        let status = |who: Option<&Identity>| {
            let told = house.ask_as(who, version, "/applist").unwrap().told().unwrap();
            assert_eq!(told.kind, "text/xml; charset=utf-8");
            told.status()
        };
        assert_eq!(status(Some(&known)), 200);
        assert_eq!(status(Some(&old)), 200, "with a certificate of version 1");
        assert_eq!(status(Some(&other)), 401, "one with the same subject and serial number");
        assert_eq!(status(None), 401);
    }
    assert!(host.stop().success());
}

#[test]
fn a_stolen_or_an_expired_certificate_opens_nothing() {
    let mut host = Host::program();
    let house = Guesthouse::open(&host);
    let (owner, expired) = (Identity::new(), Identity::valid(2001, 2011));
    house.permit(&host, &owner);
    house.permit(&host, &expired);
    let fingerprint = owner.fingerprint();
    let thief = owner.with_key_of(Identity::new());
    assert_eq!(thief.fingerprint(), fingerprint);
    for version in [&TLS12, &TLS13] {
        let told = house.ask_as(Some(&thief), version, "/applist").and_then(|pending| pending.told());
        assert!(told.is_err(), "{told:?}");
        let told = house.ask_as(Some(&expired), version, "/applist").unwrap().told().unwrap();
        assert_eq!(told.status(), 401);
    }
    host.expect_counters(|counters| counters.handshakes_failed == 2);
    assert!(host.stop().success());
}

#[test]
fn strangers_see_the_doorplate_and_nothing_else() {
    let mut host = Host::program();
    let house = Guesthouse::open(&host);
    let stranger = Identity::new();
    let info = house.get("/serverinfo?uniqueid=0123456789ABCDEF");
    assert_eq!((info.element("hostname"), info.element("state")), (Some("test host"), Some("SUNSHINE_SERVER_FREE")));
    assert_eq!((info.element("HttpsPort"), info.element("LocalIP")), (Some("39995"), Some("127.0.0.1")));
    let known = Identity::new();
    house.permit(&host, &known);
    assert_eq!(info.element("uniqueid"), house.get_as(&known, "/serverinfo").element("uniqueid"));
    assert_eq!(house.get_as(&stranger, "/serverinfo").status(), 401);
    let (launch, resume) = (format!("/launch?appid=5&{LAUNCH}"), format!("/resume?{LAUNCH}"));
    for page in ["/applist", "/appasset?appid=5&AssetType=2&AssetIdx=0", "/cancel", &launch, &resume] {
        assert_eq!(house.get(page).status(), 401, "{page}");
        assert_eq!(house.get_as(&stranger, page).status(), 401, "{page}");
    }
    assert_eq!(house.get("/").status(), 404);
    assert_eq!(house.get("/unpair?uniqueid=1").status(), 200);
    assert_eq!(house.get("/launch?appid=5").status(), 401, "not what is wrong with it");
    host.expect_counters(|counters| counters.requests_malformed == 1);
    assert!(host.stop().success());
}

#[test]
fn a_paired_client_launches_resumes_and_quits() {
    let mut host = Host::program();
    let house = Guesthouse::open(&host);
    let (client, other) = (Identity::new(), Identity::new());
    house.permit(&host, &client);
    house.permit(&host, &other);
    let list = house.get_as(&client, "/applist");
    assert!(list.text().contains("<AppTitle>Game &amp; more</AppTitle><ID>6</ID>"), "{}", list.text());
    let picture = house.get_as(&client, "/appasset?appid=6&AssetType=2&AssetIdx=0");
    assert!(picture.kind == "image/png" && picture.body.starts_with(b"\x89PNG"));

    // Refused, in lumend's words.
    let pending = house.ask_as(Some(&client), &TLS12, &format!("/launch?appid=6&{LAUNCH}")).unwrap();
    let (ask, _, wish) = host.expect_ask();
    assert_eq!((wish.app, wish.own_sink, wish.face), (AppId::new(6), true, Face::GameStream));
    host.tell(ToNet::Refuse { ask, code: EndCode::Full, reason: "two sessions are <enough>".into() });
    let told = pending.told().unwrap();
    assert!(told.text().contains("status_message=\"two sessions are &lt;enough&gt;\""), "{}", told.text());

    assert_eq!(house.launch(&mut host, &client, 1), "rtspenc://127.0.0.1:40021");
    let info = house.get_as(&client, "/serverinfo");
    assert_eq!((info.element("currentgame"), info.element("state")), (Some("5"), Some("SUNSHINE_SERVER_BUSY")));
    assert_eq!(house.get_as(&other, "/serverinfo").element("currentgame"), Some("0"));

    // A new session of the same client takes the place of the old one.
    let had = house.get_as(&client, &format!("/resume?{}", with_key(LAUNCH, 1)));
    assert_eq!(had.status(), 400, "its key has had its session");
    let pending = house.ask_as(Some(&client), &TLS13, &format!("/resume?appid=5&{}", with_key(LAUNCH, 2))).unwrap();
    assert_eq!(host.expect_gone().0, SessionId(1));
    let (ask, _, wish) = host.expect_ask();
    assert_eq!(wish.app, AppId::new(5));
    house.grant(&host, &client, ask, 2);
    assert_eq!(pending.told().unwrap().element("resume"), Some("1"));

    let pending = house.ask_as(Some(&client), &TLS13, "/cancel").unwrap();
    let quits = host.expect(|message| match message {
        FromNet::Quit { client } => Some(client),
        _ => None,
    });
    assert_eq!(quits, client.fingerprint());
    host.tell(ToNet::End { session: SessionId(2), code: EndCode::AppEnded, reason: "it ended".into() });
    host.tell(ToNet::Running { client: quits, app: None });
    assert_eq!(pending.told().unwrap().element("cancel"), Some("1"));
    assert_eq!(house.get_as(&client, "/serverinfo").element("currentgame"), Some("0"));
    assert_eq!(house.get_as(&client, &format!("/resume?{LAUNCH}")).status(), 503);

    // Removed, it is a stranger at once.
    assert_eq!(house.launch(&mut host, &client, 3), "rtspenc://127.0.0.1:40021");
    host.tell(ToNet::Permit { face: Face::GameStream, client: client.fingerprint(), allowed: false });
    assert_eq!(host.expect_gone().0, SessionId(3));
    assert_eq!(house.get_as(&client, "/applist").status(), 401);
    assert_eq!(house.get_as(&other, "/applist").status(), 200);
    assert!(host.stop().success());
}

#[test]
fn a_client_that_does_not_wait_for_its_launch_withdraws_it() {
    let mut host = Host::program();
    let house = Guesthouse::open(&host);
    let client = Identity::new();
    house.permit(&host, &client);
    let pending = house.ask_as(Some(&client), &TLS13, &format!("/launch?appid=5&{LAUNCH}")).unwrap();
    let (ask, ..) = host.expect_ask();
    drop(pending);
    let withdrawn = host.expect(|message| match message {
        FromNet::Withdrawn { ask } => Some(ask),
        _ => None,
    });
    assert_eq!(withdrawn, ask);
    house.grant(&host, &client, ask, 9);
    assert_eq!(host.expect_gone().0, SessionId(9));
    assert!(host.stop().success());
}

#[test]
fn a_thousand_half_open_connections_keep_nobody_out() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let mut host = Host::program();
    let house = Guesthouse::open(&host);
    let client = Identity::new();
    house.permit(&host, &client);
    // Someone who waits to be paired is not pushed out, even at the same address.
    let (held, pairing, _) = house.begin(&mut host, &Attempt::new(&Identity::new(), "1234"));
    let mut open = Vec::new();
    for door in [house.http, house.https, house.rtsp] {
        for at in 0..1_000 {
            // From one address, and then from many.
            let from = if at < 500 { [127, 0, 0, 1] } else { [127, 0, 1, at as u8] };
            let mut stream = connect_from(from, door).unwrap();
            if at % 2 == 0 {
                // It may have been let go already.
                let _ = stream.write_all(b"GET /serverinfo HT");
            }
            open.push(stream);
        }
        assert_eq!(house.get("/serverinfo").status(), 200);
        assert_eq!(house.get_as(&client, "/applist").status(), 200);
        let elsewhere = connect_from([127, 9, 9, 9], house.http).unwrap();
        assert_eq!(ask(elsewhere, "/serverinfo").unwrap().told().unwrap().status(), 200);
    }
    host.expect_counters(|counters| counters.connections_refused > 2_000);
    host.tell(ToNet::Pin { pairing, pin: ipc::Pin::new("1234").unwrap() });
    assert_eq!(held.told().unwrap().element("paired"), Some("1"));
    drop(open);
    assert!(host.stop().success());
}

#[test]
fn requests_that_are_none_are_refused_or_dropped() {
    let mut host = Host::program();
    let house = Guesthouse::open(&host);
    let answer = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(house.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // The plane may have had enough before all of it has been sent.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    };
    let long = format!("GET /serverinfo?{} HTTP/1.1\r\n\r\n", "a".repeat(8 << 10));
    for bad in ["POST /serverinfo HTTP/1.1\r\n\r\n", "\x16\x03\x01 hello", &long] {
        assert!(answer(bad.as_bytes()).contains("status_code=\"400\""), "{bad:.20}");
    }
    host.expect_counters(|counters| counters.requests_malformed == 3);
    let whole = "GET /serverinfo HTTP/1.1\r\nHost: a\r\n\r\n";
    for end in 0..whole.len() {
        assert_eq!(answer(&whole.as_bytes()[..end]), "", "{end}");
    }
    assert_eq!(house.get("/serverinfo").status(), 200);
    // TLS that is none, and one that breaks off.
    for bytes in [&b"GET /serverinfo HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01"] {
        let mut stream = TcpStream::connect(house.https).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.len() < 16, "at most an alert");
    }
    host.expect_counters(|counters| counters.handshakes_failed == 2);
    assert!(host.stop().success());
}
