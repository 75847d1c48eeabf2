//! The GameStream face in the control loop: what it is told, and how what follows is carried out.

use std::os::fd::OwnedFd;
use std::time::Instant;

use ipc::GameStreamListen;
use ipc::plane::PlaneError;

use super::Control;
use crate::counters::Counter;
use crate::gamestream::face::{Act, Acts, Face};
use crate::gamestream::http::Visit;
use crate::media::MediaCommand;

impl Control {
    pub(super) fn listen_for_guests(&mut self, listen: GameStreamListen<OwnedFd>) -> Result<(), PlaneError> {
        let Some(listening) = &self.listening else { return Err(PlaneError::protocol("GameStream before Listen")) };
        let signer = listening.signer.clone();
        self.try_face(|face, acts| face.listen(listen, &signer, acts))
    }

    pub(super) fn on_visit(&mut self, visit: Visit) -> Result<(), PlaneError> {
        let mut acts = Acts::new();
        self.face.visit(Instant::now(), visit, &mut self.ask_numbers, &mut acts);
        self.carry_out(acts)
    }

    /// Tells the face something, and does what follows.
    pub(super) fn face(&mut self, tell: impl FnOnce(&mut Face, &mut Acts)) -> Result<(), PlaneError> {
        self.try_face(|face, acts| {
            tell(face, acts);
            Ok(())
        })
    }

    pub(super) fn try_face(
        &mut self,
        tell: impl FnOnce(&mut Face, &mut Acts) -> Result<(), PlaneError>,
    ) -> Result<(), PlaneError> {
        let mut acts = Acts::new();
        tell(&mut self.face, &mut acts)?;
        self.carry_out(acts)
    }

    fn carry_out(&mut self, acts: Acts) -> Result<(), PlaneError> {
        for act in acts {
            match act {
                Act::Lumend(message) => self.tell_lumend(message)?,
                // Any number of these may come, and the next one makes up for one that is lost.
                Act::Media(command @ (MediaCommand::Keyframe { .. } | MediaCommand::Loss { .. })) => {
                    if !self.media.send(command) {
                        self.counters.add(Counter::QueueFull);
                    }
                }
                Act::Media(command) => self.tell_media(command)?,
                Act::Hub(order) => self.hub.tell(order)?,
            }
        }
        Ok(())
    }
}
