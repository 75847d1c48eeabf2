//! Everything that strangers can do to the doors of GameStream, while a client's stream goes on that must not notice.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use e2e::guest::control::Message;
use e2e::guest::http::{self, PATIENCE, get_tls};
use e2e::guest::mob::{Noise, allow_connections, connect_as, enet_connect, flood, half_open};
use e2e::guest::moonlight::Moonlight;
use e2e::guest::pair::{hex, phase, random};
use e2e::guest::report::{longest_gap_ms, report};
use e2e::guest::shared::{Arrival, Ended};
use e2e::guest::stream::Stream;
use e2e::guest::trial::{LOCAL, Site, site, sound};
use e2e::guest::xml::Refused;
use e2e::trial::{pids, stage};
use ipc::event::now_ns;
use xtask::host::Desktop;
use xtask::process::{fds, private_bytes, wait_until};

/// The longest gap between two frames of a bystander, in milliseconds: twelve frames. Storms of full speed on loopback take a
/// core from the machine's two, and a machine that is busy hiccups by itself; a storm that gets through to the video is a
/// matter of seconds.
const GAP_MS: f64 = 200.0;
/// Where the machine hiccups without a storm, this many times as long.
const LONGER: f64 = 4.0;
/// Connections that a door holds, and those that it may accept before the ones that made way are closed (a tick of its
/// runtime, tokio's cooperative budget).
const HELD: usize = 64 + 128;
/// By how many bytes the network plane may grow.
const MEMORY: u64 = 16 << 20;
/// Of each storm.
const LENGTH: Duration = Duration::from_secs(3);

/// A stream that looks on.
struct Bystander<'a> {
    site: &'a Site<'a>,
    stream: Stream,
    net: i32,
    memory: u64,
    calm: f64,
    told: Vec<String>,
}

impl<'a> Bystander<'a> {
    fn new(site: &'a Site<'a>, client: &Moonlight) -> Self {
        let stream = site.watch(client).unwrap();
        let from = now_ns();
        stream.last(LENGTH).unwrap();
        let calm = gap(&stream, from);
        let net = site.host.planes("net").unwrap()[0];
        let memory = private_bytes(net).unwrap();
        Self { site, stream, net, memory, calm, told: vec![format!("calm {calm:.0} ms")] }
    }

    /// Looks on while something happens.
    fn during<T>(&mut self, what: &str, act: impl FnOnce() -> T) -> T {
        let from = now_ns();
        let done = act();
        let gap = gap(&self.stream, from);
        self.told.push(format!("{what} {gap:.0} ms"));
        assert_eq!(self.stream.ended(Duration::ZERO), None, "{what}");
        assert!(gap <= GAP_MS.max(LONGER * self.calm), "{:?}", self.told);
        let grown = private_bytes(self.net).unwrap().saturating_sub(self.memory);
        assert!(grown <= MEMORY, "{what}: net has grown by {grown} bytes");
        done
    }

    fn end(mut self) {
        println!("longest gaps: {}", self.told.join(", "));
        assert_eq!(self.stream.leave(), Ended::Left);
        sound(&self.stream).unwrap();
        let video = self.stream.video();
        assert_eq!((video.counts.lost, video.undecoded), (0, 0), "{:#}", report(&self.stream, None));
        assert_eq!(self.site.host.planes("net").unwrap(), [self.net], "the same process as before");
    }
}

/// The longest time without a frame since then, until now.
fn gap(stream: &Stream, from: u64) -> f64 {
    let arrivals = stream.video().arrivals;
    let since: Vec<Arrival> = arrivals.into_iter().filter(|frame| frame.whole_ns >= from).collect();
    let open = since.last().map_or(from, |last| last.whole_ns);
    longest_gap_ms(&since).max((now_ns() - open) as f64 / 1e6)
}

#[test]
fn a_thousand_half_open_connections_on_each_port_hold_up_nobody() {
    let stage = stage().unwrap();
    allow_connections(4000).unwrap();
    let site = site(&stage, Desktop::Pattern, "").unwrap();
    let client = site.enrol().unwrap();
    let (http, https, rtsp) = (site.base, site.base - 5, site.base + 21);
    let mut bystander = Bystander::new(&site, &client);
    let net = bystander.net;
    let before = fds(net).unwrap();
    let held = bystander.during("half-open connections", || {
        let beginnings: [(u16, &[u8]); 3] =
            [(http, b"GET /serverinfo HTT"), (https, b"\x16\x03\x01\x02"), (rtsp, b"OPTIONS rtsp://0.0.0.0")];
        let held = beginnings.map(|(port, text)| half_open(port, 1000, text));
        let most = fds(net).unwrap();
        assert!(most <= before + 3 * HELD, "{most} descriptors, {before} before");
        println!("{:?} of 1000 connections came about, net had {most} descriptors", held.each_ref().map(Vec::len));
        held
    });
    // While they are all still there, a client gets its answers: it speaks at once.
    bystander.during("pages beside them", || {
        for _ in 0..10 {
            client.stranger_info().unwrap();
            client.info().unwrap();
        }
    });
    drop(held);
    bystander.during("slow loris", || {
        let mut slow: Vec<_> = (0..200).filter_map(|index| connect_as(500 + index, http).ok()).collect();
        for byte in b"GET /serverinfo HTTP/1.1\r\nHost: x\r\n".iter().take(20) {
            slow.iter_mut().for_each(|stream| drop(stream.write_all(&[*byte])));
            std::thread::sleep(Duration::from_millis(20));
        }
        client.info().unwrap();
    });
    // What was held is let go, whatever it said.
    let settled = || (fds(net).unwrap() <= before + 4).then_some(());
    wait_until(Duration::from_secs(25), settled).unwrap();
    bystander.end();
}

#[test]
fn rubbish_and_strangers_on_every_port_are_refused_and_bounded() {
    let stage = stage().unwrap();
    allow_connections(1000).unwrap();
    let site = site(&stage, Desktop::Pattern, "").unwrap();
    let client = site.enrol().unwrap();
    let mut stranger = site.stranger().unwrap();
    stranger.pin(client.pinned().unwrap().clone()).unwrap();
    let mut bystander = Bystander::new(&site, &client);
    let before = pids(&site.host).unwrap();
    let mut noise = Noise::new(11);

    bystander.during("rubbish over TCP", || {
        let beginnings: [&[u8]; 6] =
            [b"", b"GET /", b"GET /pair?", b"OPTIONS rtsp://x RTSP/1.0\r\nCSeq: ", b"\x16\x03\x01", b"\x80\0\x20\0"];
        for (index, port) in (0..300_u16).zip([site.base, site.base - 5, site.base + 21].into_iter().cycle()) {
            let Ok(mut stream) = connect_as(index / 8, port) else { continue };
            stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            let mut bytes = beginnings[usize::from(index) % beginnings.len()].to_vec();
            bytes.extend(noise.bytes(usize::from(index) * 100));
            let _ = stream.write_all(&bytes);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    bystander.during("strangers on every page", || {
        for _ in 0..20 {
            for page in ["serverinfo", "applist", "appasset", "launch", "resume", "cancel", "unpair", "nonsense"] {
                // The host may be tired of handshakes; what it answers is no.
                if let Err(error) = stranger.page(page, &[("appid", "1")]) {
                    let refused = error.downcast_ref::<Refused>().map(|refused| refused.status);
                    assert!(refused.is_none_or(|status| status >= 400), "{page}: {error:#}");
                } else {
                    assert!(["serverinfo", "unpair"].contains(&page), "{page}");
                }
            }
        }
    });
    bystander.during("strangers that want to pair", || {
        for _ in 0..50 {
            let (salt, pem) = (hex(&random().unwrap()), hex(stranger.identity().pem().as_bytes()));
            let query = [("phrase", "getservercert"), ("salt", salt.as_str()), ("clientcert", pem.as_str())];
            // Nobody waits for the answers of those that the host lets wait.
            std::thread::scope(|scope| {
                let impatient = scope.spawn(|| stranger.http("pair", &query, Duration::from_millis(50)));
                let answer = impatient.join().unwrap();
                assert!(answer.is_err() || answer.is_ok_and(|xml| xml.text("paired").as_deref() != Some("1")));
            });
            assert!(!matches!(phase(&stranger, &[("clientchallenge", &salt)]), Ok(Some(_))));
        }
        let waiting = site.host.status().unwrap()["pairings"].as_array().unwrap().len();
        assert!(waiting <= 8, "{waiting} wait for a PIN");
    });
    bystander.during("handshakes without end", || {
        let tls = http::tls(None, client.pinned().unwrap().clone(), rustls::DEFAULT_VERSIONS).unwrap();
        let host = SocketAddr::new(LOCAL, site.base - 5);
        for _ in 0..100 {
            let _ = get_tls(host, &tls, "/serverinfo", PATIENCE);
        }
    });
    // Of all this the client itself has noticed nothing: it is served as before.
    wait_until(Duration::from_secs(10), || client.info().ok()).unwrap();
    assert_eq!(pids(&site.host).unwrap(), before, "nothing was restarted");
    bystander.end();
}

#[test]
fn floods_of_datagrams_hold_up_no_frame_and_steal_no_stream() {
    let stage = stage().unwrap();
    let site = site(&stage, Desktop::Pattern, "").unwrap();
    let client = site.enrol().unwrap();
    let mut bystander = Bystander::new(&site, &client);
    let before = pids(&site.host).unwrap();
    let mut noise = Noise::new(5);
    let (video, control, audio) = (site.base + 9, site.base + 10, site.base + 11);
    for (name, port) in [("rubbish for video", video), ("rubbish for control", control), ("rubbish for sound", audio)] {
        let sent = bystander.during(name, || {
            flood(port, LENGTH, || {
                let length = noise.next() as usize % 1400;
                noise.bytes(length)
            })
        });
        println!("{} datagrams of {name}", sent.unwrap());
    }
    // Pings of sessions that do not exist, and of old clients, from the client's own address.
    for (name, port) in [("pings for video", video), ("pings for sound", audio)] {
        let sent = bystander.during(name, || {
            flood(port, LENGTH, || match noise.next() % 4 {
                0 => b"PING".to_vec(),
                _ => noise.bytes(20),
            })
        });
        println!("{} {name}", sent.unwrap());
    }
    let connects = bystander.during("ENet connects", || {
        flood(control, LENGTH, || {
            let data = noise.next() as u32;
            enet_connect(&mut noise, data)
        })
    });
    println!("{} ENet connects", connects.unwrap());
    // Whoever comes next gets in all the same.
    let other = site.enrol().unwrap();
    let mut stream = bystander.during("another client", || site.watch(&other).unwrap());
    assert_eq!(stream.leave(), Ended::Left);
    assert_eq!(pids(&site.host).unwrap().get("net/null"), before.get("net/null"));
    bystander.end();
}

/// A client that is let in and means harm can spoil its own session, and nobody else's.
#[test]
fn a_client_that_floods_its_own_control_stream_is_its_own_victim() {
    let stage = stage().unwrap();
    let site = site(&stage, Desktop::Pattern, "").unwrap();
    let (client, villain) = (site.enrol().unwrap(), site.enrol().unwrap());
    let mut bystander = Bystander::new(&site, &client);
    let flooding = site.watch(&villain).unwrap();
    let sent = bystander.during("a flood of messages", || {
        let (hands, begun, mut sent) = (flooding.hands(), std::time::Instant::now(), 0_u64);
        let mut noise = Noise::new(3);
        while begun.elapsed() < LENGTH && flooding.ended(Duration::ZERO).is_none() {
            hands.nudge(1, 0);
            let length = noise.next() as usize % 600;
            flooding.orders().raw((noise.next() % 48) as u8, noise.bytes(length));
            flooding.orders().send(Message::idr());
            flooding.orders().send(Message::invalidate(0, u32::MAX));
            sent += 4;
        }
        sent
    });
    println!("{sent} messages; it ended with {:?}", flooding.ended(Duration::ZERO));
    drop(flooding);
    bystander.stream.last(Duration::from_secs(1)).unwrap();
    bystander.end();
}
