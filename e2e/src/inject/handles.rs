//! What the descriptors of a running process are, found from outside.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

/// Open descriptors and what the kernel calls them: `socket:[123]`, `anon_inode:[eventfd]`, `/memfd:lumen-frame …`.
pub fn open(pid: i32) -> Result<BTreeMap<u64, String>> {
    let directory = fs::read_dir(format!("/proc/{pid}/fd")).with_context(|| format!("descriptors of {pid}"))?;
    let mut handles = BTreeMap::new();
    for entry in directory {
        let entry = entry?;
        let number = entry.file_name().to_string_lossy().parse()?;
        // It may be closed by now.
        if let Ok(target) = fs::read_link(entry.path()) {
            handles.insert(number, target.to_string_lossy().into_owned());
        }
    }
    Ok(handles)
}

/// The first descriptor whose name begins so.
pub fn named(pid: i32, name: &str) -> Result<u64> {
    let handles = open(pid)?;
    let found = handles.iter().find(|(_, target)| target.starts_with(name));
    found.map(|(number, _)| *number).with_context(|| format!("{pid} has no {name}: {handles:?}"))
}

/// Eventfds by the kernel's own numbers for them, which both sides of a wake-up see alike.
pub fn events(pid: i32) -> Result<BTreeMap<u64, u64>> {
    let mut events = BTreeMap::new();
    for number in open(pid)?.into_iter().filter(|(_, target)| target.contains("[eventfd]")).map(|(number, _)| number) {
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap_or_default();
        if let Some(id) = info.lines().find_map(|line| line.strip_prefix("eventfd-id:")?.trim().parse().ok()) {
            events.insert(id, number);
        }
    }
    Ok(events)
}

/// An eventfd of this process that one of those others has too, by its number here.
pub fn shared_event(pid: i32, others: &[i32]) -> Result<u64> {
    let own = events(pid)?;
    for other in others.iter().filter(|other| **other != pid) {
        let theirs = events(*other)?;
        if let Some((_, number)) = own.iter().find(|(id, _)| theirs.contains_key(id)) {
            return Ok(*number);
        }
    }
    anyhow::bail!("{pid} shares no eventfd with any of {others:?}")
}

/// Flags of an open file, as `fcntl(F_GETFL)` gives them.
pub fn flags(pid: i32, number: u64) -> Result<u32> {
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}"))?;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).context("no flags")?;
    Ok(u32::from_str_radix(flags.trim(), 8)?)
}

/// A socket of this process that the kernel lists in `/proc/net/TABLE` (`udp`, `tcp`, …) with this local port.
pub fn socket(pid: i32, table: &str, port: u16) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/net/{table}"))?;
    let handles = open(pid)?;
    for line in text.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (Some(local), Some(inode)) = (words.get(1), words.get(9)) else { continue };
        let matches = local.rsplit(':').next().and_then(|hex| u16::from_str_radix(hex, 16).ok()) == Some(port);
        let name = format!("socket:[{inode}]");
        if let Some((number, _)) = handles.iter().find(|(_, target)| matches && **target == name) {
            return Ok(*number);
        }
    }
    anyhow::bail!("{pid} has no socket of {table} on port {port}")
}
