//! What a client saw, heard and did, by the clock that everything on a machine has in common, and the holes in it.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::case::{FRAME_MS, Scene};
use super::hands::{EVERY_MS, Press};

/// From one packet of sound to the next, in milliseconds.
const PACKET_MS: f64 = 5.0;
/// Peak of a packet in which the tone is heard, which is played at half of full scale.
const HEARD: f64 = 0.1;

/// No desktop whose launcher or lumend is dead draws for longer.
const MOMENTS_NS: u64 = 500_000_000;

/// A picture that was decoded, and so shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Picture {
    /// Its line in the client's trace, from 0.
    pub line: usize,
    pub generation: u64,
    pub decoded_ns: u64,
    /// The host has sent the picture before once more.
    pub repeat: bool,
    /// What its pixels say, if they can be read.
    pub stamp: Option<Stamp>,
}

/// What a window has written into a picture: its number, from 0, and when it was drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    pub number: u64,
    pub drawn_ns: u64,
}

impl Picture {
    /// It shows nothing that this earlier one has not shown.
    fn is_old_beside(&self, earlier: &Self) -> bool {
        let drawn = |picture: &Self| picture.stamp.map(|stamp| stamp.drawn_ns);
        self.repeat || drawn(self).is_some_and(|now| drawn(earlier).is_some_and(|before| now <= before))
    }
}

/// What reached one client. Times are nanoseconds of CLOCK_MONOTONIC.
#[derive(Clone, Default, Debug)]
pub struct Senses {
    pub pictures: Vec<Picture>,
    /// When packets with the tone in them were decoded.
    pub sounds: Vec<u64>,
    /// What the window on the desktop saw of the client's keys.
    pub presses: Vec<Press>,
}

/// A stretch of time from a kill to the next one, or to the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stretch {
    pub from_ns: u64,
    pub to_ns: u64,
}

/// What was missed after one kill, in milliseconds beyond what passes regularly; none where nothing came any more.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct Gaps {
    /// Until there was a picture again.
    pub picture_ms: Option<f64>,
    /// Until there was one again that shows something new; none on a desktop that shows nothing new.
    pub fresh_ms: Option<f64>,
    pub sound_ms: Option<f64>,
    pub hands_ms: Option<f64>,
}

impl Senses {
    /// Reads what a client left: its `--trace` and `--audio-trace`.
    ///
    /// # Errors
    /// A file cannot be read, or has a line that is none.
    pub fn read(trace: &Path, sound: &Path, presses: Vec<Press>) -> Result<Self> {
        let pictures = lines(trace)?.iter().enumerate().filter_map(|(line, value)| picture(line, value)).collect();
        let heard = |line: &Value| {
            let loudest = line["peak"].as_array()?.iter().filter_map(Value::as_f64).fold(0.0, f64::max);
            (loudest >= HEARD).then(|| line["decoded_ns"].as_u64())?
        };
        let sounds = lines(sound)?.iter().filter_map(heard).collect();
        Ok(Self { pictures, sounds, presses })
    }

    /// The gaps that a kill at the beginning of the stretch has made.
    pub fn gaps(&self, stretch: Stretch, scene: Scene) -> Gaps {
        let presses: Vec<u64> = self.presses.iter().map(|press| press.ns).collect();
        Gaps {
            picture_ms: self.picture_gap(stretch, scene),
            fresh_ms: self.fresh_gap(stretch, scene),
            sound_ms: longest(&self.sounds, stretch).map(|ms| (ms - PACKET_MS).max(0.0)),
            hands_ms: longest(&presses, stretch).map(|ms| (ms - EVERY_MS).max(0.0)),
        }
    }

    /// Where the kill began a new generation: from the last picture before that to its first. Else the longest time
    /// between two pictures.
    ///
    /// A still desktop sends a picture so rarely that a dead plane's heir is usually there before the next one is due:
    /// there it is the time from the kill to the heir's first picture, which is never less than the gap.
    fn picture_gap(&self, stretch: Stretch, scene: Scene) -> Option<f64> {
        let pairs = self.pictures.windows(2).map(|pair| (pair[0], pair[1]));
        let mut within = pairs.filter(|(_, after)| (stretch.from_ns..stretch.to_ns).contains(&after.decoded_ns));
        match within.clone().find(|(before, after)| before.generation != after.generation) {
            Some((_, after)) if scene == Scene::Still => Some(ms(after.decoded_ns - stretch.from_ns)),
            Some((before, after)) => Some((ms(after.decoded_ns - before.decoded_ns) - FRAME_MS).max(0.0)),
            None if scene == Scene::Still => within.next().map(|_| 0.0),
            None => self.fresh_gap(stretch, scene),
        }
    }

    /// The longest time between two pictures of which the second shows something new.
    fn fresh_gap(&self, stretch: Stretch, scene: Scene) -> Option<f64> {
        let mut shown: Vec<Picture> = Vec::new();
        for picture in &self.pictures {
            if shown.last().is_none_or(|last| !picture.is_old_beside(last)) {
                shown.push(*picture);
            }
        }
        let times: Vec<u64> = shown.iter().map(|picture| picture.decoded_ns).collect();
        let gap = longest(&times, stretch).map(|ms| (ms - FRAME_MS).max(0.0));
        gap.filter(|_| scene != Scene::Still)
    }

    /// Lines of pictures that nobody can say what they should show of, though the desktop had been seen: after the first
    /// readable one, and where the desktop itself died, after the first readable one of its heir.
    pub fn unreadable(&self, desktop_deaths_ns: &[u64]) -> Vec<usize> {
        let mut known = false;
        let mut gone: Option<Gone> = None;
        let mut last: Option<(u64, u64)> = None;
        let mut found = Vec::new();
        for picture in &self.pictures {
            let since = last.map_or(0, |(decoded_ns, _)| decoded_ns)..picture.decoded_ns;
            if let Some(&died_ns) = desktop_deaths_ns.iter().rfind(|at| since.contains(at)) {
                (known, gone) = (false, last.map(|(_, number)| Gone { number, died_ns }));
            }
            known |= picture.stamp.is_some_and(|stamp| gone.is_none_or(|gone| gone.is_outlived_by(stamp)));
            if known && picture.stamp.is_none() {
                found.push(picture.line);
            }
            let number = picture.stamp.map(|stamp| stamp.number).or(last.map(|(_, number)| number));
            last = Some((picture.decoded_ns, number.unwrap_or(0)));
        }
        found
    }
}

/// A desktop that has died.
#[derive(Clone, Copy)]
struct Gone {
    /// Of the last picture seen of it.
    number: u64,
    died_ns: u64,
}

impl Gone {
    /// What was on its way when the desktop died, or is shown once more, is still a picture of the dead one, which may even
    /// have drawn for some moments after the blow. The heir's window counts from 0.
    const fn is_outlived_by(self, stamp: Stamp) -> bool {
        stamp.number < self.number || stamp.drawn_ns > self.died_ns + MOMENTS_NS
    }
}

fn picture(line: usize, value: &Value) -> Option<Picture> {
    Some(Picture {
        line,
        generation: value["generation"].as_u64()?,
        decoded_ns: value["decoded_ns"].as_u64().filter(|_| value["good"] == true)?,
        repeat: value["still"] == true,
        stamp: stamp(&value["stamp"]),
    })
}

fn stamp(value: &Value) -> Option<Stamp> {
    Some(Stamp { number: value["number"].as_u64()?, drawn_ns: value["time_ns"].as_u64()? })
}

/// The longest time between two of these that follow each other, of which the second lies in the stretch.
fn longest(times: &[u64], stretch: Stretch) -> Option<f64> {
    let pairs = times.windows(2).filter(|pair| (stretch.from_ns..stretch.to_ns).contains(&pair[1]));
    pairs.map(|pair| ms(pair[1] - pair[0])).max_by(f64::total_cmp)
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

fn lines(path: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).with_context(|| path.display().to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Drawn 5 ms before it was shown, with the number of that time.
    fn picture(ms: u64, generation: u64) -> Picture {
        let stamp = Some(Stamp { number: ms, drawn_ns: (ms - 5) * MS });
        Picture { line: 0, generation, decoded_ns: ms * MS, repeat: false, stamp }
    }

    fn stretch(from: u64, to: u64) -> Stretch {
        Stretch { from_ns: from * MS, to_ns: to * MS }
    }

    #[test]
    fn a_gap_lasts_from_the_last_picture_of_the_old_to_the_first_of_the_new() {
        let pictures = vec![picture(100, 1), picture(117, 1), picture(133, 1), picture(200, 2), picture(300, 2)];
        let senses = Senses { pictures, ..Senses::default() };
        // Killed at 110: what was on its way still came.
        let gap = senses.gaps(stretch(110, 290), Scene::Moving).picture_ms.unwrap();
        assert!((gap - (67.0 - FRAME_MS)).abs() < 0.01, "{gap}");
        assert_eq!(senses.gaps(stretch(110, 290), Scene::Still).picture_ms, Some(90.0), "from the kill");
        assert_eq!(senses.gaps(stretch(310, 400), Scene::Moving).picture_ms, None, "nothing came any more");
    }

    #[test]
    fn without_a_new_generation_the_longest_time_counts_and_repeats_do_not() {
        let mut pictures = vec![picture(100, 1), picture(117, 1), picture(150, 1), picture(167, 1)];
        let gap = |pictures: &[Picture]| {
            let senses = Senses { pictures: pictures.to_vec(), ..Senses::default() };
            senses.gaps(stretch(110, 200), Scene::Moving).picture_ms.unwrap().round()
        };
        assert_eq!(gap(&pictures), 16.0);
        pictures[2].repeat = true;
        assert_eq!(gap(&pictures), 33.0);
    }

    #[test]
    fn what_was_shown_before_is_a_picture_but_no_new_one() {
        let mut pictures = vec![picture(100, 1), picture(117, 1), picture(140, 2), picture(180, 2), picture(197, 2)];
        pictures[2].stamp = pictures[1].stamp;
        let senses = Senses { pictures, ..Senses::default() };
        let gaps = senses.gaps(stretch(110, 290), Scene::Moving);
        let rounded = |gap: Option<f64>| gap.unwrap().round();
        assert_eq!((rounded(gaps.picture_ms), rounded(gaps.fresh_ms)), (6.0, 46.0));
        assert_eq!(senses.gaps(stretch(110, 290), Scene::Still).fresh_ms, None);
    }

    #[test]
    fn sound_and_hands_are_missed_beyond_what_is_regular() {
        let presses = [96, 104, 112, 140].map(|ms| Press { ns: ms * MS, code: 30, held: false }).to_vec();
        let senses = Senses { sounds: [100, 105, 150, 155].map(|ms| ms * MS).to_vec(), presses, ..Senses::default() };
        let gaps = senses.gaps(stretch(106, 200), Scene::Moving);
        assert_eq!((gaps.sound_ms, gaps.hands_ms, gaps.picture_ms), (Some(40.0), Some(20.0), None));
    }

    #[test]
    fn a_picture_that_cannot_be_read_is_none_of_the_desktops_fault_only_while_that_is_not_there() {
        // Lines are 10 ms apart.
        let pictures = |numbers: &[Option<u64>]| -> Vec<Picture> {
            let shown = |(line, number): (usize, &Option<u64>)| Picture {
                line,
                stamp: number.map(|number| Stamp { number, drawn_ns: (5 + line as u64 * 10) * MS }),
                ..picture(10 + line as u64 * 10, 1)
            };
            numbers.iter().enumerate().map(shown).collect()
        };
        let unreadable = |numbers: &[Option<u64>], deaths: &[u64]| {
            Senses { pictures: pictures(numbers), ..Senses::default() }.unreadable(deaths)
        };
        let one = [None, Some(50), Some(51), None, Some(52), None];
        assert_eq!(unreadable(&one, &[]), [3, 5]);
        // It died after line 2; line 3 shows it once more, line 5 its heir.
        let two = [Some(50), Some(51), Some(52), Some(52), None, Some(0), Some(1), None];
        assert_eq!(unreadable(&two, &[35 * MS]), [7]);
        assert_eq!(unreadable(&two, &[]), [4, 7]);
        // Its heir had drawn more than itself when it was first seen: then it is known by the time.
        let mut three: Vec<Option<u64>> = vec![Some(1), Some(2), None];
        three.extend((40..100).map(Some));
        three.push(None);
        assert_eq!(unreadable(&three, &[25 * MS]), [63]);
        // Right after its death that may still be its own, shown once more before the heir has anything to show.
        assert!(unreadable(&[Some(1), Some(2), Some(3), None, Some(0)], &[25 * MS]).is_empty());
    }
}
