//! A headless sway that is not lumend's: the session a user already has, and the yardstick of the benchmarks.

use std::os::unix::fs::FileTypeExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::unistd::geteuid;

use crate::process::{Running, wait_until};
use crate::stage::Stage;

/// A running compositor with one output, HEADLESS-1.
pub struct Sway {
    runtime: PathBuf,
    control: PathBuf,
    running: Running,
}

impl Sway {
    /// Starts it at `mode` (sway's words: `1280x720@60Hz`), with one program on its screen. Its control socket has the name
    /// that sway gives it, by which it is found in [`Sway::directory`].
    pub fn start(stage: &Stage, mode: &str, exec: &str) -> Result<Self> {
        let runtime = Self::directory(stage)?;
        let config = format!(
            "output HEADLESS-1 mode --custom {mode}\noutput * bg #204060 solid_color\ndefault_border none\n\
             xwayland disable\nexec {exec}\n"
        );
        let config = stage.write("sway.conf", &config)?;
        let log = std::fs::File::create(stage.out("sway.log"))?;
        let mut command = Command::new("sway");
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", stage.path().join("home"))
            .env("XDG_RUNTIME_DIR", &runtime)
            .env("WLR_BACKENDS", "headless")
            .env("WLR_RENDERER", "pixman")
            .env("WLR_LIBINPUT_NO_DEVICES", "1")
            .arg("-c")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        if geteuid().is_root() {
            command.uid(stage.uid()).gid(stage.gid());
        }
        let child = command.spawn().context("sway does not start; run: cargo xtask deps")?;
        let running = Running::new("sway", child);
        let control = runtime.join(format!("sway-ipc.{}.{}.sock", stage.uid(), running.pid()));
        let socket = runtime.join("wayland-1");
        wait_until(Duration::from_secs(10), || {
            let ready = socket.metadata().is_ok_and(|found| found.file_type().is_socket());
            (ready && control.exists()).then_some(())
        })
        .context("sway made no sockets")?;
        Ok(Self { runtime, control, running })
    }

    /// XDG_RUNTIME_DIR of all that are started on a stage.
    pub fn directory(stage: &Stage) -> Result<PathBuf> {
        stage.directory("sway")
    }

    pub fn running(&mut self) -> &mut Running {
        &mut self.running
    }

    /// The environment in which a program, or lumend, finds this session.
    pub fn environment(&self) -> [(&'static str, PathBuf); 3] {
        [
            ("XDG_RUNTIME_DIR", self.runtime.clone()),
            ("WAYLAND_DISPLAY", "wayland-1".into()),
            ("SWAYSOCK", self.control.clone()),
        ]
    }

    /// Runs `swaymsg ARGUMENTS` in this session and returns what it prints.
    pub fn message(&self, stage: &Stage, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("swaymsg");
        command.args(arguments).envs(self.environment());
        if geteuid().is_root() {
            command.uid(stage.uid()).gid(stage.gid());
        }
        let output = command.output().context("swaymsg does not run")?;
        ensure!(output.status.success(), "swaymsg {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(String::from_utf8(output.stdout)?)
    }
}
