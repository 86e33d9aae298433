//! Drivers: what talks to a device and nothing else. Everything above speaks of bytes and lines.

pub mod disk;
