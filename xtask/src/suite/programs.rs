//! Builds every test at once, and says where each is.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use xtask::binaries::root;

/// A program of tests, as cargo has built it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    pub package: String,
    /// Of its target: the file in `tests/`, or the package's or a program's own name for unit tests.
    pub name: String,
    pub path: PathBuf,
    /// Where tests are run: their package's directory.
    pub directory: PathBuf,
}

/// Builds the tests of the workspace and, with them, all of its programs. `more` goes to cargo.
///
/// Always of the whole workspace: with another choice of packages, libraries would have other features, and be compiled
/// once more.
pub fn build(more: &[&str]) -> Result<Vec<Program>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(root())
        .args(["test", "--quiet", "--workspace", "--no-run", "--message-format=json-render-diagnostics"])
        .args(more)
        .stderr(Stdio::inherit())
        .output()
        .context("cargo does not run")?;
    if !output.status.success() {
        bail!("the tests do not build; run: cargo test --workspace --no-run {}", more.join(" "));
    }
    let mut programs = listed(&String::from_utf8(output.stdout)?)?;
    programs.sort_by(|one, other| (&one.package, &one.name).cmp(&(&other.package, &other.name)));
    ensure!(!programs.is_empty(), "cargo names no tests");
    Ok(programs)
}

/// The tests in cargo's messages, of which each is a line.
fn listed(messages: &str) -> Result<Vec<Program>> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let tests = messages.filter(|message| message["profile"]["test"] == true && message["executable"].is_string());
    tests.map(|message| program(&message).with_context(|| format!("cargo said {message}"))).collect()
}

fn program(message: &Value) -> Result<Program> {
    let text = |value: &Value| value.as_str().map(str::to_owned).context("not a string");
    let manifest = text(&message["manifest_path"])?;
    let directory = Path::new(&manifest).parent().context("a manifest lies somewhere")?.to_owned();
    // Every package of the workspace lies in a directory of its name.
    let package = directory.file_name().context("a package has a directory")?.display().to_string();
    let name = text(&message["target"]["name"])?;
    Ok(Program { package, name, path: text(&message["executable"])?.into(), directory })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_all_that_cargo_says_only_tests_are_taken() {
        let messages = r#"
{"reason":"compiler-artifact","manifest_path":"/w/lumend/Cargo.toml","target":{"name":"lumend"},"profile":{"test":false},"executable":"/w/target/debug/lumend"}
{"reason":"compiler-artifact","manifest_path":"/w/ipc/Cargo.toml","target":{"name":"ipc"},"profile":{"test":false},"executable":null}
{"reason":"build-finished","success":true}
{"reason":"compiler-artifact","manifest_path":"/w/ipc/Cargo.toml","target":{"name":"ring"},"profile":{"test":true},"executable":"/w/target/debug/deps/ring-1"}
"#;
        let ring = Program {
            package: "ipc".into(),
            name: "ring".into(),
            path: "/w/target/debug/deps/ring-1".into(),
            directory: "/w/ipc".into(),
        };
        assert_eq!(listed(messages).unwrap(), [ring]);
    }
}
