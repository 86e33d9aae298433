//! What takes bytes from outside, each as a function of bytes that must not panic, whatever they
//! are.
//!
//! `cargo xtask fuzz TARGET` runs one under a coverage-guided engine and keeps what it finds in
//! `corpus/TARGET`. The test `replay` runs every file kept there, with no engine. To add a target:
//! a function, and a line in [`TARGETS`].

mod boot;
mod client;
mod programs;
mod protocol;
mod servers;

/// Something that takes bytes.
pub type Target = fn(&[u8]);

/// All of them by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("head", protocol::head),
    ("request", protocol::request),
    ("reply", protocol::reply),
    ("pieces", protocol::pieces),
    ("holes", protocol::holes),
    ("dirents", protocol::dirents),
    ("path", protocol::path),
    ("archive", servers::archive),
    ("server", servers::server),
    ("wrapper", servers::wrapper),
    ("elf", programs::elf),
    ("initrd", boot::initrd),
    ("client", client::client),
];

/// The target of a name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}
