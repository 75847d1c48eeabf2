//! Decodes once more what a client has shown, and holds every picture against what it should show.
//!
//! A client that was asked to (`--out`, `--trace`) leaves each frame that was delivered to it and a line on what became of
//! it. Decoding is exact, so the same frames give the same pictures; that they do is checked by the stamps that the
//! client itself has read. The desktop has to be the synthetic one, or the window of `scene` on the whole screen: then
//! number and time in the pixels say what every other pixel should be.

mod sabotage;

use std::collections::BTreeMap;
use std::io::{BufRead, Read};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use lumen_core::stamp::{self, Stamp};
use openh264::OpenH264API;
use openh264::decoder::{DecodedYUV, Decoder, DecoderConfig};
use openh264::formats::YUVSource;
use serde_json::{Value, json};

use crate::guest::video::judge::{Errors, Judge, Planes};

/// By how much the mean of a block of 16x16 may be off, in steps of 255. What is coded at 10 Mbit/s stays below 7, or 16
/// when a busy machine lets the encoder have few pictures and the next ones are coarse; an arrow that a compositor shows
/// makes 33. A picture that builds on another one than its encoder's is off by more than 140 (see the tests).
pub const LIMIT: f32 = 40.0;

/// BT.709 in limited range, which is what hosts make for native clients unless told otherwise.
const COLOUR: u32 = 0b10;

/// One line of a client's `--trace`.
#[derive(Clone, Debug)]
pub struct Line {
    pub generation: u64,
    /// It was decoded, and so shown.
    pub good: bool,
    pub bytes: usize,
    /// As the client read it.
    pub stamp: Option<Stamp>,
}

impl Line {
    fn parse(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text)?;
        let number = |value: &Value| value.as_u64().with_context(|| format!("no trace: {text}"));
        let stamp = &value["stamp"];
        let stamp = match stamp.is_null() {
            true => None,
            false => {
                let (shown, time_ns) = (number(&stamp["number"])?, number(&stamp["time_ns"])?);
                Some(Stamp { number: u32::try_from(shown)?, time_ns })
            }
        };
        Ok(Self {
            generation: number(&value["generation"])?,
            good: value["good"].as_bool().context("no good")?,
            bytes: number(&value["bytes"])? as usize,
            stamp,
        })
    }
}

/// The lines of a trace.
pub fn lines(trace: impl BufRead) -> Result<Vec<Line>> {
    trace.lines().map(|line| Line::parse(&line?)).collect()
}

/// A picture that was shown and should not have been.
#[derive(Clone, PartialEq, Debug)]
pub struct Corrupt {
    /// Its line in the trace, from 0.
    pub line: usize,
    pub why: String,
}

/// What a replay found.
#[derive(Clone, Default, Debug)]
pub struct Verdict {
    /// Pictures that were held against what they should show.
    pub judged: u64,
    /// Pictures without a readable stamp: nobody knows what they should show.
    pub unstamped: u64,
    /// The worst blocks of all pictures judged.
    pub worst: Errors,
    pub corrupt: Vec<Corrupt>,
}

impl Verdict {
    /// `{judged, unstamped, luma, chroma, corrupt: [{line, why}]}`.
    pub fn json(&self) -> Value {
        let corrupt = self.corrupt.iter().map(|corrupt| json!({ "line": corrupt.line, "why": corrupt.why }));
        json!({
            "judged": self.judged,
            "unstamped": self.unstamped,
            "luma": self.worst.luma,
            "chroma": self.worst.chroma,
            "corrupt": corrupt.collect::<Vec<_>>(),
        })
    }
}

impl Verdict {
    fn add(&mut self, other: Self) {
        self.judged += other.judged;
        self.unstamped += other.unstamped;
        self.worst.luma = self.worst.luma.max(other.worst.luma);
        self.worst.chroma = self.worst.chroma.max(other.worst.chroma);
        self.corrupt.extend(other.corrupt);
    }
}

/// What a client has shown: each line of its trace, and the frame of each.
pub struct Recording {
    lines: Vec<Line>,
    frames: Vec<Vec<u8>>,
}

impl Recording {
    /// # Errors
    /// The stream is not as long as the trace says.
    pub fn read(mut stream: impl Read, lines: Vec<Line>) -> Result<Self> {
        let mut frames = Vec::new();
        for (index, line) in lines.iter().enumerate() {
            let mut frame = vec![0; line.bytes];
            stream
                .read_exact(&mut frame)
                .with_context(|| format!("the stream ends before line {index} of the trace"))?;
            frames.push(frame);
        }
        ensure!(stream.read(&mut [0])? == 0, "the stream goes on after the trace");
        Ok(Self { lines, frames })
    }

    /// Decodes and judges all of it, on all cores.
    ///
    /// # Errors
    /// A frame that the client decoded cannot be decoded.
    pub fn judge(&self) -> Result<Verdict> {
        let parts = generations(&self.lines);
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<(usize, Verdict)>> {
            let mut judge = None;
            let mut found = Vec::new();
            while let Some(part) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
                found.push((part.start, play(part.clone(), &self.lines, &self.frames, &mut judge)?));
            }
            Ok(found)
        };
        let threads = thread::available_parallelism().map_or(1, usize::from).min(parts.len());
        let found: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("a judge has panicked"))).collect()
        });
        let mut verdicts: BTreeMap<usize, Verdict> = BTreeMap::new();
        for part in found {
            verdicts.extend(part?);
        }
        let mut verdict = Verdict::default();
        verdicts.into_values().for_each(|part| verdict.add(part));
        Ok(verdict)
    }

    /// Whether what is wrong in this recording would be found, as far as it lets one try: see the two that follow. None if
    /// it has nothing to spoil.
    pub fn sees(&self) -> Option<bool> {
        self.is_caught_without_a_reference().or_else(|| self.is_told_from_a_later_picture())
    }

    /// Whether a careless client would be found out: the same recording, from which a picture has been lost without its
    /// decoder's knowing. None if no picture is followed by enough others that build on it and move.
    pub fn is_caught_without_a_reference(&self) -> Option<bool> {
        let (start, lost) = generations(&self.lines).into_iter().find_map(|part| {
            let mut places = part.start + 1..part.end.saturating_sub(BUILT_ON_IT);
            places.find(|&lost| self.moves(lost - 1..lost + 1 + BUILT_ON_IT)).map(|lost| (part.start, lost))
        })?;
        let kept = (start..lost + 1 + BUILT_ON_IT).filter(|&line| line != lost);
        let frame = |line: usize| match line > lost {
            true => sabotage::renumber(&self.frames[line]),
            false => self.frames[line].clone(),
        };
        let (lines, frames) = kept.map(|line| (self.lines[line].clone(), frame(line))).unzip();
        let verdict = Self { lines, frames }.judge();
        // What the decoder refuses is never shown.
        Some(verdict.map_or(true, |verdict| verdict.corrupt.iter().any(|corrupt| corrupt.line >= lost - start)))
    }

    /// Whether pictures of a still desktop would be found out if they showed what the desktop never did: there a lost
    /// reference is the same picture, and loses nothing. They are held against a later picture under their own stamp. None
    /// if the desktop is not still, or no stamp can be read.
    pub fn is_told_from_a_later_picture(&self) -> Option<bool> {
        let numbers = || self.lines.iter().filter(|line| line.good).filter_map(|line| line.stamp).map(|it| it.number);
        // A window that has found out its size has drawn twice.
        if numbers().max()? - numbers().min()? > 1 {
            return None;
        }
        let part = generations(&self.lines).into_iter().find(|part| self.lines[part.clone()].iter().any(is_stamped))?;
        let last = part.clone().find(|&line| is_stamped(&self.lines[line]))?;
        let mut decoder = Decoder::with_api_config(OpenH264API::from_source(), DecoderConfig::new()).ok()?;
        for line in (part.start..=last).filter(|&line| self.lines[line].good) {
            let shown = decoder.decode(&self.frames[line]).ok()??;
            if let (true, Some(stamp)) = (line == last, self.lines[line].stamp) {
                let (mut judge, planes) = judge_of(&shown);
                let errors = judge.errors_from(stamp.number.wrapping_add(MUCH_LATER), stamp, &planes);
                return Some(errors.luma.max(errors.chroma) > LIMIT);
            }
        }
        None
    }

    /// These pictures were shown, each builds on the one before and shows something else.
    fn moves(&self, mut part: Range<usize>) -> bool {
        let builds = |line: usize| {
            let (before, now) = (&self.lines[line - 1], &self.lines[line]);
            let both = before.good && now.good && before.stamp.zip(now.stamp).is_some_and(|(a, b)| a.number < b.number);
            both && !sabotage::is_idr(&self.frames[line])
        };
        part.next();
        part.all(builds)
    }
}

/// So many pictures are looked at after one that was lost.
const BUILT_ON_IT: usize = 8;
/// A second later the synthetic desktop's windows are elsewhere.
const MUCH_LATER: u32 = 60;

fn is_stamped(line: &Line) -> bool {
    line.good && line.stamp.is_some()
}

/// A judge of pictures like this one, and its planes.
fn judge_of<'a>(picture: &'a DecodedYUV<'_>) -> (Judge, Planes<'a>) {
    let ((width, height), strides) = (picture.dimensions(), picture.strides());
    let side = |pixels: usize| u16::try_from(pixels).unwrap_or(u16::MAX);
    let planes = Planes { y: (picture.y(), strides.0), u: (picture.u(), strides.1), v: (picture.v(), strides.2) };
    (Judge::new(side(width), side(height), COLOUR), planes)
}

/// Replays a stream of which each line of the trace has one frame.
///
/// # Errors
/// The stream is not as long as the trace says, or a frame that the client decoded cannot be decoded.
pub fn replay(stream: impl Read, lines: &[Line]) -> Result<Verdict> {
    Recording::read(stream, lines.to_vec())?.judge()
}

/// The lines of each generation. As the client does, each is decoded on its own: an encoder that was replaced shares no
/// state with its heir.
fn generations(lines: &[Line]) -> Vec<Range<usize>> {
    let mut parts: Vec<Range<usize>> = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        match parts.last_mut() {
            Some(part) if lines[part.start].generation == line.generation => part.end = index + 1,
            _ => parts.push(index..index + 1),
        }
    }
    parts
}

/// Decodes and judges these lines, which are of one generation. The judge may be another part's.
fn play(
    part: Range<usize>,
    lines: &[Line],
    frames: &[Vec<u8>],
    judge: &mut Option<(usize, usize, Judge)>,
) -> Result<Verdict> {
    let mut decoder = Decoder::with_api_config(OpenH264API::from_source(), DecoderConfig::new())?;
    let mut player = Player { judge, verdict: Verdict::default() };
    for line in part.filter(|&line| lines[line].good) {
        match decoder.decode(&frames[line]) {
            Ok(Some(picture)) => player.picture(line, lines[line].stamp, &picture),
            _ => bail!("line {line}: the client decoded a frame that cannot be decoded"),
        }
    }
    Ok(player.verdict)
}

struct Player<'a> {
    judge: &'a mut Option<(usize, usize, Judge)>,
    verdict: Verdict,
}

impl Player<'_> {
    fn picture(&mut self, line: usize, read: Option<Stamp>, picture: &DecodedYUV<'_>) {
        let (width, height) = picture.dimensions();
        let strides = picture.strides();
        let found = stamp::read(picture.y(), strides.0, width, height);
        let verdict = &mut self.verdict;
        if found != read {
            let why = format!("it shows {found:?}, and the client has read {read:?}");
            verdict.corrupt.push(Corrupt { line, why });
        }
        let Some(stamp) = read.or(found) else {
            verdict.unstamped += 1;
            return;
        };
        let (wide, high) = (u16::try_from(width).unwrap_or(u16::MAX), u16::try_from(height).unwrap_or(u16::MAX));
        let judge = match &mut *self.judge {
            Some((w, h, judge)) if (*w, *h) == (width, height) => judge,
            other => &mut other.insert((width, height, Judge::new(wide, high, COLOUR))).2,
        };
        let planes = Planes { y: (picture.y(), strides.0), u: (picture.u(), strides.1), v: (picture.v(), strides.2) };
        let errors = judge.errors(stamp, &planes);
        verdict.judged += 1;
        let worst = &mut verdict.worst;
        (worst.luma, worst.chroma) = (worst.luma.max(errors.luma), worst.chroma.max(errors.chroma));
        if found == read && errors.luma.max(errors.chroma) > LIMIT {
            let (left, top) = judge.place();
            let why = format!(
                "picture {} is off by {:.1} in luma, {:.1} in chroma, most around {left},{top}",
                stamp.number, errors.luma, errors.chroma
            );
            verdict.corrupt.push(Corrupt { line, why });
        }
    }
}

#[cfg(test)]
mod tests;
