//! What is to be done to which file, found out before anything is.

use std::fmt;
use std::path::{Path, PathBuf};

use super::Scope;
use super::disk::{Digest, Disk};
use super::layout::{Item, LUMEND, Layout, Site, is_whole};
use super::list::List;
use crate::failure::Failure;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    New,
    Replaced,
    /// It is there and as it should be.
    Same,
    Removed,
    /// Changed by somebody since it was installed, and not touched.
    Left,
}

/// For people, on a line of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    pub what: What,
    pub path: PathBuf,
}

impl Step {
    pub fn changes(&self) -> bool {
        matches!(self.what, What::New | What::Replaced | What::Removed)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            What::New => "new",
            What::Replaced => "replaced",
            What::Same => "as it was",
            What::Removed => "removed",
            What::Left => "kept, since it was changed",
        };
        write!(f, "{what:9}  {}", self.path.display())
    }
}

#[derive(Debug)]
pub struct Plan {
    steps: Vec<Step>,
    /// What the items of the layout will be.
    digests: Vec<Digest>,
}

impl Plan {
    /// The error names the first file that is in the way.
    pub fn install(disk: &Disk, layout: &Layout, old: &List) -> Result<Self, Failure> {
        let (mut steps, mut digests) = (Vec::new(), Vec::new());
        for item in &layout.items {
            let wanted = Disk::digest_of(item)?;
            let what = match disk.digest(&item.path)? {
                None => What::New,
                Some(there) if there == wanted => What::Same,
                Some(there) if old.has(&item.path, &there) => What::Replaced,
                Some(_) => return Err(in_the_way(disk, item, old)),
            };
            steps.push(Step { what, path: item.path.clone() });
            digests.push(wanted);
        }
        // What another version has installed and this one does not. The machine's devices are only a part of a list.
        let unknown = |path: &&Path| layout.items.iter().all(|item| item.path != **path);
        if layout.site.scope != Scope::Devices {
            for path in old.paths().into_iter().filter(unknown) {
                steps.extend(removal(disk, old, path)?);
            }
        }
        Ok(Self { steps, digests })
    }

    /// Refused for the devices where they are a part of the machine's installation.
    pub fn uninstall(disk: &Disk, site: &Site, list: &List) -> Result<Self, Failure> {
        if site.scope == Scope::Devices && is_whole(list) {
            let what = "lumend is installed for the machine too, and needs these; to remove all of it, say --system";
            return Err(Failure::new(4, what));
        }
        let mut steps = Vec::new();
        for path in list.paths() {
            steps.extend(removal(disk, list, path)?);
        }
        Ok(Self { steps, digests: Vec::new() })
    }

    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter()
    }

    fn removals(&self) -> impl Iterator<Item = &Path> {
        self.steps.iter().filter(|step| step.what == What::Removed).map(|step| step.path.as_path())
    }

    /// Writes what is to be written. The list is written before, with what was and what will be, so that an installation
    /// that is interrupted can be said again.
    pub fn carry_out(&self, disk: &Disk, layout: &Layout, old: &List) -> Result<(), Failure> {
        let mut list = old.clone();
        for (item, digest) in layout.items.iter().zip(&self.digests) {
            list.add(&item.path, digest.clone());
        }
        if let Some(directory) = &layout.site.private {
            disk.make_private(directory)?;
        }
        let paths = layout.items.iter().map(|item| &item.path).chain([&layout.site.list]);
        for path in paths {
            list.add_directories(disk.make_parents(path)?);
        }
        list.save(disk, &layout.site.list)?;
        for (item, step) in layout.items.iter().zip(&self.steps) {
            if step.what != What::Same {
                disk.put(item)?;
            }
        }
        for path in self.removals() {
            disk.remove(path)?;
        }
        let new = |path: &Path| layout.items.iter().position(|item| item.path == path);
        list.retain(|path, digest| match new(path) {
            Some(at) => self.digests[at] == *digest,
            None => self.removals().all(|removed| removed != path),
        });
        list.save(disk, &layout.site.list)
    }

    /// Removes what is to be removed, then the list, then the directories with nothing else in them. What somebody has
    /// changed is theirs now. The program that does this goes after all others, so that whoever is interrupted can say it
    /// again.
    pub fn clear(&self, disk: &Disk, site: &Site, list: &List) -> Result<(), Failure> {
        let is_lumend = |path: &&Path| path.ends_with(LUMEND);
        for path in self.removals().filter(|path| !is_lumend(path)).chain(self.removals().filter(is_lumend)) {
            disk.remove(path)?;
        }
        disk.remove(&site.list)?;
        for directory in list.directories().iter().rev() {
            disk.remove_directory(directory)?;
        }
        Ok(())
    }
}

/// None if it is gone already.
fn removal(disk: &Disk, list: &List, path: &Path) -> Result<Option<Step>, Failure> {
    Ok(disk.digest(path)?.map(|there| {
        let what = if list.has(path, &there) { What::Removed } else { What::Left };
        Step { what, path: path.to_owned() }
    }))
}

fn in_the_way(disk: &Disk, item: &Item, old: &List) -> Failure {
    let place = disk.place(&item.path);
    let whose = if old.paths().contains(&item.path.as_path()) {
        "was changed since it was installed: move it away, and put your settings into a drop-in (systemctl edit)"
    } else {
        "is there and not Lumen's: move it away"
    };
    Failure::new(4, format!("{} {whose}; nothing was installed", place.display()))
}
