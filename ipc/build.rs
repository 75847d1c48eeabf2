//! Names the build: a hash over everything that decides what processes say to each other, so that a plane left over
//! from another build is refused at its first message instead of misread at its tenth.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or(io::ErrorKind::NotFound)?);
    let mut hash = FNV_OFFSET;
    for sources in [root.join("src"), root.join("../lumen-core/src")] {
        println!("cargo::rerun-if-changed={}", sources.display());
        hash_tree(&sources, &mut hash)?;
    }
    println!("cargo::rustc-env=LUMEN_BUILD_HASH={hash:016x}");
    Ok(())
}

fn hash_tree(directory: &Path, hash: &mut u64) -> io::Result<()> {
    let mut paths = fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            hash_tree(&path, hash)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            for byte in fs::read(&path)? {
                *hash = (*hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
            }
        }
    }
    Ok(())
}
