//! HTTP and HTTPS: from a connection to a [`Visit`] of the control loop, and from its answer back to the connection.
//! One request a connection, GET only, bounded in bytes and in time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipc::Fingerprint;
use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::door::{DoorLimits, Place};
use super::request::Page;
use super::tls;
use super::turns::Turns;
use super::xml::Xml;
use crate::counters::{Counter, Counters};

/// Most bytes of a request. Phase 1 of pairing brings a certificate and has about 2.5 KiB.
const REQUEST_BYTES: usize = 8 << 10;
/// Headers of a request; clients send five.
const HEADERS: usize = 32;

/// Bounds in time on a connection.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// From the first packet to the end of the request, TLS included.
    pub request: Duration,
    /// For the answer to be taken.
    pub reply: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { request: Duration::from_secs(10), reply: Duration::from_secs(10) }
    }
}

/// Bounds on the connections of a listener. The longest wait is for a PIN.
pub fn door_limits() -> DoorLimits {
    DoorLimits { patience: Duration::from_secs(240), ..DoorLimits::default() }
}

/// By which door a client has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entrance {
    Http,
    /// With the certificate whose key it has proven to hold, if it has shown one.
    Https(Option<Fingerprint>),
}

/// One request.
pub struct Visit {
    pub entrance: Entrance,
    pub peer: SocketAddr,
    /// The host's address that the client has reached.
    pub local: SocketAddr,
    pub page: Page,
    pub answer: Answer,
}

/// Where the answer goes: once, now or later. Dropped, the connection closes without a word.
#[derive(Debug)]
pub struct Answer(oneshot::Sender<Reply>);

/// What is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    Xml(String),
    Png(Arc<[u8]>),
}

impl Answer {
    pub fn new() -> (Self, oneshot::Receiver<Reply>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    pub fn send(self, reply: Reply) {
        // A client that has gone needs no answer.
        let _ = self.0.send(reply);
    }

    /// Whether the client has hung up.
    pub fn is_gone(&self) -> bool {
        self.0.is_closed()
    }
}

/// What the connections of a listener share.
pub struct Desk {
    /// None for plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    pub turns: Arc<Turns>,
    pub visits: mpsc::Sender<Visit>,
    pub counters: Arc<Counters>,
    pub patience: Patience,
}

/// Why there is no request.
enum Refused {
    /// Nothing came, or it broke off: there is nobody to tell.
    Silent,
    Malformed(&'static str),
}

impl Desk {
    /// Serves one connection to its end.
    pub async fn attend(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, place: Place) {
        let Ok(local) = stream.local_addr() else { return };
        let Some(tls) = &self.tls else {
            return self.converse(stream, Entrance::Http, (peer, local), place).await;
        };
        match timeout(self.patience.request, self.shake_hands(stream, peer, tls)).await {
            Ok(Some(stream)) => {
                let identity = tls::identity(stream.get_ref().1);
                self.converse(stream, Entrance::Https(identity), (peer, local), place).await;
            }
            _ => self.counters.add(Counter::HandshakesFailed),
        }
    }

    /// TLS. A client that says nothing costs no signature, nor does it take a turn.
    async fn shake_hands(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        tls: &Arc<ServerConfig>,
    ) -> Option<TlsStream<TcpStream>> {
        let begun = LazyConfigAcceptor::new(Acceptor::default(), stream).await.ok()?;
        if !self.turns.wait(peer.ip(), self.patience.request).await {
            return None;
        }
        begun.into_stream(tls.clone()).await.ok()
    }

    async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut stream: S,
        entrance: Entrance,
        (peer, local): (SocketAddr, SocketAddr),
        place: Place,
    ) {
        let page = match timeout(self.patience.request, read(&mut stream)).await.unwrap_or(Err(Refused::Silent)) {
            Ok(page) => page,
            Err(Refused::Malformed(words)) => Page::Malformed(words),
            // Clients look whether somebody listens by a connection that says nothing.
            Err(Refused::Silent) => return,
        };
        if let Page::Malformed(words) = page {
            self.counters.add(Counter::RequestsMalformed);
            return self.say(&mut stream, &Reply::Xml(Xml::refusal(400, words).finish())).await;
        }
        if matches!(page, Page::MalformedPrivate(_)) {
            // Answered by who knows whether this client is to be told more than that it is not paired.
            self.counters.add(Counter::RequestsMalformed);
        }
        // It has said what it wants: from here on it is not pushed out by connections that have not.
        place.keep();
        let (answer, reply) = Answer::new();
        if self.visits.send(Visit { entrance, peer, local, page, answer }).await.is_err() {
            return;
        }
        let reply = tokio::select! {
            reply = reply => reply,
            () = hung_up(&mut stream) => return,
        };
        // Nor does it keep others out while it dawdles over its answer.
        place.give();
        if let Ok(reply) = reply {
            self.say(&mut stream, &reply).await;
        }
    }

    async fn say<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: &mut S, reply: &Reply) {
        let (kind, body) = match reply {
            Reply::Xml(text) => ("text/xml; charset=utf-8", text.as_bytes()),
            Reply::Png(image) => ("image/png", &image[..]),
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let bytes = [head.as_bytes(), body].concat();
        let said = async {
            stream.write_all(&bytes).await?;
            stream.shutdown().await?;
            // What a client still sends would, unread, make the kernel take the answer back.
            tokio::io::copy(&mut (&mut *stream).take(4 * REQUEST_BYTES as u64), &mut tokio::io::sink()).await
        };
        let _ = timeout(self.patience.reply, said).await;
    }
}

/// Ends when the client hangs up, or says more than it should.
async fn hung_up<S: AsyncRead + Unpin>(stream: &mut S) {
    let mut bytes = [0; 64];
    // A line end or two after a request is an old custom; more is not waited for.
    let mut left = bytes.len();
    while let Ok(count @ 1..) = stream.read(&mut bytes).await {
        match left.checked_sub(count) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// Reads one request, to the end of its headers.
async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Page, Refused> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        match (&mut *stream).take((REQUEST_BYTES - bytes.len()) as u64).read_buf(&mut bytes).await {
            Ok(1..) => {}
            Ok(0) if bytes.len() >= REQUEST_BYTES => return Err(Refused::Malformed("the request is too long")),
            _ => return Err(Refused::Silent),
        }
        if let Some(page) = parse(&bytes).map_err(Refused::Malformed)? {
            return Ok(page);
        }
    }
}

/// The page that is asked for, once the request is whole.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Page>, &'static str> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err("this is not HTTP/1.1"),
    }
    if request.method != Some("GET") {
        return Err("only GET is known here");
    }
    let has_body = |header: &&httparse::Header<'_>| {
        header.name.eq_ignore_ascii_case("transfer-encoding")
            || header.name.eq_ignore_ascii_case("content-length") && header.value != b"0"
    };
    if request.headers.iter().any(|header| has_body(&header)) {
        return Err("a request has no body here");
    }
    Ok(Some(Page::parse(request.path.unwrap_or(""))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_is_taken_when_it_is_whole() {
        let whole = b"GET /serverinfo?uniqueid=0123456789ABCDEF HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n";
        for end in 0..whole.len() {
            assert!(parse(&whole[..end]).unwrap().is_none(), "{end}");
        }
        assert!(matches!(parse(whole), Ok(Some(Page::ServerInfo))));
        assert!(matches!(parse(b"GET /applist HTTP/1.0\r\n\r\n"), Ok(Some(Page::AppList))));
    }

    #[test]
    fn what_is_no_get_is_refused() {
        for bad in [
            &b"POST /serverinfo HTTP/1.1\r\n\r\n"[..],
            b"GET /serverinfo HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
            b"GET /serverinfo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"GET /serverinfo HTTP/2.0\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"GET /serverinfo\0 HTTP/1.1\r\n\r\n",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS + 1));
        assert!(parse(many.as_bytes()).is_err());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_request_is_bounded() {
        let long = format!("GET /serverinfo?a={} HTTP/1.1\r\n\r\n", "a".repeat(REQUEST_BYTES));
        assert!(matches!(read(&mut long.as_bytes()).await, Err(Refused::Malformed(_))));
        let fits = REQUEST_BYTES - "GET /serverinfo?a= HTTP/1.1\r\n\r\n".len();
        let fits = format!("GET /serverinfo?a={} HTTP/1.1\r\n\r\n", "a".repeat(fits));
        assert!(matches!(read(&mut fits.as_bytes()).await, Ok(Page::ServerInfo)));
        assert!(matches!(read(&mut &b"GET /serverinfo HTT"[..]).await, Err(Refused::Silent)));
        assert!(matches!(read(&mut &b""[..]).await, Err(Refused::Silent)));
    }

    proptest! {
        #[test]
        fn whatever_arrives_is_answered_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn whatever_is_asked_for_is_answered_or_refused(target in "[!-~]{1,200}") {
            let _ = parse(format!("GET {target} HTTP/1.1\r\n\r\n").as_bytes());
        }
    }
}
