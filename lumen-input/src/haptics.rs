//! Force-feedback effects, mixed to two motors.
