//! The tree of `/sys`: what programs ask about processors. There is one, which is always online.

use super::node::{Directory, Fixed};
use super::system::File;
use crate::mem::{OutOfMemory, fallible};
use alloc::vec::Vec;

/// The number of the only processor, as a list of numbers.
const ONLY: &[u8] = b"0\n";

fn only() -> Result<Vec<u8>, OutOfMemory> {
    fallible::to_vec(ONLY)
}

/// A list without numbers.
fn none() -> Result<Vec<u8>, OutOfMemory> {
    fallible::to_vec(b"\n")
}

static CPU_FILES: &[(&str, Fixed)] = &[
    ("cpu0", Fixed::Directory(&CPU0)),
    ("isolated", Fixed::File(&File { name: "isolated", text: none })),
    ("kernel_max", Fixed::File(&File { name: "kernel_max", text: only })),
    ("offline", Fixed::File(&File { name: "offline", text: none })),
    ("online", Fixed::File(&File { name: "online", text: only })),
    ("possible", Fixed::File(&File { name: "possible", text: only })),
    ("present", Fixed::File(&File { name: "present", text: only })),
];
static TOPOLOGY_FILES: &[(&str, Fixed)] = &[
    ("core_cpus_list", Fixed::File(&File { name: "core_cpus_list", text: only })),
    ("core_id", Fixed::File(&File { name: "core_id", text: only })),
    ("core_siblings_list", Fixed::File(&File { name: "core_siblings_list", text: only })),
    ("package_cpus_list", Fixed::File(&File { name: "package_cpus_list", text: only })),
    ("physical_package_id", Fixed::File(&File { name: "physical_package_id", text: only })),
    ("thread_siblings_list", Fixed::File(&File { name: "thread_siblings_list", text: only })),
];

static DEVICES: Directory =
    Directory { inode: 0x41, names: &[("system", Fixed::Directory(&SYSTEM))] };
static SYSTEM: Directory = Directory {
    inode: 0x42,
    names: &[("cpu", Fixed::Directory(&CPU)), ("node", Fixed::Directory(&NODE))],
};
static CPU: Directory = Directory { inode: 0x43, names: CPU_FILES };
static CPU0: Directory =
    Directory { inode: 0x44, names: &[("topology", Fixed::Directory(&TOPOLOGY))] };
static TOPOLOGY: Directory = Directory { inode: 0x45, names: TOPOLOGY_FILES };
static NODE: Directory = Directory {
    inode: 0x46,
    names: &[
        ("online", Fixed::File(&File { name: "online", text: only })),
        ("possible", Fixed::File(&File { name: "possible", text: only })),
    ],
};

/// The root of `/sys`.
pub(super) static SYS: Directory =
    Directory { inode: 0x40, names: &[("devices", Fixed::Directory(&DEVICES))] };
