//! Discovery as the daemon does it: the network plane is told anew when links, services or the plane itself have changed.

use ipc::{Face, ToNet};

use super::Daemon;
use crate::discovery::Offer;
use crate::machine::Process;

impl Daemon {
    pub(super) fn tend_discovery(&mut self, now: u64) {
        let changed = self.parts.discovery.changed(now);
        let net = self.machine.net().current;
        let Some(plane) = net.filter(|&plane| self.machine.process(plane).is_some_and(Process::is_ready)) else {
            self.announced = None;
            return;
        };
        let native = Offer { face: Face::Lumen, address: self.parts.sockets.quic_address };
        let gamestream = self.parts.gamestream.address();
        let offers: Vec<_> =
            [native].into_iter().chain(gamestream.map(|address| Offer { face: Face::GameStream, address })).collect();
        let current = Some((plane, offers));
        if changed || self.announced != current {
            let offers = current.as_ref().map_or(&[][..], |(_, offers)| offers);
            let announce = self.parts.discovery.announce(now, offers);
            self.announced = current;
            if let Some(announce) = announce {
                self.tell(plane, ToNet::Announce(announce));
            }
        }
    }
}
