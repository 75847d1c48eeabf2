//! The property tests with many cases.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use xtask::binaries::BUILT;
use xtask::process::describe;

use super::night::Shown;
use crate::suite::programs::{self, Program};

/// What a file of property tests has in it.
const MARK: &str = "proptest!";

/// Runs every program that has property tests, each whatever came of the others.
///
/// # Errors
/// Names those that failed; what they said is on the screen.
pub fn run(cases: u32) -> Result<Shown> {
    // What every test run builds: with another choice of packages, libraries would be compiled once more.
    let programs: Vec<Program> = programs::build(&[])?.into_iter().filter(has_properties).collect();
    let mut failed = Vec::new();
    for (index, program) in programs.iter().enumerate() {
        println!("── {} of {}: {} {}", index + 1, programs.len(), program.package, program.name);
        let start = Instant::now();
        let status = Command::new(&program.path)
            .arg("--quiet")
            .current_dir(&program.directory)
            .env("CARGO_MANIFEST_DIR", &program.directory)
            .env("PROPTEST_CASES", cases.to_string())
            .env(BUILT, "1")
            .status()
            .with_context(|| format!("{} does not run", program.path.display()))?;
        println!("   {} {}: {} s, {}", program.package, program.name, start.elapsed().as_secs(), describe(status));
        if !status.success() {
            failed.push(format!("{} {}", program.package, program.name));
        }
    }
    if !failed.is_empty() {
        bail!(
            "with {cases} cases of each, {} of {} programs failed: {}",
            failed.len(),
            programs.len(),
            failed.join(", ")
        );
    }
    Ok(Shown::right(&format!("{cases} cases of each property in {} programs of tests: none failed.", programs.len())))
}

/// Of a test in `tests/`, its own files; of unit tests, the package's.
fn has_properties(program: &Program) -> bool {
    let tests = program.directory.join("tests");
    let (file, directory) = (tests.join(&program.name).with_extension("rs"), tests.join(&program.name));
    match (file.is_file(), directory.is_dir()) {
        (false, false) => mentions(&program.directory.join("src")),
        (file_is, directory_is) => (file_is && mentions(&file)) || (directory_is && mentions(&directory)),
    }
}

/// A file, or any below a directory, has property tests in it.
fn mentions(path: &Path) -> bool {
    match fs::read_dir(path) {
        Ok(entries) => entries.flatten().any(|entry| mentions(&entry.path())),
        Err(_) => {
            path.extension().is_some_and(|ext| ext == "rs")
                && fs::read_to_string(path).is_ok_and(|text| text.contains(MARK))
        }
    }
}

#[cfg(test)]
mod tests {
    use xtask::binaries::root;

    use super::*;

    #[test]
    fn programs_with_property_tests_are_known_by_their_files() {
        let program = |package: &str, name: &str| {
            let directory = root().join(package);
            has_properties(&Program { package: package.into(), name: name.into(), path: "/".into(), directory })
        };
        for (package, name) in
            [("lumen-core", "lumen_core"), ("lumen-core", "network"), ("ipc", "links"), ("lumend", "lumend")]
        {
            assert!(program(package, name), "{package} {name}");
        }
        assert!(!program("e2e", "stream") && !program("ipc", "ipc"), "they have none");
    }
}
