//! A real Wayland client and a bare capture loop, for measuring what the compositor alone costs.

pub mod floor;
pub mod scene;
mod window;
