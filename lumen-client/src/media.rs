//! The media thread: one blocking loop over the socket, what other threads want, and the next deadline.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use lumen_core::Mode;
use lumen_core::clock::{ClockOffset, Exchange};
use lumen_core::hello::Welcome;
use lumen_core::packet::{Flags, FrameHeader, HEADER_BYTES, Header, Kind, PROBE_BYTES, TAG_BYTES};
use lumen_core::reassemble::{Event, Frame, Pushed, Reassembler, ReassemblerConfig};
use lumen_core::seal::{Direction, MediaSecret, Sealer};
use nix::sys::eventfd::EventFd;

use crate::error::Ending;
use crate::frame::{ClockReading, FrameSink, LateLedger, Ledger, ReceivedFrame};
use crate::live::Live;
use crate::probe::Prober;
use crate::returns::{Back, Returns};
use crate::session::{Command, Over, Resumption, first_readable};
use crate::socket::MediaSocket;
use crate::{boot_id, monotonic_ns};

/// Longest wait for packets that others have overtaken, in nanoseconds; a frame's interval where that is less.
const LONGEST_REORDER: u64 = 20_000_000;

/// What a session's media amounted to; all counts from its beginning.
#[derive(Clone, Default, Debug)]
pub struct MediaReport {
    /// Frames that the host is known to have sent: the complete and the lost ones.
    pub frames_received: u64,
    pub frames_complete: u64,
    pub frames_recovered: u64,
    pub frames_lost: u64,
    /// Complete, but building on a lost frame.
    pub frames_undeliverable: u64,
    pub packets_received: u64,
    pub packets_lost: u64,
    pub packets_recovered: u64,
    pub packets_rejected: u64,
    pub packets_duplicate: u64,
    /// UDP payload bytes of authentic packets, and of those the parity's.
    pub bytes: u64,
    pub parity_bytes: u64,
    /// Nanoseconds from the first authentic packet to the last.
    pub span_ns: u64,
    /// Times a keyframe was wanted; repetitions of the same wish are one.
    pub keyframe_requests: u64,
    /// Generations of which a frame was delivered.
    pub generations: u64,
    /// None if no probe was ever answered.
    pub clock: Option<ClockReading>,
    /// The last mode, where the host has changed it.
    pub mode: Option<Mode>,
    /// Times that the connection was lost and another came in its place.
    pub returns: Returns,
}

impl MediaReport {
    /// UDP payload per time, parity included.
    pub fn bitrate_kbps(&self) -> f64 {
        if self.span_ns == 0 { 0.0 } else { self.bytes as f64 * 8e6 / self.span_ns as f64 }
    }
}

/// Everything the thread owns.
pub(crate) struct Media {
    socket: MediaSocket,
    /// Where media is, if not where the host says.
    elsewhere: Option<SocketAddr>,
    commands: Receiver<Command>,
    wake: Arc<EventFd>,
    session: u32,
    secret: MediaSecret,
    sealer: Sealer,
    receiver: Inbound,
}

/// What receiving changes; apart from the socket, so that a batch can be taken in while its buffers are borrowed.
struct Inbound {
    reassembler: Reassembler,
    clock: ClockOffset,
    prober: Prober,
    report: MediaReport,
    first_ns: Option<u64>,
    /// The newest generation of which a frame was delivered.
    generation: Option<u32>,
    /// What is added to the session's generations for whoever takes the frames, so that they grow over sessions too.
    before: u32,
    /// When the last frame was delivered.
    frame_ns: Option<u64>,
    /// The host was lost and is back; no frame has come since.
    back: Option<Back>,
}

impl Media {
    pub(crate) fn new(
        welcome: &Welcome,
        host: IpAddr,
        elsewhere: Option<SocketAddr>,
        commands: Receiver<Command>,
        wake: Arc<EventFd>,
    ) -> io::Result<Self> {
        // Now, and not while the first large frame with a loss waits.
        lumen_core::fec::warm_up();
        Ok(Self {
            socket: MediaSocket::bind(elsewhere.unwrap_or(SocketAddr::new(host, welcome.media_port)))?,
            elsewhere,
            commands,
            wake,
            session: welcome.session,
            secret: welcome.secret.clone(),
            sealer: Sealer::new(&welcome.secret, welcome.generation, Direction::ClientToHost),
            receiver: Inbound {
                reassembler: Reassembler::new(config(welcome)),
                clock: ClockOffset::new(welcome.boot_id, boot_id()),
                prober: Prober::new(monotonic_ns()),
                report: MediaReport::default(),
                first_ns: None,
                generation: None,
                before: 0,
                frame_ns: None,
                back: None,
            },
        })
    }

    /// Receives until told to stop. Whatever ends the session by itself also leads to that order.
    pub(crate) fn run(mut self, mut sink: Box<dyn FrameSink>, over: &Over, live: &Live) -> MediaReport {
        let wake = self.wake.clone();
        loop {
            let now_ns = monotonic_ns();
            if self.receiver.prober.due(now_ns, self.receiver.reassembler.keyframe_wanted().is_some()) {
                self.probe(now_ns);
            }
            if let Some(heard) = self.receiver.prober.silent(now_ns).filter(|_| !over.is_away()) {
                over.end(Ending::Lost { reason: self.silence(heard) });
            }
            let deadline_ns = self.receiver.deadline_ns(now_ns);
            let wait = Duration::from_nanos(deadline_ns.saturating_sub(monotonic_ns()));
            match first_readable(&[wake.as_fd(), self.socket.as_fd()], wait) {
                Ok(Some(0)) => {
                    let _ = wake.read();
                    if self.obey(sink.as_mut(), over).is_break() {
                        break;
                    }
                }
                Ok(_) => {}
                Err(error) => over.end(Ending::Lost { reason: error.to_string() }),
            }
            let now_ns = monotonic_ns();
            let inbound = &mut self.receiver;
            if let Err(error) = self.socket.receive(|datagram| inbound.push(now_ns, datagram)) {
                over.end(Ending::Lost { reason: format!("the media socket failed: {error}") });
            }
            over.heard(inbound.prober.heard_ns());
            inbound.deliver(now_ns, sink.as_mut(), live);
        }
        self.receiver.finish()
    }

    /// Does what other threads asked for since the last time.
    pub(crate) fn obey(&mut self, sink: &mut dyn FrameSink, over: &Over) -> ControlFlow<()> {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return ControlFlow::Break(()),
                Ok(Command::Keyframe { generation, frame }) => {
                    let generation = generation.saturating_sub(self.receiver.before);
                    if generation > 0 && generation >= self.receiver.reassembler.generation() {
                        self.receiver.prober.want_keyframe(monotonic_ns(), generation, frame);
                    }
                }
                Ok(Command::Reconfigure { generation, mode }) => {
                    self.receiver.reassembler.move_to(generation);
                    self.receiver.report.mode = Some(mode);
                    sink.reconfigured(self.receiver.before + generation, mode);
                }
                Ok(Command::Resume(back)) => {
                    self.resume(*back, sink);
                    over.found();
                }
                Err(TryRecvError::Empty) => return ControlFlow::Continue(()),
            }
        }
    }

    /// Goes on with what the host has said on another connection.
    fn resume(&mut self, resumption: Resumption, sink: &mut dyn FrameSink) {
        let Resumption { welcome, lost_ns, redialled_ns } = resumption;
        let inbound = &mut self.receiver;
        let now_ns = monotonic_ns();
        if !welcome.resumed {
            inbound.before += inbound.reassembler.generation();
            // It may be another boot's.
            inbound.clock = ClockOffset::new(welcome.boot_id, boot_id());
        }
        inbound.reassembler.resume(config(&welcome));
        inbound.prober.search(now_ns);
        inbound.back = Some(Back { lost_ns, redialled_ns, same_session: welcome.resumed });
        if inbound.report.mode.replace(welcome.mode) != Some(welcome.mode) {
            sink.reconfigured(inbound.before + welcome.generation, welcome.mode);
        }
        let host = SocketAddr::new(self.socket.host().ip(), welcome.media_port);
        self.socket.set_host(self.elsewhere.unwrap_or(host));
        self.sealer = Sealer::new(&welcome.secret, welcome.generation, Direction::ClientToHost);
        (self.session, self.secret) = (welcome.session, welcome.secret);
    }

    /// Tells the host what has arrived, and asks it for the time and for a keyframe if one is wanted.
    fn probe(&mut self, now_ns: u64) {
        let generation = self.receiver.reassembler.generation();
        // Generations only grow, so there never is a second sealer of one.
        if self.sealer.generation() != generation {
            self.sealer = Sealer::new(&self.secret, generation, Direction::ClientToHost);
        }
        let mut probe = self.receiver.reassembler.probe(now_ns);
        probe.keyframe_wanted = probe.keyframe_wanted.max(self.receiver.prober.wish(generation));
        let flags = Flags::default();
        let header =
            Header { kind: Kind::Probe, flags, index: 0, session: self.session, generation, frame: 0, counter: 0 };
        let mut packet = [0; HEADER_BYTES + PROBE_BYTES + TAG_BYTES];
        packet[HEADER_BYTES..HEADER_BYTES + PROBE_BYTES].copy_from_slice(&probe.encode());
        // A key wears out only after centuries of probes.
        if self.sealer.seal(header, &mut packet).is_ok() {
            self.socket.send(&packet);
        }
    }

    fn silence(&self, heard: bool) -> String {
        let host = self.socket.host();
        if heard {
            format!("no media packet from {host} for 5 s")
        } else {
            format!("no media packet came from {host}: check that no firewall drops UDP to or from that port")
        }
    }
}

impl Inbound {
    /// When the loop has something to do even if nothing arrives.
    fn deadline_ns(&self, now_ns: u64) -> u64 {
        self.prober.next_ns().min(self.reassembler.next_deadline(now_ns).unwrap_or(u64::MAX))
    }

    fn push(&mut self, now_ns: u64, datagram: &[u8]) {
        match self.reassembler.push(now_ns, datagram) {
            Pushed::Rejected => return,
            Pushed::Pong(pong) => {
                self.clock.sample(Exchange {
                    client_sent_ns: pong.client_ns,
                    host_received_ns: pong.host_received_ns,
                    host_sent_ns: pong.host_sent_ns,
                    client_received_ns: now_ns,
                });
            }
            Pushed::Media => {
                let parity = Header::decode(datagram).is_some_and(|header| header.kind == Kind::Parity);
                self.report.parity_bytes += if parity { datagram.len() as u64 } else { 0 };
            }
        }
        self.prober.heard(now_ns);
        self.report.span_ns = now_ns - *self.first_ns.get_or_insert(now_ns);
    }

    /// Hands on what has become ready.
    fn deliver(&mut self, now_ns: u64, sink: &mut dyn FrameSink, live: &Live) {
        let clock = self.clock_reading(now_ns);
        while let Some(event) = self.reassembler.poll(now_ns) {
            match event {
                Event::Frame(frame) => {
                    if frame.idr {
                        self.prober.keyframe(frame.generation, frame.number);
                    }
                    let frame = received(frame, self.before, clock);
                    self.prober.resumed();
                    self.arrived(&frame);
                    self.report.generations +=
                        u64::from(self.generation.replace(frame.generation) != Some(frame.generation));
                    // A repeat shows an old picture on purpose; its age says nothing about the way it took.
                    if let Some(latency_ns) = frame.latency_ns().filter(|_| !frame.still) {
                        live.latency_us.store(latency_ns / 1000, Relaxed);
                    }
                    sink.frame(frame);
                }
                Event::Lost { first, count } => {
                    sink.lost(self.before + self.reassembler.generation(), first, count);
                }
                Event::WantKeyframe { .. } => self.prober.broken(now_ns),
            }
        }
        let counters = self.reassembler.counters();
        live.frames.store(counters.frames, Relaxed);
        live.recovered.store(counters.frames_recovered, Relaxed);
        live.lost.store(counters.frames_lost, Relaxed);
        live.bytes.store(counters.bytes, Relaxed);
    }

    /// The first frame after the host was away ends the gap.
    fn arrived(&mut self, frame: &ReceivedFrame) {
        let last_ns = self.frame_ns.replace(frame.reassembled_ns);
        if let (Some(back), Some(last_ns)) = (self.back.take(), last_ns) {
            let first_ns = self.first_ns.unwrap_or(frame.reassembled_ns);
            self.report.returns.add(back, last_ns, frame.reassembled_ns, first_ns);
        }
    }

    fn clock_reading(&self, now_ns: u64) -> Option<ClockReading> {
        let (offset_ns, error_ns) = self.clock.offset_ns().zip(self.clock.error_ns(now_ns))?;
        Some(ClockReading { offset_ns, error_ns })
    }

    fn finish(self) -> MediaReport {
        let clock = self.clock_reading(monotonic_ns());
        let counters = self.reassembler.counters();
        let complete = counters.frames + counters.frames_skipped;
        MediaReport {
            frames_received: complete + counters.frames_lost,
            frames_complete: complete,
            frames_recovered: counters.frames_recovered,
            frames_lost: counters.frames_lost,
            frames_undeliverable: counters.frames_skipped,
            packets_received: counters.packets,
            packets_lost: self.reassembler.packets_lost(),
            packets_recovered: counters.shards_recovered,
            packets_rejected: counters.rejected,
            packets_duplicate: counters.duplicates,
            bytes: counters.bytes,
            keyframe_requests: self.prober.wishes(),
            clock,
            ..self.report
        }
    }
}

fn config(welcome: &Welcome) -> ReassemblerConfig {
    ReassemblerConfig {
        session: welcome.session,
        generation: welcome.generation,
        secret: welcome.secret.clone(),
        shard_size: welcome.shard_size,
        reorder_wait_ns: welcome.mode.frame_interval_ns().min(LONGEST_REORDER),
    }
}

/// `before` are the generations of earlier sessions.
fn received(frame: Frame, before: u32, clock: Option<ClockReading>) -> ReceivedFrame {
    let FrameHeader { still, captured_ns, taken, converted, first_slice: _, previous } = frame.header;
    ReceivedFrame {
        generation: before + frame.generation,
        number: frame.number,
        idr: frame.idr,
        still,
        recovered: frame.recovered,
        ledger: Ledger { captured_ns, taken_ns: taken, converted_ns: converted },
        previous: previous.map(|previous| LateLedger {
            number: previous.number,
            last_slice_ns: previous.last_slice,
            last_packet_ns: previous.last_packet,
        }),
        reassembled_ns: frame.reassembled_ns,
        clock,
        data: frame.data,
    }
}
