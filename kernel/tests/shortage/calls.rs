//! Which cases cover which system calls: a call that is added to the kernel must be added here.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use kernel::syscall::table;

use crate::cases;

/// How a call is covered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum By {
    /// By the cases of these names.
    Cases(&'static str),
    /// Another form of these calls, with the same work.
    AsIn(&'static str),
    /// It claims no memory but that of the caller's own pages.
    Nothing,
    /// It needs a running thread, which the host has not: by the cases of these names in the
    /// guest's tests ([`RUNNING`]).
    Running(&'static str),
}

use By::{AsIn, Cases, Nothing, Running};

/// The guest's tests that have one claim of a running thread fail.
const RUNNING: &str = "../user/proof/src/rules/shortage.rs";

/// The calls of the kernel, in groups.
const CALLS: &[(&str, By)] = &[
    ("read", Cases("read read_lazy read_small pipe_read")),
    ("pread64 readv preadv preadv2", Cases("read_lazy read_small readv")),
    ("write", Cases("write pipe_write stream_write")),
    (
        "pwrite64 writev pwritev pwritev2",
        Cases("write_data write_small write_reference write_mixed write_over_snapshot writev"),
    ),
    ("open openat creat", Cases("open create")),
    ("close", Cases("open")),
    ("close_range", Cases("close_range")),
    ("stat lstat newfstatat", Cases("stat")),
    ("fstat", Cases("fstat")),
    ("statx", Cases("statx")),
    ("statfs", Cases("statfs")),
    ("fstatfs", Cases("fstatfs")),
    ("access faccessat faccessat2", Cases("access")),
    ("chmod fchmodat fchmodat2", Cases("chmod")),
    ("fchmod", Cases("chmod_open")),
    ("chown lchown fchownat", Cases("chown")),
    ("fchown", Cases("chown_open")),
    ("utime utimes futimesat utimensat", Cases("utimes")),
    ("lseek", Cases("lseek_data")),
    ("fadvise64", Cases("fadvise")),
    ("readahead sync_file_range", AsIn("fadvise")),
    ("truncate", Cases("truncate")),
    ("ftruncate", Cases("ftruncate")),
    ("fallocate", Cases("fallocate")),
    ("fsync fdatasync", Cases("fsync")),
    ("sync", Cases("sync")),
    ("syncfs", Cases("syncfs")),
    ("mkdir mkdirat", Cases("mkdir")),
    ("mknod mknodat", Cases("mknod_pipe")),
    ("rmdir", Cases("rmdir")),
    ("unlink unlinkat", Cases("unlink")),
    ("rename renameat renameat2", Cases("rename exchange")),
    ("link linkat", Cases("link")),
    ("symlink symlinkat", Cases("symlink")),
    ("readlink readlinkat", Cases("readlink")),
    ("getdents64", Cases("getdents")),
    ("getdents", Cases("getdents_old")),
    ("getcwd", Cases("getcwd")),
    ("chdir", Cases("chdir")),
    ("fchdir", Cases("fchdir")),
    ("listxattr llistxattr flistxattr", Cases("listxattr")),
    ("setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr", AsIn("listxattr")),
    ("removexattr lremovexattr fremovexattr", AsIn("listxattr")),
    ("mount", Cases("mount")),
    ("umount2", Cases("umount")),
    ("mmap", Cases("mmap mmap_over mmap_shared mmap_file mmap_file_shared")),
    ("munmap", Cases("munmap")),
    ("mprotect", Cases("mprotect")),
    ("mremap", Cases("mremap_grow mremap_to")),
    ("msync", Cases("msync")),
    ("mincore", Cases("mincore")),
    ("madvise", Cases("dontneed dontneed_swapped")),
    ("brk", Cases("brk")),
    ("mlock mlock2", Cases("mlock")),
    ("munlock", Cases("munlock")),
    ("mlockall munlockall", Cases("mlockall munlockall")),
    ("pipe pipe2", Cases("pipe")),
    ("socketpair", Cases("socketpair")),
    ("socket", Cases("socket")),
    ("bind", Cases("bind bind_automatic")),
    ("connect", Cases("connect")),
    ("accept accept4", Cases("accept")),
    ("sendto", Cases("send_small send_pages send_swapped")),
    ("recvfrom", Cases("receive_pages")),
    ("sendmsg", Cases("sendmsg send_files")),
    ("sendmmsg", AsIn("sendmsg")),
    ("recvmsg", Cases("recvmsg receive_files")),
    ("recvmmsg", AsIn("recvmsg")),
    ("listen getsockname getpeername setsockopt getsockopt", Nothing),
    ("exchange", Cases("exchange_packets exchange_pages")),
    ("fcntl", Cases("lock pipe_resize dup_lowest")),
    ("flock", Cases("flock")),
    ("dup dup2 dup3", Cases("dup")),
    ("ioctl", Cases("terminal")),
    ("getrandom", Cases("getrandom")),
    ("syslog", Cases("log")),
    ("umask shutdown uname sysinfo capget getgroups setgroups", Nothing),
    ("getuid geteuid getgid getegid setuid setgid setreuid setregid", Nothing),
    ("setresuid getresuid setresgid getresgid getpriority setpriority reboot rseq", Nothing),
    ("getpid gettid getppid getpgrp getpgid getsid sched_yield getrusage times", Nothing),
    ("sched_setaffinity sched_getaffinity set_tid_address", Nothing),
    ("rt_sigaction rt_sigprocmask rt_sigpending rt_sigsuspend sigaltstack pause", Nothing),
    ("restart_syscall clock_gettime clock_getres clock_settime time settimeofday", Nothing),
    ("adjtimex clock_adjtime setfsuid setfsgid capset personality", Nothing),
    (
        "sched_setparam sched_getparam sched_setscheduler sched_getscheduler sched_rr_get_interval",
        Nothing,
    ),
    ("sched_get_priority_max sched_get_priority_min sched_setattr sched_getattr", Nothing),
    ("getcpu membarrier sethostname setdomainname", Nothing),
    ("timer_gettime timer_getoverrun timer_delete", Nothing),
    ("gettimeofday getrlimit setrlimit prlimit64 arch_prctl", Nothing),
    ("set_robust_list get_robust_list", Nothing),
    ("poll", Cases("poll")),
    ("select", Cases("select")),
    ("epoll_create epoll_create1", Cases("epoll_create")),
    ("epoll_ctl", Cases("epoll_ctl epoll_nested")),
    ("epoll_wait epoll_pwait epoll_pwait2", Cases("epoll_wait")),
    ("eventfd eventfd2", Cases("eventfd")),
    ("timerfd_create", Cases("timerfd")),
    ("memfd_create", Cases("memfd")),
    ("signalfd signalfd4", AsIn("eventfd")),
    ("timerfd_settime timerfd_gettime pidfd_send_signal", Nothing),
    ("pidfd_open", AsIn("eventfd")),
    ("ppoll", Running("ppoll")),
    ("pselect6", Running("pselect6")),
    ("fork", Running("fork child_memory")),
    ("vfork", Running("vfork")),
    ("clone clone3", Running("clone")),
    ("execve execveat", Running("execve execve_script")),
    ("exit exit_group", Running("exit clone")),
    ("wait4 waitid", Running("wait4")),
    ("setpgid", Running("setpgid")),
    ("setsid", Running("setsid")),
    ("prctl", Running("prctl")),
    ("kill", Running("kill_handler")),
    ("tkill", Running("tkill")),
    ("tgkill", Running("tgkill")),
    ("rt_sigqueueinfo", Running("rt_sigqueueinfo")),
    ("rt_tgsigqueueinfo", Running("rt_tgsigqueueinfo")),
    ("rt_sigtimedwait", Running("rt_sigtimedwait")),
    ("rt_sigreturn", Running("rt_sigreturn")),
    ("alarm", Running("alarm")),
    ("getitimer setitimer", Running("setitimer_getitimer")),
    ("timer_create timer_settime", Running("timers")),
    ("nanosleep clock_nanosleep", Running("nanosleep")),
    ("futex futex_waitv", Running("futex_wait futex_requeue")),
];

#[test]
fn q8_every_call_is_covered() {
    let listed: Vec<&str> = CALLS.iter().flat_map(|(names, _)| names.split(' ')).collect();
    let set: BTreeSet<&str> = listed.iter().copied().collect();
    assert_eq!(set.len(), listed.len(), "a call is listed twice");
    let calls: BTreeSet<&str> = table::all().map(|(_, call)| call.name).collect();
    assert_eq!(calls.difference(&set).collect::<Vec<_>>(), [""; 0].iter().collect::<Vec<_>>());
    assert_eq!(set.difference(&calls).collect::<Vec<_>>(), [""; 0].iter().collect::<Vec<_>>());
    let cases: BTreeSet<&str> = cases::all().iter().map(|case| case.name).collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(RUNNING);
    let running = fs::read_to_string(path).expect("the guest's tests");
    for (_, by) in CALLS {
        let (names, is_case): (_, &dyn Fn(&str) -> bool) = match by {
            Cases(names) | AsIn(names) => (names, &|name| cases.contains(name)),
            Running(names) => (names, &|name| running.contains(&format!("name: \"{name}\""))),
            Nothing => continue,
        };
        for name in names.split(' ') {
            assert!(is_case(name), "no case is called {name}");
        }
    }
}
