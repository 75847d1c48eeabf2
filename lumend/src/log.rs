//! Where lumend's log goes: to the journal, with priorities and fields, where that is what its stderr is connected to; else
//! to stderr, as lines for people.
//!
//! An event's fields `session`, `generation` and `plane` become LUMEN_SESSION, LUMEN_GENERATION and LUMEN_PLANE there. The
//! text says all of it too, so lines leave them out.
//!
//! lumend has one thread, so neither is waited for: what is not taken at once is lost, and counted, and with the next that is
//! taken the count is told.

mod journal;
mod lines;

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Mutex;

use nix::sys::stat::fstat;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use journal::Journal;
use lines::Lines;

/// Once, before anything is logged.
pub fn begin() {
    let filter = EnvFilter::try_from_env("LUMEN_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    let journal = std::env::var("JOURNAL_STREAM").is_ok_and(|stream| is_at(&io::stderr(), &stream));
    match journal.then(|| Journal::open(Path::new(journal::SOCKET))) {
        Some(Ok(journal)) => registry.with(journal).init(),
        // A journal that cannot be spoken to takes lines.
        Some(Err(_)) | None => {
            let lines = Mutex::new(Lines::new(io::stderr()));
            let lines = tracing_subscriber::fmt::layer().with_writer(lines).with_target(false);
            // What the layer itself would complain of it would print to stderr, and wait.
            registry.with(lines.fmt_fields(text()).log_internal_errors(false)).init();
        }
    }
}

/// What is said of lines that nobody took.
fn lost(lines: u64) -> String {
    match lines {
        1 => "1 line of the log was lost".into(),
        _ => format!("{lines} lines of the log were lost"),
    }
}

/// An event's text alone.
fn text() -> impl for<'writer> format::FormatFields<'writer> {
    format::debug_fn(|writer, field, value| match field.name() {
        "message" => write!(writer, "{value:?}"),
        _ => Ok(()),
    })
}

/// Whether this is the file that JOURNAL_STREAM names, by the numbers of its device and inode: the variable is inherited
/// by programs whose stderr goes elsewhere.
fn is_at(file: &impl AsFd, stream: &str) -> bool {
    let numbers = stream.split_once(':').and_then(|(dev, ino)| Some((dev.parse().ok()?, ino.parse().ok()?)));
    fstat(file).is_ok_and(|stat| Some((stat.st_dev, stat.st_ino)) == numbers)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_have_the_text_and_no_fields() {
        let written = Written::default();
        let writer = written.clone();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).without_time();
        let layer = layer.with_ansi(false).with_target(false).fmt_fields(text());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(session = 3, plane = "encode", "session {} ends", 3);
        });
        assert_eq!(String::from_utf8(written.0.lock().unwrap().clone()).unwrap(), " INFO session 3 ends\n");
    }

    #[test]
    fn a_journal_is_known_by_its_numbers() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let stat = fstat(&file).unwrap();
        assert!(is_at(&file, &format!("{}:{}", stat.st_dev, stat.st_ino)));
        for other in [format!("{}:{}", stat.st_dev, stat.st_ino + 1), stat.st_ino.to_string(), "a:b".into()] {
            assert!(!is_at(&file, &other), "{other}");
        }
    }
}
