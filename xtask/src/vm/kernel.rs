//! A stock Debian kernel, unpacked and not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use xtask::binaries::run;

use super::apt::Apt;

/// The release whose kernel is booted, whatever release this machine has.
const SUITE: &str = "trixie";
const PACKAGE: &str = "linux-image-amd64";

pub struct Kernel {
    pub version: String,
    pub image: PathBuf,
    /// What holds `lib/modules/VERSION`.
    base: PathBuf,
}

impl Kernel {
    /// The cached kernel, or the suite's newest: fetched by apt, which checks its signature.
    pub fn ensure(cache: &Path) -> Result<Self> {
        let home = cache.join("kernel");
        if !home.is_dir() {
            println!("   fetching Debian's kernel of {SUITE} (100 MB, once)");
            fetch(cache, &home)?;
        }
        Self::open(&home).with_context(|| format!("the cached kernel is spoilt; remove {}", home.display()))
    }

    fn open(home: &Path) -> Result<Self> {
        let images = fs::read_dir(home.join("boot"))?.filter_map(Result::ok).map(|entry| entry.path());
        let image = images.into_iter().find(|path| version(path).is_some()).context("there is no image")?;
        let version = version(&image).context("the image has no version")?.to_owned();
        // Since trixie, modules lie in /usr/lib.
        let base = [home.to_owned(), home.join("usr")].into_iter();
        let base = base.into_iter().find(|base| base.join("lib/modules").join(&version).is_dir());
        Ok(Self { base: base.context("there are no modules")?, version, image })
    }

    /// The files of modules and of what they need, in the order of loading.
    pub fn modules(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for name in names {
            let output = Command::new("modprobe")
                .args(["--show-depends", "--set-version", &self.version, "--dirname"])
                .arg(&self.base)
                .arg(name)
                .output()
                .context("modprobe does not run: install kmod")?;
            if !output.status.success() {
                bail!("the kernel {} has no module {name}", self.version);
            }
            // "insmod FILE", or "builtin NAME" where there is nothing to load.
            let listing = String::from_utf8(output.stdout)?;
            let inserts = listing.lines().filter_map(|line| line.strip_prefix("insmod "));
            for file in inserts.map(|line| PathBuf::from(line.trim())) {
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        Ok(files)
    }
}

fn version(image: &Path) -> Option<&str> {
    image.file_name()?.to_str()?.strip_prefix("vmlinuz-")
}

/// A module's bytes, unpacked, and its name without the packer's suffix.
pub fn module(path: &Path) -> Result<(Vec<u8>, String)> {
    let name = path.file_name().and_then(|name| name.to_str()).context("a module has a name")?;
    let Some(plain) = name.strip_suffix(".xz") else { return Ok((fs::read(path)?, name.to_owned())) };
    let output = Command::new("xz").args(["--decompress", "--stdout"]).arg(path).output();
    let output = output.context("xz does not run: install xz-utils")?;
    if !output.status.success() {
        bail!("{} cannot be unpacked", path.display());
    }
    Ok((output.stdout, plain.to_owned()))
}

fn fetch(cache: &Path, home: &Path) -> Result<()> {
    let apt = Apt::new(&cache.join("apt-kernel"), &[SUITE])?;
    apt.update()?;
    let package = newest(&apt)?;
    // Under another name until it is whole, so that an interrupted run leaves nothing that looks like a kernel.
    let partial = home.with_extension("partial");
    let _ = fs::remove_dir_all(&partial);
    let archives = partial.join("archives");
    fs::create_dir_all(&archives)?;
    let wanted = format!("{package}/{SUITE}");
    let status = apt.command("apt-get").current_dir(&archives).args(["download", "-qq", &wanted]).status()?;
    if !status.success() {
        bail!("apt cannot fetch {wanted}; its reason is above");
    }
    let archive = fs::read_dir(&archives)?.filter_map(Result::ok).map(|entry| entry.path()).next();
    run(Command::new("dpkg-deb").arg("--extract").arg(archive.context("apt has fetched nothing")?).arg(&partial))?;
    fs::remove_dir_all(&archives)?;
    let kernel = Kernel::open(&partial)?;
    run(Command::new("depmod").arg("--basedir").arg(&kernel.base).arg(&kernel.version))?;
    fs::rename(&partial, home).with_context(|| format!("cannot move the kernel to {}", home.display()))
}

/// The package that the suite's kernel package stands for.
fn newest(apt: &Apt) -> Result<String> {
    let output = apt.command("apt-cache").args(["show", &format!("{PACKAGE}/{SUITE}")]).output()?;
    let record = String::from_utf8(output.stdout)?;
    let depends = record.lines().find_map(|line| line.strip_prefix("Depends: "));
    let name = depends.and_then(|list| list.split([',', ' ', '(']).find(|word| word.starts_with("linux-image-")));
    Ok(name.with_context(|| format!("apt knows no {PACKAGE} in {SUITE}"))?.to_owned())
}
