//! Clients that are turned away, and what they are told.

use std::process::Command;
use std::time::Duration;

use ipc::{EndCode, FromNet, ToNet};
use lumen_core::hello::{ClientHello, ClientMessage, Code, HostMessage};
use lumen_net::native::Limits;

use super::client::{Client, Identity, bytes, hello};
use super::host::Host;

/// Short where the limit is what is tested.
const SHORT: Duration = Duration::from_millis(300);

fn permitted(host: &Host) -> Client {
    let identity = Identity::new();
    host.permit(identity.fingerprint());
    Client::connect(host, Some(&identity)).unwrap()
}

/// Sends `first`, and expects to be refused with this code and words that contain `text`.
fn refused(client: &Client, first: &[u8], code: Code, text: &str) {
    let mut stream = client.open(first);
    match client.hear(&mut stream) {
        HostMessage::Refused { code: told, reason } => {
            assert_eq!(told, code as u16, "{reason}");
            assert!(reason.contains(text), "{reason}");
            assert_eq!(client.closed(), (code as u64, reason));
        }
        other => panic!("{other:?} instead of a refusal"),
    }
}

fn hello_bytes() -> Vec<u8> {
    bytes(&ClientMessage::Hello(hello()))
}

#[test]
fn an_unknown_client_is_told_how_to_become_known() {
    let mut host = Host::program();
    let identity = Identity::new();
    let hex: String = identity.fingerprint().0.iter().map(|byte| format!("{byte:02x}")).collect();
    let client = Client::connect(&host, Some(&identity)).unwrap();
    refused(&client, &hello_bytes(), Code::NotAllowed, &format!("lumend allow {hex}"));
    host.expect_counters(|counters| counters.hellos_refused == 1);
    // Permitted, the same client gets through.
    host.permit(identity.fingerprint());
    let client = Client::connect(&host, Some(&identity)).unwrap();
    client.begin(&mut host, 1);
    assert!(host.stop().success());
}

#[test]
fn other_versions_and_nonsense_are_told_apart() {
    let mut host = Host::program();
    let mut other_version = hello_bytes();
    other_version[5..7].copy_from_slice(&7_u16.to_le_bytes());
    refused(&permitted(&host), &other_version, Code::Version, "version 7");
    let mut cut = hello_bytes();
    cut[0] -= 1;
    refused(&permitted(&host), &cut, Code::Malformed, "malformed");
    refused(&permitted(&host), &[0xff; 64], Code::Malformed, "Hello");
    refused(&permitted(&host), &bytes(&ClientMessage::Start), Code::Malformed, "Hello");
    host.expect_counters(|counters| counters.hellos_refused == 4);
    assert!(host.stop().success());
}

#[test]
fn a_client_without_the_codec_or_the_schemes_is_told_so() {
    let host = Host::program();
    let codecs = ClientMessage::Hello(ClientHello { codecs: 0, ..hello() });
    refused(&permitted(&host), &bytes(&codecs), Code::Unavailable, "H.264");
    let schemes = ClientMessage::Hello(ClientHello { fec_schemes: 2, ..hello() });
    refused(&permitted(&host), &bytes(&schemes), Code::Unavailable, "FEC");
}

#[test]
fn lumends_refusal_reaches_the_client() {
    let mut host = Host::program();
    let client = permitted(&host);
    let mut stream = client.open(&hello_bytes());
    let (ask, ..) = host.expect_ask();
    host.tell(ToNet::Refuse { ask, code: EndCode::Mode, reason: "0x0 is no mode".into() });
    let refusal = HostMessage::Refused { code: Code::Mode as u16, reason: "0x0 is no mode".into() };
    assert_eq!(client.hear(&mut stream), refusal);
    assert_eq!(client.closed(), (Code::Mode as u64, "0x0 is no mode".into()));
}

#[test]
fn a_client_that_proves_nothing_is_not_heard() {
    let mut host = Host::program();
    let nobody = Client::connect(&host, None);
    // TLS 1.3 lets a client believe it is through before the host has looked at its certificate.
    assert!(nobody.is_err() || nobody.is_ok_and(|client| client.ends_in_error()));
    host.expect_counters(|counters| counters.handshakes_failed == 1);
    let thief = Identity::with_stolen_certificate();
    host.permit(thief.fingerprint());
    let thief = Client::connect(&host, Some(&thief));
    assert!(thief.is_err() || thief.is_ok_and(|client| client.ends_in_error()));
    host.expect_counters(|counters| counters.handshakes_failed == 2);
    client_gets_through(&mut host);
    assert!(host.stop().success());
}

fn client_gets_through(host: &mut Host) {
    permitted(host).begin(host, 77);
}

#[test]
fn silence_is_cut_short_and_wedges_nobody() {
    let mut host = Host::threads(Limits { handshake: SHORT, ..Limits::default() });
    let (no_stream, half) = (permitted(&host), permitted(&host));
    client_gets_through(&mut host);
    let message = hello_bytes();
    refused(&half, &message[..message.len() / 2], Code::Timeout, "no Hello");
    let (code, reason) = no_stream.closed();
    assert!(code == Code::Timeout as u64 && reason.contains("no Hello"), "{reason}");
    host.expect_counters(|counters| counters.handshakes_failed == 2);
    host.stop();
}

#[test]
fn a_client_that_never_starts_loses_its_session() {
    let mut host = Host::threads(Limits { start: SHORT, ..Limits::default() });
    let client = permitted(&host);
    let (mut stream, welcome, _encoder) = client.begin(&mut host, 5);
    assert!(matches!(client.hear(&mut stream), HostMessage::End { code, .. } if code == Code::Timeout as u16));
    assert_eq!(host.expect_gone().0.0, welcome.session);
    host.stop();
}

#[test]
fn a_lumend_that_does_not_answer_is_not_waited_for() {
    let mut host = Host::threads(Limits { answer: SHORT, ..Limits::default() });
    let client = permitted(&host);
    refused(&client, &hello_bytes(), Code::Unavailable, "try again");
    let (ask, ..) = host.expect_ask();
    let withdrawn = host.expect(|message| match message {
        FromNet::Withdrawn { ask } => Some(ask),
        _ => None,
    });
    assert_eq!(ask, withdrawn);
    // An answer that comes after all makes no session.
    host.wire(9, 1, Some(ask));
    assert_eq!(host.expect_gone().0.0, 9);
    host.stop();
}

#[test]
fn connections_and_waiting_requests_are_bounded() {
    let mut host = Host::threads(Limits { connections: 18, per_address: 32, ..Limits::default() });
    let clients: Vec<Client> = (0..18).map(|_| permitted(&host)).collect();
    let identity = Identity::new();
    host.permit(identity.fingerprint());
    assert!(Client::connect(&host, Some(&identity)).is_err(), "the nineteenth");
    host.expect_counters(|counters| counters.connections_refused == 1);
    let waiting: Vec<_> = clients[..16].iter().map(|client| (client.open(&hello_bytes()), host.expect_ask())).collect();
    refused(&clients[16], &hello_bytes(), Code::Full, "try again");
    host.expect_counters(|counters| counters.asks_refused == 1);
    drop(waiting);
    drop(clients);
    host.stop();
}

#[test]
fn one_address_cannot_take_all_connections() {
    let mut host = Host::threads(Limits { per_address: 2, ..Limits::default() });
    let silent = (permitted(&host), permitted(&host));
    let identity = Identity::new();
    host.permit(identity.fingerprint());
    assert!(Client::connect(&host, Some(&identity)).is_err(), "the third of this address");
    host.expect_counters(|counters| counters.connections_refused == 1);
    drop(silent);
    host.stop();
}

#[test]
fn under_pressure_addresses_are_proven_first() {
    let mut host = Host::threads(Limits { pending_handshakes: 0, ..Limits::default() });
    client_gets_through(&mut host);
    host.expect_counters(|counters| counters.retries == 1);
    host.stop();
}

#[test]
fn nobody_starts_the_plane_by_hand() {
    let output = Command::new(env!("CARGO_BIN_EXE_lumen-net")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("lumend"));
}
