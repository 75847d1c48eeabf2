//! What goes where.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ipc::PlaneKind;

use super::Scope;
use super::disk::Disk;
use super::list::List;
use super::units::{self, Text};
use crate::failure::Failure;

/// Where the machine's programs go, unless a prefix is named.
const PREFIX: &str = "/usr/local";
/// Below a prefix.
const PROGRAMS: &str = "lib/lumen";
/// The program that installs and uninstalls.
pub const LUMEND: &str = "lumend";
/// Not in the state directory, which belongs to a user with fewer rights than who reads this list.
const MACHINES_LIST: &str = "/etc/lumen/installed.json";
const USERS_LIST: &str = "installed.json";

const PLANES: [PlaneKind; 5] =
    [PlaneKind::Capture, PlaneKind::Encode, PlaneKind::Net, PlaneKind::Input, PlaneKind::Audio];

/// What a file is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    Text(String),
    /// A copy of this program.
    Program(PathBuf),
    /// A symbolic link to there.
    Link(PathBuf),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    pub path: PathBuf,
    pub content: Content,
}

/// Whose units a user's are.
#[derive(Clone, Debug)]
pub struct Person {
    pub home: PathBuf,
    /// As XDG_CONFIG_HOME has it.
    pub configuration: PathBuf,
    /// Where their lumend keeps identity and clients.
    pub state: PathBuf,
    /// The machine lets them have namespaces of their own.
    pub namespaces: bool,
}

/// For whom, and where it says what was installed. It needs no programs, which may be half gone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Site {
    pub scope: Scope,
    /// Where the list of what was installed is.
    pub list: PathBuf,
    /// A directory of its owner's alone that has to be there before lumend starts.
    pub private: Option<PathBuf>,
}

impl Site {
    /// `state` is where this user's lumend keeps its state.
    pub fn new(scope: Scope, state: &Path) -> io::Result<Self> {
        Ok(match scope {
            Scope::User => Self::user(&std::path::absolute(state)?),
            scope => Self::machine(scope),
        })
    }

    pub fn user(state: &Path) -> Self {
        Self { scope: Scope::User, list: state.join(USERS_LIST), private: Some(state.to_owned()) }
    }

    pub fn machine(scope: Scope) -> Self {
        Self { scope, list: MACHINES_LIST.into(), private: None }
    }

    /// What an uninstallation leaves, for people.
    pub fn what_stays(&self) -> String {
        match &self.private {
            Some(state) => format!("kept: the host's identity and its clients, in {}", state.display()),
            None => {
                "kept: the users lumen, with the host's identity and clients in /var/lib/lumen, and lumen-desktop, with \
                 what apps have kept in /var/lib/lumen-desktop; the group lumen-pads; what you have put into /etc/lumen"
                    .into()
            }
        }
    }
}

/// Everything that one scope installs.
#[derive(Debug)]
pub struct Layout {
    pub site: Site,
    pub items: Vec<Item>,
    /// Units have the namespaces that they ask for.
    pub namespaces: bool,
}

impl Layout {
    /// Of the programs in `source`.
    pub fn new(site: &Site, source: &Path, prefix: Option<&Path>) -> Result<Self, Failure> {
        let Some(state) = &site.private else { return Self::machine(site.scope, source, prefix) };
        let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = variable("HOME")
            .ok_or_else(|| Failure::new(1, "HOME is not set, so that it is not known whose units these are to be"))?;
        let configuration = variable("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
        let (state, namespaces) = (state.clone(), namespaces());
        Self::user(source, prefix, &Person { home, configuration, state, namespaces })
    }

    /// The programs stay where they are unless there is a prefix for them.
    pub fn user(source: &Path, prefix: Option<&Path>, person: &Person) -> Result<Self, Failure> {
        all_there(source)?;
        let (programs, mut items) = match prefix {
            None => (source.to_owned(), Vec::new()),
            Some(prefix) => programs(source, prefix)?,
        };
        let Person { home, configuration, state, namespaces } = person;
        let units = configuration.join("systemd/user");
        let elsewhere = *state != home.join(".local/state/lumen");
        let named = elsewhere.then(|| in_a_unit(state)).transpose()?;
        items.extend(texts(units::USER, &units, &in_a_unit(&programs)?, named.as_deref()));
        if !namespaces {
            let without = units::DROP_INS.iter().flat_map(|name| plain(units::NO_NAMESPACES, units.join(name)));
            items.extend(without);
        }
        Ok(Self { site: Site::user(state), items, namespaces: *namespaces })
    }

    /// What root installs.
    pub fn machine(scope: Scope, source: &Path, prefix: Option<&Path>) -> Result<Self, Failure> {
        let mut items = Vec::new();
        if scope == Scope::System {
            all_there(source)?;
            let (programs, copies) = programs(source, prefix.unwrap_or(Path::new(PREFIX)))?;
            items = copies;
            items.extend(texts(units::SYSTEM, Path::new("/etc/systemd/system"), &in_a_unit(&programs)?, None));
            items.extend(plain(units::TMPFILES, "/etc/tmpfiles.d"));
        }
        items.extend(devices());
        Ok(Self { site: Site::machine(scope), items, namespaces: true })
    }
}

/// Where the programs in `source` were installed, if it was there: the prefix that says so again.
pub fn installed_prefix(disk: &Disk, list: &List, source: &Path) -> Option<PathBuf> {
    let program = source.join(LUMEND).canonicalize().ok()?;
    let is_it = |path: &&Path| disk.place(path).canonicalize().is_ok_and(|there| there == program);
    let paths = list.paths();
    let found = paths.iter().copied().filter(|path| path.ends_with(Path::new(PROGRAMS).join(LUMEND))).find(is_it)?;
    found.ancestors().nth(PROGRAMS.split('/').count() + 1).map(Path::to_owned)
}

/// Whether more than the right to make gamepads was installed.
pub fn is_whole(list: &List) -> bool {
    let devices: Vec<_> = devices().map(|item| item.path).collect();
    list.paths().into_iter().any(|path| !devices.iter().any(|device| device == path))
}

fn devices() -> impl Iterator<Item = Item> {
    plain(units::UDEV, "/etc/udev/rules.d").chain(plain(units::SYSUSERS, "/etc/sysusers.d"))
}

fn names() -> impl Iterator<Item = &'static str> {
    std::iter::once(LUMEND).chain(PLANES.map(ipc::plane::name))
}

fn all_there(source: &Path) -> Result<(), Failure> {
    match names().map(|name| source.join(name)).find(|program| !program.is_file()) {
        None => Ok(()),
        Some(program) => {
            let what = format!("{} is missing: build all of Lumen, and install from there", program.display());
            Err(Failure::new(1, what))
        }
    }
}

/// The directory that they are to be in, they themselves, and the one command that people say.
fn programs(source: &Path, prefix: &Path) -> Result<(PathBuf, Vec<Item>), Failure> {
    let prefix = std::path::absolute(prefix)?;
    let directory = prefix.join(PROGRAMS);
    let copy = |name| Item { path: directory.join(name), content: Content::Program(source.join(name)) };
    let mut items: Vec<_> = names().map(copy).collect();
    items.push(Item { path: prefix.join("bin/lumend"), content: Content::Link("../lib/lumen/lumend".into()) });
    Ok((directory, items))
}

fn texts(texts: &'static [Text], directory: &Path, programs: &str, state: Option<&str>) -> impl Iterator<Item = Item> {
    texts.iter().map(move |(name, text)| Item {
        path: directory.join(name),
        content: Content::Text(units::render(text, programs, state)),
    })
}

/// As they are in the tree.
fn plain(texts: &'static [Text], directory: impl Into<PathBuf>) -> impl Iterator<Item = Item> {
    let (directory, content) = (directory.into(), |text: &str| Content::Text(text.to_owned()));
    texts.iter().map(move |(name, text)| Item { path: directory.join(name), content: content(text) })
}

/// Whether a user's programs may have what a user's units ask for. Without unshare(1) it is taken for granted.
fn namespaces() -> bool {
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-current-user", "--mount", "true"]).stdin(Stdio::null()).stderr(Stdio::null());
    unshare.status().map_or(true, |status| status.success())
}

/// A path that means itself in a unit. Systemd has quoting, but not the same in every setting; a colon ends the path in
/// settings that mount.
fn in_a_unit(path: &Path) -> Result<String, Failure> {
    let plain = |text: &&str| text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+@,~".contains(c));
    path.to_str().filter(plain).map(str::to_owned).ok_or_else(|| {
        let what = format!("{path:?} has characters in it that units cannot name; use another place, or --prefix DIR");
        Failure::new(2, what)
    })
}
