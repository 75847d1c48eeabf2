//! The table as BPF. A filter of the compiler has one answer for what it matches, so three are stacked; of several
//! answers to one call the kernel takes the harshest.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use super::SandboxError;
use super::table::{KILL, Line, Only, TABLE};
use crate::PlaneKind;

/// How many programs a sealed plane has.
pub const FILTERS: usize = 3;

/// The three programs of a plane, in the order in which they are installed: the last one forbids `seccomp` itself.
pub fn programs(kind: PlaneKind, pid: u32) -> Result<[BpfProgram; FILTERS], SandboxError> {
    let kill = KILL.iter().map(|(call, _)| (*call, Vec::new())).collect();
    let fall_back = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    Ok([
        compile(kill, SeccompAction::Allow, SeccompAction::KillProcess)?,
        compile(fall_back, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32))?,
        compile(allowed(kind, pid)?, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow)?,
    ])
}

pub(super) fn compile(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, SandboxError> {
    // The compiler begins each program with a kill for foreign architectures. Calls of the x32 ABI carry a bit in
    // their number, match nothing and get the default answer.
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|_| SandboxError::Architecture)?;
    let filter = SeccompFilter::new(rules, otherwise, matched, arch).map_err(SandboxError::Filter)?;
    BpfProgram::try_from(filter).map_err(SandboxError::Filter)
}

/// A call without rules is allowed whatever its arguments, so a line of [`Only::Any`] empties the list for good.
fn allowed(kind: PlaneKind, pid: u32) -> Result<BTreeMap<i64, Vec<SeccompRule>>, SandboxError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let mut unconditional = Vec::new();
    for line in TABLE.iter().filter(|line| line.planes.has(kind)) {
        let more = rules_of(line, pid)?;
        if more.is_empty() {
            unconditional.push(line.call);
        }
        rules.entry(line.call).or_default().extend(more);
    }
    for call in unconditional {
        rules.insert(call, Vec::new());
    }
    Ok(rules)
}

fn rules_of(line: &Line, pid: u32) -> Result<Vec<SeccompRule>, SandboxError> {
    match line.only {
        Only::Any => Ok(Vec::new()),
        Only::Is(argument, values) => values.iter().map(|value| rule(&[equal(argument, *value)])).collect(),
        Only::Without(argument, bits) => Ok(vec![rule(&[without(argument, bits)])?]),
        Only::WithoutAll(several) => {
            let several: Vec<_> = several.iter().map(|(argument, bits)| without(*argument, *bits)).collect();
            Ok(vec![rule(&several)?])
        }
        Only::OwnProcess(signal) => Ok(vec![rule(&[equal(0, pid), equal(2, signal)])?]),
        Only::Option(options) => {
            options.iter().map(|(level, name)| rule(&[equal(1, *level as u32), equal(2, *name as u32)])).collect()
        }
    }
}

fn without(argument: u8, bits: u32) -> (u8, SeccompCmpOp, u32) {
    (argument, SeccompCmpOp::MaskedEq(bits.into()), 0)
}

pub(super) fn equal(argument: u8, value: u32) -> (u8, SeccompCmpOp, u32) {
    (argument, SeccompCmpOp::Eq, value)
}

pub(super) fn rule(conditions: &[(u8, SeccompCmpOp, u32)]) -> Result<SeccompRule, SandboxError> {
    let conditions = conditions
        .iter()
        .map(|(argument, compare, value)| {
            SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, compare.clone(), (*value).into())
        })
        .collect::<Result<_, _>>()
        .map_err(SandboxError::Filter)?;
    SeccompRule::new(conditions).map_err(SandboxError::Filter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::table::ALL;

    const KINDS: [PlaneKind; 5] =
        [PlaneKind::Capture, PlaneKind::Encode, PlaneKind::Net, PlaneKind::Input, PlaneKind::Audio];

    #[test]
    fn every_profile_compiles_within_the_kernels_limit() {
        for kind in KINDS {
            let total: usize = programs(kind, 1).unwrap().iter().map(Vec::len).sum();
            assert!(total < 4096, "{kind:?}: {total} instructions");
        }
    }

    #[test]
    fn nothing_is_both_allowed_and_deadly() {
        for (call, _) in KILL {
            assert!(TABLE.iter().all(|line| line.call != *call), "call {call}");
        }
    }

    #[test]
    fn no_plane_may_make_a_descriptor_or_reach_a_path() {
        let makers = [
            libc::SYS_socket,
            libc::SYS_socketpair,
            libc::SYS_connect,
            libc::SYS_bind,
            libc::SYS_listen,
            libc::SYS_accept,
            libc::SYS_open,
            libc::SYS_openat,
            libc::SYS_openat2,
            libc::SYS_pidfd_open,
            libc::SYS_userfaultfd,
            libc::SYS_unlinkat,
            libc::SYS_newfstatat,
            libc::SYS_statx,
            libc::SYS_readlinkat,
            libc::SYS_kill,
            libc::SYS_seccomp,
        ];
        for kind in KINDS {
            let rules = allowed(kind, 1).unwrap();
            assert!(makers.iter().all(|call| !rules.contains_key(call)), "{kind:?}");
            // Anonymous memory is all that one plane, for PipeWire's library, can make out of nothing.
            let makes_memory = rules.contains_key(&libc::SYS_memfd_create);
            assert_eq!(makes_memory, kind == PlaneKind::Audio);
            assert_eq!(rules.contains_key(&libc::SYS_eventfd2), makes_memory);
            // Threads of an encoder: clone is allowed with one set of flags, and to one plane.
            let clone = rules.get(&libc::SYS_clone).map(Vec::len);
            assert_eq!(clone, (kind == PlaneKind::Encode).then_some(1));
            // Who connects to a socket that lumend has bound is a descriptor that somebody else made.
            assert_eq!(rules.contains_key(&libc::SYS_accept4), kind == PlaneKind::Net);
        }
    }

    #[test]
    fn a_narrow_line_does_not_widen_a_call() {
        let rules = allowed(PlaneKind::Capture, 1).unwrap();
        assert!(!rules.contains_key(&libc::SYS_ioctl));
        assert!(rules[&libc::SYS_write].is_empty());
        assert!(!rules[&libc::SYS_sendmsg].is_empty());
        assert!(!rules[&libc::SYS_mmap].is_empty());
        assert!(!rules.contains_key(&libc::SYS_epoll_ctl));
        assert!(ALL.has(PlaneKind::Net));
    }
}
