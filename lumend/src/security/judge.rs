//! Whether a plane is what its profile promises: a pure function of what was read.

use std::collections::BTreeMap;
use std::fmt::Display;

use ipc::PlaneKind;
use ipc::sandbox::profile::{Handle, Profile, profile};
use ipc::sandbox::table::STACK;

use super::proc::{Open, Reading, Walls};

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    pub what: String,
    /// None: anything will do.
    pub promised: Option<String>,
    /// None: this user may not know.
    pub found: Option<String>,
    /// None: it cannot be told.
    pub ok: Option<bool>,
}

/// Ports that lumend has bound, for net.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Ports {
    pub tcp: Vec<u16>,
    pub udp: Vec<u16>,
}

/// What a promise depends on, beside the kind of plane.
#[derive(Clone, Debug)]
pub struct Promises {
    /// None if it could not be read.
    pub lumend: Option<Reading>,
    /// The users of all planes, each as often as it has one.
    pub users: Vec<u32>,
    pub ports: Ports,
    pub sessions: u32,
    /// What Landlock offers here, 0 for none; None if that cannot be told.
    pub kernel_abi: Option<u32>,
    /// What the plane has told lumend that it got.
    pub reported_abi: Option<u32>,
}

/// The unit of a lumend that is the machine's: there each plane has a user of its own.
const MACHINES: &str = "lumend.service";
/// The capability to end those, as a set: the one that the machine's lumend has.
const KILL: u64 = 1 << 5;

/// Names of limits as the kernel has them.
const FILES: &str = "open files";
/// Namespaces that a plane has to itself where its service manager gives it any.
const OWN: [&str; 4] = ["ipc", "mnt", "net", "user"];

/// Everything about a plane, beside what it should be.
pub fn judge(kind: PlaneKind, reading: &Reading, promises: &Promises) -> Vec<Check> {
    let profile = profile(kind, promises.sessions);
    let mut checks = walls(reading, promises, &profile);
    checks.push(landlock(promises));
    checks.push(namespaces(reading, promises));
    checks.push(
        Check { promised: Some(format!("at most {}", profile.threads)), ..threads(reading) }
            .is(reading.threads.len() as u64 <= u64::from(profile.threads)),
    );
    checks.extend(limits(reading, &profile));
    checks.push(dumpable(reading));
    checks.extend(descriptors(reading, &profile));
    checks.push(listening(reading, promises, &profile));
    checks
}

/// Everything about lumend, which promises less.
pub fn host(reading: &Reading) -> Vec<Check> {
    let machines = is_the_machines(reading);
    // By hand it has what the session gives it, which may be something for alarm clocks.
    if reading.unit.as_ref().is_none_or(|unit| unit.name != MACHINES) {
        return describe(reading);
    }
    let kept = if machines { KILL } else { 0 };
    let all = |fits: &dyn Fn(&Walls) -> bool| reading.threads.iter().all(fits);
    let mut checks = describe(reading);
    for check in &mut checks {
        let promise = |ok| Check { promised: Some(set(kept)), ..check.clone() }.is(ok);
        *check = match &*check.what {
            // Without the one that it should have it is as wrong as with more.
            "effective capabilities" => promise(all(&|walls| walls.effective == kept)),
            "permitted capabilities" => promise(all(&|walls| walls.permitted == kept)),
            "ambient capabilities" => promise(all(&|walls| walls.ambient == kept)),
            "inheritable capabilities" if machines => promise(all(&|walls| walls.inheritable == kept)),
            "bounding capabilities" if machines => promise(all(&|walls| walls.bounding == kept)),
            _ => continue,
        };
    }
    checks
}

/// A launcher, and what it has started: of the machine's lumend they are another user's than the keys are.
pub fn desktop(reading: &Reading, lumend: Option<&Reading>) -> Vec<Check> {
    let mut checks = describe(reading);
    let Some(lumend) = lumend.filter(|lumend| is_the_machines(lumend)) else { return checks };
    let theirs = lumend.threads.first().map_or(0, |walls| walls.uids[0]);
    let ok = reading.threads.iter().all(|walls| walls.uids.iter().all(|uid| ![0, theirs].contains(uid)));
    for check in checks.iter_mut().filter(|check| check.what == "uid") {
        *check = Check { promised: Some(format!("not 0, not lumend's {theirs}")), ..check.clone() }.is(ok);
    }
    checks
}

/// A plane that lumend has given up: its end was promised.
pub fn abandoned(reading: &Reading) -> Vec<Check> {
    let mut checks = describe(reading);
    checks.insert(0, Check::new("life", "ended", "given up by lumend, and lives on", false));
    checks
}

fn is_the_machines(lumend: &Reading) -> bool {
    lumend.unit.as_ref().is_some_and(|unit| unit.manager.is_empty() && unit.name == MACHINES)
}

/// Everything about a process that promises nothing.
pub fn describe(reading: &Reading) -> Vec<Check> {
    let told = |what: &str, found: String| Check { what: what.into(), promised: None, found: Some(found), ok: None };
    let mut checks: Vec<Check> = WALLS.iter().map(|(what, show)| told(what, distinct(reading, show))).collect();
    let spaces = reading.namespaces.as_ref().map(|all| all.iter().map(|(name, id)| format!("{name} {id}")));
    checks.push(Check { found: spaces.map(joined), ..told("namespaces", String::new()) });
    checks.push(threads(reading));
    checks.push(dumpable(reading));
    let open = reading.open.as_deref();
    let kinds = |open: &[Open]| {
        let counted = Handle::ALL.iter().map(|kind| (kind, open.iter().filter(|one| one.handle == *kind).count()));
        joined(counted.filter(|(_, count)| *count > 0).map(|(kind, count)| format!("{count} {kind}")))
    };
    checks.push(Check { found: open.map(kinds), ..told("descriptors", String::new()) });
    checks.push(Check {
        found: open.map(|open| joined(reached(open).map(|(_, text)| text))),
        ..told(LISTENING, String::new())
    });
    checks
}

impl Check {
    fn new(what: impl Into<String>, promised: impl Into<String>, found: impl Into<String>, ok: bool) -> Self {
        Self { what: what.into(), promised: Some(promised.into()), found: Some(found.into()), ok: Some(ok) }
    }

    /// The promise of something that this user may not read.
    fn hidden(what: &str, promised: impl Into<String>) -> Self {
        Self { what: what.into(), promised: Some(promised.into()), found: None, ok: None }
    }

    fn is(self, ok: bool) -> Self {
        Self { ok: Some(ok), ..self }
    }
}

const LISTENING: &str = "listening sockets";

type Show = fn(&Walls) -> String;
/// What threads have of their own, and how it is shown.
const WALLS: [(&str, Show); 10] = [
    ("uid", |walls| ids(walls.uids)),
    ("gid", |walls| ids(walls.gids)),
    ("groups", |walls| joined(&walls.groups)),
    ("effective capabilities", |walls| set(walls.effective)),
    ("permitted capabilities", |walls| set(walls.permitted)),
    ("inheritable capabilities", |walls| set(walls.inheritable)),
    ("ambient capabilities", |walls| set(walls.ambient)),
    ("bounding capabilities", |walls| set(walls.bounding)),
    ("no_new_privs", |walls| if walls.no_new_privs { "set" } else { "not set" }.into()),
    ("seccomp", |walls| {
        let mode = match walls.seccomp {
            0 => "none",
            1 => "strict",
            _ => "filter",
        };
        walls.filters.map_or_else(|| mode.into(), |filters| format!("{mode}, {filters} filters"))
    }),
];

fn walls(reading: &Reading, promises: &Promises, profile: &Profile) -> Vec<Check> {
    let lumend = promises.lumend.as_ref().and_then(|reading| reading.threads.first());
    let all = |fits: &dyn Fn(&Walls) -> bool| reading.threads.iter().all(fits);
    let one = |ids: &[u32; 4]| ids[0] != 0 && ids.iter().all(|id| *id == ids[0]);
    let machines = promises.lumend.as_ref().is_some_and(is_the_machines);
    let alone = |walls: &Walls| {
        let uid = walls.uids[0];
        lumend.is_some_and(|lumend| !lumend.uids.contains(&uid))
            && promises.users.iter().filter(|one| **one == uid).count() <= 1
    };
    let check = |what: &str, promised: String, ok: Option<bool>| {
        let show = WALLS.iter().find(|(name, _)| *name == what).map(|(_, show)| distinct(reading, show));
        Check { what: what.into(), promised: Some(promised), found: show, ok }
    };
    let same = |ids: fn(&Walls) -> &[u32; 4]| {
        lumend.map_or_else(|| "not 0".into(), |lumend| format!("not 0 (lumend: {})", ids(lumend)[0]))
    };
    let none = || "none".to_owned();
    vec![
        match lumend.filter(|_| machines) {
            None => check("uid", same(|walls| &walls.uids), Some(all(&|walls| one(&walls.uids)))),
            Some(lumend) => {
                let promised = format!("its own alone (lumend: {})", lumend.uids[0]);
                check("uid", promised, Some(all(&|walls| one(&walls.uids) && alone(walls))))
            }
        },
        check("gid", same(|walls| &walls.gids), Some(all(&|walls| one(&walls.gids)))),
        check(
            "groups",
            lumend.map_or_else(
                || "at most lumend's".into(),
                |lumend| format!("at most lumend's: {}", joined(&lumend.groups)),
            ),
            lumend.map(|lumend| {
                // A service manager puts a user of its own into that user's group.
                all(&|walls| {
                    walls.groups.iter().all(|id| lumend.groups.contains(id) || *id == walls.gids[0] && *id != 0)
                })
            }),
        ),
        check("effective capabilities", none(), Some(all(&|walls| walls.effective == 0))),
        check("permitted capabilities", none(), Some(all(&|walls| walls.permitted == 0))),
        check("inheritable capabilities", none(), Some(all(&|walls| walls.inheritable == 0))),
        check("ambient capabilities", none(), Some(all(&|walls| walls.ambient == 0))),
        // Only who has a privilege can take from this set; without any it means nothing.
        check(
            "bounding capabilities",
            lumend.map_or_else(
                || "at most lumend's".into(),
                |lumend| format!("at most lumend's: {}", set(lumend.bounding)),
            ),
            lumend.map(|lumend| all(&|walls| walls.bounding & !lumend.bounding == 0)),
        ),
        check("no_new_privs", "set".into(), Some(all(&|walls| walls.no_new_privs))),
        check(
            "seccomp",
            format!("filter, at least {} filters", profile.filters),
            Some(all(&|walls| {
                walls.seccomp == 2 && walls.filters.is_none_or(|filters| filters as usize >= profile.filters)
            })),
        ),
    ]
}

fn landlock(promises: &Promises) -> Check {
    let (here, reported) = (promises.kernel_abi, promises.reported_abi);
    Check {
        what: "Landlock ABI (as reported)".into(),
        promised: Some(here.map_or_else(|| "this kernel's".into(), |abi| format!("{abi}, this kernel's"))),
        found: reported.map(|abi| abi.to_string()),
        ok: here.zip(reported).map(|(here, reported)| reported >= here),
    }
}

fn namespaces(reading: &Reading, promises: &Promises) -> Check {
    const WHAT: &str = "namespaces";
    let lumend = promises.lumend.as_ref();
    let uid = |reading: &Reading| reading.threads.first().map(|walls| walls.uids[0]);
    let alone = lumend.is_some_and(|lumend| uid(lumend) != uid(reading) || is_the_machines(lumend));
    let own_all = format!("its own {}", OWN.join(" "));
    let promised = if alone { own_all } else { format!("lumend's, or {own_all}") };
    let Some((ours, theirs)) = reading.namespaces.as_ref().zip(lumend.and_then(|lumend| lumend.namespaces.as_ref()))
    else {
        return Check::hidden(WHAT, promised);
    };
    let own: Vec<&str> =
        ours.iter().filter(|(name, id)| theirs.get(*name) != Some(id)).map(|(name, _)| &**name).collect();
    let found = if own.is_empty() { "lumend's".into() } else { format!("its own {}", own.join(" ")) };
    let whole = OWN.iter().all(|name| own.contains(name));
    let none = OWN.iter().all(|name| !own.contains(name));
    Check::new(WHAT, promised, found, whole || none && !alone)
}

fn threads(reading: &Reading) -> Check {
    Check { what: "threads".into(), promised: None, found: Some(reading.threads.len().to_string()), ok: None }
}

fn limits(reading: &Reading, profile: &Profile) -> Vec<Check> {
    let limits = profile.limits;
    let wanted = [
        (FILES, limits.descriptors),
        ("data size", limits.data),
        ("stack size", STACK),
        ("address space", limits.address_space),
        ("file size", limits.file),
        ("core file size", 0),
    ];
    let check = |(name, most): (&str, u64)| {
        let what = format!("limit on {name}");
        let promised = if most == u64::MAX { "any".into() } else { format!("at most {most}") };
        match reading.limits.get(name) {
            Some((soft, hard)) => Check::new(what, promised, amount(*hard), *soft <= most && *hard <= most),
            None => Check::hidden(&what, promised),
        }
    };
    wanted.into_iter().map(check).collect()
}

fn dumpable(reading: &Reading) -> Check {
    let found = match reading.dumpable {
        Some(true) => "yes",
        Some(false) => "no",
        None => "cannot be told",
    };
    Check { what: "dumpable".into(), promised: None, found: Some(found.into()), ok: None }
}

/// Standard streams, then every kind that is promised or found.
fn descriptors(reading: &Reading, profile: &Profile) -> Vec<Check> {
    const STANDARD: &str = "standard streams";
    const PROMISED: &str = "/dev/null, pipes, the journal";
    let most = |handle| match profile.most(handle) {
        0 => "none".to_owned(),
        most => format!("at most {most}"),
    };
    let promised = |handle: &&Handle| profile.most(**handle) > 0;
    let Some(open) = &reading.open else {
        let kinds = Handle::ALL.iter().filter(promised).map(|handle| Check::hidden(handle.name(), most(*handle)));
        return std::iter::once(Check::hidden(STANDARD, PROMISED)).chain(kinds).collect();
    };
    let (standard, other): (Vec<&Open>, Vec<&Open>) = open.iter().partition(|one| one.number <= 2);
    let streams = joined(
        standard.iter().map(|one| if one.handle.is_standard() { one.handle.to_string() } else { one.name.clone() }),
    );
    let ok = standard.iter().all(|one| one.handle.is_standard() && !one.accepts);
    let mut checks = vec![Check::new(STANDARD, PROMISED, streams, ok)];
    let mut by_kind: BTreeMap<Handle, Vec<&Open>> = BTreeMap::new();
    for one in other {
        by_kind.entry(one.handle).or_default().push(one);
    }
    for handle in Handle::ALL.iter().filter(|handle| promised(handle) || by_kind.contains_key(handle)) {
        let those = by_kind.get(handle).map_or(&[][..], Vec::as_slice);
        let ok = those.len() as u64 <= u64::from(profile.most(*handle));
        let count = those.len().to_string();
        // What nobody has promised is named.
        let found = if ok { count } else { format!("{count}: {}", named(those)) };
        checks.push(Check::new(handle.name(), most(*handle), found, ok));
    }
    checks
}

/// Numbers and names, as many as a line bears.
fn named(open: &[&Open]) -> String {
    const MOST: usize = 16;
    let more = if open.len() > MOST { ", and more" } else { "" };
    format!("{}{more}", joined(open.iter().take(MOST).map(|one| format!("{} {}", one.number, one.name))))
}

/// Where a process is reached from outside itself: the handle, and the same for people.
fn reached(open: &[Open]) -> impl Iterator<Item = (&Open, String)> {
    open.iter().filter_map(|one| match (one.handle, one.port) {
        (Handle::TcpListener, Some(port)) => Some((one, format!("TCP {port}"))),
        (Handle::Udp, Some(port)) => Some((one, format!("UDP {port}"))),
        _ if one.accepts => Some((one, format!("local {}", one.name))),
        _ => None,
    })
}

fn listening(reading: &Reading, promises: &Promises, profile: &Profile) -> Check {
    let Ports { tcp, udp } = &promises.ports;
    let promised = match profile.listens {
        true if tcp.is_empty() => format!("UDP {}", joined(udp)),
        true => format!("TCP {}; UDP {}", joined(tcp), joined(udp)),
        false => "none".into(),
    };
    let Some(open) = &reading.open else { return Check::hidden(LISTENING, promised) };
    let fits = |one: &Open| match (one.handle, one.port) {
        (Handle::TcpListener, Some(port)) => profile.listens && tcp.contains(&port),
        (Handle::Udp, Some(port)) => profile.listens && udp.contains(&port),
        _ => false,
    };
    let ok = reached(open).all(|(one, _)| fits(one));
    let mut texts: Vec<String> = reached(open).map(|(_, text)| text).collect();
    texts.sort();
    texts.dedup();
    Check::new(LISTENING, promised, joined(texts), ok)
}

/// One value if all threads have it, else each.
fn distinct(reading: &Reading, show: &Show) -> String {
    let mut values: Vec<String> = reading.threads.iter().map(show).collect();
    values.sort();
    values.dedup();
    values.join(" / ")
}

fn ids(ids: [u32; 4]) -> String {
    if ids.iter().all(|id| *id == ids[0]) { ids[0].to_string() } else { joined(ids) }
}

fn joined<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() { "none".into() } else { items.join(", ") }
}

/// A set of them.
fn set(capabilities: u64) -> String {
    match capabilities {
        0 => "none".into(),
        KILL => "CAP_KILL".into(),
        set => format!("{set:#x}"),
    }
}

fn amount(limit: u64) -> String {
    if limit == u64::MAX { "unlimited".into() } else { limit.to_string() }
}

#[cfg(test)]
mod tests;
