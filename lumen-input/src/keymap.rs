//! Keymaps: the session's, and the one that text is typed with.
