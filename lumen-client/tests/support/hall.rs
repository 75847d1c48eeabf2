//! A test host's datagrams: sound that is played to the client, rumble, and input that it takes, over a network that
//! loses some.

use std::time::Duration;

use lumen_core::audio::{self, FRAME_NS, FRAME_SAMPLES, SAMPLE_RATE};
use lumen_core::input::Rumble;
use lumen_core::input::inbox::{Inbox, Order};
use lumen_core::{AudioLayout, InputEvent};
use opus::{Application, Bitrate, MSEncoder};
use quinn::Connection;

use super::stream::{Dice, monotonic_ns};

/// A tone on every channel.
#[derive(Clone)]
pub struct Concert {
    pub layout: AudioLayout,
    /// Hertz, by channel.
    pub tones: Vec<f32>,
    pub packets: u32,
    /// Of these numbers no packet arrives.
    pub lost: Vec<u32>,
    /// These arrive damaged.
    pub damaged: Vec<u32>,
    /// These arrive after the packet that follows them.
    pub overtaken: Vec<u32>,
    /// These arrive twice.
    pub doubled: Vec<u32>,
    /// From this packet on the host was away for so long: its numbers go on, its time has jumped.
    pub away: Option<(u32, Duration)>,
}

impl Concert {
    pub fn new(layout: AudioLayout, tones: &[f32], packets: u32) -> Self {
        let (lost, damaged, overtaken, doubled) = Default::default();
        Self { layout, tones: tones.to_vec(), packets, lost, damaged, overtaken, doubled, away: None }
    }
}

/// What a host does with datagrams.
#[derive(Clone, Default)]
pub struct Hall {
    pub concert: Option<Concert>,
    /// Sent at the beginning, each once.
    pub rumbles: Vec<Rumble>,
    /// Sent at the beginning: nothing that a client should like.
    pub nonsense: Vec<Vec<u8>>,
    /// Take input, losing that many thousandths of datagrams each way.
    pub input_loss_permille: Option<u64>,
    /// Events that a network plane before has taken.
    pub taken: u32,
    pub answered: Answered,
}

/// What it got.
#[derive(Clone, Default, Debug)]
pub struct Answered {
    /// In order, each once.
    pub events: Vec<InputEvent>,
}

impl Hall {
    pub async fn perform(&mut self, connection: &Connection) -> ! {
        for datagram in &self.nonsense {
            connection.send_datagram(datagram.clone().into()).unwrap();
        }
        for rumble in &self.rumbles {
            connection.send_datagram(rumble.datagram().to_vec().into()).unwrap();
        }
        let concert = self.concert.clone();
        tokio::select! {
            never = play(connection, concert) => never,
            never = take(connection, self.input_loss_permille, self.taken, &mut self.answered) => never,
        }
    }
}

async fn play(connection: &Connection, concert: Option<Concert>) -> ! {
    if let Some(concert) = concert {
        let layout = concert.layout;
        let (streams, coupled, mapping) = (layout.streams(), layout.coupled(), layout.mapping());
        let mut encoder = MSEncoder::new(SAMPLE_RATE, streams, coupled, mapping, Application::LowDelay).unwrap();
        encoder.set_vbr(false).unwrap();
        encoder.set_bitrate(Bitrate::Bits(layout.bitrate_kbps() as i32 * 1000)).unwrap();
        let mut slots = tokio::time::interval(Duration::from_nanos(FRAME_NS));
        let began_ns = monotonic_ns();
        let mut held_back = None;
        for number in 0..concert.packets {
            slots.tick().await;
            let mut opus = encoder.encode_vec_float(&samples(&concert, number), audio::MAX_PACKET).unwrap();
            if concert.damaged.contains(&number) {
                // Code 3 with no frames in it: never valid (RFC 6716 §3.2.5).
                opus.truncate(2);
                opus.copy_from_slice(&[0xEB, 0]);
            }
            let away = concert.away.filter(|(from, _)| number >= *from).map_or(Duration::ZERO, |(_, away)| away);
            let pts_ns = began_ns + u64::from(number) * FRAME_NS + away.as_nanos() as u64;
            let mut datagram = Vec::new();
            audio::encode_header(number, pts_ns, &mut datagram);
            datagram.extend_from_slice(&opus);
            if concert.overtaken.contains(&number) {
                held_back = Some(datagram);
                continue;
            }
            let times = if concert.doubled.contains(&number) { 2 } else { 1 };
            for _ in 0..if concert.lost.contains(&number) { 0 } else { times } {
                connection.send_datagram(datagram.clone().into()).unwrap();
            }
            if let Some(late) = held_back.take() {
                connection.send_datagram(late.into()).unwrap();
            }
        }
    }
    std::future::pending().await
}

/// Interleaved samples of one packet, at half of full scale.
fn samples(concert: &Concert, number: u32) -> Vec<f32> {
    let first = number as usize * FRAME_SAMPLES;
    let sample = |index: usize, hz: f32| {
        let time = index as f64 / f64::from(SAMPLE_RATE);
        (0.5 * (time * f64::from(hz) * std::f64::consts::TAU).sin()) as f32
    };
    (first..first + FRAME_SAMPLES).flat_map(|index| concert.tones.iter().map(move |&hz| sample(index, hz))).collect()
}

async fn take(connection: &Connection, loss_permille: Option<u64>, taken: u32, answered: &mut Answered) -> ! {
    let mut inbox = Inbox::at(taken);
    let mut dice = Dice(5);
    while let Ok(bytes) = connection.read_datagram().await {
        let Some(permille) = loss_permille.filter(|&permille| !dice.lost(permille)) else { continue };
        let datagram = Inbox::datagram(&bytes).expect("a client's input is well-formed");
        for numbered in datagram.events() {
            match inbox.offer(numbered.seq) {
                Order::Next => {
                    answered.events.push(numbered.event.expect("a client's events are well-formed"));
                    inbox.accept();
                }
                Order::Duplicate => {}
                Order::Gap => break,
            }
        }
        if !dice.lost(permille) {
            let mut ack = Vec::new();
            inbox.ack(datagram.client_ns, &mut ack);
            connection.send_datagram(ack.into()).unwrap();
        }
    }
    std::future::pending().await
}
