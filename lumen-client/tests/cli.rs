//! The command from the outside: exit codes, one-line errors, and the files it keeps.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use lumen_client::{Fingerprint, Identity, KnownHosts};

mod support;
use support::TempDir;

fn client(config: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lumen-client"));
    command.args(arguments).arg("--config").arg(config).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn usage_errors_exit_with_2() {
    let dir = TempDir::new("usage");
    for arguments in [
        &["connect", "localhost", "--pin", "nonsense"][..],
        &["connect", "localhost", "--pin", ""],
        &["connect", "localhost", "--mode", "big"],
        &["connect", "localhost", "--no-such-option"],
        &["connect"],
        &["connect", "localhost", "--out", "/nonexistent/x.h264"],
        &["connect", "localhost", "--json", "/nonexistent/x.json"],
        &["connect", "localhost", "--png", "/"],
        &["connect", "localhost", "--audio", "mono"],
        &["connect", "localhost", "--no-audio", "--own-sink"],
        &["connect", "localhost", "--audio-out", "/nonexistent/x.wav"],
        &["connect", "localhost", "--input-log", "x.jsonl"],
        &["connect", "localhost", "--input-test", "--input-log", "/nonexistent/x.jsonl"],
        &["connect", "localhost", "--input-script", "/nonexistent/script.txt"],
    ] {
        let output = client(dir.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
    assert!(!dir.path().join("client-key.pem").exists(), "a usage error leaves nothing behind");
}

#[test]
fn a_closed_port_is_3_at_once() {
    let dir = TempDir::new("closed");
    // Bound and dropped: nobody listens there now.
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let started = Instant::now();
    let output = client(dir.path(), &["connect", &format!("127.0.0.1:{port}"), "--seconds", "1"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
    assert!(stderr(&output).contains("check that lumend runs there"), "{}", stderr(&output));
    // QUIC's own deadline is 4 s; the kernel's refusal must have beaten it, by how much is no matter here.
    assert!(started.elapsed() < Duration::from_secs(4));
}

/// It would be found out only after the host has made a session.
#[cfg(feature = "play")]
#[test]
fn no_pipewire_to_play_through_is_3_before_there_is_a_session() {
    let dir = TempDir::new("silent");
    let mut command = Command::new(env!("CARGO_BIN_EXE_lumen-client"));
    command.args(["connect", "no-such-host.invalid:1", "--play", "--config"]).arg(dir.path());
    let output = command.env("PIPEWIRE_RUNTIME_DIR", dir.path()).env_remove("PIPEWIRE_REMOTE").output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
    assert!(stderr(&output).contains("no PipeWire answers here"), "{}", stderr(&output));
    assert!(!dir.path().join("client-key.pem").exists(), "it leaves nothing behind");
}

#[test]
fn an_unknown_name_is_3() {
    let dir = TempDir::new("name");
    let output = client(dir.path(), &["connect", "no-such-host.invalid:1"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("no-such-host.invalid"), "{}", stderr(&output));
}

#[test]
fn the_identity_is_made_once_and_private() {
    let dir = TempDir::new("identity");
    let config = dir.path().join("new/lumen");
    let first = client(&config, &["fingerprint"]);
    assert!(first.status.success(), "{}", stderr(&first));
    let printed: Fingerprint = String::from_utf8(first.stdout.clone()).unwrap().trim().parse().unwrap();
    assert_eq!(Identity::load_or_create(&config).unwrap().fingerprint(), printed);
    assert_eq!(client(&config, &["fingerprint"]).stdout, first.stdout);
    for file in ["client-key.pem", "client-cert.pem"] {
        let mode = fs::metadata(config.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert_eq!(fs::metadata(&config).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read_dir(&config).unwrap().count(), 2, "no temporary file stays");

    // A crash between the two writes leaves a key alone; it is kept.
    let key = fs::read(config.join("client-key.pem")).unwrap();
    fs::remove_file(config.join("client-cert.pem")).unwrap();
    assert!(client(&config, &["fingerprint"]).status.success());
    assert_eq!(fs::read(config.join("client-key.pem")).unwrap(), key);

    fs::set_permissions(config.join("client-key.pem"), fs::Permissions::from_mode(0o640)).unwrap();
    let exposed = client(&config, &["fingerprint"]);
    assert_eq!(exposed.status.code(), Some(2));
    assert!(stderr(&exposed).contains("chmod 600"), "{}", stderr(&exposed));

    fs::write(config.join("client-key.pem"), "garbage").unwrap();
    fs::set_permissions(config.join("client-key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(client(&config, &["fingerprint"]).status.code(), Some(2));
}

#[test]
fn a_certificate_of_another_key_is_replaced() {
    let (one, other) = (TempDir::new("one"), TempDir::new("other"));
    let first = Identity::load_or_create(one.path()).unwrap().fingerprint();
    let stranger = Identity::load_or_create(other.path()).unwrap().fingerprint();
    fs::copy(other.path().join("client-cert.pem"), one.path().join("client-cert.pem")).unwrap();
    let mended = Identity::load_or_create(one.path()).unwrap().fingerprint();
    assert_ne!(mended, stranger);
    assert_ne!(mended, first, "the new certificate has its own serial number");
    assert_eq!(Identity::load_or_create(one.path()).unwrap().fingerprint(), mended);
}

#[test]
fn two_first_runs_agree_on_one_identity() {
    let dir = TempDir::new("race");
    let fingerprints: Vec<Fingerprint> = std::thread::scope(|scope| {
        let run = || scope.spawn(|| Identity::load_or_create(dir.path()).unwrap().fingerprint());
        let running: Vec<_> = std::iter::repeat_with(run).take(8).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(fingerprints.iter().all(|fingerprint| *fingerprint == fingerprints[0]));
}

#[test]
fn known_hosts_are_kept_and_a_damaged_file_is_an_error() {
    let dir = TempDir::new("known");
    let known = KnownHosts::new(dir.path());
    let (a, b) = (Fingerprint([1; 32]), Fingerprint([2; 32]));
    assert_eq!(known.get("host:1").unwrap(), None);
    known.set("Host:1", a).unwrap();
    known.set("other:1", b).unwrap();
    assert_eq!(known.get("host:1").unwrap(), Some(a));
    known.set("host:1", b).unwrap();
    assert_eq!(known.get("HOST:1").unwrap(), Some(b));
    assert_eq!(fs::read_to_string(known.path()).unwrap().lines().count(), 2);
    assert_eq!(fs::metadata(known.path()).unwrap().permissions().mode() & 0o777, 0o600);

    fs::write(known.path(), "host:1 abc\n").unwrap();
    assert!(known.get("elsewhere:1").unwrap_err().to_string().contains("line 1"));
}
