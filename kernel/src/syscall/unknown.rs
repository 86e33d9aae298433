//! System calls that are not implemented: they give ENOSYS, and one line in the log for each
//! program and number.

use crate::arch::SavedRegisters;
use crate::sync::{Mutex, rank};
use crate::task::Current;
use crate::task::deliver;
use foundation::Errno;

/// Names of Linux's calls that are not implemented, by the first number of each row.
const NAMES: &[(u64, &[&str])] = &[
    (29, &["shmget", "shmat", "shmctl"]),
    (40, &["sendfile"]),
    (64, &["semget", "semop", "semctl", "shmdt", "msgget", "msgsnd", "msgrcv", "msgctl"]),
    (101, &["ptrace"]),
    (134, &["uselib"]),
    (136, &["ustat"]),
    (139, &["sysfs"]),
    (153, &["vhangup", "modify_ldt", "pivot_root", "_sysctl"]),
    (161, &["chroot"]),
    (163, &["acct"]),
    (167, &["swapon", "swapoff"]),
    (
        172,
        &[
            "iopl",
            "ioperm",
            "create_module",
            "init_module",
            "delete_module",
            "get_kernel_syms",
            "query_module",
            "quotactl",
            "nfsservctl",
            "getpmsg",
            "putpmsg",
            "afs_syscall",
            "tuxcall",
            "security",
        ],
    ),
    (
        205,
        &[
            "set_thread_area",
            "io_setup",
            "io_destroy",
            "io_getevents",
            "io_submit",
            "io_cancel",
            "get_thread_area",
            "lookup_dcookie",
        ],
    ),
    (214, &["epoll_ctl_old", "epoll_wait_old", "remap_file_pages"]),
    (220, &["semtimedop"]),
    (
        236,
        &[
            "vserver",
            "mbind",
            "set_mempolicy",
            "get_mempolicy",
            "mq_open",
            "mq_unlink",
            "mq_timedsend",
            "mq_timedreceive",
            "mq_notify",
            "mq_getsetattr",
            "kexec_load",
        ],
    ),
    (
        248,
        &[
            "add_key",
            "request_key",
            "keyctl",
            "ioprio_set",
            "ioprio_get",
            "inotify_init",
            "inotify_add_watch",
            "inotify_rm_watch",
            "migrate_pages",
        ],
    ),
    (272, &["unshare"]),
    (275, &["splice", "tee"]),
    (278, &["vmsplice", "move_pages"]),
    (294, &["inotify_init1"]),
    (298, &["perf_event_open"]),
    (300, &["fanotify_init", "fanotify_mark"]),
    (303, &["name_to_handle_at", "open_by_handle_at"]),
    (308, &["setns"]),
    (310, &["process_vm_readv", "process_vm_writev", "kcmp", "finit_module"]),
    (317, &["seccomp"]),
    (320, &["kexec_file_load", "bpf"]),
    (323, &["userfaultfd"]),
    (326, &["copy_file_range"]),
    (329, &["pkey_mprotect", "pkey_alloc", "pkey_free"]),
    (333, &["io_pgetevents"]),
    (
        425,
        &[
            "io_uring_setup",
            "io_uring_enter",
            "io_uring_register",
            "open_tree",
            "move_mount",
            "fsopen",
            "fsconfig",
            "fsmount",
            "fspick",
        ],
    ),
    (437, &["openat2", "pidfd_getfd"]),
    (440, &["process_madvise"]),
    (
        442,
        &[
            "mount_setattr",
            "quotactl_fd",
            "landlock_create_ruleset",
            "landlock_add_rule",
            "landlock_restrict_self",
            "memfd_secret",
            "process_mrelease",
        ],
    ),
    (450, &["set_mempolicy_home_node"]),
];

/// Upper bound for remembered pairs: programs can try arbitrary numbers.
const MAX_LOGGED: usize = 512;

/// The pairs of number and program name that have been logged, by their hashes: what programs try
/// makes the kernel keep nothing. If two pairs have one hash, the second one is not logged.
struct Logged {
    hashes: [u64; MAX_LOGGED],
    count: usize,
}

static LOGGED: Mutex<Logged, rank::UnknownCalls> =
    Mutex::new(Logged { hashes: [0; MAX_LOGGED], count: 0 });

/// Linux's name of a number that is not implemented.
pub fn name(number: u64) -> Option<&'static str> {
    let find = |&(first, names): &(u64, &'static [&'static str])| {
        names.get(usize::try_from(number.checked_sub(first)?).ok()?).copied()
    };
    NAMES.iter().find_map(find)
}

/// Handles a call that is not implemented.
#[cold]
pub fn call(current: &Current, registers: SavedRegisters<'_>) -> u64 {
    let number = registers.number();
    let process = current.process();
    let program = process.identity.lock().name.clone();
    if is_new(number, &program) {
        let name = name(number).unwrap_or("no name");
        log::info!(
            "{} ({}) made system call {number} ({name}), which does not exist here",
            program.escape_ascii(),
            process.pid
        );
    }
    deliver::error(Errno::ENOSYS)
}

fn is_new(number: u64, program: &[u8]) -> bool {
    let hash = hash(number, program);
    let mut logged = LOGGED.lock();
    let Logged { hashes, count } = &mut *logged;
    let (known, free) = hashes.split_at_mut(*count);
    let Some(place) = free.first_mut().filter(|_| !known.contains(&hash)) else { return false };
    *place = hash;
    *count += 1;
    true
}

/// FNV-1a, 64 bits (draft-eastlake-fnv).
fn hash(number: u64, program: &[u8]) -> u64 {
    number.to_le_bytes().iter().chain(program).fold(0xcbf2_9ce4_8422_2325, |hash: u64, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_linuxs_and_of_missing_calls() {
        assert_eq!((name(40), name(437), name(9999)), (Some("sendfile"), Some("openat2"), None));
        for (number, call) in super::super::table::all() {
            assert_eq!(name(number as u64), None, "{}", call.name);
        }
    }

    #[test]
    fn each_program_and_number_is_logged_once() {
        assert!(is_new(7777, b"a") && is_new(7777, b"b") && is_new(7778, b"a"));
        assert!(!is_new(7777, b"a"));
    }
}
