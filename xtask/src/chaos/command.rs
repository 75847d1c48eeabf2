//! `cargo xtask chaos`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{Blow, Manner, Plane, Rig, Scene, Setting, json, markdown, plan, print, run, storm};
use crate::binaries::Profile;
use crate::deps;

/// What every chaos table is made of: the mode that the targets are for.
pub const MODE: &str = "1280x720x60";

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Command<'a> {
    pub profile: Profile,
    /// All, if empty.
    pub planes: Vec<Plane>,
    pub kills: usize,
    pub blow: Blow,
    pub scene: Scene,
    /// Not the table, but a storm.
    pub fast: bool,
    pub seed: u64,
    pub settings: Vec<Setting>,
    pub json: Option<&'a Path>,
    pub markdown: Option<&'a Path>,
}

impl Command<'_> {
    /// Makes the chaos table, or a storm, and writes the files. A missed target is reported, not an error; a session that
    /// is lost, a picture that is wrong, a judge of pictures that is blind and a leak are errors.
    pub fn run(self) -> Result<()> {
        deps::ensure()?;
        eprintln!("building (the first time takes some minutes)");
        let rig = Rig::new(self.profile, MODE, self.settings)?;
        if self.fast {
            let storm = storm(&rig, self.scene, self.kills, self.seed)?;
            println!("{}", storm.line());
            storm.lost.iter().for_each(|why| println!("session lost {why}"));
            write(self.json, &serde_json::to_string_pretty(&storm.json())?)?;
            write(self.markdown, &(storm.line() + ".\n"))?;
            ensure!(storm.is_sound(), "the storm has left something behind, or sessions were lost");
            return Ok(());
        }
        let series = plan(&self.planes, self.scene, self.kills);
        ensure!(!series.is_empty(), "that desktop has none of these planes");
        let rows = run(&rig, &series, Manner { blow: self.blow, seed: self.seed });
        print(&rows);
        write(self.json, &serde_json::to_string_pretty(&json(&rows))?)?;
        write(self.markdown, &markdown(&rows))?;
        let unsound: Vec<String> = rows.iter().filter(|row| !row.is_sound()).filter_map(super::Row::failure).collect();
        ensure!(unsound.is_empty(), "something was lost, wrong or left behind: {}", unsound.join("; "));
        Ok(())
    }
}

fn write(file: Option<&Path>, text: &str) -> Result<()> {
    if let Some(file) = file {
        fs::write(file, text).with_context(|| file.display().to_string())?;
        println!("wrote {}", file.display());
    }
    Ok(())
}
