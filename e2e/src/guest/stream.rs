//! A stream from the launch's answer to its end, in the order of a real client's (moonlight-common-c, Connection.c).

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::announce::{Agreed, description};
use super::chance::Chance;
use super::control::{self, Orders};
use super::hands::Hands;
use super::moonlight::{Launched, Moonlight};
use super::rtsp::{Offer, Rtsp};
use super::seal::Control as Cipher;
use super::shared::{Audio, Control, Ended, Shared, Video};
use super::video::judge::Judge;
use super::wish::Wish;
use super::{audio, video};

/// How long a goodbye may take, threads included.
const PARTING: Duration = Duration::from_secs(5);

/// How a client receives.
#[derive(Clone, Copy, Debug)]
pub struct Reception {
    /// Media packets lost of a thousand.
    pub loss: u32,
    pub seed: u64,
    pub decode: bool,
    /// The desktop is the synthetic one: hold each picture against what it should show.
    pub judge: bool,
}

impl Default for Reception {
    fn default() -> Self {
        Self { loss: 0, seed: 1, decode: true, judge: false }
    }
}

/// A running stream. Dropping it says goodbye.
pub struct Stream {
    shared: Arc<Shared>,
    orders: Orders,
    threads: Vec<JoinHandle<()>>,
    pub offer: Offer,
    pub agreed: Agreed,
    pub wish: Wish,
}

impl Stream {
    /// Sets up everything; the stream runs when this returns, though no frame may have come yet.
    pub fn start(client: &Moonlight, launched: &Launched, wish: &Wish, reception: Reception) -> Result<Self> {
        let keys = launched.keys;
        let mut rtsp = Rtsp::new(client.host(), launched)?;
        ensure!(rtsp.is_sealed() == wish.secrecy.modern, "{} of a client that wants otherwise", launched.url);
        let offer = rtsp.describe()?;
        let agreed = Agreed::of(wish, &offer);
        let shared = Arc::new(Shared::default());
        let loss = |which| Chance::new(reception.loss, reception.seed.wrapping_add(which));

        let port = rtsp.set_up_audio()?;
        let setup = audio::Setup {
            host: rtsp.host(),
            port,
            packet_ms: wish.packet_ms,
            shape: offer.opus(wish.speakers.channels())?,
            keys: agreed.audio.then_some(keys),
            loss: loss(1 << 32),
        };
        let begun = Begun { shared: Arc::clone(&shared), threads: vec![audio::start(setup, &shared)?] };
        let video = rtsp.set_up_video()?;
        let (control, connect_data) = rtsp.set_up_control()?;
        rtsp.announce(&description(wish, &offer, agreed, rtsp.host(), video.number))?;
        rtsp.play()?;

        let mut host = rtsp.host();
        host.set_port(control);
        let cipher = Cipher::new(&keys.rikey, agreed.control_v2)?;
        let setup = control::Setup { host, connect_data, cipher };
        let (orders, control) = control::start(setup, &shared).context("control stream")?;
        let setup = video::Setup {
            host,
            port: video,
            packet_size: wish.announced_packet_size(agreed.video) as usize,
            key: agreed.video.then_some(keys.rikey),
            loss: loss(0),
            decode: reception.decode,
            judge: reception.judge.then(|| Judge::new(wish.width as u16, wish.height as u16, wish.csc)),
        };
        let receivers = video::start(setup, orders.clone(), &shared)?;
        let mut threads = begun.disarm();
        threads.push(control);
        threads.extend(receivers);
        let stream = Self { shared, orders, threads, offer, agreed, wish: wish.clone() };
        stream.hands().begin();
        Ok(stream)
    }

    pub fn hands(&self) -> Hands {
        Hands::new(self.orders.clone())
    }

    pub const fn orders(&self) -> &Orders {
        &self.orders
    }

    pub fn video(&self) -> Video {
        self.shared.video(|video| video.clone())
    }

    pub fn audio(&self) -> Audio {
        self.shared.audio(|audio| audio.clone())
    }

    pub fn control(&self) -> Control {
        self.shared.control(|control| control.clone())
    }

    /// Loses the next packets of video.
    pub fn lose(&self, packets: u32) {
        self.shared.video(|video| video.burst = packets);
    }

    /// How many whole frames have come.
    pub fn frames(&self) -> u64 {
        self.shared.video(|video| video.counts.frames)
    }

    /// How many pictures have been decoded.
    pub fn pictures(&self) -> usize {
        self.shared.video(|video| video.pictures.len())
    }

    /// How it ended, if it does within this time.
    pub fn ended(&self, limit: Duration) -> Option<Ended> {
        self.shared.ended(limit)
    }

    /// Streams for this long; an error if it ends before.
    pub fn last(&self, time: Duration) -> Result<()> {
        let ended = self.ended(time);
        ensure!(ended.is_none(), "the stream ended with {ended:?}");
        Ok(())
    }

    /// Leaves, as a person's quit does, and waits for the end of everything.
    pub fn leave(&mut self) -> Ended {
        self.orders.leave();
        let ended = self.ended(PARTING).unwrap_or(Ended::Unanswered);
        self.shared.end(ended.clone());
        self.join();
        ended
    }

    fn join(&mut self) {
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.leave();
        }
    }
}

/// Threads of a stream that may still fail to come about.
struct Begun {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Begun {
    fn disarm(mut self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut self.threads)
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.shared.end(Ended::Failed("it never began".into()));
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
