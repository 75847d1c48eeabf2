//! What becomes of a session whose host is lost: when it is taken for lost, and how it is looked for. PROTOCOL.md §18.

use std::time::Duration;

use lumen_core::Resume;
use lumen_core::hello::Code;
use quinn::{Connection, ConnectionError, Endpoint, VarInt};
use tokio::time::{Instant, sleep, timeout};

use crate::connect::{Again, Answer};
use crate::error::{ConnectError, Ending};
use crate::monotonic_ns;
use crate::session::Over;

/// Nothing at all comes from the host for so long, over the connection or as media: it is taken for lost. It sends something
/// at least every 50 ms, and answers a sign of life every 100 ms.
const SILENCE_NS: u64 = 150_000_000;
/// Between looks at what has come over the connection.
const LOOK: Duration = Duration::from_millis(40);
/// How long a lost host is looked for: as long as it keeps the session.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// One handshake and its answer. What a host could not take when it came waits in its socket for the next process there.
const ATTEMPT: Duration = Duration::from_secs(4);
/// Between attempts that fail at once.
const PAUSE: Duration = Duration::from_millis(100);

/// Where the host was.
pub(crate) struct Lost<'a> {
    pub again: &'a Again,
    pub endpoint: &'a Endpoint,
    /// The connection before. It may be alive: only a welcome on another proves that it is not needed any more.
    pub connection: &'a Connection,
    /// Why it is taken for lost, for people.
    pub reason: String,
}

/// Ends when nothing has come from the host for too long.
pub(crate) async fn silence(connection: &Connection, over: &Over) {
    let mut packets = received(connection);
    let mut heard_ns = monotonic_ns();
    loop {
        let due_ns = heard_ns.max(over.heard_ns()) + SILENCE_NS;
        let left = Duration::from_nanos(due_ns.saturating_sub(monotonic_ns()));
        if left.is_zero() {
            return;
        }
        sleep(left.min(LOOK)).await;
        let now = received(connection);
        if std::mem::replace(&mut packets, now) != now {
            heard_ns = monotonic_ns();
        }
    }
}

fn received(connection: &Connection) -> u64 {
    connection.stats().udp_rx.datagrams
}

/// What a search has come to.
pub(crate) enum Found {
    /// The host, which has answered on another connection.
    Host(Connection, Box<Answer>),
    /// It was not lost: it speaks on the one before.
    Alive,
}

/// Looks for the host until it has answered, refused, or kept silent for too long.
pub(crate) async fn look(lost: &Lost<'_>, resume: Option<Resume>, over: &Over) -> Result<Found, Ending> {
    let deadline = Instant::now() + PATIENCE;
    let (since_ns, packets) = (over.heard_ns(), received(lost.connection));
    // Of a connection that has ended nothing more comes.
    let alive = || {
        lost.connection.close_reason().is_none() && (over.heard_ns(), received(lost.connection)) != (since_ns, packets)
    };
    while Instant::now() < deadline {
        let left = deadline.saturating_duration_since(Instant::now()).min(ATTEMPT);
        match timeout(left, attempt(lost, resume.clone(), alive)).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(Trouble::Final(ending))) => return Err(ending),
            Ok(Err(Trouble::Passing)) => sleep(PAUSE).await,
            Err(_) => {}
        }
    }
    let seconds = PATIENCE.as_secs();
    Err(Ending::Lost { reason: format!("{}; it did not come back within {seconds} s", lost.reason) })
}

enum Trouble {
    /// The next attempt may go better.
    Passing,
    Final(Ending),
}

async fn attempt(lost: &Lost<'_>, resume: Option<Resume>, alive: impl Fn() -> bool) -> Result<Found, Trouble> {
    let round_trip = lost.connection.rtt();
    let connection = lost.again.dial(lost.endpoint, lost.connection.remote_address(), round_trip).await;
    let connection = connection.map_err(|error| trouble(&error))?;
    // Only slow, then: from here on there would be no way back.
    if alive() {
        connection.close(VarInt::from_u32(0), b"");
        return Ok(Found::Alive);
    }
    match lost.again.ask(&connection, resume).await {
        Ok(answer) => Ok(Found::Host(connection, Box::new(answer))),
        Err(ConnectError::Refused(refusal)) if may_pass(refusal.code) => Err(Trouble::Passing),
        Err(ConnectError::Refused(refusal)) => {
            Err(Trouble::Final(Ending::Ended { code: refusal.code, reason: refusal.reason }))
        }
        // It died once more, or is no host of this protocol any more, which another attempt will show.
        Err(_) => Err(Trouble::Passing),
    }
}

/// A host that is coming up refuses what it will take in a moment.
fn may_pass(code: Option<Code>) -> bool {
    matches!(code, None | Some(Code::Full | Code::Unavailable | Code::Timeout))
}

fn trouble(error: &ConnectionError) -> Trouble {
    match error {
        // Another certificate than the one that was met.
        ConnectionError::TransportError(detail) => {
            Trouble::Final(Ending::Lost { reason: format!("another answers in the host's place: {detail}") })
        }
        _ => Trouble::Passing,
    }
}
