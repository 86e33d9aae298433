//! Drivers. They transfer bytes and know nothing of files.

pub mod disk;
pub mod framebuffer;
