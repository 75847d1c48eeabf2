//! Who is let in over GameStream, and what those see who are not.

use std::net::SocketAddr;

use e2e::guest::http::{self, PATIENCE, get, get_tls};
use e2e::guest::identity::signature_of;
use e2e::guest::moonlight::Moonlight;
use e2e::guest::pair::{Key, Outcome, hash, hex, phase, random, unhex};
use e2e::guest::trial::{LOCAL, MODE, Site, site};
use e2e::guest::wish::Wish;
use e2e::guest::xml::Refused;
use e2e::trial::stage;
use rustls::pki_types::CertificateDer;
use serde_json::Value;
use xtask::host::{Desktop, Host};
use xtask::process::wait_until;

/// Those that are for clients alone, well asked for.
const PAGES: [&str; 5] = [
    "/applist",
    "/appasset?appid=1",
    "/launch?appid=1&mode=640x360x60&rikey=00112233445566778899aabbccddeeff&rikeyid=1",
    "/resume?appid=1&mode=640x360x60&rikey=00112233445566778899aabbccddeeff&rikeyid=1",
    "/cancel",
];

/// The status of an XML refusal.
fn status(error: &anyhow::Error) -> u32 {
    error.downcast_ref::<Refused>().unwrap_or_else(|| panic!("no refusal in XML: {error:#}")).status
}

/// The client is a stranger: every page says so, and nothing begins.
fn is_stranger(site: &Site<'_>, client: &Moonlight) {
    let info = client.page("serverinfo", &[]).map(|info| info.must("PairStatus").unwrap());
    // A host may tell strangers with a certificate what it tells those without.
    assert!(info.as_ref().map_or_else(|error| status(error) == 401, |paired| paired == "0"), "{info:?}");
    let wish = Wish::new(1, MODE);
    let pages = ["applist", "appasset", "launch", "resume", "cancel", "pair"];
    for page in pages {
        let query: &[(&str, &str)] = match page {
            "pair" => &[("phrase", "pairchallenge")],
            _ => &[
                ("appid", "1"),
                ("mode", "640x360x60"),
                ("rikey", "00112233445566778899aabbccddeeff"),
                ("rikeyid", "1"),
            ],
        };
        match client.page(page, query) {
            Err(error) => assert_eq!(status(&error), 401, "{page}: {error:#}"),
            Ok(xml) => assert_eq!((page, xml.text("paired").as_deref()), ("pair", Some("0")), "{xml:?}"),
        }
    }
    assert_eq!(status(&client.launch(&wish).unwrap_err()), 401);
    let sessions = &site.host.status().unwrap()["sessions"];
    assert_eq!(sessions.as_array().unwrap().len(), 0, "{sessions:#}");
}

/// The host's certificate, as it shows it to everybody in the first phase of a pairing that is given up.
fn certificate(site: &Site<'_>) -> CertificateDer<'static> {
    site.enrol().unwrap().pinned().unwrap().clone()
}

#[test]
fn a_client_pairs_with_the_pin_and_sees_what_there_is() {
    let stage = stage().unwrap();
    let config = "[[app]]\nname = \"Steam & more\"\ncommand = \"true\"";
    let site = site(&stage, Desktop::Pattern, config).unwrap();
    let mut client = site.stranger().unwrap();
    let before = client.stranger_info().unwrap();
    assert_eq!(before.must("PairStatus").unwrap(), "0");
    assert_eq!(before.must("HttpsPort").unwrap(), (site.base - 5).to_string());
    assert_eq!(before.must("appversion").unwrap(), "7.1.431.-1");
    assert!(before.must("state").unwrap().ends_with("_SERVER_FREE"));

    let (outcome, output) = site.pair(&mut client, "0417", "0417").unwrap();
    assert_eq!(outcome, Outcome::Paired, "{output:?}");
    assert!(output.status.success(), "{output:?}");
    let info = client.info().unwrap();
    assert_eq!((info.must("PairStatus").unwrap(), info.must("currentgame").unwrap()), ("1".into(), "0".into()));
    assert_eq!(info.must("uniqueid").unwrap(), before.must("uniqueid").unwrap());
    assert_eq!(client.stranger_info().unwrap().must("PairStatus").unwrap(), "0", "nobody is anybody without TLS");

    let apps = client.apps().unwrap();
    let names: Vec<_> = apps.iter().map(|app| app.name.as_str()).collect();
    assert_eq!(names, ["Desktop", "Steam & more"]);
    for app in &apps {
        let image = client.asset(app.id).unwrap();
        assert!(image.starts_with(b"\x89PNG\r\n\x1a\n") && image.ends_with(b"IEND\xaeB`\x82"), "{}", app.name);
    }
    let listed: Value = serde_json::from_str(&site.host.must(&["clients", "--json"]).unwrap()).unwrap();
    let mine = client.identity().fingerprint().to_string();
    assert!(listed.to_string().contains(&mine), "{listed:#}");
}

#[test]
fn a_wrong_pin_is_refused_and_leaves_nothing_behind() {
    let stage = stage().unwrap();
    let site = site(&stage, Desktop::Pattern, "").unwrap();
    let mut client = site.stranger().unwrap();
    let (outcome, output) = site.pair(&mut client, "1111", "1112").unwrap();
    // The client itself has noticed, in the third phase, and breaks off.
    assert_eq!(outcome, Outcome::WrongPin);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    println!("lumend pair says: {}", String::from_utf8_lossy(&output.stderr).trim());
    client.pin(certificate(&site)).unwrap();
    is_stranger(&site, &client);
    let (outcome, output) = site.pair(&mut client, "1111", "1111").unwrap();
    assert_eq!((outcome, output.status.success()), (Outcome::Paired, true), "it may try again");
    client.info().unwrap();
}

/// Goes on with a wrong PIN where an honest client would stop.
#[test]
fn a_client_that_insists_on_a_wrong_pin_is_not_trusted() {
    let stage = stage().unwrap();
    let site = site(&stage, Desktop::Pattern, "").unwrap();
    let mut client = site.stranger().unwrap();
    client.pin(certificate(&site)).unwrap();
    let name = client.identity().fingerprint().to_string();
    let salt = random().unwrap();
    let key = Key::new(&salt, "5555").unwrap();
    let pem = hex(client.identity().pem().as_bytes());
    let first = [("phrase", "getservercert"), ("salt", &hex(&salt)), ("clientcert", &pem)];
    std::thread::scope(|scope| {
        let first = scope.spawn(|| phase(&client, &first));
        let waiting = site.wait_for_pairing(&name).unwrap().to_string();
        let typed = scope.spawn(|| site.host.ctl(&["pair", "6666", "--client", &{ waiting }]).unwrap());
        assert!(first.join().unwrap().unwrap().is_some(), "the PIN has been entered");
        let challenge = hex(&key.encrypt(&random().unwrap()).unwrap());
        let second = phase(&client, &[("clientchallenge", &challenge)]).unwrap().unwrap();
        let answer = key.decrypt(&unhex(&second.must("challengeresponse").unwrap()).unwrap()).unwrap();
        let secret = random().unwrap();
        let own = signature_of(client.identity().certificate()).unwrap();
        let mine = hex(&key.encrypt(&hash(&[&answer[32..], &own, &secret])).unwrap());
        let third = phase(&client, &[("serverchallengeresp", &mine)]).unwrap();
        assert!(third.is_some(), "the host cannot know yet");
        let mut last = secret.to_vec();
        last.extend(client.identity().sign(&secret).unwrap());
        let last = hex(&last);
        assert!(phase(&client, &[("clientpairingsecret", &last)]).unwrap_or_default().is_none());
        let output = typed.join().unwrap();
        assert_eq!(output.status.code(), Some(4), "{output:?}");
        // Once is enough: the same pairing cannot be tried again, with whatever it knows by now.
        assert!(phase(&client, &[("clientpairingsecret", &last)]).unwrap_or_default().is_none());
    });
    is_stranger(&site, &client);
}

#[test]
fn phases_out_of_order_and_without_a_person_lead_nowhere() {
    let stage = stage().unwrap();
    let site = site(&stage, Desktop::Pattern, "").unwrap();
    let mut client = site.stranger().unwrap();
    client.pin(certificate(&site)).unwrap();
    let (block, two) = (hex(&[7; 16]), hex(&[7; 32]));
    let mut secret = vec![7; 16];
    secret.extend(client.identity().sign(&[7; 16]).unwrap());
    let secret = hex(&secret);
    let phases = [("clientchallenge", &block), ("serverchallengeresp", &two), ("clientpairingsecret", &secret)];
    for (name, value) in phases {
        let answer = phase(&client, &[(name, value)]);
        assert!(!matches!(answer, Ok(Some(_))), "{name}: {answer:?}");
    }
    is_stranger(&site, &client);
    let pairings = &site.host.status().unwrap()["pairings"];
    assert!(pairings.as_array().unwrap().is_empty(), "{pairings:#}");
    let refused = site.host.ctl(&["pair", "1234"]).unwrap();
    assert_eq!(refused.status.code(), Some(4), "a PIN is taken only while a client waits: {refused:?}");
}

#[test]
fn wrong_pins_again_and_again_are_slowed_down_and_never_let_in() {
    let stage = stage().unwrap();
    let site = site(&stage, Desktop::Pattern, "").unwrap();
    let mut client = site.stranger().unwrap();
    client.pin(certificate(&site)).unwrap();
    let mut tried = 0;
    for pin in 0..100 {
        // The first phase is answered at once where the host has had enough of it.
        let salt = hex(&random().unwrap());
        let pem = hex(client.identity().pem().as_bytes());
        let query = [("phrase", "getservercert"), ("salt", &salt), ("clientcert", &pem)];
        let typed = format!("{pin:04}");
        std::thread::scope(|scope| {
            let first = scope.spawn(|| phase(&client, &query));
            let waits = || site.host.status().unwrap()["pairings"].as_array().is_some_and(|all| !all.is_empty());
            wait_until(PATIENCE, || (first.is_finished() || waits()).then_some(())).unwrap();
            if first.is_finished() {
                assert!(!matches!(first.join().unwrap(), Ok(Some(_))));
                return;
            }
            tried += 1;
            let typing = scope.spawn(|| site.host.ctl(&["pair", &typed]).unwrap());
            first.join().unwrap().unwrap().expect("a PIN was entered");
            let nonsense = hex(&random().unwrap());
            phase(&client, &[("clientchallenge", &nonsense)]).unwrap().expect("any block can be decrypted");
            let two = hex(&[random().unwrap(), random().unwrap()].concat());
            phase(&client, &[("serverchallengeresp", &two)]).unwrap().expect("it cannot know yet");
            let mut secret = random().unwrap().to_vec();
            secret.extend(client.identity().sign(&secret).unwrap());
            let answer = phase(&client, &[("clientpairingsecret", &hex(&secret))]);
            assert!(!matches!(answer, Ok(Some(_))), "{answer:?}");
            assert_eq!(typing.join().unwrap().status.code(), Some(4));
        });
    }
    println!("{tried} of 100 pairings began");
    assert!((1..20).contains(&tried), "they are few a minute: {tried}");
    is_stranger(&site, &client);
}

#[test]
fn without_a_certificate_nobody_is_anybody() {
    let stage = stage().unwrap();
    let site = site(&stage, Desktop::Pattern, "").unwrap();
    let host = SocketAddr::new(LOCAL, site.base - 5);
    let pinned = certificate(&site);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let tls = http::tls(None, pinned.clone(), &[version]).unwrap();
        for page in PAGES {
            let xml = get_tls(host, &tls, page, PATIENCE).unwrap().xml().unwrap();
            assert_eq!(xml.status().unwrap(), 401, "{page}");
        }
    }
    // What is for clients over TLS is for nobody without.
    let clear = SocketAddr::new(LOCAL, site.base);
    for page in PAGES {
        let xml = get(clear, page, PATIENCE).unwrap().xml().unwrap();
        assert_ne!(xml.status().unwrap(), 200, "{page}");
    }
}

#[test]
fn another_key_with_the_clients_certificate_is_nobody() {
    let stage = stage().unwrap();
    let site = site(&stage, Desktop::Pattern, "").unwrap();
    let client = site.enrol().unwrap();
    let thief = Moonlight::new(LOCAL, site.base).unwrap();
    let host = SocketAddr::new(LOCAL, site.base - 5);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let pinned = client.pinned().unwrap().clone();
        let tls = http::tls_as(client.identity().certificate(), thief.identity(), pinned, &[version]).unwrap();
        let answer = get_tls(host, &tls, "/applist", PATIENCE);
        println!("{version:?}: {:#}", answer.expect_err("the handshake itself fails"));
    }
    client.apps().unwrap();
}

#[test]
fn clients_survive_the_hosts_restart_and_unpairing_does_not() {
    let stage = stage().unwrap();
    let base = {
        let site = site(&stage, Desktop::Pattern, "").unwrap();
        let mut client = Moonlight::open(&stage.path().join("out/moonlight"), LOCAL, site.base).unwrap();
        assert_eq!(site.pair(&mut client, "9876", "9876").unwrap().0, Outcome::Paired);
        site.base
    };
    let config = format!("[gamestream]\nbase_port = {base}\nbind = \"127.0.0.1\"");
    let host = Host::start(&stage, Desktop::Pattern, &config).unwrap();
    let client = Moonlight::open(&stage.path().join("out/moonlight"), LOCAL, base).unwrap();
    assert_eq!(client.info().unwrap().must("PairStatus").unwrap(), "1", "it has the same key, and knows the client");
    let name = client.identity().fingerprint().to_string();
    host.must(&["clients", "disable", &name]).unwrap();
    assert_eq!(status(&client.apps().unwrap_err()), 401);
    host.must(&["clients", "enable", &name]).unwrap();
    client.apps().unwrap();
    host.must(&["clients", "remove", &name]).unwrap();
    assert_eq!(status(&client.apps().unwrap_err()), 401);
}
