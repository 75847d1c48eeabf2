//! The locked-down program between a real PipeWire and the ring.

mod support;

use ipc::{FromAudio, SinkChoice, ToAudio};
use lumen_core::AudioLayout;

use crate::support::player::{Player, Score};
use crate::support::server::{Server, wait};
use crate::support::{Plane, amplitude, channel, wiring};

#[test]
fn what_the_default_sink_plays_comes_out_with_its_channels_in_order() {
    let server = Server::with_speakers("FL,FR");
    let (plane, mut listener) = Plane::wired(&server, AudioLayout::Stereo, SinkChoice::Auto);
    assert_eq!(plane.sink(), "Loudspeakers-speakers");
    let player = Player::start(server.connect(), Score::Tones(vec![440.0, 1000.0]));
    listener.wait_for_sound(0.3);
    listener.packets(20);
    let packets = listener.packets(200);
    for (side, own, other) in [(0, 440.0, 1000.0), (1, 1000.0, 440.0)] {
        let signal = channel(&packets, side, 2);
        assert!((0.45..0.55).contains(&amplitude(&signal, own)), "{side}: {}", amplitude(&signal, own));
        assert!(amplitude(&signal, other) < 0.02, "{side}: {}", amplitude(&signal, other));
    }
    drop(player);
    plane.retire();
    assert!(plane.outcome().success());
}
