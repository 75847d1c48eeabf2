//! Planes that lie: to lumend over their links, to peers in shared memory, to the signer. Everything happens in one host,
//! in the sessions of clients that are there to be attacked, while another one's picture and sound go on and must not
//! notice. What is tried stands in `e2e::forge`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use e2e::forge::victim::Victim;
use e2e::forge::{FORGERIES, Fate, Forgery, How, signer};
use e2e::inject::message::Control;
use e2e::inject::trial::{
    PATIENCE, eldest, gets_through, host, leave, nothing_panicked, replaced, undisturbed, use_it, wait_for_everything,
};
use e2e::inject::{Held, handles};
use e2e::trial::{pids, sound, stage, trace};
use ipc::PlaneKind::{self, Audio, Capture, Encode, Input, Net};
use serde_json::Value;
use xtask::host::Host;
use xtask::sound::{Sound, Speakers};
use xtask::stage::Stage;

/// Deaths of one plane that a session lives through without waiting long for the next.
const ROUNDS: usize = 3;

/// What is done, and who does it.
type Deed = (&'static Forgery, PlaneKind);

/// All deeds, but those of net that need two sessions to be seen through.
fn deeds() -> impl Iterator<Item = Deed> {
    let all = FORGERIES.iter().flat_map(|forgery| forgery.planes.iter().map(move |by| (forgery, *by)));
    all.filter(|(forgery, _)| !matches!(forgery.fate, Fate::Peer(_)))
}

/// All deeds of which this plane dies first.
fn that_end(kind: Option<PlaneKind>) -> Vec<Deed> {
    deeds().filter(|(forgery, by)| forgery.dies(*by).first().copied() == kind).collect()
}

/// Sessions to be attacked, the next of which comes up while this one is.
struct Victims<'a> {
    stage: &'a Stage,
    host: &'a Host<'a>,
    started: u32,
    next: Option<Victim<'a>>,
}

impl<'a> Victims<'a> {
    fn connect(&mut self) -> Victim<'a> {
        self.started += 1;
        Victim::connect(self.stage, self.host, self.started).unwrap()
    }

    fn fresh(&mut self) -> Victim<'a> {
        let victim = self.next.take().unwrap_or_else(|| self.connect());
        self.next = Some(self.connect());
        victim.wait(self.host).unwrap();
        victim
    }
}

/// Nothing comes of these: everybody is still there.
fn in_vain(host: &Host, victim: &Victim<'_>) {
    let before = pids(host).unwrap();
    for (forgery, by) in that_end(None) {
        let context = || format!("{by}: {}", forgery.what);
        victim.suffers(host, forgery, by).unwrap_or_else(|error| panic!("{}: {error:#}", context()));
        assert_eq!(pids(host).unwrap(), before, "{}", context());
    }
    victim.wait(host).unwrap();
    assert_eq!(pids(host).unwrap(), before);
    host.must(&["status"]).unwrap();
}

/// One after the other for each kind of plane, all kinds of one session at once: what dies is replaced, and nobody else.
fn to_the_death(victims: &mut Victims<'_>) {
    let host = victims.host;
    let columns = [Encode, Capture, Audio, Input].map(|kind| that_end(Some(kind)));
    let rounds = columns.iter().map(Vec::len).max().unwrap_or(0);
    let mut victim = victims.fresh();
    for round in 0..rounds {
        if round % ROUNDS == 0 && round > 0 {
            let old = std::mem::replace(&mut victim, victims.fresh());
            leave(old.client).unwrap();
            let gone = |status: &Value| {
                status["sessions"].as_array().is_some_and(|list| list.iter().all(|s| s["id"] != old.session.0))
            };
            host.status_where(PATIENCE, gone).unwrap();
        }
        let before = settled(host);
        let connections = sockets(host, &victim);
        let mut dead = Vec::new();
        for (forgery, by) in columns.iter().filter_map(|column| column.get(round)) {
            let context = || format!("{by}: {}", forgery.what);
            // Where both ends are needed, both are there again.
            if matches!(forgery.how, How::Write(..)) && !dead.is_empty() {
                settled(host);
                victim.wait(host).unwrap_or_else(|error| panic!("{dead:?}: {error:#}"));
            }
            let died = victim.suffers(host, forgery, *by);
            dead.extend(died.unwrap_or_else(|error| panic!("{}: {error:#}\n{}", context(), host.log())));
            assert!(!host.log().contains("unanswered"), "not found out, but late: {}\n{}", context(), host.log());
        }
        victim.heals(host, &dead, &before).unwrap_or_else(|error| panic!("{dead:?}: {error:#}\n{}", host.log()));
        // Of hands that broke a rule: whatever they have made on their compositor's connection ends with it.
        let broke = columns[3].len() > round;
        let inherited = sockets(host, &victim).intersection(&connections).count();
        assert!(!broke || !connections.is_empty() && inherited == 0, "{dead:?}");
    }
    leave(victim.client).unwrap();
    leave(victims.next.take().unwrap().client).unwrap();
}

/// The kernel's names of the sockets that a session's hands have.
fn sockets(host: &Host, victim: &Victim<'_>) -> BTreeSet<String> {
    let hands = victim.pid(&pids(host).unwrap(), Input).unwrap();
    handles::open(hands).unwrap().into_values().filter(|name| name.starts_with("socket:")).collect()
}

/// Every plane of every session runs.
fn settled(host: &Host) -> BTreeMap<String, i64> {
    let running = |status: &Value| {
        status["planes"].as_array().is_some_and(|list| list.iter().all(|plane| plane["state"] == "running"))
    };
    host.status_where(PATIENCE, running).unwrap();
    pids(host).unwrap()
}

/// What net may have signed: its own handshakes, and no more of them than so many.
fn signatures(host: &Host) {
    let net = eldest(host, "net").unwrap();
    let socket = signer::socket(net).unwrap();
    let [native, others @ ..] = &signer::requests()[..] else { panic!("no requests") };
    let mut held = Held::take(net).unwrap();
    // Without GameStream there is nothing that its key could sign, and no pairing without a person's PIN.
    let answers = signer::ask(&mut held, socket, others).unwrap_or_else(|error| panic!("{error:#}\n{}", host.log()));
    assert_eq!((answers.signed, answers.refused), (0, others.len()));
    held.release().unwrap();
    let begun = Instant::now();
    let mut signed = 0;
    for _ in 0..5 {
        let mut held = Held::take(net).unwrap();
        let answers = signer::ask(&mut held, socket, &vec![native.clone(); 20]);
        let answers = answers.unwrap_or_else(|error| panic!("{error:#}\n{}", host.log()));
        held.release().unwrap_or_else(|error| panic!("{error:#}: {answers:?}\n{}", host.log()));
        signed += answers.signed;
    }
    let most = 64 + 20 * (begun.elapsed().as_secs() as usize + 1);
    assert!(signed > 0 && signed < 100.min(most + 1), "{signed} of 100 were signed in {:?}", begun.elapsed());
}

/// Each of these ends net; clients are back at the next one.
fn without_net(host: &Host, victim: &Victim<'_>) -> usize {
    let deeds = that_end(Some(Net));
    for (forgery, by) in &deeds {
        let before = settled(host);
        let dead = victim.suffers(host, forgery, *by).unwrap_or_else(|error| panic!("{}: {error:#}", forgery.what));
        replaced(host, &dead, &before).unwrap();
        flows(host);
    }
    // On the signer's socket nothing else is understood.
    let before = settled(host);
    let net = eldest(host, "net").unwrap();
    let socket = signer::socket(net).unwrap();
    let mut held = Held::take(net).unwrap();
    let told = e2e::inject::message::send(&mut held, socket, &[4; 40], &Control::None).unwrap();
    assert!(gets_through(told), "{told:?}");
    drop(held);
    replaced(host, &[("net/null".to_owned(), i64::from(net))], &before).unwrap();
    flows(host);
    deeds.len() + 1
}

/// Net lies to the planes of a session. Which of the two does cannot be told, and so net stays; until a second client's
/// planes say the same.
fn seen_through(host: &Host, [victim, second]: [&Victim<'_>; 2]) {
    let lies: Vec<_> = FORGERIES.iter().filter(|forgery| matches!(forgery.fate, Fate::Peer(_))).collect();
    for lie in &lies {
        let before = settled(host);
        let dead = victim.suffers(host, lie, Net).unwrap_or_else(|error| panic!("{}: {error:#}", lie.what));
        victim.heals(host, &dead, &before).unwrap_or_else(|error| panic!("{}: {error:#}", lie.what));
    }
    let before = settled(host);
    let mut dead = second.suffers(host, lies[0], Net).unwrap();
    dead.push(("net/null".to_owned(), before["net/null"]));
    replaced(host, &dead, &before).unwrap();
    flows(host);
}

/// Every session's picture goes on.
fn flows(host: &Host) {
    let sent = |status: &Value| -> BTreeMap<u64, u64> {
        let list = status["sessions"].as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().filter_map(|s| Some((s["id"].as_u64()?, s["frames"]["sent"].as_u64()?))).collect()
    };
    let begun = sent(&host.status().unwrap());
    let on =
        |status: &Value| sent(status).iter().all(|(id, frames)| *frames > begun.get(id).copied().unwrap_or(0) + 10);
    host.status_where(PATIENCE, on).unwrap();
}

#[test]
fn planes_that_lie_cost_themselves_and_nobody_else() {
    let stage = stage().unwrap();
    let speakers = Sound::start(&stage, Speakers::Stereo).unwrap();
    let host = host(&stage, &speakers).unwrap();
    let lumend = host.pid();
    let bystander = use_it(&stage, &host, "bystander").unwrap();
    wait_for_everything(&host, 1).unwrap();
    let mut victims = Victims { stage: &stage, host: &host, started: 0, next: None };

    let begun = Instant::now();
    let victim = victims.fresh();
    let clients = std::fs::read(stage.path().join("state/host/clients.toml")).unwrap();
    in_vain(&host, &victim);
    signatures(&host);
    assert_eq!(std::fs::read(stage.path().join("state/host/clients.toml")).unwrap(), clients, "it let somebody in");
    leave(victim.client).unwrap();
    println!("in vain: {:?}", begun.elapsed());
    to_the_death(&mut victims);
    println!("to the death: {:?}", begun.elapsed());
    let report = leave(bystander).unwrap();
    assert_eq!((&report["audio"]["lost"], &report["audio"]["decode_errors"]), (&0.into(), &0.into()), "{report:#}");
    assert_eq!(report["frames"]["decode_errors"], 0, "{report:#}");
    undisturbed(&stage, "bystander").unwrap();

    // Net is everybody's: its clients come back to the next one.
    let bystander = use_it(&stage, &host, "bystander").unwrap();
    let [victim, second] = [victims.connect(), victims.connect()];
    victim.wait(&host).unwrap();
    second.wait(&host).unwrap();
    seen_through(&host, [&victim, &second]);
    println!("seen through: {:?}", begun.elapsed());
    leave(second.client).unwrap();
    let deaths = without_net(&host, &victim) + 1;
    println!("without net: {:?}", begun.elapsed());
    leave(victim.client).unwrap();
    let report = leave(bystander).unwrap();
    assert_eq!(report["frames"]["decode_errors"], 0, "{report:#}");
    let frames = trace(&stage, "bystander").unwrap();
    sound(&frames).unwrap();
    let mut generations: Vec<u64> = frames.iter().map(|frame| frame.generation).collect();
    generations.dedup();
    // A generation for each net. A client that hears nothing for 150 ms comes back, and while net is made to act it is silent.
    let acts = FORGERIES.iter().filter(|forgery| forgery.planes.contains(&Net)).count();
    let expected = deaths + 1..=deaths + 1 + acts;
    assert!(expected.contains(&generations.len()), "{expected:?}: {generations:?}\n{}", host.log());
    nothing_panicked(&host).unwrap();
    host.must(&["status"]).unwrap();
    assert!(std::path::Path::new(&format!("/proc/{lumend}")).exists() && host.pid() == lumend);
}
