//! The sound half: pings, packets, samples.

pub mod queue;
#[cfg(test)]
mod queue_tests;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::{Result, ensure};
use opus::MSDecoder;

use self::queue::{Event, Queue};
use super::chance::Chance;
use super::ping::{PAUSE, Pinger, received};
use super::rtsp::{OpusShape, Port};
use super::seal::open_sound;
use super::shared::Shared;
use super::wish::Keys;

pub const RATE: u32 = 48_000;

/// What the sound of a session is made of.
pub struct Setup {
    pub host: SocketAddr,
    pub port: Port,
    pub packet_ms: u32,
    pub shape: OpusShape,
    /// If it is encrypted.
    pub keys: Option<Keys>,
    pub loss: Chance,
}

/// Receives until the session ends, on a thread of its own. It pings from now on.
pub fn start(setup: Setup, shared: &Arc<Shared>) -> Result<JoinHandle<()>> {
    let any = if setup.host.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(PAUSE))?;
    let decoder = MSDecoder::new(RATE, setup.shape.streams, setup.shape.coupled, &setup.shape.mapping)?;
    let samples = RATE as usize / 1000 * setup.packet_ms as usize;
    let listening = Listening {
        pinger: Pinger::new(setup.host, setup.port),
        queue: Queue::new(setup.packet_ms)?,
        ear: Ear { decoder, samples, channels: setup.shape.mapping.len() },
        keys: setup.keys,
        loss: setup.loss,
        socket,
        shared: Arc::clone(shared),
    };
    Ok(thread::spawn(move || listening.run()))
}

struct Listening {
    socket: UdpSocket,
    pinger: Pinger,
    queue: Queue,
    ear: Ear,
    keys: Option<Keys>,
    loss: Chance,
    shared: Arc<Shared>,
}

struct Ear {
    decoder: MSDecoder,
    /// In one packet, of each channel.
    samples: usize,
    channels: usize,
}

impl Ear {
    fn decode(&mut self, packet: &[u8]) -> Result<Vec<f32>> {
        let mut samples = vec![0.0; self.samples * self.channels];
        let count = self.decoder.decode_float(packet, &mut samples, false)?;
        ensure!(count == self.samples, "{count} samples instead of {}", self.samples);
        Ok(samples)
    }
}

impl Listening {
    fn run(mut self) {
        let (mut packet, mut events) = ([0; 2048], Vec::new());
        while !self.shared.is_over() {
            self.pinger.ping(&self.socket);
            let Some(length) = received(&self.socket, &mut packet) else { continue };
            if self.loss.strikes() {
                self.shared.audio(|audio| audio.dropped += 1);
                continue;
            }
            self.queue.push(&packet[..length], &mut events);
            for event in events.drain(..) {
                // To the decoder an empty packet is an order to conceal.
                let (samples, is_heard) = match event {
                    Event::Packet(number, payload) => (self.open(number, payload), true),
                    Event::Lost => (self.ear.decode(&[]), false),
                };
                self.shared.audio(|audio| match samples {
                    Ok(samples) => audio.samples(&samples, self.ear.channels, is_heard),
                    Err(_) => audio.decode_errors += 1,
                });
            }
            let counts = &self.queue.counts;
            self.shared.audio(|audio| audio.counts.clone_from(counts));
        }
    }

    fn open(&mut self, number: u16, payload: Vec<u8>) -> Result<Vec<f32>> {
        let packet = match &self.keys {
            Some(keys) => open_sound(&keys.rikey, keys.rikeyid, number, &payload)?,
            None => payload,
        };
        ensure!(!packet.is_empty(), "an empty packet");
        self.ear.decode(&packet)
    }
}
