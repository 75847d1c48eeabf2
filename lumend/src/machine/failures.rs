//! Sessions that ended because the host could not go on with them: kept for the person who looks when they are gone.

use std::collections::VecDeque;

use ipc::{Face, Fingerprint, PlaneKind, SessionId};

use super::policy::FAILURES;
use super::session::Session;

/// A session that could not go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    pub session: SessionId,
    pub face: Face,
    pub client: Fingerprint,
    /// The plane that failed once too often; none if something else stood in the way.
    pub plane: Option<PlaneKind>,
    pub reason: String,
    pub at: u64,
}

/// The last few, oldest first.
#[derive(Default, Debug)]
pub struct Failures(VecDeque<Failure>);

impl Failures {
    pub fn note(&mut self, session: &Session, plane: Option<PlaneKind>, reason: &str, now: u64) {
        if self.0.len() == FAILURES {
            self.0.pop_front();
        }
        let Session { id, face, client, .. } = *session;
        self.0.push_back(Failure { session: id, face, client, plane, reason: reason.to_owned(), at: now });
    }

    pub fn iter(&self) -> impl Iterator<Item = &Failure> {
        self.0.iter()
    }
}
