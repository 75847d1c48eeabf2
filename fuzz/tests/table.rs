//! README.md says which target reads what; a parser that is in neither of its tables is one that nobody has thought of.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Whose parsers are meant: all that runs on a host, and the client.
const CRATES: [&str; 9] = [
    "ipc",
    "lumen-audio",
    "lumen-capture",
    "lumen-client",
    "lumen-core",
    "lumen-encode",
    "lumen-input",
    "lumen-net",
    "lumend",
];
/// How a function's name begins that makes values of bytes or text. `read` is one that is called just so.
const NAMES: [&str; 7] = ["parse", "decode", "from_bytes", "from_datagram", "from_der", "from_pem", "read("];
/// What it takes.
const INPUTS: [&str; 4] = ["[u8]", "[u8;", "&str", "&libc::ff_effect"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}

fn readme() -> String {
    fs::read_to_string(root().join("fuzz/README.md")).unwrap()
}

/// What stands between backticks and is a file of Rust.
fn files(text: &str) -> BTreeSet<&str> {
    text.split('`').skip(1).step_by(2).filter(|word| word.ends_with(".rs") && word.contains("/src/")).collect()
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Whether a function of this text makes something of bytes or text that it is given.
fn parses(text: &str) -> bool {
    text.split("fn ").skip(1).any(|function| {
        let named = NAMES.iter().any(|name| function.starts_with(name));
        let Some((_, arguments)) = function.split_once('(') else { return false };
        let arguments = arguments.split(')').next().unwrap_or_default();
        named && INPUTS.iter().any(|input| arguments.contains(input))
    })
}

#[test]
fn every_target_has_its_row_and_every_row_its_target() {
    let readme = readme();
    let rows = readme.split("\n\nNot here:").next().unwrap().lines();
    let named: Vec<&str> = rows.filter_map(|row| row.strip_prefix("| `")?.split('`').next()).collect();
    let targets: BTreeSet<&str> = fuzz::TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(named.iter().copied().collect::<BTreeSet<_>>(), targets);
    assert_eq!(named.len(), targets.len(), "a target has two rows");
    for file in files(&readme) {
        assert!(root().join(file).is_file(), "README.md names {file}, which is not there");
    }
}

#[test]
fn every_parser_is_fuzzed_or_said_not_to_be() {
    let readme = readme();
    let known = files(&readme);
    let mut found = Vec::new();
    CRATES.iter().for_each(|name| sources(&root().join(name).join("src"), &mut found));
    let mut unknown = BTreeSet::new();
    for path in found {
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let own = text.split("#[cfg(test)]").next().unwrap();
        if !name.contains("tests") && !name.contains("/fuzz") && parses(own) && !known.contains(name) {
            unknown.insert(name.to_owned());
        }
    }
    assert!(unknown.is_empty(), "parsers without a target, nor a reason in fuzz/README.md: {unknown:#?}");
}

#[test]
fn a_parser_is_known_by_its_name_and_what_it_takes() {
    for text in [
        "pub fn parse(bytes: &[u8]) -> Self",
        "fn decode<'a>(record: &'a [u8; 4])",
        "pub fn parse_it(\n    text: &str,",
    ] {
        assert!(parses(text), "{text}");
    }
    for text in
        ["fn parse(&self) -> &[u8]", "fn ready(bytes: &[u8])", "fn reads(text: &str)", "fn encode(bytes: &[u8])"]
    {
        assert!(!parses(text), "{text}");
    }
}
