//! A GameStream client without a screen: pairs, lists, streams, and says what it saw as JSON.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use e2e::guest::moonlight::Moonlight;
use e2e::guest::pair::{Outcome, pair};
use e2e::guest::report::report;
use e2e::guest::stream::{Reception, Stream};
use e2e::guest::wish::{Secrecy, Wish};
use serde_json::json;

#[derive(Parser)]
struct Arguments {
    /// Where this client keeps its identity and the host's.
    #[arg(long)]
    directory: PathBuf,
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// HTTP's port.
    #[arg(long, default_value_t = 47989)]
    base: u16,
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Print the SHA-256 of this client's certificate
    Fingerprint,
    /// Pair with a PIN that the host has to be told meanwhile
    Pair { pin: String },
    /// Print the host's apps
    List,
    /// Stream, or come back to what runs already
    Stream {
        #[arg(long, default_value = "Desktop")]
        app: String,
        /// WIDTHxHEIGHTxFPS
        #[arg(long, default_value = "1280x720x60", value_parser = mode)]
        mode: (u32, u32, u32),
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        #[arg(long, default_value_t = 10_000)]
        kbps: u32,
        /// Media packets lost of a thousand
        #[arg(long, default_value_t = 0)]
        loss: u32,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Encrypt nothing but hands
        #[arg(long)]
        clear: bool,
        /// Receive and put together, but do not decode
        #[arg(long)]
        no_decode: bool,
        /// The desktop is the synthetic one: hold each picture against what it should show
        #[arg(long)]
        judge: bool,
        /// End what runs afterwards
        #[arg(long)]
        quit: bool,
    },
    /// End what runs
    Quit,
}

fn mode(text: &str) -> Result<(u32, u32, u32), String> {
    let numbers: Vec<u32> = text.split('x').filter_map(|number| number.parse().ok()).collect();
    match numbers[..] {
        [width, height, fps] => Ok((width, height, fps)),
        _ => Err("a mode is WIDTHxHEIGHTxFPS".into()),
    }
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("guest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let mut client = Moonlight::open(&arguments.directory, arguments.host, arguments.base)?;
    match arguments.task {
        Task::Fingerprint => println!("{}", client.identity().fingerprint()),
        Task::Pair { pin } => match pair(&mut client, &pin)? {
            Outcome::Paired => println!("paired"),
            other => bail!("{other:?}"),
        },
        Task::List => {
            for app in client.apps()? {
                println!("{:>10} {}", app.id, app.name);
            }
        }
        Task::Stream { app, mode, seconds, kbps, loss, seed, clear, no_decode, judge, quit } => {
            let secrecy = if clear { Secrecy::NONE } else { Secrecy::ALL };
            let wish = Wish { kbps, secrecy, ..Wish::new(client.app(&app)?, mode) };
            let runs = client.info()?.must("currentgame")? == wish.app.to_string();
            let launched = if runs { client.resume(&wish)? } else { client.launch(&wish)? };
            let reception = Reception { loss, seed, decode: !no_decode, judge };
            let mut stream = Stream::start(&client, &launched, &wish, reception)?;
            let ended = stream.ended(Duration::from_secs(seconds)).unwrap_or_else(|| stream.leave());
            println!("{}", serde_json::to_string_pretty(&report(&stream, Some(&ended)))?);
            if quit {
                client.cancel().context("quit")?;
            }
        }
        Task::Quit => println!("{}", json!({ "cancelled": client.cancel()? })),
    }
    Ok(())
}
