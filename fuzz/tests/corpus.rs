//! Every input that was found worth keeping, once more.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let read = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    read.map(|entry| entry.unwrap().path()).collect()
}

/// Bytes of one corpus in the tree, at most: whoever clones it is to read it, not to carry what an hour has found.
const MOST: u64 = 16 * 1024;

#[test]
fn every_corpus_is_small() {
    for target in fuzz::TARGETS {
        let inputs = entries(&corpus().join(target.name));
        let bytes: u64 = inputs.iter().map(|input| fs::metadata(input).unwrap().len()).sum();
        assert!(bytes <= MOST, "the corpus of {} has {bytes} bytes; leave out what is long", target.name);
    }
}

#[test]
fn every_kept_input_still_passes() {
    for target in fuzz::TARGETS {
        let inputs = entries(&corpus().join(target.name));
        assert!(!inputs.is_empty(), "{} has no corpus", target.name);
        for input in inputs {
            println!("{}", input.display());
            (target.run)(&fs::read(&input).unwrap());
        }
    }
}

#[test]
fn every_corpus_has_a_target() {
    let names = |directories: Vec<PathBuf>| -> BTreeSet<String> {
        directories.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
    };
    let targets: BTreeSet<String> = fuzz::TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(names(entries(&corpus())), targets);
}
