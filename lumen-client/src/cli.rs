//! The command line.

mod hands;
mod sound;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use lumen_core::{Fingerprint, RawMode};

pub use hands::HandsArgs;
pub use sound::SoundArgs;

/// Reference client of lumen/1: receives, recovers, decrypts, decodes and measures.
///
/// Exit codes: 0 done, 2 usage, 3 could not connect, 4 refused, 5 lost.
#[derive(Parser, Debug)]
#[command(name = "lumen-client", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Receive a session from a host: its picture and sound; with --input-test or --input-script, drive it
    #[command(after_help = EXAMPLES)]
    Connect(Box<Connect>),
    /// Print the SHA-256 of this client's certificate, for `lumend allow`
    Fingerprint(ConfigDir),
}

const EXAMPLES: &str = concat!(
    "\
Examples:
  lumen-client connect den --decode --seconds 10
      receive ten seconds, decode every frame, and say how long it all took
  lumen-client connect den --audio 5.1 --audio-out den.wav --seconds 30
      record what the desktop plays, in six channels
  lumen-client connect den --input-test --input-log sent.jsonl
      let every kind of input event happen once, and log what was sent when
  lumen-client connect den --input-script play.txt
      do what the file says, one event a line, at milliseconds since the start:
",
    include_str!("cli/example.txt")
);

#[derive(Args, Debug)]
pub struct ConfigDir {
    /// Directory of client-key.pem, client-cert.pem and known_hosts [default: ~/.config/lumen]
    #[arg(long, value_name = "DIR")]
    pub config: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct Connect {
    /// The host; without a port, 47800 is meant
    #[arg(value_name = "HOST:PORT")]
    pub host: String,
    /// Size and rate of the screen to ask for
    #[arg(long, value_name = "WxHxHZ", default_value = "1280x720x60")]
    pub mode: RawMode,
    /// SHA-256 of the only host certificate to accept, as `lumend fingerprint` prints it
    #[arg(long, value_name = "HEX")]
    pub pin: Option<Fingerprint>,
    /// Video bitrate in kbit/s [default: the host's choice]
    #[arg(long, value_name = "KBPS", value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub bitrate: Option<u32>,
    /// Stop after this long [default: until interrupted]
    #[arg(long, value_name = "N", value_parser = seconds)]
    pub seconds: Option<f64>,
    /// Write the stream as received (H.264, Annex B)
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Decode every frame, and read the source's frame number and time where its pixels carry them
    #[arg(long)]
    pub decode: bool,
    /// Write a decoded picture from about the middle (of --seconds), or the last; implies --decode
    #[arg(long, value_name = "FILE")]
    pub png: Option<PathBuf>,
    /// Write the report as JSON; - is standard output
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write one JSON line per frame
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Send media probes here instead of to the host's media port: a port forward, or a relay under test
    #[arg(long, value_name = "HOST:PORT")]
    pub media: Option<String>,
    /// End when the host is lost, instead of looking for it for ten seconds and going on where it was
    #[arg(long)]
    pub no_resume: bool,
    #[command(flatten)]
    pub config: ConfigDir,
    /// Nothing on standard error but errors
    #[arg(long)]
    pub quiet: bool,
    #[command(flatten)]
    pub sound: SoundArgs,
    #[command(flatten)]
    pub hands: HandsArgs,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 1e7 => Ok(seconds),
        _ => Err("a number of seconds greater than 0, for example 10 or 0.5".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    #[test]
    fn is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_example_of_a_script_is_one() {
        assert!(EXAMPLES.contains("pad 0 remove"));
        assert_eq!(lumen_core::input::script::parse(include_str!("cli/example.txt")).unwrap().len(), 13);
    }

    #[test]
    fn refuses_malformed_values() {
        for arguments in [
            &["--pin", "abc"][..],
            &["--mode", "1280x720"],
            &["--seconds", "0"],
            &["--seconds", "nan"],
            &["--bitrate", "5"],
            &["--audio", "7"],
        ] {
            let line = ["lumen-client", "connect", "localhost"].iter().chain(arguments);
            let error = Cli::try_parse_from(line).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ValueValidation, "{arguments:?}");
        }
    }

    #[test]
    fn refuses_what_contradicts_itself() {
        for arguments in [
            &["--no-audio", "--audio", "5.1"][..],
            &["--no-audio", "--own-sink"],
            &["--no-audio", "--audio-out", "x.wav"],
            &["--no-audio", "--audio-trace", "x.jsonl"],
            &["--input-test", "--input-script", "x"],
        ] {
            let line = ["lumen-client", "connect", "localhost"].iter().chain(arguments);
            let error = Cli::try_parse_from(line).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ArgumentConflict, "{arguments:?}");
        }
        let error = Cli::try_parse_from(["lumen-client", "connect", "localhost", "--input-log", "x"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MissingRequiredArgument, "there is nothing to log");
    }
}
