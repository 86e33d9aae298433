//! `/proc/sys/kernel`, `fs` and `vm`: what programs ask before they choose sizes and features. All
//! are read-only; limits of Sloth are its own, and features that it does not have are 0.

use super::node::{Directory, Fixed};
use super::system::{File, RELEASE_TEXT, SYSTEM_TEXT, VERSION_TEXT};
use crate::file::{MAX_PIPE_BYTES, random};
use crate::mem::limits::MAX_FILES;
use crate::mem::{OutOfMemory, fallible::Text};
use crate::task::host_name;
use alloc::vec::Vec;
use core::fmt::{self, Display, Write};
use foundation::knob;
use spin::Once;

/// One line of text.
fn line(value: impl Display) -> Result<Vec<u8>, OutOfMemory> {
    let mut text = Text::default();
    writeln!(text, "{value}")?;
    Ok(text.0)
}

/// Files with one line each.
macro_rules! settings {
    ($($name:ident [$($more:expr),*] { $($file:literal => $value:expr,)* })*) => {
        $(
            /// Files by name.
            static $name: &[(&str, Fixed)] = &[
                $(($file, Fixed::File(&File { name: $file, text: || line($value) })),)*
                $($more),*
            ];
        )*
    };
}

settings! {
    KERNEL_FILES [("random", Fixed::Directory(&RANDOM))] {
        "cap_last_cap" => 40,
        "core_pattern" => "core",
        "core_uses_pid" => 0,
        "domainname" => host_name::DOMAIN.get().bytes().escape_ascii(),
        "hostname" => host_name::HOST.get().bytes().escape_ascii(),
        "ngroups_max" => 65_536,
        "osrelease" => RELEASE_TEXT,
        "ostype" => SYSTEM_TEXT,
        "overflowgid" => OVERFLOW_ID,
        "overflowuid" => OVERFLOW_ID,
        "panic" => 0,
        "perf_event_paranoid" => 4,
        "pid_max" => MAX_PID,
        "randomize_va_space" => 0,
        "sched_rt_period_us" => 1_000_000,
        "sched_rt_runtime_us" => 950_000,
        "tainted" => 0,
        "threads-max" => MAX_THREADS,
        "version" => VERSION_TEXT,
    }
    RANDOM_FILES [] {
        "boot_id" => boot_id(),
        "entropy_avail" => 256,
        "poolsize" => 256,
        "uuid" => new_id(),
    }
    FS_FILES [] {
        "file-max" => i64::MAX,
        "file-nr" => format_args!("0\t0\t{}", i64::MAX),
        "mount-max" => 256,
        "nr_open" => MAX_FILES,
        "overflowgid" => OVERFLOW_ID,
        "overflowuid" => OVERFLOW_ID,
        "pipe-max-size" => MAX_PIPE_BYTES,
        "pipe-user-pages-hard" => 0,
        "pipe-user-pages-soft" => 16_384,
        "protected_fifos" => 0,
        "protected_hardlinks" => 0,
        "protected_regular" => 0,
        "protected_symlinks" => 0,
        "suid_dumpable" => 0,
    }
    VM_FILES [] {
        "max_map_count" => knob::MAX_REGIONS.get(),
        "min_free_kbytes" => 0,
        "mmap_min_addr" => 65_536,
        "nr_hugepages" => 0,
        "oom_kill_allocating_task" => 0,
        "overcommit_kbytes" => 0,
        "overcommit_memory" => 0,
        "overcommit_ratio" => 50,
        "panic_on_oom" => 0,
    }
}

/// The id of users and groups that cannot be shown, as on Linux.
const OVERFLOW_ID: u32 = 65_534;
/// One more than the largest process number, as on Linux.
const MAX_PID: u32 = 4_194_304;
/// Threads of all processes, at most (`task::family`).
const MAX_THREADS: u32 = 4096;

/// `/proc/sys/kernel`.
pub(super) static KERNEL: Directory = Directory { inode: 0x11, names: KERNEL_FILES };
/// `/proc/sys/fs`.
pub(super) static FS: Directory = Directory { inode: 0x13, names: FS_FILES };
/// `/proc/sys/vm`.
pub(super) static VM: Directory = Directory { inode: 0x14, names: VM_FILES };
static RANDOM: Directory = Directory { inode: 0x15, names: RANDOM_FILES };

/// A random universally unique identifier, version 4 (RFC 9562).
struct Id(u128);

impl Display for Id {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = |from: u32, bits: u32| self.0 >> (128 - from - bits) & ((1 << bits) - 1);
        let [first, second, third] = [field(0, 32), field(32, 16), field(48, 16)];
        let (fourth, last) = (field(64, 16), field(80, 48));
        write!(to, "{first:08x}-{second:04x}-{third:04x}-{fourth:04x}-{last:012x}")
    }
}

fn new_id() -> Id {
    let mut bytes = [0; 16];
    random::fill(&mut bytes);
    let version = 0xf << 76;
    let variant = 3 << 62;
    Id(u128::from_be_bytes(bytes) & !(version | variant) | 4 << 76 | 2 << 62)
}

/// The identifier that this boot keeps.
fn boot_id() -> &'static Id {
    static BOOT: Once<Id> = Once::new();
    BOOT.call_once(new_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn identifiers_have_their_form() {
        let id = Id(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        assert_eq!(id.to_string(), "01234567-89ab-cdef-0123-456789abcdef");
        let id = new_id().to_string();
        assert_eq!((id.len(), id.as_bytes()[14]), (36, b'4'));
        assert!(matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
    }
}
