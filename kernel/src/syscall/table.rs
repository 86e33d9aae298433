//! The table of system calls.

use super::{misc, process, signal, time};
use crate::task::Current;
use crate::task::deliver::Restart;
use fsproto::Errno;

/// A handler, with the registers of the arguments not yet decoded.
pub type Handler = fn(&Current, &[u64; 6]) -> Result<u64, Errno>;

/// A system call.
pub struct Call {
    /// Its name.
    pub name: &'static str,
    /// Its arguments' names.
    pub arguments: &'static [&'static str],
    /// What carries it out.
    pub handler: Handler,
    /// How it goes on after a signal.
    pub restart: Restart,
}

/// An argument, as a handler wants it. As on Linux, what does not fit is cut.
trait Argument {
    fn decode(register: u64) -> Self;
}

macro_rules! arguments {
    ($($type:ty)*) => { $(impl Argument for $type { #[inline] fn decode(register: u64) -> Self { register as Self } })* };
}
arguments!(u64 i64 u32 i32 usize);

/// Numbers are below this.
const TABLE_SIZE: usize = 512;

macro_rules! system_calls {
    ($($number:literal $(($restart:ident))? $name:ident($($argument:ident),*) => $handler:path;)*) => {
        static CALLS: [Option<Call>; TABLE_SIZE] = {
            let mut calls = [const { None }; TABLE_SIZE];
            $({
                #[inline]
                fn handler(current: &Current, registers: &[u64; 6]) -> Result<u64, Errno> {
                    let &[$($argument,)* ..] = registers;
                    $handler(current $(, Argument::decode($argument))*)
                }
                #[allow(unused_mut, unused_assignments)]
                let mut restart = Restart::Usual;
                $(restart = Restart::$restart;)?
                calls[$number] = Some(Call { name: stringify!($name), arguments: &[$(stringify!($argument)),*], handler, restart });
            })*
            calls
        };
    };
}

/// The system call of a number.
#[inline]
pub fn find(number: u64) -> Option<&'static Call> {
    CALLS.get(usize::try_from(number).ok()?)?.as_ref()
}

/// All system calls with their numbers.
pub fn all() -> impl Iterator<Item = (usize, &'static Call)> {
    CALLS.iter().enumerate().filter_map(|(number, call)| Some((number, call.as_ref()?)))
}

// Calls in parentheses are not restarted after a handler.
system_calls! {
    13 rt_sigaction(signal, new, old, set_bytes) => signal::rt_sigaction;
    14 rt_sigprocmask(how, new, old, set_bytes) => signal::rt_sigprocmask;
    15 rt_sigreturn() => signal::rt_sigreturn;
    24 sched_yield() => process::sched_yield;
    34 (WithoutHandler) pause() => signal::pause;
    35 (WithoutHandler) nanosleep(request, remaining) => time::nanosleep;
    36 getitimer(which, value) => time::getitimer;
    37 alarm(seconds) => time::alarm;
    38 setitimer(which, new, old) => time::setitimer;
    39 getpid() => process::getpid;
    56 clone(flags, stack, parent_tid, child_tid, tls) => process::clone;
    57 fork() => process::fork;
    58 vfork() => process::vfork;
    59 execve(path, arguments, environment) => process::execve;
    60 exit(status) => process::exit;
    61 wait4(pid, status, options, usage) => process::wait4;
    62 kill(pid, signal) => signal::kill;
    63 uname(buffer) => misc::uname;
    96 gettimeofday(time, zone) => time::gettimeofday;
    97 getrlimit(resource, limit) => misc::getrlimit;
    98 getrusage(who, usage) => process::getrusage;
    99 sysinfo(info) => misc::sysinfo;
    100 times(buffer) => process::times;
    102 getuid() => misc::zero;
    104 getgid() => misc::zero;
    105 setuid(id) => misc::set_id;
    106 setgid(id) => misc::set_id;
    107 geteuid() => misc::zero;
    108 getegid() => misc::zero;
    109 setpgid(pid, group) => process::setpgid;
    110 getppid() => process::getppid;
    111 getpgrp() => process::getpgrp;
    112 setsid() => process::setsid;
    115 getgroups(count, list) => misc::getgroups;
    121 getpgid(pid) => process::getpgid;
    124 getsid(pid) => process::getsid;
    125 capget(header, data) => misc::capget;
    127 rt_sigpending(set, set_bytes) => signal::rt_sigpending;
    130 (WithoutHandler) rt_sigsuspend(mask, set_bytes) => signal::rt_sigsuspend;
    131 sigaltstack(new, old) => signal::sigaltstack;
    157 prctl(option, second, third, fourth, fifth) => misc::prctl;
    158 arch_prctl(code, address) => misc::arch_prctl;
    160 setrlimit(resource, limit) => misc::setrlimit;
    169 reboot(magic, magic2, command, argument) => misc::reboot;
    186 gettid() => process::gettid;
    200 tkill(tid, signal) => signal::tkill;
    201 time(time) => time::time;
    202 futex(address, operation, value, timeout, second, value3) => process::futex;
    203 sched_setaffinity(pid, bytes, mask) => process::sched_setaffinity;
    204 sched_getaffinity(pid, bytes, mask) => process::sched_getaffinity;
    218 set_tid_address(address) => process::set_tid_address;
    228 clock_gettime(clock, time) => time::clock_gettime;
    229 clock_getres(clock, resolution) => time::clock_getres;
    230 (WithoutHandler) clock_nanosleep(clock, flags, request, remaining) => time::clock_nanosleep;
    231 exit_group(status) => process::exit_group;
    234 tgkill(pid, tid, signal) => signal::tgkill;
    302 prlimit64(pid, resource, new, old) => misc::prlimit64;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_linuxs() {
        let named = |name| all().find(|(_, call)| call.name == name).map(|(number, _)| number);
        assert_eq!(named("getpid"), Some(39));
        assert_eq!(named("exit_group"), Some(231));
        assert!(find(511).is_none() && find(512).is_none() && find(u64::MAX).is_none());
    }

    #[test]
    fn names_are_told_once() {
        let mut names: Vec<_> = all().map(|(_, call)| call.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
