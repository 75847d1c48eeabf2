//! Runs programs of tests side by side.
//!
//! Tests of planes and hosts wait for most of their time: for frames of 60 Hz, for timers, for somebody who is to give up.
//! Each program has ports, directories and desktops of its own, so that several can wait at once.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::Mutex;
use std::thread::scope;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use xtask::binaries::{BUILT, target};
use xtask::process::describe;

use super::programs::Program;

/// What became of one program.
struct Outcome {
    name: String,
    status: ExitStatus,
    log: PathBuf,
}

/// Runs all of them, `lanes` at a time, in the order given, each with these arguments; says of each what came out of it.
///
/// # Errors
/// Once all have run: names those that failed, after their output.
pub fn run(programs: Vec<&Program>, lanes: usize, arguments: &[&str]) -> Result<()> {
    let left = Mutex::new(VecDeque::from(programs));
    let outcomes = Mutex::new(Vec::new());
    let next = || left.lock().ok()?.pop_front();
    let work = || {
        while let Some(program) = next() {
            let outcome = one(program, arguments);
            if let Ok(mut outcomes) = outcomes.lock() {
                outcomes.push(outcome);
            }
        }
    };
    scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(work);
        }
    });
    let outcomes = outcomes.into_inner().ok().context("a program of tests was not run to its end")?;
    let outcomes = outcomes.into_iter().collect::<Result<Vec<_>>>()?;
    let failed: Vec<_> = outcomes.iter().filter(|outcome| !outcome.status.success()).collect();
    for outcome in &failed {
        let said = fs::read(&outcome.log)?;
        println!("── {} ended with {}:\n{}", outcome.name, describe(outcome.status), String::from_utf8_lossy(&said));
    }
    if !failed.is_empty() {
        let names: Vec<_> = failed.iter().map(|outcome| outcome.name.as_str()).collect();
        bail!("failed: {}; what they said is above", names.join(", "));
    }
    Ok(())
}

fn one(program: &Program, arguments: &[&str]) -> Result<Outcome> {
    let name = format!("{} {}", program.package, program.name);
    let logs = target().join("tests");
    fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
    let file = program.path.file_name().with_context(|| format!("{name} has no file name"))?;
    let log = logs.join(file).with_extension("log");
    let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let start = Instant::now();
    let status = Command::new(&program.path)
        .args(arguments)
        .current_dir(&program.directory)
        .env("CARGO_MANIFEST_DIR", &program.directory)
        .env(BUILT, "1")
        .stdout(output.try_clone()?)
        .stderr(output)
        .status()
        .with_context(|| format!("{} does not run", program.path.display()))?;
    let said = fs::read(&log)?;
    println!("   {name}: {} s, {}", start.elapsed().as_secs(), result(&String::from_utf8_lossy(&said)));
    Ok(Outcome { name, status, log })
}

/// The line in which a program of tests says what came out of them; its last one, if it has words of its own.
fn result(said: &str) -> &str {
    let lines = || said.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let line = lines().find(|line| line.starts_with("test result: ")).or_else(|| lines().next()).unwrap_or("silent");
    line.trim_start_matches("test result: ")
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_result_is_found_among_other_words() {
        assert_eq!(result("x\ntest result: ok. 3 passed; 0 failed\n\nlate words\n"), "ok. 3 passed; 0 failed");
        assert_eq!(result("hammered\n\n"), "hammered");
        assert_eq!(result(""), "silent");
    }

    fn shell() -> Program {
        let (package, name) = ("any".into(), "shell".into());
        Program { package, name, path: "/bin/sh".into(), directory: "/".into() }
    }

    #[test]
    fn who_fails_is_told_and_the_others_run_all_the_same() {
        let program = shell();
        let outcome = one(&program, &["-c", "echo done; kill -9 $$"]).unwrap();
        assert_eq!((outcome.status.signal(), fs::read(outcome.log).unwrap()), (Some(9), b"done\n".to_vec()));
        let error = run(vec![&program, &program], 2, &["-c", "exit 3"]).unwrap_err().to_string();
        assert!(error.starts_with("failed: any shell, any shell;"), "{error}");
        run(vec![&program, &program], 2, &["-c", "exit 0"]).unwrap();
    }
}
