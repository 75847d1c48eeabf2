//! apt with lists and sources of its own, so that nothing of the machine's configuration changes.
//!
//! Everything comes from the mirror that the machine is set up with, checked against Debian's keys as apt always does.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use xtask::binaries::run;

/// Package and the program that tells whether it is there.
const TOOLS: &[(&str, &str)] = &[
    ("qemu-system-x86", "qemu-system-x86_64"),
    ("busybox-static", "busybox"),
    ("kmod", "modprobe"),
    ("xz-utils", "xz"),
    ("dpkg", "dpkg-deb"),
];
/// The emulator of this release is too old for a current kernel; its backport is not.
const NEEDS_BACKPORT: &str = "bookworm";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Installs what is missing when run as root; otherwise says what would.
pub fn ensure_tools(cache: &Path) -> Result<()> {
    let missing: Vec<&str> =
        TOOLS.iter().filter(|(_, program)| !is_installed(program)).map(|(package, _)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let release = release()?;
    let suites = if release == NEEDS_BACKPORT { vec![format!("{release}-backports")] } else { Vec::new() };
    if !nix::unistd::geteuid().is_root() {
        let from = suites.first().map_or_else(String::new, |suite| format!(" -t {suite}"));
        bail!("packages are missing; run: sudo apt-get install -y --no-install-recommends{from} {}", missing.join(" "));
    }
    println!("   installing {}", missing.join(" "));
    let suites: Vec<&str> = suites.iter().map(String::as_str).collect();
    let apt = Apt::new(&cache.join("apt-tools"), &suites)?;
    apt.add_the_machines_own()?;
    apt.update()?;
    let mut install = apt.command("apt-get");
    install.args(["install", "-y", "-qq", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=600"]);
    install.args(suites.iter().flat_map(|suite| ["-t", suite])).args(&missing);
    run(install.env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null()))
}

fn is_installed(program: &str) -> bool {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&search).chain(system).any(|directory| directory.join(program).is_file())
}

pub struct Apt {
    home: PathBuf,
}

impl Apt {
    /// Knows `suites` of the machine's mirror and nothing else.
    pub fn new(home: &Path, suites: &[&str]) -> Result<Self> {
        let home = std::path::absolute(home)?;
        let _ = fs::remove_dir_all(&home);
        for directory in ["lists/partial", "sources", "archives/partial"] {
            fs::create_dir_all(home.join(directory))?;
        }
        let Source { uri, key } = mirror(&release()?)?;
        let lines: String = suites.iter().map(|suite| format!("deb [signed-by={key}] {uri} {suite} main\n")).collect();
        fs::write(home.join("sources/lumen.list"), lines)?;
        Ok(Self { home })
    }

    /// Lets it know what the machine's own apt knows too.
    fn add_the_machines_own(&self) -> Result<()> {
        for source in sources() {
            let name = source.file_name().context("a list has a name")?;
            symlink(&source, self.home.join("sources").join(name))?;
        }
        Ok(())
    }

    pub fn update(&self) -> Result<()> {
        run(self.command("apt-get").args(["update", "-qq"]))
    }

    /// `apt-get` or `apt-cache` with these lists.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let settings = [
            ("Dir::Etc::sourcelist", PathBuf::from("/dev/null")),
            ("Dir::Etc::sourceparts", self.home.join("sources")),
            ("Dir::State::lists", self.home.join("lists")),
            ("Dir::Cache", self.home.clone()),
            // Root's downloads are otherwise made by a user who may not be able to reach this directory.
            ("APT::Sandbox::User", PathBuf::from("root")),
        ];
        for (name, value) in settings {
            command.arg("-o").arg(format!("{name}={}", value.display()));
        }
        command
    }
}

impl Drop for Apt {
    fn drop(&mut self) {
        // Lists are large, and soon old.
        let _ = fs::remove_dir_all(&self.home);
    }
}

/// Where the machine gets Debian from.
struct Source {
    uri: String,
    key: String,
}

/// The codename of the machine's Debian.
fn release() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("this is no Debian: /etc/os-release is missing")?;
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim_matches('"'));
    if field("ID=") != Some("debian") {
        bail!("`cargo xtask test-vm` knows Debian only");
    }
    Ok(field("VERSION_CODENAME=").context("/etc/os-release names no release")?.to_owned())
}

/// The machine's lists of sources.
fn sources() -> Vec<PathBuf> {
    let parts = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().filter_map(Result::ok);
    let is_list = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "sources" || ending == "list");
    let mut found: Vec<PathBuf> = parts.map(|entry| entry.path()).filter(is_list).collect();
    found.sort();
    found.extend(Some(PathBuf::from("/etc/apt/sources.list")).filter(|path| path.is_file()));
    found
}

fn mirror(release: &str) -> Result<Source> {
    let texts = sources().into_iter().filter_map(|path| fs::read_to_string(path).ok());
    texts
        .into_iter()
        .find_map(|text| deb822(&text, release).or_else(|| one_line(&text, release)))
        .with_context(|| format!("no source of {release} is set up in /etc/apt"))
}

/// The first stanza that has the release itself, of a file of the newer format.
fn deb822(text: &str, release: &str) -> Option<Source> {
    text.split("\n\n").find_map(|stanza| {
        let field = |name: &str| {
            let line = stanza.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().to_owned())
        };
        field("Suites:")?.split_whitespace().find(|suite| *suite == release)?;
        let uri = field("URIs:")?.split_whitespace().next()?.to_owned();
        // A key may also stand in the file itself; Debian's own are in the keyring all the same.
        let key = field("Signed-By:").filter(|key| key.starts_with('/')).unwrap_or_else(|| KEYRING.to_owned());
        Some(Source { uri, key })
    })
}

/// The same of a file with one source a line: `deb [options] URI suite components`.
fn one_line(text: &str, release: &str) -> Option<Source> {
    text.lines().find_map(|line| {
        let line = line.trim().strip_prefix("deb ")?.trim_start();
        let line = if line.starts_with('[') { line.split_once(']')?.1 } else { line };
        let mut words = line.split_whitespace();
        let uri = words.next()?.to_owned();
        (words.next() == Some(release)).then(|| Source { uri, key: KEYRING.to_owned() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_of_sources_are_read() {
        let new = "Types: deb\n# a comment\nURIs: http://a.test/debian-security\nSuites: one-security\n\n\
                   Types: deb\nURIs: http://b.test/debian\nSuites: one one-updates\nSigned-By: /key.gpg\n";
        let found = deb822(new, "one").unwrap();
        assert_eq!((found.uri.as_str(), found.key.as_str()), ("http://b.test/debian", "/key.gpg"));
        assert!(deb822(new, "two").is_none());
        let old = "# deb http://no.test one main\ndeb-src http://no.test one main\n\
                   deb [arch=amd64 signed-by=/x] http://c.test/debian one main contrib\n";
        let found = one_line(old, "one").unwrap();
        assert_eq!((found.uri.as_str(), found.key.as_str()), ("http://c.test/debian", KEYRING));
        assert!(one_line(old, "two").is_none());
    }
}
