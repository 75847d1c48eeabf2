//! The Debian packages that Lumen builds and is tested with.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Package and why it is there; printed by `cargo xtask deps`.
const PACKAGES: &[(&str, &str)] = &[
    ("gcc", "compiles the bundled codec and crypto sources"),
    ("g++", "compiles the bundled openh264"),
    ("make", "builds the bundled sources"),
    ("cmake", "builds the bundled crypto and Opus"),
    ("nasm", "openh264's vector code; without it the encoder is 2.3 times slower"),
    ("pkg-config", "finds libx264, PipeWire and xkbcommon"),
    ("clang", "bindings of libx264 and PipeWire"),
    ("libclang-dev", "bindings of libx264 and PipeWire"),
    ("libpipewire-0.3-dev", "the desktop's sound"),
    ("libxkbcommon-dev", "keymaps for a client's keyboard"),
    ("xkb-data", "the layouts that keymaps are made of"),
    ("libx264-dev", "the optional encoder, GPL, built only with --features x264"),
    ("sway", "the desktop that Lumen starts on a bare server"),
    ("foot", "the terminal on that desktop"),
    ("fonts-dejavu-core", "letters for the terminal"),
    ("pipewire", "the sound server that demo and tests start"),
    ("pipewire-bin", "looks into that sound server"),
    ("iproute2", "makes the links of discovery's tests, in namespaces of their own"),
    ("strace", "shows in a test that a sealed plane is denied nothing"),
    ("systemd", "checks the units, and runs them in a container"),
    ("util-linux", "makes that container"),
    ("wireplumber", "decides there who plays where"),
];

/// Installs what is missing when run as root; otherwise prints the one line that would.
pub fn ensure() -> Result<()> {
    let missing = missing()?;
    if missing.is_empty() {
        return Ok(());
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("packages are missing; run: sudo apt-get install -y --no-install-recommends {}", missing.join(" "));
    }
    eprintln!("installing {}", missing.join(" "));
    apt(&["update", "-qq"])?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(&missing);
    apt(&arguments)
}

/// What `cargo xtask deps` prints before it installs.
pub fn list() {
    for (package, why) in PACKAGES {
        println!("{package:20} {why}");
    }
}

fn missing() -> Result<Vec<&'static str>> {
    let mut missing = Vec::new();
    for (package, _) in PACKAGES {
        let output = Command::new("dpkg-query")
            .args(["-W", "-f", "${db:Status-Status}", package])
            .stderr(Stdio::null())
            .output()
            .context("dpkg-query does not run: this command knows Debian and its relatives only; see README.md")?;
        if output.stdout != b"installed" {
            missing.push(*package);
        }
    }
    Ok(missing)
}

fn apt(arguments: &[&str]) -> Result<()> {
    let status = Command::new("apt-get")
        .args(["-o", "DPkg::Lock::Timeout=600"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(Stdio::null())
        .status()
        .context("apt-get does not run")?;
    if !status.success() {
        bail!("apt-get {} failed; run it by hand to see why", arguments.join(" "));
    }
    Ok(())
}
