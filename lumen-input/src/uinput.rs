//! The kernel's devices.
