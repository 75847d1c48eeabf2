//! A real Wayland client and a bare capture loop, for measuring what the compositor alone costs.

pub mod floor;
mod hands;
pub mod scene;
mod window;
