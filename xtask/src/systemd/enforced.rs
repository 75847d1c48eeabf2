//! Whether systemd's rules hold in the container at all: some of them are silently left out where it lacks the means, and
//! then a unit's sandbox would seem to be tested and not be.

use anyhow::{Context, Result, ensure};

use super::machine::{Groups, Machine};

/// A thing that is possible without a rule, and not with it.
struct Probe {
    name: &'static str,
    rule: &'static str,
    /// Ends with success if it could be done.
    script: &'static str,
    needs_controllers: bool,
}

const PROBES: &[Probe] = &[
    Probe {
        name: "devices",
        rule: "DevicePolicy=closed",
        // Another name for /dev/kmsg. A reader with a byte's room is told that this is too little: it could be opened.
        script: "head --bytes=1 /run/probe-device 2>&1 >/dev/null | grep --quiet 'Invalid argument'",
        needs_controllers: false,
    },
    Probe {
        name: "addresses",
        rule: "IPAddressDeny=any",
        script: "exec bash -c 'echo > /dev/udp/127.0.0.1/9'",
        needs_controllers: false,
    },
    Probe {
        name: "memory",
        rule: "MemoryMax=16M\nMemorySwapMax=0",
        script: "head --bytes=64M /dev/zero | tail --bytes=64M | wc --bytes | grep --quiet --line-regexp 67108864",
        needs_controllers: true,
    },
    Probe {
        name: "processes",
        rule: "TasksMax=3",
        script: "sleep 0 & sleep 0 & sleep 0 & sleep 0 & wait",
        needs_controllers: true,
    },
];

pub fn check(machine: &Machine, groups: Groups) -> Result<()> {
    machine.must(&["mknod", "/run/probe-device", "c", "1", "11"])?;
    for probe in PROBES {
        for (suffix, rule) in [("free", ""), ("bound", probe.rule)] {
            let script = format!("/run/probe-{}.sh", probe.name);
            machine.write(&script, probe.script)?;
            let unit = format!("[Service]\nType=oneshot\nExecStart=/bin/sh {script}\n{rule}\n");
            machine.write(&format!("/run/systemd/system/probe-{}-{suffix}.service", probe.name), &unit)?;
        }
    }
    machine.must(&["systemctl", "daemon-reload"])?;
    let controllers = groups.has_controllers();
    let mut held = Vec::new();
    for probe in PROBES.iter().filter(|probe| controllers || !probe.needs_controllers) {
        let unit = |suffix| format!("probe-{}-{suffix}.service", probe.name);
        machine.must(&["systemctl", "start", &unit("free")]).context("what no rule forbids cannot be done here")?;
        let bound = machine.run(&["systemctl", "start", &unit("bound")])?;
        ensure!(!bound.status.success(), "{} is not enforced here", probe.rule.replace('\n', " "));
        held.push(probe.name);
    }
    println!("   rules hold about {}", held.join(", "));
    Ok(())
}
