//! What is killed, on which desktop, what may come of it, and which kills share a host.

use clap::ValueEnum;

use crate::host::Desktop;

/// Who is killed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Victim {
    Capture,
    Encode,
    Audio,
    Input,
    Net,
    /// The sway that lumend's launcher has started.
    Compositor,
    Launcher,
    /// lumend itself; the harness is the supervisor that starts it again.
    Lumend,
}

impl Victim {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Capture => "capture",
            Self::Encode => "encode",
            Self::Audio => "audio",
            Self::Input => "input",
            Self::Net => "net",
            Self::Compositor => "compositor",
            Self::Launcher => "launcher",
            Self::Lumend => "lumend",
        }
    }

    /// A process that `lumend status` lists.
    pub const fn is_plane(self) -> bool {
        !matches!(self, Self::Compositor | Self::Launcher | Self::Lumend)
    }

    /// What runs on the desktop goes with it.
    pub const fn takes_the_desktop(self) -> bool {
        !self.is_plane()
    }

    /// Its loss shows in the picture; else in sound or hands alone.
    pub const fn carries_the_picture(self) -> bool {
        !matches!(self, Self::Audio | Self::Input)
    }

    /// How many presses of keys one death of it may cost; none where nothing is said of hands, as what they are watched on
    /// goes too. An event that is on its way into an input plane may die with it. One that was on its way into a dead net
    /// its client sends again: only motion and scrolling can be lost there, of which there is none here.
    pub const fn presses_lost_most(self) -> Option<usize> {
        match self {
            Self::Input => Some(1),
            Self::Capture | Self::Encode | Self::Audio | Self::Net => Some(0),
            Self::Compositor | Self::Launcher | Self::Lumend => None,
        }
    }

    /// The more of a session goes with it, the later in the session it is killed.
    const fn weight(self) -> u32 {
        match self {
            Self::Compositor | Self::Launcher => 1,
            Self::Lumend => 2,
            _ => 0,
        }
    }
}

/// What the desktop shows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Scene {
    /// An animated window on Lumen's own sway, which logs what hands do.
    Moving,
    /// The same window, drawn once.
    Still,
    /// The synthetic desktop, without a compositor.
    Pattern,
}

impl Scene {
    pub const fn desktop(self) -> Desktop {
        match self {
            Self::Moving | Self::Still => Desktop::Sway,
            Self::Pattern => Desktop::Pattern,
        }
    }

    /// A window is there to see what hands do.
    pub const fn has_hands(self) -> bool {
        !matches!(self, Self::Pattern)
    }
}

/// A row of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Case {
    pub victim: Victim,
    pub scene: Scene,
    /// A second encode process waits for the first one's death.
    pub standby: bool,
}

/// Longest gaps allowed, in milliseconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Target {
    pub p50: f64,
    pub p99: f64,
}

/// One picture at 60 Hz, in milliseconds.
pub const FRAME_MS: f64 = 1000.0 / 60.0;
/// A plane that stops answering is noticed within this time, in milliseconds.
pub const HANG_MS: f64 = 3000.0;

impl Case {
    pub fn name(&self) -> String {
        let mut name = self.victim.name().to_owned();
        name += if self.standby { ", standby" } else { "" };
        name += if self.scene == Scene::Still { ", still" } else { "" };
        name
    }

    /// A window outlives the victim and can tell what it has cost hands.
    pub const fn has_hands(&self) -> bool {
        self.scene.has_hands() && self.victim.presses_lost_most().is_some()
    }

    /// None where all that is asked is that the session comes back.
    pub const fn target(&self) -> Option<Target> {
        let (p50, p99) = match self.victim {
            // Two pictures.
            Victim::Encode if self.standby => (2.0 * FRAME_MS, 2.0 * FRAME_MS),
            Victim::Encode | Victim::Audio => (60.0, 100.0),
            Victim::Capture => (120.0, 250.0),
            Victim::Net => (300.0, 500.0),
            Victim::Lumend => (2000.0, 2000.0),
            // Counted in events, not in time.
            Victim::Input | Victim::Compositor | Victim::Launcher => return None,
        };
        Some(Target { p50, p99 })
    }

    /// Kills that end a session's own planes leave their host as fresh as before: each session has restart records of its
    /// own. The record of net and that of a compositor are the host's.
    const fn kinship(&self) -> Kinship {
        match self.victim {
            Victim::Launcher | Victim::Lumend => Kinship::All,
            Victim::Net | Victim::Compositor => Kinship::Host,
            _ if self.standby => Kinship::Host,
            _ => Kinship::Session,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kinship {
    Session,
    Host,
    All,
}

/// Cases that are killed one after the other in the same session, again and again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Series {
    pub cases: Vec<Case>,
    pub scene: Scene,
    /// Of each victim.
    pub kills: usize,
    /// How often each victim dies in a session, at most.
    pub laps: usize,
    /// A host for each session.
    pub fresh: bool,
}

impl Series {
    /// Sessions, if none is lost.
    pub fn rounds(&self) -> usize {
        self.kills.div_ceil(self.laps)
    }

    pub fn standby(&self) -> bool {
        self.cases.iter().any(|case| case.standby)
    }

    pub fn name(&self) -> String {
        let names: Vec<String> = self.cases.iter().map(Case::name).collect();
        names.join(", ")
    }

    /// Indices of the cases, those that take least with them first.
    pub fn order(&self, shuffled: Vec<usize>) -> Vec<usize> {
        let mut order = shuffled;
        order.sort_by_key(|&index| self.cases[index].victim.weight());
        order
    }
}

/// What `--plane` takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Plane {
    /// Every row of the table
    All,
    Encode,
    /// encode, where a second one waits for its death
    Standby,
    Capture,
    Audio,
    Input,
    Net,
    Compositor,
    Launcher,
    Lumend,
}

/// Where so many others die before it is its turn again, hardly any time is spent on waiting for a victim to have lived
/// for so long that lumend puts another one into its place at once.
const LONG_ENOUGH: usize = 3;
/// One that dies five times in a minute is given up.
const LAPS: usize = 4;
/// All records of deaths are lumend's, and go with it.
const LAPS_OF_ALL: usize = 10;

/// The series that show `planes`; with everything asked for, capture on a still desktop too.
pub fn plan(planes: &[Plane], scene: Scene, kills: usize) -> Vec<Series> {
    let all = planes.is_empty() || planes.contains(&Plane::All);
    let wanted = |plane| all || planes.contains(&plane);
    let case = |victim, standby| Case { victim, scene, standby };
    let mut cases = Vec::new();
    for (plane, case) in [
        (Plane::Encode, case(Victim::Encode, false)),
        (Plane::Capture, case(Victim::Capture, false)),
        (Plane::Audio, case(Victim::Audio, false)),
        (Plane::Input, case(Victim::Input, false)),
        (Plane::Standby, case(Victim::Encode, true)),
        (Plane::Net, case(Victim::Net, false)),
        (Plane::Compositor, case(Victim::Compositor, false)),
        (Plane::Launcher, case(Victim::Launcher, false)),
        (Plane::Lumend, case(Victim::Lumend, false)),
    ] {
        let here =
            scene != Scene::Pattern || !matches!(case.victim, Victim::Compositor | Victim::Launcher | Victim::Input);
        if wanted(plane) && here {
            cases.push(case);
        }
    }
    if all && scene == Scene::Moving {
        cases.push(Case { victim: Victim::Capture, scene: Scene::Still, standby: false });
    }
    let mut series: Vec<(Kinship, Series)> = Vec::new();
    for case in cases {
        let kinship = case.kinship();
        match series.iter_mut().find(|(kin, series)| (*kin, series.scene) == (kinship, case.scene)) {
            Some((_, series)) => series.cases.push(case),
            None => {
                let fresh = kinship != Kinship::Session;
                series.push((kinship, Series { cases: vec![case], scene: case.scene, kills, laps: 1, fresh }));
            }
        }
    }
    for (kinship, series) in &mut series {
        series.laps = match kinship {
            Kinship::All if series.cases.iter().any(|case| case.victim == Victim::Lumend) => LAPS_OF_ALL,
            _ if series.cases.len() >= LONG_ENOUGH => LAPS,
            _ => 1,
        };
    }
    series.into_iter().map(|(_, series)| series).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_four_series() {
        let all = plan(&[], Scene::Moving, 20);
        let names: Vec<String> = all.iter().map(Series::name).collect();
        let expected =
            ["encode, capture, audio, input", "encode, standby, net, compositor", "launcher, lumend", "capture, still"];
        assert_eq!(names, expected);
        assert_eq!(all.iter().map(Series::rounds).collect::<Vec<_>>(), [5, 5, 2, 20]);
        assert_eq!(all.iter().map(|series| series.laps).collect::<Vec<_>>(), [4, 4, 10, 1]);
        assert_eq!(all.iter().map(|series| series.fresh).collect::<Vec<_>>(), [false, true, true, false]);
        assert_eq!(all.iter().map(Series::standby).collect::<Vec<_>>(), [false, true, false, false]);
    }

    #[test]
    fn one_plane_is_one_series() {
        let net = plan(&[Plane::Net], Scene::Pattern, 7);
        assert_eq!((net.len(), net[0].name(), net[0].rounds()), (1, "net".to_owned(), 7));
        let lumend = plan(&[Plane::Lumend], Scene::Moving, 7);
        assert_eq!((lumend[0].kills, lumend[0].rounds()), (7, 1), "it has no record of its own deaths");
        assert_eq!(plan(&[Plane::Compositor], Scene::Pattern, 7), [], "there is none");
        assert_eq!(plan(&[Plane::Capture], Scene::Still, 7)[0].name(), "capture, still");
    }

    #[test]
    fn what_takes_the_most_comes_last() {
        let series = &plan(&[Plane::Compositor, Plane::Net, Plane::Standby], Scene::Moving, 1)[0];
        let order = series.order(vec![2, 1, 0]);
        assert_eq!(order, [1, 0, 2], "{}", series.name());
    }
}
