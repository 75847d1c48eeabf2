//! What `systemd-analyze` says of the units: that it understands each line, and how much of the machine each unit can reach.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};
use xtask::binaries::root;

/// Where the units say that the programs are.
const PROGRAMS: &str = "/usr/lib/lumen";

/// The most of systemd's exposure level, in tenths, that a unit may have. The launcher is not here: what it starts must be
/// free to do everything that a person's programs do.
const EXPOSURE: &[(&str, u32)] = &[
    ("lumend.service", 30),
    ("lumen-capture@.service", 30),
    ("lumen-encode@.service", 15),
    ("lumen-net@.service", 15),
    ("lumen-input@.service", 15),
    ("lumen-audio@.service", 30),
];

/// Both for users and for the machine.
pub fn lint() -> Result<()> {
    let stage = Stage::new()?;
    for scope in ["user", "system"] {
        let units = stage.units(scope)?;
        verify(&stage, scope, &units)?;
        let levels = EXPOSURE.iter().map(|&(unit, most)| exposure(&stage, scope, unit, most));
        println!("   {scope}: {}", levels.collect::<Result<Vec<_>>>()?.join(", "));
    }
    Ok(())
}

/// The units with programs that exist, since systemd looks for them.
struct Stage(PathBuf);

impl Stage {
    fn new() -> Result<Self> {
        let directory = std::env::temp_dir().join(format!("lumen-units-{}", std::process::id()));
        // A left-over of another process with this number.
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(directory.join("programs"))?;
        fs::create_dir(directory.join("runtime"))?;
        Ok(Self(directory))
    }

    fn units(&self, scope: &str) -> Result<Vec<PathBuf>> {
        let (from, to) = (root().join("systemd").join(scope), self.0.join(scope));
        let programs = self.0.join("programs");
        fs::create_dir(&to)?;
        let mut units = Vec::new();
        for entry in fs::read_dir(&from)? {
            let entry = entry?;
            let text = fs::read_to_string(entry.path())?;
            for word in text.split_whitespace().filter_map(|word| word.strip_prefix(&format!("ExecStart={PROGRAMS}/")))
            {
                let program = programs.join(word);
                if !program.exists() {
                    symlink("/bin/true", program)?;
                }
            }
            let unit = to.join(entry.file_name());
            fs::write(&unit, text.replace(PROGRAMS, programs.to_str().context("a path that is not UTF-8")?))?;
            units.push(unit);
        }
        units.sort();
        Ok(units)
    }

    fn analyze(&self, scope: &str, arguments: &[&str], units: &[PathBuf]) -> Result<Output> {
        Command::new("systemd-analyze")
            .arg(format!("--{scope}"))
            .args(arguments)
            .args(units)
            .current_dir(self.0.join(scope))
            .env("XDG_RUNTIME_DIR", self.0.join("runtime"))
            .env("SYSTEMD_COLORS", "0")
            .output()
            .context("systemd-analyze does not run; install the package systemd")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// No word on stderr: systemd-analyze ends with success over lines that it does not understand.
fn verify(stage: &Stage, scope: &str, units: &[PathBuf]) -> Result<()> {
    let output = stage.analyze(scope, &["verify", "--man=no", "--recursive-errors=no"], units)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.trim().is_empty(), "systemd/{scope}:\n{}", said.trim());
    Ok(())
}

fn exposure(stage: &Stage, scope: &str, unit: &str, most: u32) -> Result<String> {
    let threshold = format!("--threshold={most}");
    let arguments = ["security", "--no-pager", "--offline=true", &threshold];
    let output = stage.analyze(scope, &arguments, &[Path::new(unit).to_owned()])?;
    let table = String::from_utf8_lossy(&output.stdout);
    let level =
        table.lines().rev().find_map(|line| line.split_once("Overall exposure level for ")?.1.split(": ").nth(1));
    let level = level.and_then(|level| level.split_whitespace().next());
    match (output.status.success(), level) {
        (true, Some(level)) => Ok(format!("{} {level}", unit.trim_end_matches(".service").trim_end_matches('@'))),
        _ => bail!("systemd/{scope}/{unit} is exposed by more than {}.{}:\n{table}", most / 10, most % 10),
    }
}
