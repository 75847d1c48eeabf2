//! The virtual machine's only file system: a shell, the kernel's modules, and programs with their libraries.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::cpio::Archive;
use super::kernel::{self, Kernel};

const BUSYBOX: &str = "/bin/busybox";

pub struct Initramfs {
    /// By their path in the archive, without the first slash.
    files: BTreeMap<String, Vec<u8>>,
}

impl Initramfs {
    /// With a shell and its tools.
    pub fn new() -> Result<Self> {
        let busybox = fs::read(BUSYBOX).with_context(|| format!("{BUSYBOX} is missing: install busybox-static"))?;
        let files = [("bin/sh".to_owned(), busybox.clone()), ("bin/busybox".to_owned(), busybox)];
        Ok(Self { files: files.into() })
    }

    /// What the kernel starts.
    pub fn init(&mut self, script: &str) {
        self.files.insert("init".into(), script.into());
    }

    /// Modules and what they need, as `/modules/NUMBER-NAME.ko` in the order of loading.
    pub fn modules(&mut self, kernel: &Kernel, names: &[&str]) -> Result<()> {
        for (number, path) in kernel.modules(names)?.iter().enumerate() {
            let (bytes, name) = kernel::module(path)?;
            self.files.insert(format!("modules/{number:03}-{name}"), bytes);
        }
        Ok(())
    }

    /// A program at a path of its own, and the libraries that it is linked to at theirs.
    pub fn program(&mut self, program: &Path, at: &Path) -> Result<()> {
        self.file(program, at)?;
        for library in libraries(program)? {
            self.file(&library, &library)?;
        }
        Ok(())
    }

    fn file(&mut self, from: &Path, at: &Path) -> Result<()> {
        let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        let at = at.to_str().and_then(|path| path.strip_prefix('/')).context("a program's path is absolute UTF-8")?;
        self.files.insert(at.into(), bytes);
        Ok(())
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut archive = Archive::new(BufWriter::new(file));
        let mut directories: BTreeSet<PathBuf> = ["dev", "proc", "sys", "tmp"].map(PathBuf::from).into();
        for name in self.files.keys() {
            directories.extend(Path::new(name).ancestors().skip(1).map(PathBuf::from));
        }
        // A set's order has parents before their children; the root needs no entry.
        for directory in directories.iter().filter_map(|path| path.to_str()).filter(|path| !path.is_empty()) {
            archive.directory(directory)?;
        }
        // Before the device file system is mounted, the first program speaks here.
        archive.node("dev/console", (5, 1))?;
        for (name, bytes) in &self.files {
            archive.file(name, bytes)?;
        }
        archive.finish().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(())
    }
}

/// The libraries of a program and the loader itself, as the loader would find them here.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("ldd does not run: install libc-bin")?;
    let listing = String::from_utf8(output.stdout)?;
    if let Some(line) = listing.lines().find(|line| line.contains("not found")) {
        bail!("{} misses a library: {}", program.display(), line.trim());
    }
    // "libc.so.6 => /lib/…/libc.so.6 (0x…)", or the loader's "/lib64/ld-linux-x86-64.so.2 (0x…)".
    Ok(listing
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect())
}
