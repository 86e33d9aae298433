//! System calls that the tests do not make at random.

use user::prelude::*;
use user::sys::abi;

/// Calls that end, replace or stop the process or the machine, or block, or whose meaning on Linux
/// could damage a host.
const OMITTED: [u32; 31] = [
    abi::__NR_exit,
    abi::__NR_exit_group,
    abi::__NR_rt_sigreturn,
    abi::__NR_pause,
    abi::__NR_vfork,
    abi::__NR_fork,
    abi::__NR_clone,
    abi::__NR_clone3,
    abi::__NR_reboot,
    abi::__NR_kill,
    abi::__NR_tkill,
    abi::__NR_tgkill,
    abi::__NR_rt_sigsuspend,
    abi::__NR_rt_sigtimedwait,
    abi::__NR_rt_sigqueueinfo,
    abi::__NR_rt_tgsigqueueinfo,
    abi::__NR_brk,
    abi::__NR_arch_prctl,
    abi::__NR_alarm,
    abi::__NR_setitimer,
    abi::__NR_poll,
    abi::__NR_ppoll,
    abi::__NR_select,
    abi::__NR_pselect6,
    abi::__NR_epoll_wait,
    abi::__NR_epoll_pwait,
    abi::__NR_epoll_pwait2,
    abi::__NR_clock_settime,
    abi::__NR_settimeofday,
    abi::__NR_sethostname,
    abi::__NR_setdomainname,
];

/// Whether the system is this one. On a host most calls have effects, so fewer are made.
pub fn is_ours() -> bool {
    sys::uname()
        .is_ok_and(|names| names.version.iter().map(|byte| *byte as u8).take(5).eq(*b"Sloth"))
}

/// The numbers below `end` that a test may call at random, without those in `also`.
pub fn numbers(end: u32, also: &[u32]) -> Vec<u32> {
    (0..end).filter(|number| !OMITTED.contains(number) && !also.contains(number)).collect()
}
