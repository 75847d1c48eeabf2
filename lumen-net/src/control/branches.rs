//! Rings of sound, input and rumble on their way from lumend to the task of the client that they serve.

use std::os::fd::OwnedFd;

use ipc::plane::PlaneError;
use ipc::{FromNet, Generation, PlaneKind, RingFds, SessionId};

use super::Control;
use crate::branches::{BranchOrder, Broken, Inflow, Outflow};
use crate::native::ToClient;

impl Control {
    pub(super) fn wire_audio(
        &mut self,
        session: SessionId,
        generation: Generation,
        ring: RingFds<OwnedFd>,
    ) -> Result<(), PlaneError> {
        match Inflow::attach(generation, ring) {
            Ok(ring) => self.order(session, BranchOrder::WireAudio(ring)),
            Err(error) => {
                let reason = format!("the audio ring cannot be used: {error}");
                self.branch_broken(session, Broken { kind: PlaneKind::Audio, generation, reason })
            }
        }
    }

    pub(super) fn wire_input(
        &mut self,
        session: SessionId,
        generation: Generation,
        events: RingFds<OwnedFd>,
        haptics: RingFds<OwnedFd>,
    ) -> Result<(), PlaneError> {
        let rings = Outflow::attach(generation, events)
            .and_then(|events| Inflow::attach(generation, haptics).map(|haptics| (events, haptics)));
        match rings {
            Ok((events, haptics)) => self.order(session, BranchOrder::WireInput(events, haptics)),
            Err(error) => {
                let reason = format!("the input plane's rings cannot be used: {error}");
                self.branch_broken(session, Broken { kind: PlaneKind::Input, generation, reason })
            }
        }
    }

    /// Passes rings on. A session that is not there has ended, and lumend is being told.
    pub(super) fn order(&mut self, session: SessionId, order: BranchOrder) -> Result<(), PlaneError> {
        if self.face.has(session) {
            return self.face(|face, acts| face.branch(session, order, acts));
        }
        if let Some(client) = self.client_of(session) {
            self.tell_client(client, ToClient::Branch(Box::new(order)));
        }
        Ok(())
    }

    pub(super) fn branch_broken(&self, session: SessionId, broken: Broken) -> Result<(), PlaneError> {
        let Broken { kind, generation, reason } = broken;
        self.tell_lumend(FromNet::BranchBroken { session, kind, generation, reason })
    }
}
