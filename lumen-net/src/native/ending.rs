//! How a conversation ends, in codes and words.

use lumen_core::hello::{Code, HostMessage};
use quinn::ConnectionError;

/// The code and words of the QUIC close.
pub struct Ending {
    pub code: Code,
    pub reason: String,
}

impl Ending {
    pub fn new(code: Code, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}

/// The message that says so before `Welcome`.
pub fn refused(ending: &Ending) -> HostMessage {
    HostMessage::Refused { code: ending.code as u16, reason: ending.reason.clone() }
}

/// The message that says so after it.
pub fn ended(ending: &Ending) -> HostMessage {
    HostMessage::End { code: ending.code as u16, reason: ending.reason.clone() }
}

/// A connection's end, in words for the log and lumend.
pub fn describe(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ApplicationClosed(_) => "the client closed the connection".into(),
        ConnectionError::TimedOut => "the client fell silent".into(),
        ConnectionError::Reset => "the client was restarted".into(),
        other => other.to_string(),
    }
}
