//! Fuzz targets: every decoder of untrusted bytes, as a function that must not panic.
//!
//! `cargo xtask fuzz TARGET` runs a target under a coverage-guided engine and keeps the inputs that
//! it finds in `corpus/TARGET.tar`. The test `replay` runs every kept input without the engine. A
//! new target is a function, a line in [`TARGETS`] and an archive with at least one input.

mod boot;
mod client;
mod programs;
mod protocol;
mod servers;

/// A function that takes untrusted bytes.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("head", protocol::header),
    ("request", protocol::request),
    ("reply", protocol::reply),
    ("pieces", protocol::pieces),
    ("holes", protocol::holes),
    ("ranges", protocol::ranges),
    ("dirents", protocol::dirents),
    ("path", protocol::path),
    ("archive", servers::archive),
    ("server", servers::server),
    ("wrapper", servers::wrapper),
    ("elf", programs::elf),
    ("initrd", boot::initrd),
    ("client", client::client),
];

/// Looks a target up by its name on the command line.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}
