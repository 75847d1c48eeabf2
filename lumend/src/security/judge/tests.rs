use super::super::proc::Unit;
use super::*;

/// What lumend is on an ordinary machine.
fn walls() -> Walls {
    Walls {
        uids: [1000; 4],
        gids: [1000; 4],
        groups: vec![27, 44],
        effective: 0,
        permitted: 0,
        inheritable: 0,
        ambient: 0,
        bounding: 0x1ff,
        no_new_privs: true,
        seccomp: 2,
        filters: Some(3),
    }
}

fn open(number: u32, handle: Handle) -> Open {
    Open { number, handle, name: format!("{handle}"), port: None, accepts: false }
}

fn bound(number: u32, handle: Handle, port: u16) -> Open {
    Open { port: Some(port), ..open(number, handle) }
}

fn spaces(own: &[&str]) -> BTreeMap<String, u64> {
    let names = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    names.map(|name| (name.to_owned(), if own.contains(&name) { 2 } else { 1 })).into()
}

/// A plane as it should be.
fn reading(kind: PlaneKind) -> Reading {
    let limits = ipc::sandbox::table::limits(kind);
    let limits = [
        ("open files", limits.descriptors),
        ("data size", limits.data),
        ("stack size", STACK),
        ("address space", limits.address_space),
        ("file size", limits.file),
        ("core file size", 0),
    ];
    let mut handles = vec![open(0, Handle::Null), open(1, Handle::Null), open(2, Handle::Pipe)];
    handles.extend([open(3, Handle::Link), open(4, Handle::Link), open(5, Handle::Event)]);
    if kind == PlaneKind::Net {
        handles.extend([bound(6, Handle::Udp, 7000), bound(7, Handle::TcpListener, 8000), open(8, Handle::Tcp)]);
    }
    Reading {
        threads: vec![walls()],
        limits: limits.map(|(name, limit)| (name.to_owned(), (limit, limit))).into(),
        namespaces: Some(spaces(&[])),
        open: Some(handles),
        unit: None,
        dumpable: Some(true),
    }
}

fn promises() -> Promises {
    Promises {
        lumend: Some(Reading {
            threads: vec![Walls { no_new_privs: false, seccomp: 0, ..walls() }],
            ..reading(PlaneKind::Net)
        }),
        users: vec![1000],
        ports: Ports { tcp: vec![8000], udp: vec![7000, 7001] },
        sessions: 1,
        kernel_abi: Some(6),
        reported_abi: Some(6),
    }
}

/// The names of what differs.
fn differences(kind: PlaneKind, reading: &Reading, promises: &Promises) -> Vec<String> {
    let checks = judge(kind, reading, promises);
    checks.into_iter().filter(|check| check.ok == Some(false)).map(|check| check.what).collect()
}

#[test]
fn what_is_as_promised_differs_in_nothing() {
    let kinds = [PlaneKind::Capture, PlaneKind::Encode, PlaneKind::Net, PlaneKind::Input, PlaneKind::Audio];
    for kind in kinds {
        assert_eq!(differences(kind, &reading(kind), &promises()), [""; 0], "{kind}");
        assert!(
            judge(kind, &reading(kind), &promises()).iter().all(|check| check.promised.is_none() || check.ok.is_some())
        );
    }
    // Under a service manager: another user, namespaces, more filters, the journal, the manager's socket.
    let own =
        Walls { uids: [61000; 4], gids: [61000; 4], groups: vec![61000], bounding: 0, filters: Some(15), ..walls() };
    let mut served = Reading {
        threads: vec![own],
        namespaces: Some(spaces(&["ipc", "mnt", "net", "user", "uts"])),
        ..reading(PlaneKind::Audio)
    };
    served.open = Some(vec![
        open(0, Handle::Null),
        open(1, Handle::Stream),
        open(2, Handle::Stream),
        open(3, Handle::Link),
        open(9, Handle::Datagram),
    ]);
    assert_eq!(differences(PlaneKind::Audio, &served, &promises()), [""; 0]);
}

/// Each wall of one thread of two, taken down.
#[test]
fn every_wall_that_is_down_is_found_even_in_one_thread() {
    type Change = fn(&mut Walls);
    let changes: [(&str, Change); 14] = [
        ("uid", |walls| walls.uids = [0; 4]),
        ("uid", |walls| walls.uids[2] = 0),
        ("gid", |walls| walls.gids = [0; 4]),
        ("groups", |walls| walls.groups.push(0)),
        ("groups", |walls| walls.groups.push(15)),
        ("effective capabilities", |walls| walls.effective = 1 << 21),
        ("permitted capabilities", |walls| walls.permitted = 1),
        ("inheritable capabilities", |walls| walls.inheritable = 1),
        ("ambient capabilities", |walls| walls.ambient = 1),
        ("bounding capabilities", |walls| walls.bounding = 0x200),
        ("no_new_privs", |walls| walls.no_new_privs = false),
        ("seccomp", |walls| walls.seccomp = 0),
        ("seccomp", |walls| walls.seccomp = 1),
        ("seccomp", |walls| walls.filters = Some(2)),
    ];
    for (what, change) in changes {
        let mut plane = reading(PlaneKind::Net);
        plane.threads.push(walls());
        change(&mut plane.threads[1]);
        assert_eq!(differences(PlaneKind::Net, &plane, &promises()), [what]);
    }
}

/// The machine's lumend, with the one capability that it has, whose planes these users are.
fn machines(users: &[u32]) -> Promises {
    let unit = |manager: &str| Some(Unit { manager: manager.into(), name: MACHINES.into() });
    let own = Walls { effective: KILL, permitted: KILL, inheritable: KILL, ambient: KILL, bounding: KILL, ..walls() };
    let lumend = Reading { threads: vec![own], unit: unit(""), ..reading(PlaneKind::Net) };
    Promises { lumend: Some(lumend), users: users.to_vec(), ..promises() }
}

#[test]
fn planes_of_the_machines_have_users_of_their_own() {
    let with = |uid: u32, users: &[u32], promises: fn(&[u32]) -> Promises| {
        let own = Walls { uids: [uid; 4], gids: [uid; 4], bounding: 0, ..walls() };
        let namespaces = Some(spaces(&["ipc", "mnt", "net", "user"]));
        let plane = Reading { threads: vec![own], namespaces, ..reading(PlaneKind::Encode) };
        differences(PlaneKind::Encode, &plane, &promises(users))
    };
    assert_eq!(with(61000, &[61000, 61001], machines), [""; 0]);
    assert_eq!(with(61000, &[61000, 61000], machines), ["uid"], "two of one user");
    assert_eq!(with(1000, &[1000, 61001], machines), ["uid"], "lumend's");
    assert_eq!(with(1000, &[1000, 1000], |_| promises()), [""; 0], "a person's have one");
    // Where the user is lumend's the walls around it have to be there all the more.
    assert_eq!(
        differences(PlaneKind::Encode, &reading(PlaneKind::Encode), &machines(&[1000])),
        ["uid", "bounding capabilities", "namespaces"]
    );
}

#[test]
fn lumend_has_what_it_needs_to_end_planes_and_nothing_more() {
    let wrong = |checks: Vec<Check>| -> Vec<String> {
        checks.into_iter().filter(|check| check.ok == Some(false)).map(|check| check.what).collect()
    };
    let served = machines(&[]).lumend.unwrap();
    let spawned = promises().lumend.unwrap();
    for fine in [&served, &spawned] {
        assert_eq!(wrong(host(fine)), [""; 0]);
    }
    let all = ["effective", "permitted", "inheritable", "ambient", "bounding"].map(|set| format!("{set} capabilities"));
    assert_eq!(wrong(host(&Reading { threads: spawned.threads.clone(), ..served.clone() })), all);
    let mut more = served.clone();
    more.threads[0].effective |= 1 << 21;
    assert_eq!(wrong(host(&more)), all[..1]);
    let persons = Some(Unit { manager: "/user.slice/user@1000.service".into(), name: MACHINES.into() });
    assert_eq!(wrong(host(&Reading { unit: persons, ..more.clone() })), [&*all[0], &*all[1], &*all[3]]);
    assert_eq!(wrong(host(&Reading { unit: None, ..more })), [""; 0], "started by hand it has what its session has");

    assert_eq!(wrong(desktop(&spawned, Some(&spawned))), [""; 0], "a person's desktop is that person's");
    assert_eq!(wrong(desktop(&spawned, Some(&served))), ["uid"]);
    let mut apart = spawned.clone();
    apart.threads[0].uids = [998; 4];
    assert_eq!(wrong(desktop(&apart, Some(&served))), [""; 0]);
    assert_eq!(wrong(abandoned(&apart)), ["life"]);
}

#[test]
fn a_limit_that_is_higher_is_found_and_a_lower_one_is_none() {
    for name in ["open files", "data size", "stack size", "core file size"] {
        for change in [(0, u64::MAX), (u64::MAX, u64::MAX)] {
            let mut plane = reading(PlaneKind::Capture);
            plane.limits.insert(name.to_owned(), change);
            assert_eq!(differences(PlaneKind::Capture, &plane, &promises()), [format!("limit on {name}")]);
        }
        let mut plane = reading(PlaneKind::Capture);
        plane.limits.insert(name.to_owned(), (0, 0));
        assert_eq!(differences(PlaneKind::Capture, &plane, &promises()), [""; 0]);
    }
    for name in ["address space", "file size"] {
        let mut plane = reading(PlaneKind::Audio);
        plane.limits.insert(name.to_owned(), (0, u64::MAX));
        assert_eq!(differences(PlaneKind::Audio, &plane, &promises()), [format!("limit on {name}")]);
    }
}

#[test]
fn threads_that_should_not_be_there_are_found() {
    let mut plane = reading(PlaneKind::Capture);
    plane.threads.push(walls());
    assert_eq!(differences(PlaneKind::Capture, &plane, &promises()), ["threads"]);
}

#[test]
fn namespaces_are_lumends_or_a_whole_set() {
    let with = |own: &[&str], uid: u32| {
        let mut plane = reading(PlaneKind::Input);
        plane.namespaces = Some(spaces(own));
        plane.threads[0].uids = [uid; 4];
        differences(PlaneKind::Input, &plane, &promises())
    };
    assert_eq!(with(&["mnt"], 1000), ["namespaces"]);
    assert_eq!(with(&["ipc", "mnt", "user"], 1000), ["namespaces"]);
    assert_eq!(with(&["ipc", "mnt", "net", "user"], 1000), [""; 0]);
    assert_eq!(with(&["uts", "cgroup"], 1000), [""; 0]);
    // One with a user of its own has been started by a service manager, for the machine.
    assert_eq!(with(&[], 61000), ["namespaces"]);
}

/// Each kind, as many as are promised and one more.
#[test]
fn a_descriptor_too_many_is_found_by_its_kind() {
    let kinds = [PlaneKind::Capture, PlaneKind::Encode, PlaneKind::Net, PlaneKind::Input, PlaneKind::Audio];
    for kind in kinds {
        for handle in Handle::ALL {
            let most = profile(kind, 1).most(handle);
            let mut plane = reading(kind);
            plane.open = Some((10..10 + most).map(|number| open(number, handle)).collect());
            assert_eq!(differences(kind, &plane, &promises()), [""; 0], "{kind}: {most} {handle}");
            plane.open.as_mut().unwrap().push(open(9, handle));
            assert_eq!(differences(kind, &plane, &promises()), [handle.name()], "{kind}: {handle}");
        }
    }
}

#[test]
fn standard_streams_lead_nowhere_else() {
    for handle in [Handle::File, Handle::Device, Handle::Udp, Handle::Link, Handle::Memory] {
        let mut plane = reading(PlaneKind::Encode);
        plane.open.as_mut().unwrap()[1].handle = handle;
        assert_eq!(differences(PlaneKind::Encode, &plane, &promises()), ["standard streams"]);
    }
}

#[test]
fn who_listens_where_nobody_has_bound_for_it_is_found() {
    for socket in [
        bound(9, Handle::Udp, 9),
        bound(9, Handle::TcpListener, 7000),
        Open { accepts: true, ..open(2, Handle::Stream) },
    ] {
        let mut plane = reading(PlaneKind::Net);
        plane.open.as_mut().unwrap().retain(|one| one.number != socket.number);
        plane.open.as_mut().unwrap().push(socket.clone());
        assert!(differences(PlaneKind::Net, &plane, &promises()).contains(&LISTENING.to_owned()), "{socket:?}");
    }
    // lumend's ports are for net alone.
    let mut plane = reading(PlaneKind::Encode);
    plane.open.as_mut().unwrap().push(bound(9, Handle::Udp, 7000));
    assert_eq!(differences(PlaneKind::Encode, &plane, &promises()), ["UDP socket", LISTENING]);
}

#[test]
fn less_landlock_than_the_kernel_has_is_found() {
    let with = |kernel_abi, reported_abi| {
        let promises = Promises { kernel_abi, reported_abi, ..promises() };
        judge(PlaneKind::Net, &reading(PlaneKind::Net), &promises)
            .into_iter()
            .find(|check| check.what.starts_with("Landlock"))
    };
    for (kernel, reported, ok) in [
        (Some(6), Some(5), Some(false)),
        (Some(1), Some(0), Some(false)),
        (Some(0), Some(0), Some(true)),
        (Some(6), None, None),
        (None, Some(3), None),
    ] {
        assert_eq!(with(kernel, reported).unwrap().ok, ok, "{kernel:?} {reported:?}");
    }
}

#[test]
fn what_cannot_be_read_is_not_judged_but_listed() {
    let hidden = Reading { namespaces: None, open: None, ..reading(PlaneKind::Audio) };
    let checks = judge(PlaneKind::Audio, &hidden, &promises());
    let unknown: Vec<&str> = checks.iter().filter(|check| check.found.is_none()).map(|check| &*check.what).collect();
    for what in ["namespaces", "standard streams", "local stream socket", "eventfd", LISTENING] {
        assert!(unknown.contains(&what), "{what} in {unknown:?}");
    }
    assert!(checks.iter().all(|check| check.ok != Some(false)));
    // Without lumend to compare with, the rest is judged all the same.
    let alone = Promises { lumend: None, ..promises() };
    assert_eq!(differences(PlaneKind::Audio, &reading(PlaneKind::Audio), &alone), [""; 0]);
    let mut bare = reading(PlaneKind::Audio);
    bare.threads[0].seccomp = 0;
    assert_eq!(differences(PlaneKind::Audio, &bare, &alone), ["seccomp"]);
}
