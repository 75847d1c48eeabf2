use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::layout::Person;
use super::plan::What;
use super::*;

/// A machine's root with nothing in it, and the programs that are installed into it.
struct Machine {
    root: PathBuf,
}

impl Machine {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("lumen-install-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("built")).unwrap();
        for program in ["lumend", "lumen-capture", "lumen-encode", "lumen-net", "lumen-input", "lumen-audio"] {
            fs::write(root.join("built").join(program), program).unwrap();
        }
        Self { root }
    }

    fn layout(&self, scope: Scope) -> Layout {
        let built = self.root.join("built");
        match scope {
            Scope::User => Layout::user(&built, None, &somebody()),
            scope => Layout::machine(scope, &built, None),
        }
        .unwrap()
    }

    fn disk(&self) -> Disk {
        Disk::new(Some(&self.root))
    }

    fn install(&self, scope: Scope) -> Result<Vec<Step>, Failure> {
        let (disk, layout) = (self.disk(), self.layout(scope));
        let old = List::load(&disk, &layout.site.list)?;
        let plan = Plan::install(&disk, &layout, &old)?;
        plan.carry_out(&disk, &layout, &old)?;
        Ok(plan.steps().cloned().collect())
    }

    fn uninstall(&self, scope: Scope) -> Vec<Step> {
        self.try_uninstall(scope).unwrap()
    }

    fn try_uninstall(&self, scope: Scope) -> Result<Vec<Step>, Failure> {
        let site = match scope {
            Scope::User => Site::user(&somebody().state),
            scope => Site::machine(scope),
        };
        let disk = self.disk();
        let list = List::load(&disk, &site.list)?;
        let plan = Plan::uninstall(&disk, &site, &list)?;
        plan.clear(&disk, &site, &list)?;
        Ok(plan.steps().cloned().collect())
    }

    /// Every file and link below the root but what was built, sorted.
    fn files(&self) -> Vec<String> {
        fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.is_symlink() { walk(&path, found) } else { found.push(path) }
            }
        }
        let mut found = Vec::new();
        walk(&self.root, &mut found);
        let mut files: Vec<_> = found
            .iter()
            .map(|path| path.strip_prefix(&self.root).unwrap().to_str().unwrap().to_owned())
            .filter(|path| !path.starts_with("built/"))
            .collect();
        files.sort();
        files
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn somebody() -> Person {
    let home = PathBuf::from("/home/somebody");
    Person { configuration: home.join(".config"), state: home.join(".local/state/lumen"), home, namespaces: true }
}

fn all(steps: &[Step], what: What) -> bool {
    !steps.is_empty() && steps.iter().all(|step| step.what == what)
}

#[test]
fn what_is_installed_is_there_and_is_gone_again() {
    let machine = Machine::new("system");
    assert!(all(&machine.install(Scope::System).unwrap(), What::New));
    let files = machine.files();
    for path in [
        "etc/lumen/installed.json",
        "etc/systemd/system/lumend.service",
        "etc/systemd/system/lumen-encode@.service",
        "etc/udev/rules.d/70-lumen.rules",
        "usr/local/bin/lumend",
        "usr/local/lib/lumen/lumen-net",
    ] {
        assert!(files.contains(&path.to_owned()), "{path} among {files:?}");
    }
    let unit = fs::read_to_string(machine.path("etc/systemd/system/lumen-net@.service")).unwrap();
    assert!(unit.contains("\nExecStart=/usr/local/lib/lumen/lumen-net\n"));
    let mode = |path: &str| fs::metadata(machine.path(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("usr/local/bin/lumend"), mode("etc/systemd/system/lumend.service")), (0o755, 0o644));

    assert!(all(&machine.uninstall(Scope::System), What::Removed));
    assert_eq!(machine.files(), Vec::<String>::new());
    assert!(!machine.path("usr").exists() && !machine.path("etc").exists(), "directories that it has made");
}

#[test]
fn said_twice_nothing_changes_and_an_upgrade_replaces_only_what_differs() {
    let machine = Machine::new("twice");
    machine.install(Scope::System).unwrap();
    let list = fs::read(machine.path("etc/lumen/installed.json")).unwrap();
    assert!(all(&machine.install(Scope::System).unwrap(), What::Same));
    assert_eq!(fs::read(machine.path("etc/lumen/installed.json")).unwrap(), list);

    fs::write(machine.path("built/lumen-net"), "a newer one").unwrap();
    let steps = machine.install(Scope::System).unwrap();
    let replaced: Vec<_> = steps.iter().filter(|step| step.what != What::Same).collect();
    assert!(replaced.len() == 1 && replaced[0].path.ends_with("lib/lumen/lumen-net"), "{replaced:?}");
    assert!(all(&machine.uninstall(Scope::System), What::Removed));
    assert_eq!(machine.files(), Vec::<String>::new());
}

#[test]
fn an_installation_that_was_interrupted_can_be_said_again() {
    let machine = Machine::new("interrupted");
    machine.install(Scope::System).unwrap();
    fs::write(machine.path("built/lumen-net"), "a newer one").unwrap();
    fs::write(machine.path("built/lumen-input"), "a newer one").unwrap();
    let (disk, layout) = (machine.disk(), machine.layout(Scope::System));
    let old = List::load(&disk, &layout.site.list).unwrap();
    let plan = Plan::install(&disk, &layout, &old).unwrap();
    // A directory in the place of the file that is written last of these two.
    let obstacle = machine.path("usr/local/lib/lumen/lumen-input.new");
    fs::create_dir(&obstacle).unwrap();
    assert!(plan.carry_out(&disk, &layout, &old).is_err());
    assert_eq!(fs::read(machine.path("usr/local/lib/lumen/lumen-net")).unwrap(), b"a newer one");
    fs::remove_dir(obstacle).unwrap();
    let steps = machine.install(Scope::System).unwrap();
    let replaced: Vec<_> = steps.iter().filter(|step| step.what == What::Replaced).collect();
    assert!(replaced.len() == 1 && replaced[0].path.ends_with("lib/lumen/lumen-input"), "{replaced:?}");
    assert!(all(&machine.uninstall(Scope::System), What::Removed));
}

#[test]
fn what_somebody_has_changed_is_theirs() {
    let machine = Machine::new("changed");
    machine.install(Scope::User).unwrap();
    let unit = machine.path("home/somebody/.config/systemd/user/lumend.service");
    fs::write(&unit, "mine").unwrap();
    let error = machine.install(Scope::User).unwrap_err().to_string();
    assert!(error.contains("lumend.service was changed") && error.lines().count() == 1, "{error}");
    let steps = machine.uninstall(Scope::User);
    let kept: Vec<_> = steps.iter().filter(|step| step.what == What::Left).collect();
    assert!(kept.len() == 1 && kept[0].to_string().contains("lumend.service"), "{kept:?}");
    assert_eq!(machine.files(), ["home/somebody/.config/systemd/user/lumend.service"]);
    assert_eq!(fs::read_to_string(&unit).unwrap(), "mine");

    let error = machine.install(Scope::User).unwrap_err().to_string();
    assert!(error.contains("not Lumen's") && error.contains("nothing was installed"), "{error}");
    assert_eq!(machine.files().len(), 1);
}

#[test]
fn a_file_that_a_version_no_longer_has_goes() {
    let machine = Machine::new("older");
    let (disk, mut layout) = (machine.disk(), machine.layout(Scope::User));
    let gone = PathBuf::from("/home/somebody/.config/systemd/user/lumen-web.socket");
    layout.items.push(layout::Item { path: gone.clone(), content: layout::Content::Text("[Socket]\n".into()) });
    let none = List::default();
    Plan::install(&disk, &layout, &none).unwrap().carry_out(&disk, &layout, &none).unwrap();
    let steps = machine.install(Scope::User).unwrap();
    assert_eq!(steps.iter().find(|step| step.what != What::Same), Some(&Step { what: What::Removed, path: gone }));
    assert!(machine.files().iter().all(|path| !path.contains("web")));
}

#[test]
fn devices_are_a_part_of_the_machines_installation() {
    let machine = Machine::new("devices");
    assert!(all(&machine.install(Scope::Devices).unwrap(), What::New));
    assert!(machine.files().iter().all(|path| !path.contains("systemd/") && !path.contains("lib/lumen")));
    machine.install(Scope::System).unwrap();
    let files = machine.files();
    assert!(all(&machine.install(Scope::Devices).unwrap(), What::Same));
    let error = machine.try_uninstall(Scope::Devices).unwrap_err().to_string();
    assert!(error.contains("for the machine too") && error.contains("--system"), "{error}");
    assert_eq!(machine.files(), files);
    assert!(all(&machine.uninstall(Scope::System), What::Removed));
    assert_eq!(machine.files(), Vec::<String>::new());
    machine.install(Scope::Devices).unwrap();
    assert!(all(&machine.uninstall(Scope::Devices), What::Removed));
    assert_eq!(machine.files(), Vec::<String>::new());
}

/// `lumend` in a person's path is what was installed, and what the docs say is `lumend install`.
#[test]
fn said_by_the_installed_program_nothing_moves() {
    let machine = Machine::new("again");
    let (built, prefix) = (machine.path("built"), machine.path("home/somebody/.local"));
    // As a person has it: the disk is the real one.
    let person = Person { home: machine.path("home/somebody"), ..somebody() };
    let person = Person { configuration: person.home.join(".config"), state: person.home.join("state"), ..person };
    let (disk, none) = (Disk::new(None), List::default());
    let layout = Layout::user(&built, Some(&prefix), &person).unwrap();
    Plan::install(&disk, &layout, &none).unwrap().carry_out(&disk, &layout, &none).unwrap();
    let (files, old) = (machine.files(), List::load(&disk, &layout.site.list).unwrap());
    assert!(files.contains(&"home/somebody/.local/lib/lumen/lumend".to_owned()));

    // Through the link that is in the path, and with a link on the way there.
    let link = machine.path("way");
    std::os::unix::fs::symlink(machine.path("home"), &link).unwrap();
    for way in [prefix.clone(), link.join("somebody/.local")] {
        let program = way.join("bin/lumend").canonicalize().unwrap();
        let source = program.parent().unwrap();
        assert_eq!(installed_prefix(&disk, &old, source), Some(prefix.clone()));
        let layout = Layout::user(source, installed_prefix(&disk, &old, source).as_deref(), &person).unwrap();
        let plan = Plan::install(&disk, &layout, &old).unwrap();
        assert!(all(&plan.steps().cloned().collect::<Vec<_>>(), What::Same), "{plan:?}");
    }
    fs::remove_file(link).unwrap();
    assert_eq!(installed_prefix(&disk, &old, &built), None, "another build is run where it lies");
    assert_eq!(installed_prefix(&disk, &none, &prefix.join("lib/lumen")), None, "a package's is not ours");
}

#[test]
fn an_uninstallation_that_was_interrupted_can_be_said_again() {
    let machine = Machine::new("half-gone");
    machine.install(Scope::System).unwrap();
    // By the installed program, of which the others go first; and the place of what was built may be no path for a unit.
    let stuck = machine.path("usr/local/lib/lumen/lumen-net");
    let disk = machine.disk();
    let site = Site::machine(Scope::System);
    let list = List::load(&disk, &site.list).unwrap();
    let plan = Plan::uninstall(&disk, &site, &list).unwrap();
    fs::remove_file(&stuck).unwrap();
    fs::create_dir(&stuck).unwrap();
    assert!(plan.clear(&disk, &site, &list).is_err());
    let lumend = machine.path("usr/local/bin/lumend");
    assert!(lumend.exists() && !machine.path("usr/local/lib/lumen/lumen-capture").exists());
    fs::remove_dir(&stuck).unwrap();
    fs::remove_dir_all(machine.path("built")).unwrap();
    assert!(all(&machine.uninstall(Scope::System), What::Removed));
    assert_eq!(machine.files(), Vec::<String>::new());
}

#[test]
fn a_place_that_units_cannot_name_is_refused() {
    let machine = Machine::new("names");
    let built = machine.path("built");
    for (prefix, fine) in [("/opt/a b", false), ("/opt/100%", false), ("/opt/a:/b", false), ("/opt/lumen-1.0", true)] {
        assert_eq!(Layout::machine(Scope::System, &built, Some(Path::new(prefix))).is_ok(), fine, "{prefix}");
    }
    let moved = Person { state: "/data/lumen".into(), ..somebody() };
    let layout = Layout::user(&built, None, &moved).unwrap();
    let lumend = layout.items.iter().find(|item| item.path.ends_with("lumend.service")).unwrap();
    let layout::Content::Text(unit) = &lumend.content else { panic!("a unit is text") };
    assert!(unit.contains("/lumend run --state /data/lumen\n") && unit.contains("ReadWritePaths=-/data/lumen\n"));
    assert!(!layout.items.iter().any(|item| item.path.ends_with("no-namespaces.conf")));
    fs::remove_file(built.join("lumen-audio")).unwrap();
    let error = Layout::user(&built, None, &somebody()).unwrap_err().to_string();
    assert!(error.contains("lumen-audio is missing"), "{error}");
}

#[test]
fn where_users_have_no_namespaces_units_do_without() {
    let machine = Machine::new("namespaces");
    let built = machine.path("built");
    let layout = Layout::user(&built, None, &Person { namespaces: false, ..somebody() }).unwrap();
    let with = Layout::user(&built, None, &somebody()).unwrap();
    let more: Vec<_> = layout.items.iter().filter(|item| !with.items.contains(item)).map(|item| &item.path).collect();
    let units = Path::new("/home/somebody/.config/systemd/user");
    let drop_ins = ["lumen-.service.d", "lumend.service.d"].map(|name| units.join(name).join("no-namespaces.conf"));
    assert_eq!(more, drop_ins.iter().collect::<Vec<_>>());
}
