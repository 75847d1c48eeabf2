//! What the command does: connect, play until something ends it, report.

mod hands;
mod sound;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use lumen_core::Permissions;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{AccessFlags, access};

use crate::cli::{Cli, Command, Connect};
use crate::config_dir::{ConfigError, default_dir};
use crate::connect::{Options, resolve};
use crate::error::{ConnectError, Ending};
use crate::progress::{PERIOD, Progress};
use crate::report::{Report, Subject};
use crate::session::{Finished, Playing, Session, Sinks, first_readable};
use crate::worker::{Outputs, Worker};
use crate::{Client, Identity};

/// Why the command did not do what it was asked to; one line each.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("cannot write {}: {source}", path.display())]
    Output { path: PathBuf, source: io::Error },
    #[error("cannot read {}: {source}", path.display())]
    Script { path: PathBuf, source: io::Error },
    #[error("{}: {error}", path.display())]
    Malformed { path: PathBuf, error: lumen_core::input::script::ScriptError },
    #[error("{0}")]
    Written(String),
    #[cfg(feature = "play")]
    #[error(transparent)]
    Play(#[from] crate::audio::PlayError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{0}")]
    Ended(Ending),
    #[error("cannot use this machine: {0}")]
    Local(#[from] io::Error),
}

impl Failure {
    /// 2 usage, 3 could not connect, 4 refused, 5 lost.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Config(_) | Self::Output { .. } | Self::Script { .. } | Self::Malformed { .. } | Self::Written(_) => {
                2
            }
            #[cfg(feature = "play")]
            Self::Play(_) => 3,
            Self::Connect(ConnectError::Config(_)) => 2,
            Self::Connect(
                ConnectError::Refused(_) | ConnectError::PinMismatch { .. } | ConnectError::HostKeyChanged { .. },
            ) => 4,
            Self::Connect(_) | Self::Local(_) => 3,
            Self::Ended(_) => 5,
        })
    }
}

/// Runs the command line.
pub fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Connect(arguments) => connect(&arguments),
        Command::Fingerprint(dir) => {
            let dir = dir.config.map_or_else(default_dir, Ok)?;
            writeln!(io::stdout(), "{}", Identity::load_or_create(&dir)?.fingerprint())?;
            Ok(())
        }
    }
}

fn connect(arguments: &Connect) -> Result<(), Failure> {
    let dir = arguments.config.config.clone().map_or_else(default_dir, Ok)?;
    // Before the connection: a path that cannot be written should not cost the host a session.
    let hands = hands::Ready::new(&arguments.hands)?;
    let outputs = outputs(arguments)?;
    let sound = sound::Ready::new(&arguments.sound)?;
    let client = Client::open(&dir)?;
    let media = match &arguments.media {
        Some(address) => resolve(address)?.first().copied(),
        None => None,
    };
    let options = Options {
        host: arguments.host.clone(),
        mode: arguments.mode,
        bitrate_kbps: arguments.bitrate.unwrap_or(0),
        pin: arguments.pin,
        media,
        sound: arguments.sound.layout(),
        own_sink: arguments.sound.own_sink,
        input: arguments.hands.wanted(),
        resume: !arguments.no_resume,
        // Only for the host's lists, so that a machine without a name is no error.
        name: std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned(),
    };
    let session = client.connect(&options)?;
    if !arguments.quiet {
        introduce(&session, &options);
    }
    let (mode, fingerprint) = (session.mode(), session.fingerprint().to_string());
    // Threads inherit the mask, so it is set before there are any; from here on signals are read, not taken.
    let signals = signals()?;
    let (worker, frames) = Worker::start(outputs, session.control())?;
    let (sound, heard) = sound.start(&session)?;
    let input = session.input();
    let playing = session.play(Sinks { frames, sound: heard, rumble: None })?;
    let hands = hands.zip(input).map(|(hands, input)| hands.start(input)).transpose()?;
    play(&playing, &signals, arguments)?;
    let done = hands.map(hands::Running::finish).unwrap_or_default();
    let Finished { ending, media, datagrams } = playing.finish();
    let worked = worker.finish();
    let heard = sound.finish();
    if let Some(silence) = heard.silence {
        eprintln!("lumen-client: {silence}");
    }

    let subject = Subject {
        mode: media.mode.unwrap_or(mode),
        fingerprint,
        ended: ending.to_string(),
        decoding: arguments.decode || arguments.png.is_some(),
        overrun: worked.overrun,
        sound: heard.report,
        input: done.counts,
    };
    let report = Report::new(subject, &media, &datagrams, &worked.recorder);
    if !arguments.quiet {
        eprint!("{}", report.table());
    }
    if let Some(path) = &arguments.json {
        write_json(path, &report).map_err(|source| Failure::Output { path: path.clone(), source })?;
    }
    match (worked.failure.or(heard.failure).or(done.failure), ending) {
        (Some(failure), _) => Err(Failure::Written(failure)),
        (None, Ending::Stopped) => Ok(()),
        (None, ending) => Err(Failure::Ended(ending)),
    }
}

/// A few words on the session, before it begins.
fn introduce(session: &Session, options: &Options) {
    let trust = if session.first_use() { "first use, now remembered" } else { "as expected" };
    eprintln!("host {} ({trust}): {}", session.fingerprint(), session.host_name());
    eprintln!("mode {}", session.mode());
    if options.sound.is_some() && session.sound().is_none() {
        eprintln!("sound: the host has none to give; see `lumend status` there");
    }
    if options.input && session.permissions() == Permissions::NONE {
        eprintln!("input: the host lets this client do nothing; there, see lumend permit --help");
    }
}

/// Waits for a signal, the end of the session or of the time asked for, and keeps the line on the terminal alive.
fn play(playing: &Playing, signals: &SignalFd, arguments: &Connect) -> io::Result<()> {
    let deadline = arguments.seconds.map(|seconds| Instant::now() + Duration::from_secs_f64(seconds));
    let mut progress = Progress::new(arguments.quiet);
    loop {
        let left = deadline.map_or(PERIOD, |deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            break;
        }
        if first_readable(&[signals.as_fd(), playing.as_fd()], left.min(PERIOD))?.is_some() {
            break;
        }
        progress.draw(playing.live());
    }
    progress.clear();
    Ok(())
}

/// SIGINT and SIGTERM as something to wait for.
fn signals() -> io::Result<SignalFd> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGINT);
    mask.add(Signal::SIGTERM);
    mask.thread_block()?;
    Ok(SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// Makes the file an option names, if it names one.
fn created(path: &Option<PathBuf>) -> Result<Option<File>, Failure> {
    let create = |path: &PathBuf| File::create(path).map_err(|source| Failure::Output { path: path.clone(), source });
    path.as_ref().map(create).transpose()
}

fn buffered(path: &Option<PathBuf>) -> Result<Option<BufWriter<File>>, Failure> {
    Ok(created(path)?.map(BufWriter::new))
}

fn outputs(arguments: &Connect) -> Result<Outputs, Failure> {
    // Written in the end, and not made before: a file without a report would be taken for one.
    for path in [&arguments.png, &arguments.json].into_iter().flatten().filter(|path| path.as_os_str() != "-") {
        writable(path).map_err(|source| Failure::Output { path: path.clone(), source })?;
    }
    let middle_ns = arguments.seconds.map(|seconds| (seconds * 0.5e9) as u64);
    Ok(Outputs {
        stream: buffered(&arguments.out)?,
        trace: buffered(&arguments.trace)?,
        decode: arguments.decode || arguments.png.is_some(),
        png: arguments.png.clone().map(|path| (path, middle_ns)),
    })
}

/// Whether a file of this name can be written, as far as that can be known.
fn writable(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(access(if path.exists() { path } else { parent }, AccessFlags::W_OK)?)
}

fn write_json(path: &Path, report: &Report) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(report)?;
    text.push('\n');
    if path.as_os_str() == "-" { io::stdout().write_all(text.as_bytes()) } else { std::fs::write(path, text) }
}
