//! A wlroots compositor.
