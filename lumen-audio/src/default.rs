//! The default sink: made ours, and put back. Nothing is changed before lumend has it on disk how to put it back, and
//! nothing is put back that is no longer ours.

use ipc::DefaultSink;

use crate::desktop::{Desktop, Gone};

/// Node name of a session's own sink.
pub fn sink_name(session: u32) -> String {
    format!("lumen.{session}")
}

/// The session whose own sink has this node name.
pub fn session_of(sink: &str) -> Option<u32> {
    sink.strip_prefix("lumen.")?.parse().ok()
}

/// How far our own sink has come as the default.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Override {
    /// The default is what it was.
    #[default]
    None,
    /// lumend was told what will be changed.
    Asked(DefaultSink),
    /// The default is ours.
    Made(DefaultSink),
}

impl Override {
    /// The record to tell lumend before `ours` is made the default. If it is that already, a dead plane of this session
    /// has made it so, and lumend knows what was before.
    pub fn ask(&mut self, desktop: &Desktop, ours: &str) -> DefaultSink {
        let record = DefaultSink { ours: ours.to_owned(), previous: desktop.configured_sink() };
        *self = Self::Asked(record.clone());
        record
    }

    /// lumend has the record, with what was `previous`: changes the default.
    pub fn go_ahead(&mut self, desktop: &Desktop, previous: Option<String>, now_ns: u64) -> Result<(), Gone> {
        if let Self::Asked(DefaultSink { ours, .. }) = std::mem::take(self) {
            let record = DefaultSink { ours, previous };
            desktop.configure_sink(Some(&record.ours), now_ns)?;
            *self = Self::Made(record);
        }
        Ok(())
    }

    /// True if the default was made ours and the desktop has answered so.
    pub fn stands(&self, desktop: &Desktop) -> bool {
        matches!(self, Self::Made(record) if desktop.answered() && desktop.configured_sink().as_ref() == Some(&record.ours))
    }

    /// Ends it. Returns what there is to be undone.
    pub fn end(&mut self) -> Option<DefaultSink> {
        match std::mem::take(self) {
            Self::None => None,
            Self::Asked(record) | Self::Made(record) => Some(record),
        }
    }
}

/// What dead planes, or this one, have left changed, until it is put back.
#[derive(Debug, Default)]
pub struct Undoing {
    records: Vec<DefaultSink>,
}

impl Undoing {
    pub fn new(records: Vec<DefaultSink>) -> Self {
        Self { records }
    }

    pub fn extend(&mut self, record: Option<DefaultSink>) {
        self.records.extend(record);
    }

    pub fn is_over(&self) -> bool {
        self.records.is_empty()
    }

    /// The records that can be forgotten now. Without a session manager it waits for one: the default is written on
    /// that one's disk, where nobody else reaches it.
    pub fn turn(&mut self, desktop: &Desktop, now_ns: u64) -> Result<Vec<DefaultSink>, Gone> {
        if self.is_over() || !desktop.managed() || !desktop.answered() {
            return Ok(Vec::new());
        }
        let configured = desktop.configured_sink();
        Ok(match restored(configured.as_deref(), &self.records) {
            Some(previous) => {
                desktop.configure_sink(previous, now_ns)?;
                Vec::new()
            }
            None => std::mem::take(&mut self.records),
        })
    }
}

/// What the default was before `records`: none if it is none of theirs, none within if none was chosen.
fn restored<'a>(configured: Option<&str>, records: &'a [DefaultSink]) -> Option<Option<&'a str>> {
    let made = |sink: Option<&str>| records.iter().find(|record| Some(record.ours.as_str()) == sink);
    let mut before = made(configured)?.previous.as_deref();
    // One dead plane may have found another's sink. Records that name each other in a circle are not followed far.
    for _ in records {
        match made(before) {
            Some(record) => before = record.previous.as_deref(),
            None => return Some(before),
        }
    }
    Some(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_own_sinks_say_whose_they_are() {
        assert_eq!(session_of(&sink_name(7)), Some(7));
        for other in ["lumen", "lumen.", "lumen.x", "speakers", "lumen.-1"] {
            assert_eq!(session_of(other), None, "{other}");
        }
    }
    #[test]
    fn the_default_goes_back_through_all_that_dead_planes_did() {
        let record = |ours: &str, previous: Option<&str>| DefaultSink {
            ours: ours.to_owned(),
            previous: previous.map(str::to_owned),
        };
        let two = [record("lumen.1", Some("speakers")), record("lumen.2", Some("lumen.1"))];
        assert_eq!(restored(Some("lumen.1"), &two), Some(Some("speakers")));
        assert_eq!(restored(Some("lumen.2"), &two), Some(Some("speakers")));
        assert_eq!(restored(Some("speakers"), &two), None);
        assert_eq!(restored(None, &two), None);
        assert_eq!(restored(Some("lumen.1"), &[record("lumen.1", None)]), Some(None));
        let circle = [record("a", Some("b")), record("b", Some("a"))];
        assert_eq!(restored(Some("a"), &circle), Some(None));
    }
}
