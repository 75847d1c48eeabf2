//! The apps of Moonlight clients, for the log.

use ipc::RunId;
use tracing::info;

use super::Daemon;

impl Daemon {
    /// The name of an app in the launcher's list.
    pub(super) fn app_title(&self, index: u16) -> &str {
        self.parts.gamestream.apps().list().get(usize::from(index)).map_or("?", |app| app.title())
    }

    /// To be told before the machine forgets it.
    pub(super) fn tell_of_app(&self, ended: RunId, reason: &str) {
        if let Some(run) = self.machine.runs().find(|run| run.id == ended) {
            let title = self.parts.gamestream.apps().find(run.app).map_or("?", |(_, app)| app.title());
            info!("app {title:?} has ended: {reason}");
        }
    }
}
