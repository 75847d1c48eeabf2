//! systemd's journal in its own protocol, so that entries have fields: one datagram each, which is lost if the journal does
//! not take it at once. <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>

use std::fmt::{Debug, Write as _};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Where the journal listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";
/// Before the names of an event's own fields.
const PREFIX: &str = "LUMEN_";
/// Bytes of a value; the rest is cut off. An entry has a handful of them, and its datagram fits into any socket.
const LONGEST: usize = 8192;

/// Writes each event as an entry.
#[derive(Debug)]
pub struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
    identifier: String,
    lost: AtomicU64,
}

impl Journal {
    /// Fails if nobody listens there.
    pub fn open(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let program = std::env::args_os().next().map(PathBuf::from);
        let identifier = program.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        let journal =
            Self { socket, path: path.to_owned(), identifier: identifier.unwrap_or_default(), lost: AtomicU64::new(0) };
        // An entry without fields is none. One that is too much for now is an answer too: somebody listens.
        match journal.socket.send_to(&[], path) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(journal),
        }
    }

    fn begun(&self, level: Level) -> Entry {
        let mut entry = Entry(Vec::with_capacity(512));
        // What the levels are called in syslog: err, warning, notice, info, debug.
        let priority = match level {
            Level::ERROR => "3",
            Level::WARN => "4",
            Level::INFO => "5",
            Level::DEBUG => "6",
            Level::TRACE => "7",
        };
        entry.put("PRIORITY", priority);
        entry.put("SYSLOG_IDENTIFIER", &self.identifier);
        entry
    }

    fn send(&self, entry: &Entry) -> bool {
        self.socket.send_to(&entry.0, &self.path).is_ok()
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let mut entry = self.begun(Level::WARN);
            entry.put("MESSAGE", &super::lost(lost));
            if !self.send(&entry) {
                self.lost.fetch_add(lost + 1, Ordering::Relaxed);
                return;
            }
        }
        let about = event.metadata();
        let mut entry = self.begun(*about.level());
        entry.put("TARGET", about.target());
        if let Some(file) = about.file() {
            entry.put("CODE_FILE", file);
        }
        if let Some(line) = about.line() {
            entry.put("CODE_LINE", &line.to_string());
        }
        event.record(&mut entry);
        if !self.send(&entry) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The bytes of an entry.
#[derive(Debug)]
struct Entry(Vec<u8>);

impl Entry {
    /// With the value's length, since it may have lines.
    fn put(&mut self, name: &str, value: &str) {
        let value = &value[..value.floor_char_boundary(LONGEST)];
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b'\n');
        self.0.extend_from_slice(&(value.len() as u64).to_le_bytes());
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'\n');
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.put("MESSAGE", value),
            // The journal takes capitals, digits and underscores.
            name => self.put(&format!("{PREFIX}{}", name.to_ascii_uppercase().replace('.', "_")), value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        // Its only error would be that of a value that cannot be told.
        let _ = write!(text, "{value:?}");
        self.record_str(field, &text);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::mpsc;
    use std::time::Duration;

    use tracing::{info, warn};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// A bound on hanging, not on speed.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// A journal that listens, and has nothing to read yet.
    fn listener(name: &str) -> (UnixDatagram, PathBuf) {
        let path = std::env::temp_dir().join(format!("lumen-journal-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        (UnixDatagram::bind(&path).unwrap(), path)
    }

    /// Logs what `events` does there. Fails if an entry is waited for.
    fn logged(path: &Path, events: impl FnOnce() + Send + 'static) {
        let subscriber = tracing_subscriber::registry().with(Journal::open(path).unwrap());
        let (done, is_done) = mpsc::channel();
        std::thread::spawn(move || {
            tracing::subscriber::with_default(subscriber, events);
            let _ = done.send(());
        });
        is_done.recv_timeout(PATIENCE).expect("the journal is waited for");
    }

    /// The next entry, read as the protocol says.
    fn entry(socket: &UnixDatagram) -> BTreeMap<String, String> {
        let mut datagram = [0; 65536];
        let length = socket.recv(&mut datagram).unwrap();
        let mut rest = &datagram[..length];
        let mut fields = BTreeMap::new();
        while !rest.is_empty() {
            let end = rest.iter().position(|&byte| byte == b'\n').unwrap();
            let (name, after) = (&rest[..end], &rest[end + 1..]);
            let (size, after) = after.split_first_chunk::<8>().unwrap();
            let (value, after) = after.split_at(u64::from_le_bytes(*size) as usize);
            rest = after.strip_prefix(b"\n").unwrap();
            assert!(name.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'_'), "{name:?}");
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            assert!(fields.insert(text(name), text(value)).is_none());
        }
        fields
    }

    #[test]
    fn an_event_is_an_entry_with_its_fields() {
        let (socket, path) = listener("fields");
        logged(&path, || {
            let nobody: Option<u64> = None;
            info!(session = 3, generation = nobody, plane = "encode", "session {} ends\nPRIORITY=0", 3);
            warn!(plane = "net", "{}", "🦀".repeat(LONGEST));
        });
        assert!(entry(&socket).is_empty(), "whether somebody listens");
        let fields = entry(&socket);
        assert_eq!(fields["MESSAGE"], "session 3 ends\nPRIORITY=0");
        assert_eq!((&*fields["LUMEN_SESSION"], &*fields["LUMEN_PLANE"]), ("3", "encode"));
        assert_eq!((&*fields["PRIORITY"], &*fields["TARGET"]), ("5", module_path!()));
        assert!(fields["CODE_FILE"].ends_with("journal.rs") && fields["CODE_LINE"].parse::<u32>().is_ok());
        let program = std::env::args().next().unwrap();
        assert!(!fields["SYSLOG_IDENTIFIER"].is_empty() && program.ends_with(&fields["SYSLOG_IDENTIFIER"]));
        assert_eq!(fields.len(), 8, "{fields:?}");
        let long = entry(&socket);
        assert_eq!((long["MESSAGE"].len(), &*long["PRIORITY"]), (LONGEST, "4"));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_journal_that_does_not_listen_is_not_waited_for_and_hears_it_later() {
        const MOST: usize = 10_000;
        let (socket, path) = listener("full");
        let reader = socket.try_clone().unwrap();
        logged(&path, move || {
            for index in 0..MOST {
                info!("{index}");
            }
            reader.set_nonblocking(true).unwrap();
            let mut taken = 0;
            while reader.recv(&mut [0; 512]).is_ok() {
                taken += 1;
            }
            // Of those that were taken, the first said nothing.
            info!("{}", taken - 1);
        });
        let told = entry(&socket);
        let taken: usize = entry(&socket)["MESSAGE"].parse().unwrap();
        assert!(taken > 0 && taken < MOST, "a queue so long that nothing was lost: {taken}");
        assert_eq!(told["MESSAGE"], format!("{} lines of the log were lost", MOST - taken));
        assert_eq!(told["PRIORITY"], "4");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn where_nobody_listens_there_is_no_journal() {
        assert!(Journal::open(Path::new("/nonexistent/journal")).is_err());
    }
}
