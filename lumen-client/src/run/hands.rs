//! The command's share of input: the script, read before there is a host, and played when there is.

use std::fs::File;
use std::io::BufWriter;

use lumen_core::input::script::{self, Step};

use super::{Failure, buffered};
use crate::cli::HandsArgs;
use crate::input::{InputCounts, InputLog, InputSender, Player};

/// What hands will do, and where it is logged.
pub(super) struct Ready {
    steps: Vec<Step>,
    log: Option<BufWriter<File>>,
}

/// A script that is being played.
pub(super) struct Running {
    player: Player,
    sender: InputSender,
    log: Option<InputLog>,
}

/// What has come of it.
#[derive(Default)]
pub(super) struct Done {
    pub counts: Option<InputCounts>,
    /// What could not be written.
    pub failure: Option<String>,
}

impl Ready {
    /// None if no hands were asked for.
    pub(super) fn new(arguments: &HandsArgs) -> Result<Option<Self>, Failure> {
        let steps = match &arguments.input_script {
            Some(path) => {
                let text =
                    std::fs::read_to_string(path).map_err(|source| Failure::Script { path: path.clone(), source })?;
                script::parse(&text).map_err(|error| Failure::Malformed { path: path.clone(), error })?
            }
            None if arguments.input_test => script::pattern(),
            None => return Ok(None),
        };
        Ok(Some(Self { steps, log: buffered(&arguments.input_log)? }))
    }

    /// Begins to play, into a session that has been started.
    pub(super) fn start(self, sender: InputSender) -> Result<Running, Failure> {
        let log = match self.log {
            Some(file) => {
                let (log, events) = InputLog::start(file)?;
                sender.record(events);
                Some(log)
            }
            None => None,
        };
        let player = Player::start(self.steps, sender.clone())?;
        Ok(Running { player, sender, log })
    }
}

impl Running {
    /// Lets go of everything; while the session still runs, so that the host hears of it.
    pub(super) fn finish(self) -> Done {
        self.player.finish();
        Done { counts: Some(self.sender.counts()), failure: self.log.and_then(InputLog::finish) }
    }
}
