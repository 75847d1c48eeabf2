//! Which event goes where, and what is held.
