//! The table of system calls: numbers, names, arguments, handlers.

use super::{
    attributes, clocks, clone, epoll, event_files, futex, io, ioctl, ipc, limits, memfd, memory,
    message, misc, mounting, names, open, poll, prctl, priority, process, random, ranges, sched,
    signal, socket, sockopt, statx, time, timers, unknown, xattr,
};
use crate::arch::SavedRegisters;
use crate::file::Fd;
use crate::mem::UserAddr;
use crate::task::Current;
use crate::task::deliver::{Restart, error};
use foundation::ByteCount;

/// A function that decodes the arguments and calls the handler. Returns the result as the program
/// gets it.
pub type Handler = fn(&Current, SavedRegisters<'_>) -> u64;

/// A system call.
pub struct Call {
    /// Its name on Linux.
    pub name: &'static str,
    /// The names of its arguments, for tracing.
    pub arguments: &'static [&'static str],
    /// The function that carries it out.
    pub handler: Handler,
    /// How it continues after a signal.
    pub restart: Restart,
}

/// A type that a register can be decoded into. As on Linux, excess bits are ignored.
trait Argument {
    fn decode(register: u64) -> Self;
}

macro_rules! arguments {
    ($($type:ty)*) => {
        $(impl Argument for $type {
            #[inline]
            fn decode(register: u64) -> Self {
                register as Self
            }
        })*
    };
}
arguments!(u64 i64 u32 i32 usize);

impl Argument for UserAddr {
    #[inline]
    fn decode(register: u64) -> Self {
        Self(register)
    }
}

impl Argument for ByteCount {
    #[inline]
    fn decode(register: u64) -> Self {
        Self(register)
    }
}

impl Argument for Fd {
    #[inline]
    fn decode(register: u64) -> Self {
        Self(register as i32)
    }
}

/// The size of the table; all numbers are below it.
pub const TABLE_SIZE: usize = 512;

macro_rules! system_calls {
    ($(
        $number:literal $(($restart:ident))? $name:ident($($argument:ident),*) => $handler:path;
    )*) => {
        static CALLS: [Option<Call>; TABLE_SIZE] = {
            let mut calls = [const { None }; TABLE_SIZE];
            $({
                #[allow(unused_mut, unused_variables, unused_assignments)]
                fn handler(current: &Current, registers: SavedRegisters<'_>) -> u64 {
                    let mut index = 0;
                    $(let $argument = Argument::decode(registers.argument(index)); index += 1;)*
                    $handler(current $(, $argument)*).unwrap_or_else(error)
                }
                #[allow(unused_mut, unused_assignments)]
                let mut restart = Restart::Usual;
                $(restart = Restart::$restart;)?
                calls[$number] = Some(Call {
                    name: stringify!($name),
                    arguments: &[$(stringify!($argument)),*],
                    handler,
                    restart,
                });
            })*
            calls
        };
    };
}

/// Handlers by number, apart from what only tracing and signals need, for the shortest dispatch.
static HANDLERS: [Handler; TABLE_SIZE] = {
    let mut handlers: [Handler; TABLE_SIZE] = [unknown::call; TABLE_SIZE];
    let mut number = 0;
    while number < TABLE_SIZE {
        if let Some(call) = &CALLS[number] {
            handlers[number] = call.handler;
        }
        number += 1;
    }
    handlers
};

/// The handler of a number, which is [`unknown::call`] for one that is not implemented. `None` past
/// the table.
#[inline]
pub fn handler(number: u64) -> Option<Handler> {
    HANDLERS.get(usize::try_from(number).ok()?).copied()
}

/// The system call of a number; `None` if it is not implemented.
pub fn find(number: u64) -> Option<&'static Call> {
    CALLS.get(usize::try_from(number).ok()?)?.as_ref()
}

/// All system calls with their numbers.
pub fn all() -> impl Iterator<Item = (usize, &'static Call)> {
    CALLS.iter().enumerate().filter_map(|(number, call)| Some((number, call.as_ref()?)))
}

// The word in parentheses says how a call continues after a signal; by default `Restart::Usual`.
system_calls! {
    0 read(fd, buffer, length) => io::read;
    1 write(fd, buffer, length) => io::write;
    2 open(path, flags, mode) => open::open;
    3 close(fd) => open::close;
    4 stat(path, buffer) => attributes::stat;
    5 fstat(fd, buffer) => attributes::fstat;
    6 lstat(path, buffer) => attributes::lstat;
    7 (WithoutHandler) poll(descriptors, count, timeout_ms) => poll::poll;
    8 lseek(fd, offset, whence) => io::lseek;
    9 mmap(address, length, prot, flags, fd, offset) => memory::mmap;
    10 mprotect(address, length, prot) => memory::mprotect;
    11 munmap(address, length) => memory::munmap;
    12 brk(end) => memory::brk;
    13 rt_sigaction(signal, new, old, set_bytes) => signal::rt_sigaction;
    14 rt_sigprocmask(how, new, old, set_bytes) => signal::rt_sigprocmask;
    15 rt_sigreturn() => signal::rt_sigreturn;
    16 ioctl(fd, request, argument) => ioctl::ioctl;
    17 pread64(fd, buffer, length, offset) => io::pread64;
    18 pwrite64(fd, buffer, length, offset) => io::pwrite64;
    19 readv(fd, vector, count) => io::readv;
    20 writev(fd, vector, count) => io::writev;
    21 access(path, mode) => attributes::access;
    22 pipe(descriptors) => ipc::pipe;
    23 (WithoutHandler) select(count, read, write, except, timeout) => poll::select;
    24 sched_yield() => process::sched_yield;
    25 mremap(old, old_length, new_length, flags, new) => memory::mremap;
    26 msync(address, length, flags) => memory::msync;
    27 mincore(address, length, vector) => memory::mincore;
    28 madvise(address, length, advice) => memory::madvise;
    32 dup(fd) => open::dup;
    33 dup2(old, new) => open::dup2;
    34 (WithoutHandler) pause() => signal::pause;
    35 (WithoutHandler) nanosleep(request, remaining) => time::nanosleep;
    36 getitimer(which, value) => time::getitimer;
    37 alarm(seconds) => time::alarm;
    38 setitimer(which, new, old) => time::setitimer;
    39 getpid() => process::getpid;
    41 socket(domain, kind, protocol) => socket::socket;
    42 connect(fd, address, address_bytes) => socket::connect;
    43 accept(fd, address, address_bytes) => socket::accept;
    44 sendto(fd, buffer, length, flags, address, address_bytes) => message::sendto;
    45 recvfrom(fd, buffer, length, flags, address, address_bytes) => message::recvfrom;
    46 sendmsg(fd, header, flags) => message::sendmsg;
    47 recvmsg(fd, header, flags) => message::recvmsg;
    48 shutdown(fd, how) => socket::shutdown;
    49 bind(fd, address, address_bytes) => socket::bind;
    50 listen(fd, backlog) => socket::listen;
    51 getsockname(fd, address, address_bytes) => socket::getsockname;
    52 getpeername(fd, address, address_bytes) => socket::getpeername;
    53 socketpair(domain, kind, protocol, descriptors) => socket::socketpair;
    54 setsockopt(fd, level, option, value, length) => sockopt::setsockopt;
    55 getsockopt(fd, level, option, value, length) => sockopt::getsockopt;
    56 clone(flags, stack, parent_tid, child_tid, tls) => clone::clone;
    57 fork() => clone::fork;
    58 vfork() => clone::vfork;
    59 execve(path, arguments, environment) => process::execve;
    60 exit(status) => process::exit;
    61 wait4(pid, status, options, usage) => process::wait4;
    62 kill(pid, signal) => signal::kill;
    63 uname(buffer) => misc::uname;
    72 fcntl(fd, command, argument) => open::fcntl;
    73 flock(fd, operation) => open::flock;
    74 fsync(fd) => io::fsync;
    75 fdatasync(fd) => io::fsync;
    76 truncate(path, length) => io::truncate;
    77 ftruncate(fd, length) => io::ftruncate;
    78 getdents(fd, buffer, length) => names::getdents;
    79 getcwd(buffer, length) => names::getcwd;
    80 chdir(path) => names::chdir;
    81 fchdir(fd) => names::fchdir;
    82 rename(old, new) => names::rename;
    83 mkdir(path, mode) => names::mkdir;
    84 rmdir(path) => names::rmdir;
    85 creat(path, mode) => open::creat;
    86 link(old, new) => names::link;
    87 unlink(path) => names::unlink;
    88 symlink(target, path) => names::symlink;
    89 readlink(path, buffer, length) => names::readlink;
    90 chmod(path, mode) => attributes::chmod;
    91 fchmod(fd, mode) => attributes::fchmod;
    92 chown(path, uid, gid) => attributes::chown;
    93 fchown(fd, uid, gid) => attributes::fchown;
    94 lchown(path, uid, gid) => attributes::lchown;
    95 umask(mask) => attributes::umask;
    96 gettimeofday(time, zone) => time::gettimeofday;
    97 getrlimit(resource, limit) => limits::getrlimit;
    98 getrusage(who, usage) => process::getrusage;
    99 sysinfo(info) => misc::sysinfo;
    100 times(buffer) => process::times;
    102 getuid() => misc::zero;
    103 syslog(action, buffer, length) => misc::syslog;
    104 getgid() => misc::zero;
    105 setuid(id) => misc::set_id;
    106 setgid(id) => misc::set_id;
    107 geteuid() => misc::zero;
    108 getegid() => misc::zero;
    109 setpgid(pid, group) => process::setpgid;
    110 getppid() => process::getppid;
    111 getpgrp() => process::getpgrp;
    112 setsid() => process::setsid;
    113 setreuid(real, effective) => misc::set_two_ids;
    114 setregid(real, effective) => misc::set_two_ids;
    115 getgroups(count, list) => misc::getgroups;
    116 setgroups(count, list) => misc::setgroups;
    117 setresuid(real, effective, saved) => misc::set_three_ids;
    118 getresuid(real, effective, saved) => misc::three_ids;
    119 setresgid(real, effective, saved) => misc::set_three_ids;
    120 getresgid(real, effective, saved) => misc::three_ids;
    121 getpgid(pid) => process::getpgid;
    122 setfsuid(id) => misc::set_file_id;
    123 setfsgid(id) => misc::set_file_id;
    124 getsid(pid) => process::getsid;
    125 capget(header, data) => misc::capget;
    126 capset(header, data) => misc::capset;
    127 rt_sigpending(set, set_bytes) => signal::rt_sigpending;
    128 (Never) rt_sigtimedwait(set, info, timeout, set_bytes) => signal::rt_sigtimedwait;
    129 rt_sigqueueinfo(pid, signal, info) => signal::rt_sigqueueinfo;
    130 (WithoutHandler) rt_sigsuspend(mask, set_bytes) => signal::rt_sigsuspend;
    131 sigaltstack(new, old) => signal::sigaltstack;
    132 utime(path, times) => attributes::utime;
    133 mknod(path, mode, device) => names::mknod;
    135 personality(persona) => prctl::personality;
    137 statfs(path, buffer) => attributes::statfs;
    138 fstatfs(fd, buffer) => attributes::fstatfs;
    140 getpriority(which, who) => priority::getpriority;
    141 setpriority(which, who, niceness) => priority::setpriority;
    142 sched_setparam(tid, parameters) => sched::sched_setparam;
    143 sched_getparam(tid, parameters) => sched::sched_getparam;
    144 sched_setscheduler(tid, policy, parameters) => sched::sched_setscheduler;
    145 sched_getscheduler(tid) => sched::sched_getscheduler;
    146 sched_get_priority_max(policy) => sched::sched_get_priority_max;
    147 sched_get_priority_min(policy) => sched::sched_get_priority_min;
    148 sched_rr_get_interval(tid, interval) => sched::sched_rr_get_interval;
    149 mlock(address, length) => memory::mlock;
    150 munlock(address, length) => memory::munlock;
    151 mlockall(flags) => memory::mlockall;
    152 munlockall() => memory::munlockall;
    157 prctl(option, second, third, fourth, fifth) => prctl::prctl;
    158 arch_prctl(code, address) => misc::arch_prctl;
    159 adjtimex(state) => clocks::adjtimex;
    160 setrlimit(resource, limit) => limits::setrlimit;
    162 sync() => io::sync;
    164 settimeofday(time, zone) => clocks::settimeofday;
    165 mount(source, target, kind, flags, data) => mounting::mount;
    166 umount2(target, flags) => mounting::umount2;
    169 reboot(magic, magic2, command, argument) => misc::reboot;
    170 sethostname(name, length) => misc::sethostname;
    171 setdomainname(name, length) => misc::setdomainname;
    186 gettid() => process::gettid;
    187 readahead(fd, offset, length) => ranges::readahead;
    188 setxattr(path, name, value, length, flags) => xattr::setxattr;
    189 lsetxattr(path, name, value, length, flags) => xattr::lsetxattr;
    190 fsetxattr(fd, name, value, length, flags) => xattr::fsetxattr;
    191 getxattr(path, name) => xattr::getxattr;
    192 lgetxattr(path, name) => xattr::lgetxattr;
    193 fgetxattr(fd, name) => xattr::fgetxattr;
    194 listxattr(path) => xattr::list;
    195 llistxattr(path) => xattr::list_link;
    196 flistxattr(fd) => xattr::list_file;
    197 removexattr(path, name) => xattr::getxattr;
    198 lremovexattr(path, name) => xattr::lgetxattr;
    199 fremovexattr(fd, name) => xattr::fgetxattr;
    200 tkill(tid, signal) => signal::tkill;
    201 time(time) => time::time;
    202 futex(address, operation, value, timeout, second, value3) => futex::futex;
    203 sched_setaffinity(pid, bytes, mask) => process::sched_setaffinity;
    204 sched_getaffinity(pid, bytes, mask) => process::sched_getaffinity;
    213 epoll_create(size) => epoll::epoll_create;
    217 getdents64(fd, buffer, length) => names::getdents64;
    218 set_tid_address(address) => process::set_tid_address;
    219 (Never) restart_syscall() => signal::restart_syscall;
    221 fadvise64(fd, offset, length, advice) => ranges::fadvise64;
    222 timer_create(clock, event, id) => timers::timer_create;
    223 timer_settime(id, flags, new, old) => timers::timer_settime;
    224 timer_gettime(id, value) => timers::timer_gettime;
    225 timer_getoverrun(id) => timers::timer_getoverrun;
    226 timer_delete(id) => timers::timer_delete;
    227 clock_settime(clock, time) => clocks::clock_settime;
    228 clock_gettime(clock, time) => clocks::clock_gettime;
    229 clock_getres(clock, resolution) => clocks::clock_getres;
    230 (WithoutHandler) clock_nanosleep(clock, flags, request, remaining) => clocks::nanosleep;
    231 exit_group(status) => process::exit_group;
    232 (Never) epoll_wait(epoll, events, max, timeout_ms) => epoll::epoll_wait;
    233 epoll_ctl(epoll, operation, fd, event) => epoll::epoll_ctl;
    234 tgkill(pid, tid, signal) => signal::tgkill;
    235 utimes(path, times) => attributes::utimes;
    247 waitid(kind, id, info, options, usage) => process::waitid;
    257 openat(dir, path, flags, mode) => open::openat;
    258 mkdirat(dir, path, mode) => names::mkdirat;
    259 mknodat(dir, path, mode, device) => names::mknodat;
    260 fchownat(dir, path, uid, gid, flags) => attributes::fchownat;
    261 futimesat(dir, path, times) => attributes::futimesat;
    262 newfstatat(dir, path, buffer, flags) => attributes::newfstatat;
    263 unlinkat(dir, path, flags) => names::unlinkat;
    264 renameat(old_dir, old, new_dir, new) => names::renameat;
    265 linkat(old_dir, old, new_dir, new, flags) => names::linkat;
    266 symlinkat(target, dir, path) => names::symlinkat;
    267 readlinkat(dir, path, buffer, length) => names::readlinkat;
    268 fchmodat(dir, path, mode) => attributes::fchmodat;
    269 faccessat(dir, path, mode) => attributes::faccessat;
    270 (WithoutHandler) pselect6(count, read, write, except, timeout, mask) => poll::pselect6;
    271 (WithoutHandler) ppoll(descriptors, count, timeout, mask, mask_bytes) => poll::ppoll;
    273 set_robust_list(head, bytes) => futex::set_robust_list;
    274 get_robust_list(tid, head, bytes) => futex::get_robust_list;
    277 sync_file_range(fd, offset, length, flags) => ranges::sync_file_range;
    280 utimensat(dir, path, times, flags) => attributes::utimensat;
    281 (Never) epoll_pwait(epoll, events, max, timeout_ms, mask, mask_bytes) => epoll::epoll_pwait;
    282 signalfd(fd, mask, mask_bytes) => event_files::signalfd;
    283 timerfd_create(clock, flags) => event_files::timerfd_create;
    284 eventfd(count) => epoll::eventfd;
    285 fallocate(fd, mode, offset, length) => ranges::fallocate;
    286 timerfd_settime(fd, flags, new, old) => event_files::timerfd_settime;
    287 timerfd_gettime(fd, now) => event_files::timerfd_gettime;
    288 accept4(fd, address, address_bytes, flags) => socket::accept4;
    289 signalfd4(fd, mask, mask_bytes, flags) => event_files::signalfd4;
    290 eventfd2(count, flags) => epoll::eventfd2;
    291 epoll_create1(flags) => epoll::epoll_create1;
    292 dup3(old, new, flags) => open::dup3;
    293 pipe2(descriptors, flags) => ipc::pipe2;
    295 preadv(fd, vector, count, offset) => io::preadv;
    296 pwritev(fd, vector, count, offset) => io::pwritev;
    297 rt_tgsigqueueinfo(pid, tid, signal, info) => signal::rt_tgsigqueueinfo;
    299 recvmmsg(fd, headers, count, flags, timeout) => message::recvmmsg;
    302 prlimit64(pid, resource, new, old) => limits::prlimit64;
    305 clock_adjtime(clock, state) => clocks::clock_adjtime;
    306 syncfs(fd) => io::syncfs;
    307 sendmmsg(fd, headers, count, flags) => message::sendmmsg;
    309 getcpu(cpu, node) => sched::getcpu;
    314 sched_setattr(tid, attributes, flags) => sched::sched_setattr;
    315 sched_getattr(tid, attributes, size, flags) => sched::sched_getattr;
    316 renameat2(old_dir, old, new_dir, new, flags) => names::renameat2;
    318 getrandom(buffer, length, flags) => random::getrandom;
    319 memfd_create(name, flags) => memfd::memfd_create;
    322 execveat(dir, path, arguments, environment, flags) => process::execveat;
    324 membarrier(command, flags) => sched::membarrier;
    325 mlock2(address, length, flags) => memory::mlock2;
    327 preadv2(fd, vector, count, offset, high, flags) => io::preadv2;
    328 pwritev2(fd, vector, count, offset, high, flags) => io::pwritev2;
    332 statx(dir, path, flags, mask, buffer) => statx::statx;
    334 rseq() => misc::without_restartable_sequences;
    424 pidfd_send_signal(fd, signal, info, flags) => event_files::pidfd_send_signal;
    434 pidfd_open(pid, flags) => event_files::pidfd_open;
    435 clone3(arguments, bytes) => clone::clone3;
    436 close_range(first, last, flags) => open::close_range;
    439 faccessat2(dir, path, mode, flags) => attributes::faccessat2;
    441 (Never) epoll_pwait2(epoll, events, max, timeout, mask, mask_bytes) => epoll::epoll_pwait2;
    449 futex_waitv(waiters, count, flags, timeout, clock) => futex::futex_waitv;
    452 fchmodat2(dir, path, mode, flags) => attributes::fchmodat2;
    // Sloth's own: for servers only, and far from the numbers that Linux has.
    511 exchange(fd, from, from_count, to, to_count, flags) => ipc::exchange;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_linuxs() {
        let named = |name| all().find(|(_, call)| call.name == name).map(|(number, _)| number);
        assert_eq!(named("getpid"), Some(39));
        assert_eq!(named("exit_group"), Some(231));
        assert_eq!(named("exchange"), Some(511));
        assert!(find(510).is_none() && find(512).is_none() && find(u64::MAX).is_none());
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = all().map(|(_, call)| call.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
