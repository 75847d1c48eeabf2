//! Why there is no session, or no longer one.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use lumen_core::hello::Code;
use quinn::ConnectionError;

use crate::config_dir::ConfigError;
use lumen_core::Fingerprint;

/// Why [`crate::Client::connect`] gave no session. Each text is one line and says what to do where that is known.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("cannot find {host}: {source}: check the name, or give the address as IP:PORT")]
    Resolve { host: String, source: io::Error },
    #[error(
        "nothing answers at {address}: check that lumend runs there, listens on that address and that no firewall drops UDP"
    )]
    Unreachable { address: SocketAddr },
    #[error("{address} answers, but does not speak lumen/1: check the port ({detail})")]
    NotLumen { address: SocketAddr, detail: String },
    #[error("the host does not keep to lumen/1: {0}: update lumend and lumen-client to the same version")]
    Protocol(String),
    #[error("the host took the connection but did not answer within {seconds} s: look at `lumend status` there")]
    Silent { seconds: u64 },
    #[error("cannot use the network here: {0}")]
    Local(#[from] io::Error),
    #[error(
        "{host} shows another certificate than the one pinned: expected {expected}, got {shown}: \
         compare with `lumend fingerprint` on the host before using --pin {shown}"
    )]
    PinMismatch { host: String, expected: Fingerprint, shown: Fingerprint },
    #[error(
        "the certificate of {host} has changed: expected {expected}, got {shown}: somebody may be in between; if \
         `lumend fingerprint` on the host prints the new one, remove the line of {host} from {}", known_hosts.display()
    )]
    HostKeyChanged { host: String, expected: Fingerprint, shown: Fingerprint, known_hosts: PathBuf },
    #[error("{0}")]
    Refused(Refusal),
}

/// A host's own words for turning a client away.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Absent where TLS refused, or the code is newer than this client.
    pub code: Option<Code>,
    pub reason: String,
    /// This client, for the command that would let it in.
    pub client: Fingerprint,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let reason = printable(&self.reason);
        match self.code {
            // Hosts say so themselves, where they know the client.
            Some(Code::NotAllowed) if !reason.contains("lumend allow") => {
                write!(f, "refused: {reason}: on the host, run lumend allow {}", self.client)
            }
            _ => write!(f, "refused: {reason}"),
        }
    }
}

/// How a running session ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// By this side's wish.
    Stopped,
    /// By the host, in its words.
    Ended { code: Option<Code>, reason: String },
    /// The host fell silent or broke the protocol.
    Lost { reason: String },
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stopped => write!(f, "stopped"),
            Self::Ended { reason, .. } => write!(f, "the host ended the session: {}", printable(reason)),
            Self::Lost { reason } => write!(f, "lost the host: {}", printable(reason)),
        }
    }
}

/// What a host says may reach a terminal: no control characters, no second line.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// TLS alerts by which a host rejects a client's certificate (RFC 8446 §6): bad, unsupported, revoked, expired and
/// unknown certificate, unknown CA, access denied, certificate required.
const CERTIFICATE_ALERTS: [u64; 8] = [42, 43, 44, 45, 46, 48, 49, 116];

/// The refusal in a connection's end, if the host meant one.
pub(crate) fn refusal_in(error: &ConnectionError, client: Fingerprint) -> Option<Refusal> {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            let code = Code::from_wire(close.error_code.into_inner());
            let reason = String::from_utf8_lossy(&close.reason).into_owned();
            let reason = if reason.is_empty() { "the host gave no reason".to_owned() } else { reason };
            Some(Refusal { code, reason, client })
        }
        ConnectionError::ConnectionClosed(close) => {
            let code = u64::from(close.error_code);
            let alert = code.checked_sub(0x100)?;
            CERTIFICATE_ALERTS.contains(&alert).then(|| Refusal {
                code: Some(Code::NotAllowed),
                reason: "the host does not allow this client's certificate".to_owned(),
                client,
            })
        }
        _ => None,
    }
}
