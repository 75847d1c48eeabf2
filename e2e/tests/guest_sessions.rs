//! The lives of GameStream sessions: left, resumed, cancelled, and ended from outside.

use std::time::Duration;

use e2e::guest::moonlight::Moonlight;
use e2e::guest::shared::Ended;
use e2e::guest::stream::{Reception, Stream};
use e2e::guest::trial::{Site, site, sound};
use e2e::guest::wish::{Secrecy, Wish};
use e2e::guest::xml::Refused;
use e2e::trial::{scene, stage, wait_for_nothing};
use xtask::host::Desktop;
use xtask::process::wait_until;

/// "It ended as it should" (moonlight-common-c, ControlStream.c).
const GRACEFUL: Ended = Ended::Terminated(0x8003_0023);
/// Longer than anything takes to end.
const SOON: Duration = Duration::from_secs(10);

/// What the host says that this client has running: the app's number, and whether it is busy.
fn running(client: &Moonlight) -> (u32, bool) {
    let info = client.info().unwrap();
    let state = info.must("state").unwrap();
    assert!(!state.contains("MJOLNIR"), "{state}");
    (info.must("currentgame").unwrap().parse().unwrap(), state.ends_with("_SERVER_BUSY"))
}

fn status(error: &anyhow::Error) -> u32 {
    error.downcast_ref::<Refused>().unwrap_or_else(|| panic!("no refusal in XML: {error:#}")).status
}

fn resume(site: &Site<'_>, client: &Moonlight, wish: &Wish) -> Stream {
    let stream = Stream::start(client, &client.resume(wish).unwrap(), wish, Reception::default()).unwrap();
    site.flowing(&stream, 20).unwrap();
    stream
}

#[test]
fn a_client_leaves_and_comes_back_with_new_keys_until_it_cancels() {
    let stage = stage().unwrap();
    let site = site(&stage, Desktop::Sway, &scene(&stage, "")).unwrap();
    let (client, other) = (site.enrol().unwrap(), site.enrol().unwrap());
    let wish = site.wish(&client).unwrap();
    assert_eq!(running(&client), (0, false));
    let nothing = client.resume(&wish).unwrap_err();
    println!("resuming nothing: {nothing:#}");
    assert_ne!(status(&nothing), 200);

    let mut first = site.watch_as(&client, &wish, Reception::default()).unwrap();
    assert_eq!(running(&client), (wish.app, true));
    assert_eq!(running(&other), (0, false), "what one has running is not the other's");
    assert_eq!(first.leave(), Ended::Left);
    site.wait_gone(&client).unwrap();
    assert_eq!(running(&client), (wish.app, true), "the app waits for its client");

    for mode in [(640, 360), (800, 600)] {
        let wish = Wish { width: mode.0, height: mode.1, ..wish.clone() };
        let mut again = resume(&site, &client, &wish);
        assert_eq!(again.leave(), Ended::Left);
        sound(&again).unwrap();
        let picture = again.video().pictures[0];
        assert_eq!((picture.width, picture.height), mode, "each time in the mode that is wished");
        site.wait_gone(&client).unwrap();
    }
    sound(&first).unwrap();

    assert!(client.cancel().unwrap());
    assert_eq!(running(&client), (0, false), "at once, since clients look");
    wait_for_nothing(&site.host, SOON).unwrap();
    assert_ne!(status(&client.resume(&wish).unwrap_err()), 200);
}

#[test]
fn a_client_that_comes_back_without_having_left_takes_over_its_own_session() {
    let stage = stage().unwrap();
    let site = site(&stage, Desktop::Pattern, "").unwrap();
    let client = site.enrol().unwrap();
    let wish = site.wish(&client).unwrap();
    let first = site.watch_as(&client, &wish, Reception::default()).unwrap();
    let mut second = resume(&site, &client, &wish);
    let ended = first.ended(SOON).expect("there is one session a client");
    assert!(!matches!(ended, Ended::Failed(_)), "{ended:?}");
    second.last(Duration::from_secs(2)).unwrap();
    assert_eq!(second.leave(), Ended::Left);
    sound(&second).unwrap();
    let sessions = site.host.status().unwrap()["sessions"].clone();
    assert!(sessions.as_array().unwrap().len() <= 1, "{sessions:#}");
}

#[test]
fn an_old_client_comes_back_to_the_mode_that_it_had() {
    let stage = stage().unwrap();
    let site = site(&stage, Desktop::Pattern, "").unwrap();
    let client = site.enrol().unwrap();
    let wish = Wish { width: 848, height: 480, secrecy: Secrecy::NONE, ..site.wish(&client).unwrap() };
    assert_ne!(status(&client.resume_tersely(&wish).unwrap_err()), 200, "there is nothing to come back to");
    assert_eq!(site.watch_as(&client, &wish, Reception::default()).unwrap().leave(), Ended::Left);
    site.wait_gone(&client).unwrap();
    let launched = client.resume_tersely(&wish).unwrap();
    let mut stream = Stream::start(&client, &launched, &wish, Reception::default()).unwrap();
    site.flowing(&stream, 20).unwrap();
    assert_eq!(stream.leave(), Ended::Left);
    sound(&stream).unwrap();
    let picture = stream.video().pictures[0];
    assert_eq!((picture.width, picture.height), (848, 480));
}

/// Clients ask the person to quit what runs, since the host says that it does; one that does not ask loses nothing.
#[test]
fn another_app_is_refused_while_one_runs_and_the_stream_goes_on() {
    let stage = stage().unwrap();
    let config = "[[app]]\nname = \"One\"\ncommand = \"exec sleep 1000\"\n\n\
        [[app]]\nname = \"Other\"\ncommand = \"exec sleep 1001\"";
    let site = site(&stage, Desktop::Pattern, config).unwrap();
    let client = site.enrol().unwrap();
    let one = Wish { app: client.app("One").unwrap(), ..site.wish(&client).unwrap() };
    let other = Wish { app: client.app("Other").unwrap(), ..one.clone() };
    let mut stream = site.watch_as(&client, &one, Reception::default()).unwrap();
    let refused = client.launch(&other).unwrap_err();
    println!("while another runs: {refused:#}");
    assert_ne!(status(&refused), 200);
    assert_eq!(running(&client), (one.app, true));
    site.flowing(&stream, stream.frames() + 60).unwrap();
    assert_eq!(stream.leave(), Ended::Left);
    sound(&stream).unwrap();
    // As clients do it.
    assert!(client.cancel().unwrap());
    let mut stream = site.watch_as(&client, &other, Reception::default()).unwrap();
    assert_eq!((running(&client), stream.leave()), ((other.app, true), Ended::Left));
}

#[test]
fn a_person_ends_what_a_client_has_left_and_what_it_looks_at() {
    let stage = stage().unwrap();
    let undone = stage.directory("out").unwrap().join("undone");
    let config =
        format!("[[app]]\nname = \"Long\"\ncommand = \"exec sleep 1000\"\nundo = [\"touch {}\"]", undone.display());
    let site = site(&stage, Desktop::Pattern, &config).unwrap();
    let client = site.enrol().unwrap();
    let name = client.identity().fingerprint().to_string();
    let long = Wish { app: client.app("Long").unwrap(), ..site.wish(&client).unwrap() };
    let nothing = site.host.ctl(&["stop", "--run", &name]).unwrap();
    assert_eq!(nothing.status.code(), Some(4), "{}", String::from_utf8_lossy(&nothing.stderr));

    let mut stream = site.watch_as(&client, &long, Reception::default()).unwrap();
    assert_eq!(stream.leave(), Ended::Left);
    site.wait_gone(&client).unwrap();
    assert_eq!(running(&client), (long.app, true));
    site.host.must(&["stop", "--run", &name]).unwrap();
    wait_until(SOON, || undone.exists().then_some(())).unwrap();
    assert_eq!(running(&client), (0, false));

    let stream = site.watch_as(&client, &long, Reception::default()).unwrap();
    let run = site.host.status().unwrap()["runs"][0]["run"].to_string();
    site.host.must(&["stop", "--run", &run]).unwrap();
    assert_eq!(stream.ended(SOON), Some(GRACEFUL));
    wait_until(SOON, || (running(&client) == (0, false)).then_some(())).unwrap();
}

#[test]
fn cancelling_ends_the_stream_of_the_client_itself() {
    let stage = stage().unwrap();
    let site = site(&stage, Desktop::Pattern, "").unwrap();
    let client = site.enrol().unwrap();
    let stream = site.watch(&client).unwrap();
    assert!(client.cancel().unwrap());
    assert_eq!(stream.ended(SOON), Some(GRACEFUL));
    assert_eq!(running(&client), (0, false));
    wait_for_nothing(&site.host, SOON).unwrap();
}

#[test]
fn removing_disabling_and_stopping_end_a_stream_in_its_middle() {
    let stage = stage().unwrap();
    let site = site(&stage, Desktop::Pattern, "").unwrap();
    let client = site.enrol().unwrap();
    let name = client.identity().fingerprint().to_string();

    let stream = site.watch(&client).unwrap();
    let session = site.session(&client).unwrap()["id"].to_string();
    site.host.must(&["stop", &session]).unwrap();
    assert_eq!(stream.ended(SOON), Some(GRACEFUL), "stopped by a person");
    site.wait_gone(&client).unwrap();

    let stream = resume_or_launch(&site, &client);
    site.host.must(&["clients", "disable", &name]).unwrap();
    assert_eq!(stream.ended(SOON), Some(GRACEFUL), "disabled");
    assert_eq!(status(&client.apps().unwrap_err()), 401);
    site.host.must(&["clients", "enable", &name]).unwrap();

    let stream = resume_or_launch(&site, &client);
    site.host.must(&["permit", &name, "-view"]).unwrap();
    assert_eq!(stream.ended(SOON), Some(GRACEFUL), "may not look any more");
    let wish = site.wish(&client).unwrap();
    let refused = client.launch(&wish).unwrap_err();
    println!("without view: {refused:#}");
    site.host.must(&["permit", &name, "+view"]).unwrap();

    let stream = resume_or_launch(&site, &client);
    site.host.must(&["clients", "remove", &name]).unwrap();
    assert_eq!(stream.ended(SOON), Some(GRACEFUL), "removed");
    assert_eq!(status(&client.apps().unwrap_err()), 401);
    wait_for_nothing(&site.host, SOON).unwrap();
}

/// As a client does: by what the host says that it has running.
fn resume_or_launch(site: &Site<'_>, client: &Moonlight) -> Stream {
    let wish = site.wish(client).unwrap();
    match running(client) {
        (_, true) => resume(site, client, &wish),
        _ => site.watch_as(client, &wish, Reception::default()).unwrap(),
    }
}

#[test]
fn the_hosts_end_is_told() {
    let stage = stage().unwrap();
    let site = site(&stage, Desktop::Pattern, "").unwrap();
    let client = site.enrol().unwrap();
    let stream = site.watch(&client).unwrap();
    drop(site);
    assert_eq!(stream.ended(SOON), Some(GRACEFUL));
}

#[test]
fn an_app_that_ends_ends_its_session_and_one_that_is_cancelled_is_stopped() {
    let stage = stage().unwrap();
    let signs = stage.directory("out").unwrap();
    let sign = |name: &str| format!("touch {}", signs.join(name).display());
    // `scene` is on the desktop in any case; the app itself waits until it is told to end.
    let config = format!(
        "[[app]]\nname = \"Short\"\ncommand = \"{begun}; while [ ! -e {end} ]; do sleep 0.05; done\"\nprep = [\"{prep}\"]\n\
         undo = [\"{undo}\"]\n\n[[app]]\nname = \"Long\"\ncommand = \"{long}; exec sleep 1000\"\nundo = [\"{long_undo}\"]\n{scene}",
        begun = sign("begun"),
        end = signs.join("end").display(),
        prep = sign("prep"),
        undo = sign("undo"),
        long = sign("long"),
        long_undo = sign("long-undo"),
        scene = scene(&stage, ""),
    );
    let site = site(&stage, Desktop::Sway, &config).unwrap();
    let client = site.enrol().unwrap();
    let there = |name: &str| wait_until(SOON, || signs.join(name).exists().then_some(())).unwrap();

    let short = Wish { app: client.app("Short").unwrap(), ..site.wish(&client).unwrap() };
    let stream = site.watch_as(&client, &short, Reception::default()).unwrap();
    there("prep");
    there("begun");
    assert_eq!(running(&client), (short.app, true));
    stream.last(Duration::from_secs(1)).unwrap();
    stage.write("out/end", "").unwrap();
    assert_eq!(stream.ended(SOON), Some(GRACEFUL), "the app has ended");
    there("undo");
    let free = || (running(&client) == (0, false)).then_some(());
    wait_until(SOON, free).expect("nothing runs any more");
    site.wait_gone(&client).unwrap();

    let long = Wish { app: client.app("Long").unwrap(), ..short.clone() };
    let mut stream = site.watch_as(&client, &long, Reception::default()).unwrap();
    there("long");
    assert_eq!(stream.leave(), Ended::Left);
    site.wait_gone(&client).unwrap();
    assert_eq!(running(&client), (long.app, true), "it goes on without its client");
    assert!(!signs.join("long-undo").exists());
    let runs = site.host.status().unwrap()["runs"].clone();
    assert_eq!(runs[0]["app"], "Long", "{runs:#}");
    assert!(client.cancel().unwrap());
    there("long-undo");
    assert_eq!(running(&client), (0, false));
    site.host.status_where(SOON, |status| status["runs"].as_array().is_some_and(Vec::is_empty)).unwrap();
}

#[test]
fn who_may_not_launch_may_still_look_at_the_desktop() {
    let stage = stage().unwrap();
    let config = "[[app]]\nname = \"Sleep\"\ncommand = \"exec sleep 1000\"";
    let site = site(&stage, Desktop::Pattern, config).unwrap();
    let client = site.enrol().unwrap();
    site.host.must(&["permit", &client.identity().fingerprint().to_string(), "-launch"]).unwrap();
    let desktop = site.wish(&client).unwrap();
    let sleep = Wish { app: client.app("Sleep").unwrap(), ..desktop.clone() };
    let refused = client.launch(&sleep).unwrap_err();
    println!("without launch: {refused:#}");
    assert_eq!(running(&client), (0, false));
    let mut stream = site.watch_as(&client, &desktop, Reception::default()).unwrap();
    assert_eq!(stream.leave(), Ended::Left);
    let unknown = client.launch(&Wish { app: 12345, ..desktop }).unwrap_err();
    println!("an app that is not in the list: {unknown:#}");
    assert_ne!(status(&unknown), 200);
}
