//! The plane as lumend, encoders and clients meet it: real links, rings, sockets and handshakes. Most tests run the
//! program itself, locked down; those that need other limits run its library.

#[path = "plane/client.rs"]
mod client;
#[path = "plane/discovery.rs"]
mod discovery;
#[path = "plane/flood.rs"]
mod flood;
#[path = "guest/client.rs"]
mod guest_client;
#[path = "plane/guest_sealed.rs"]
mod guest_sealed;
#[path = "plane/guests.rs"]
mod guests;
#[path = "plane/hands.rs"]
mod hands;
#[path = "plane/host.rs"]
mod host;
#[path = "plane/https.rs"]
mod https;
#[path = "plane/media.rs"]
mod media;
#[path = "plane/moonlight.rs"]
mod moonlight;
#[path = "support/pinned.rs"]
mod pinned;
#[path = "plane/refusals.rs"]
mod refusals;
#[path = "plane/resume.rs"]
mod resume;
#[path = "support/rings.rs"]
mod rings;
#[path = "plane/rtp.rs"]
mod rtp;
#[path = "plane/session.rs"]
mod session;
#[path = "plane/sound.rs"]
mod sound;
#[path = "plane/thread.rs"]
mod thread;
#[path = "plane/visits.rs"]
mod visits;
