//! What net refuses and drops: one counter per bound, written by both threads, reported once a second.

use std::sync::atomic::{AtomicU64, Ordering};

use ipc::NetCounters;

/// Names a counter; its meaning is documented at the field of [`NetCounters`] of the same name.
#[derive(Clone, Copy, Debug)]
pub enum Counter {
    StrayPackets,
    ConnectionsRefused,
    Retries,
    HandshakesFailed,
    HellosRefused,
    AsksRefused,
    QueueFull,
    SendBlocked,
    SendErrors,
    RequestsMalformed,
    PairingsRefused,
    DiscoveryIgnored,
}

/// All counters, from zero at start.
#[derive(Default, Debug)]
pub struct Counters([AtomicU64; 12]);

impl Counters {
    pub fn add(&self, counter: Counter) {
        // Relaxed: these are statistics, nothing is ordered by them.
        self.0[counter as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn snapshot(&self) -> NetCounters {
        let read = |counter: Counter| self.0[counter as usize].load(Ordering::Relaxed);
        NetCounters {
            stray_packets: read(Counter::StrayPackets),
            connections_refused: read(Counter::ConnectionsRefused),
            retries: read(Counter::Retries),
            handshakes_failed: read(Counter::HandshakesFailed),
            hellos_refused: read(Counter::HellosRefused),
            asks_refused: read(Counter::AsksRefused),
            queue_full: read(Counter::QueueFull),
            send_blocked: read(Counter::SendBlocked),
            send_errors: read(Counter::SendErrors),
            requests_malformed: read(Counter::RequestsMalformed),
            pairings_refused: read(Counter::PairingsRefused),
            discovery_ignored: read(Counter::DiscoveryIgnored),
        }
    }
}
