//! The control protocol as scripts see it, and the asking side against servers that misbehave.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread;

use ipc::ctl::{CtlClient, CtlError, CtlReply, CtlRequest, MAX_REQUEST, Permission, SOCKET};
use ipc::{Fingerprint, PairingId, Pin, PlaneKind, SessionId};
use serde_json::{Value, json};

const HEX: &str = "0101010101010101010101010101010101010101010101010101010101010101";

#[test]
fn requests_keep_their_names() {
    let (session, sha256) = (SessionId(3), Fingerprint([1; 32]));
    for (request, line) in [
        (CtlRequest::Status {}, json!({"request": "status"})),
        (
            CtlRequest::Restart { plane: PlaneKind::Encode, session: Some(session) },
            json!({"request": "restart", "plane": "encode", "session": 3}),
        ),
        (CtlRequest::Stop { session }, json!({"request": "stop", "session": 3})),
        (CtlRequest::Idr { session }, json!({"request": "idr", "session": 3})),
        (CtlRequest::Fingerprint {}, json!({"request": "fingerprint"})),
        (CtlRequest::Allow { sha256 }, json!({"request": "allow", "sha256": HEX})),
        (
            CtlRequest::Pair { pin: Pin::new("0123").unwrap(), pairing: Some(PairingId(2)), name: Some("Sofa".into()) },
            json!({"request": "pair", "pin": "0123", "pairing": 2, "name": "Sofa"}),
        ),
        (CtlRequest::Clients {}, json!({"request": "clients"})),
        (
            CtlRequest::Rename { client: "01".into(), name: "Sofa".into() },
            json!({"request": "rename", "client": "01", "name": "Sofa"}),
        ),
        (
            CtlRequest::Enable { client: "01".into(), enabled: false },
            json!({"request": "enable", "client": "01", "enabled": false}),
        ),
        (CtlRequest::Remove { client: "01".into() }, json!({"request": "remove", "client": "01"})),
        (
            CtlRequest::Permit {
                client: "01".into(),
                grant: vec![Permission::Pointer],
                deny: vec![Permission::Gamepad],
            },
            json!({"request": "permit", "client": "01", "grant": ["pointer"], "deny": ["gamepad"]}),
        ),
        (CtlRequest::Forget { sha256 }, json!({"request": "forget", "sha256": HEX})),
    ] {
        assert_eq!(serde_json::to_value(&request).unwrap(), line);
        assert_eq!(CtlRequest::parse(format!("{line}\n").as_bytes()), Ok(request));
    }
    for permission in Permission::ALL {
        assert_eq!(serde_json::to_value(permission).unwrap(), permission.name());
        assert_eq!(Permission::from_name(permission.name()), Some(permission));
    }
    let all = CtlRequest::parse(br#"{"request":"restart","plane":"net"}"#);
    assert_eq!(all, Ok(CtlRequest::Restart { plane: PlaneKind::Net, session: None }));
    let only = CtlRequest::parse(br#"{"request":"pair","pin":"0000"}"#);
    assert_eq!(only, Ok(CtlRequest::Pair { pin: Pin::new("0000").unwrap(), pairing: None, name: None }));
    assert!(!format!("{only:?}").contains("0000"), "a PIN is for nobody's log");
}

#[test]
fn other_lines_are_refused_with_a_reason() {
    let long = format!(r#"{{"request":"status","x":"{}"}}"#, "y".repeat(MAX_REQUEST));
    for line in [
        "",
        "\n",
        "status",
        "{}",
        "null",
        "[[[[[[",
        r#"{"request":"reboot"}"#,
        r#"{"request":"status","verbose":true}"#,
        r#"{"request":"restart","plane":"Net"}"#,
        r#"{"request":"restart","plane":"launcher"}"#,
        r#"{"request":"stop"}"#,
        r#"{"request":"stop","session":-1}"#,
        r#"{"request":"allow","sha256":"01"}"#,
        r#"{"request":"permit","client":"01","grant":["feet"],"deny":[]}"#,
        r#"{"request":"pair","pin":"123"}"#,
        r#"{"request":"pair","pin":"12345"}"#,
        r#"{"request":"pair","pin":"12a4"}"#,
        r#"{"request":"pair","pin":[49,50,51,52]}"#,
        r#"{"request":"status"} {"request":"status"}"#,
        "\u{0}\u{ff}",
        &long,
    ] {
        match CtlRequest::parse(line.as_bytes()) {
            Err(CtlReply::Error { error, exit: 2 }) => assert!(!error.contains('\n'), "one line: {error}"),
            other => panic!("{line}: {other:?}"),
        }
    }
}

/// A runtime directory of this test alone, removed with it.
struct Runtime(PathBuf);

impl Runtime {
    fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("ctl-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Asks a server that reads one line and answers with these bytes.
    fn ask(&self, answer: &[u8]) -> (Result<Value, CtlError>, String) {
        let path = self.0.join(SOCKET);
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(path).unwrap();
        thread::scope(|scope| {
            let server = scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                stream.write_all(answer).unwrap();
                line
            });
            let result = CtlClient::call(&self.0, &CtlRequest::Status {});
            (result, server.join().unwrap())
        })
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_call_returns_the_value_or_the_refusal() {
    let runtime = Runtime::new("call");
    let (answer, line) = runtime.ask(CtlReply::ok(json!({"version": "1"})).to_line().as_bytes());
    assert_eq!(line, "{\"request\":\"status\"}\n");
    assert_eq!(answer.unwrap(), json!({"version": "1"}));
    let (answer, _) = runtime.ask(CtlReply::ok(Value::Null).to_line().as_bytes());
    assert_eq!(answer.unwrap(), Value::Null);
    let (answer, _) = runtime.ask(CtlReply::error(4, "session 9 does not exist").to_line().as_bytes());
    let error = answer.unwrap_err();
    assert_eq!((error.to_string().as_str(), error.exit()), ("session 9 does not exist", 4));
}

#[test]
fn a_call_that_fails_says_what_to_do() {
    let runtime = Runtime::new("fail");
    let nobody = CtlClient::call(&runtime.0, &CtlRequest::Status {}).unwrap_err();
    assert!(matches!(nobody, CtlError::NotRunning(_)) && nobody.to_string().contains("lumend run"));
    assert_eq!(nobody.exit(), 3);
    for garbage in ["", "{}\n", "no JSON\n", "{\"ok\"", "{\"error\":\"x\",\"exit\":999}\n"] {
        let (answer, _) = runtime.ask(garbage.as_bytes());
        assert!(matches!(answer, Err(CtlError::Garbled)), "{garbage}: {answer:?}");
    }
    // The last server has left its socket behind, as a crash would.
    assert!(matches!(CtlClient::call(&runtime.0, &CtlRequest::Status {}), Err(CtlError::NotRunning(_))));
}
