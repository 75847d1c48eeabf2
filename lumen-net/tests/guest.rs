//! GameStream sessions as their clients meet them after the launch: real sockets, rings and ENet, and a test that plays
//! the control loop.

#[path = "guest/client.rs"]
mod client;
#[path = "guest/hub.rs"]
mod hub;
#[path = "support/rings.rs"]
mod rings;
#[path = "guest/session.rs"]
mod session;
#[path = "guest/strangers.rs"]
mod strangers;
