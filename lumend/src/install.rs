//! `lumend install` and `lumend uninstall`: the units of systemd and what belongs to them, put in place and taken away.
//!
//! Everything that can be wrong is found before the first file is written. A list with checksums says what was
//! installed; a file that is not as the list has it is somebody else's by now, and is neither replaced nor removed.

mod disk;
mod layout;
mod list;
mod manager;
mod plan;
mod units;

use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use crate::failure::Failure;
use disk::Disk;
use layout::{Layout, Site, installed_prefix};
use list::List;
use manager::{Done, Manager};
use plan::{Plan, Step};

/// For whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// The person who says it, with their own systemd.
    User,
    /// The machine: a user of Lumen's own and a user for each plane.
    System,
    /// The machine's users: the right to make gamepads, which needs root once, and nothing else.
    Devices,
}

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// [`Scope::System`] for root and [`Scope::User`] for everybody else, unless it is said.
    pub scope: Option<Scope>,
    /// The programs go into `lib/lumen` below it. None is where this program was installed itself, else /usr/local for the
    /// machine; a person runs them where they lie.
    pub prefix: Option<PathBuf>,
    /// Everything goes below it, as into the tree of a package; no service manager is spoken to.
    pub root: Option<PathBuf>,
    /// Only say what would be done.
    pub dry_run: bool,
}

impl Options {
    fn scope(&self) -> Result<Scope, Failure> {
        let root = geteuid().is_root();
        let scope = self.scope.unwrap_or(if root { Scope::System } else { Scope::User });
        match scope {
            Scope::User if root && self.root.is_none() => {
                Err(Failure::new(2, "as root nothing is installed for a user: say it as that user, or use --system"))
            }
            Scope::System | Scope::Devices if !root && self.root.is_none() && !self.dry_run => {
                Err(Failure::new(1, "this needs root; put sudo before it, or use --user to install for yourself alone"))
            }
            scope => Ok(scope),
        }
    }

    /// Of the programs in `source`. What was installed there stays there unless a prefix says something else: it would be
    /// taken for what an older version has left, and go.
    fn layout(&self, disk: &Disk, site: &Site, old: &List, source: &Path) -> Result<Layout, Failure> {
        let prefix = self.prefix.clone().or_else(|| installed_prefix(disk, old, source));
        Layout::new(site, source, prefix.as_deref())
    }
}

/// Puts everything in place; prints what it has done and what to say next.
pub fn install(options: &Options, state: &Path) -> Result<(), Failure> {
    let site = Site::new(options.scope()?, state)?;
    let disk = Disk::new(options.root.as_deref());
    let old = List::load(&disk, &site.list)?;
    let own = std::env::current_exe()?.canonicalize()?;
    let layout = options.layout(&disk, &site, &old, own.parent().unwrap_or(Path::new("/")))?;
    let plan = Plan::install(&disk, &layout, &old)?;
    for step in plan.steps() {
        println!("{step}");
    }
    if options.dry_run {
        return Ok(());
    }
    plan.carry_out(&disk, &layout, &old)?;
    let manager = Manager::of(site.scope, options.root.is_some());
    if plan.steps().any(Step::changes) {
        manager.take_notice(Done::Installed);
    }
    if !layout.namespaces {
        println!(
            "this machine gives users no namespaces: the planes have those walls alone that they put up themselves"
        );
    }
    println!("{}", manager.next());
    Ok(())
}

/// Takes away what was installed, and nothing else.
pub fn uninstall(options: &Options, state: &Path) -> Result<(), Failure> {
    let site = Site::new(options.scope()?, state)?;
    let disk = Disk::new(options.root.as_deref());
    let list = List::load(&disk, &site.list)?;
    if list.is_empty() {
        println!("nothing is installed: there is no list at {}", disk.place(&site.list).display());
        return Ok(());
    }
    let plan = Plan::uninstall(&disk, &site, &list)?;
    for step in plan.steps() {
        println!("{step}");
    }
    if options.dry_run {
        return Ok(());
    }
    let manager = Manager::of(site.scope, options.root.is_some());
    manager.stop();
    plan.clear(&disk, &site, &list)?;
    manager.take_notice(Done::Removed);
    println!("{}", site.what_stays());
    Ok(())
}

#[cfg(test)]
mod tests;
