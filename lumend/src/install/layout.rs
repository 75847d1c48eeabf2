//! What goes where.

use std::path::{Path, PathBuf};

use ipc::PlaneKind;

use super::Scope;
use super::units::{self, Text};
use crate::failure::Failure;

/// Where the machine's programs go, unless a prefix is named.
const PREFIX: &str = "/usr/local";
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
}

/// Everything that one scope installs.
#[derive(Debug)]
pub struct Layout {
    pub scope: Scope,
    pub items: Vec<Item>,
    /// Where the list of what was installed is.
    pub list: PathBuf,
    /// A directory of its owner's alone that has to be there before lumend starts.
    pub private: Option<PathBuf>,
}

impl Layout {
    /// Of the programs that this one lies among; `state` is where this user's lumend keeps its state.
    pub fn new(scope: Scope, prefix: Option<&Path>, state: &Path) -> Result<Self, Failure> {
        let own = std::env::current_exe()?.canonicalize()?;
        let source = own.parent().unwrap_or(Path::new("/"));
        if scope != Scope::User {
            return Self::machine(scope, source, prefix);
        }
        let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = variable("HOME")
            .ok_or_else(|| Failure::new(1, "HOME is not set, so that it is not known whose units these are to be"))?;
        let configuration = variable("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
        Self::user(source, prefix, &Person { home, configuration, state: std::path::absolute(state)? })
    }

    /// The programs stay where they are unless there is a prefix for them.
    pub fn user(source: &Path, prefix: Option<&Path>, person: &Person) -> Result<Self, Failure> {
        all_there(source)?;
        let (programs, mut items) = match prefix {
            None => (source.to_owned(), Vec::new()),
            Some(prefix) => programs(source, prefix)?,
        };
        let Person { home, configuration, state } = person;
        let elsewhere = *state != home.join(".local/state/lumen");
        let named = elsewhere.then(|| in_a_unit(state)).transpose()?;
        items.extend(texts(units::USER, &configuration.join("systemd/user"), &in_a_unit(&programs)?, named.as_deref()));
        Ok(Self { scope: Scope::User, items, list: state.join(USERS_LIST), private: Some(state.clone()) })
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
        items.extend(plain(units::UDEV, "/etc/udev/rules.d"));
        items.extend(plain(units::SYSUSERS, "/etc/sysusers.d"));
        Ok(Self { scope, items, list: MACHINES_LIST.into(), private: None })
    }

    /// What an uninstallation leaves, for people.
    pub fn what_stays(&self) -> String {
        match &self.private {
            Some(state) => format!("kept: the host's identity and its clients, in {}", state.display()),
            None => {
                "kept: the user lumen, its /var/lib/lumen with the host's identity and clients, and what you have put \
                     into /etc/lumen"
                    .into()
            }
        }
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    std::iter::once("lumend").chain(PLANES.map(ipc::plane::name))
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
    let directory = prefix.join("lib/lumen");
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
fn plain(texts: &'static [Text], directory: &'static str) -> impl Iterator<Item = Item> {
    let content = |text: &str| Content::Text(text.to_owned());
    texts.iter().map(move |(name, text)| Item { path: Path::new(directory).join(name), content: content(text) })
}

/// A path that means itself in a unit. Systemd has quoting, but not the same in every setting.
fn in_a_unit(path: &Path) -> Result<String, Failure> {
    let plain = |text: &&str| text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+@:,~".contains(c));
    path.to_str().filter(plain).map(str::to_owned).ok_or_else(|| {
        let what = format!("{path:?} has characters in it that units cannot name; use another place, or --prefix DIR");
        Failure::new(2, what)
    })
}
