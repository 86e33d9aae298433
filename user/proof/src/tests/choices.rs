//! What a process chooses: prctl(2), scheduling policies, capabilities, names, orphans.

use proof::guest_test;
use proof::kit::{Outcome, checking_child, child, expect_success, in_child, raw};
use user::prelude::*;
use user::sys::abi;

const INVALID: Result<usize> = Err(Errno::EINVAL);

fn prctl(option: usize, arguments: [usize; 4]) -> Result<usize> {
    let [second, third, fourth, fifth] = arguments;
    raw(abi::__NR_prctl, &[option, second, third, fourth, fifth])
}

/// An option that writes a number.
fn written(option: usize) -> Result<u32> {
    let mut value = 77u32;
    prctl(option, [&raw mut value as usize, 0, 0, 0])?;
    Ok(value)
}

/// Options in pairs: what is set is read again, and inherited.
#[guest_test]
fn choices_are_kept() -> Outcome {
    const SET_DUMPABLE: usize = 4;
    const GET_DUMPABLE: usize = 3;
    const SET_NO_NEW: usize = 38;
    const GET_NO_NEW: usize = 39;
    const SET_SLACK: usize = 29;
    const GET_SLACK: usize = 30;
    check_eq!(prctl(SET_DUMPABLE, [0; 4]), Ok(0));
    check_eq!(prctl(GET_DUMPABLE, [0; 4]), Ok(0));
    check_eq!(prctl(SET_DUMPABLE, [1, 0, 0, 0]), Ok(0));
    check_eq!(prctl(SET_DUMPABLE, [3, 0, 0, 0]), INVALID);
    check_eq!(prctl(GET_NO_NEW, [0; 4]), Ok(0));
    check_eq!(prctl(SET_NO_NEW, [0; 4]), INVALID);
    check_eq!(prctl(SET_NO_NEW, [1, 1, 0, 0]), INVALID);
    check_eq!(prctl(SET_NO_NEW, [1, 0, 0, 0]), Ok(0));
    check_eq!(prctl(GET_NO_NEW, [1, 0, 0, 0]), INVALID);
    check_eq!(prctl(SET_SLACK, [1234, 0, 0, 0]), Ok(0));
    check_eq!(prctl(GET_SLACK, [0; 4]), Ok(1234));
    let child = checking_child(|| {
        check_eq!(prctl(GET_NO_NEW, [0; 4]), Ok(1));
        check_eq!(prctl(GET_SLACK, [0; 4]), Ok(1234));
        Ok(())
    })?;
    expect_success(child)?;
    check_eq!(prctl(9999, [0; 4]), INVALID);
    check_eq!(prctl(8, [2, 0, 0, 0]), INVALID, "PR_SET_KEEPCAPS");
    check_eq!(prctl(8, [1, 0, 0, 0]), Ok(0));
    check_eq!(prctl(7, [0; 4]), Ok(1));
    check_eq!(prctl(13, [0; 4]), Ok(0), "PR_GET_TIMING");
    check_eq!(prctl(14, [1, 0, 0, 0]), INVALID, "PR_SET_TIMING");
    check_eq!(written(25), Ok(1), "PR_GET_TSC");
    check_eq!(prctl(24, [999, 0, 0, 0]), INVALID, "PR_CAPBSET_DROP");
    check_eq!(prctl(23, [999, 0, 0, 0]), INVALID, "PR_CAPBSET_READ");
    check_eq!(prctl(42, [1, 0, 0, 0]), INVALID, "PR_GET_THP_DISABLE");
    check_eq!(prctl(15, [16, 0, 0, 0]), Err(Errno::EFAULT), "PR_SET_NAME");
    check_eq!(prctl(34, [1, 0, 0, 0]), INVALID, "PR_MCE_KILL_GET");
    check_eq!(prctl(34, [0; 4]), Ok(2));
    check_eq!(prctl(33, [1, 9, 0, 0]), INVALID, "PR_MCE_KILL");
    Ok(())
}

/// A child gets the signal that it wants when its parent ends; the nearest process above that
/// adopts orphans is their parent then.
#[guest_test(checked: true)]
fn choices_of_orphans() -> Outcome {
    const SET_DEATH: usize = 1;
    const GET_DEATH: usize = 2;
    const SET_SUBREAPER: usize = 36;
    const GET_SUBREAPER: usize = 37;
    check_eq!(prctl(SET_DEATH, [65, 0, 0, 0]), INVALID);
    check_eq!(prctl(SET_SUBREAPER, [1, 0, 0, 0]), Ok(0));
    check_eq!(written(GET_SUBREAPER), Ok(1));
    let own = sys::getpid();
    let [reader, writer] = ok!(sys::pipe(0));
    let parent = child(|| {
        let grandchild = child(|| {
            let set = prctl(SET_DEATH, [abi::SIGTERM as usize, 0, 0, 0]);
            let _ = (set, sys::write(writer, &[written(GET_DEATH).unwrap_or(0) as u8]));
            let _ = sys::sleep(core::time::Duration::from_secs(100));
            0
        });
        let mut given = [0];
        let _ = (grandchild, sys::read(reader, &mut given));
        i32::from(given[0])
    })?;
    check_eq!(ok!(sys::wait_for(parent)).exit_code(), Some(abi::SIGTERM as i32));
    let found = ok!(sys::wait(-1, 0));
    check_eq!(found.and_then(|(_, status)| status.signal()), Some(abi::SIGTERM as i32));
    // A child does not adopt by itself.
    let status = in_child(|| {
        let is_none = written(GET_SUBREAPER) == Ok(0) && written(GET_DEATH) == Ok(0);
        i32::from(!(is_none && sys::getppid() == own))
    })?;
    check_eq!(status.exit_code(), Some(0));
    Ok(())
}

fn policy_of(tid: usize) -> Result<usize> {
    raw(abi::__NR_sched_getscheduler, &[tid])
}

fn set_policy(tid: usize, policy: usize, priority: u32) -> Result<usize> {
    raw(abi::__NR_sched_setscheduler, &[tid, policy, &raw const priority as usize])
}

#[guest_test]
fn choices_of_scheduling() -> Outcome {
    let limit = |number: u32, policy: usize| raw(number, &[policy]);
    for (policy, least, most) in [(0, 0, 0), (1, 1, 99), (2, 1, 99), (3, 0, 0), (5, 0, 0)] {
        check_eq!(limit(abi::__NR_sched_get_priority_min, policy), Ok(least));
        check_eq!(limit(abi::__NR_sched_get_priority_max, policy), Ok(most));
    }
    for policy in [4, 77, usize::MAX] {
        check_eq!(limit(abi::__NR_sched_get_priority_max, policy), INVALID);
        check_eq!(set_policy(0, policy, 0), INVALID);
    }
    check_eq!(policy_of(0), Ok(0));
    check_eq!(policy_of(i32::MAX as usize >> 4), Err(Errno::ESRCH));
    check_eq!(policy_of(usize::MAX), INVALID);
    check_eq!(set_policy(0, 1, 0), INVALID);
    check_eq!(set_policy(0, 0, 1), INVALID);
    check_eq!(raw(abi::__NR_sched_setscheduler, &[0, 0, 0]), INVALID);
    check_eq!(set_policy(0, 2 | 1 << 30, 5), Ok(0));
    check_eq!(policy_of(0), Ok(2 | 1 << 30));
    let (mut priority, seven) = (0u32, 7u32);
    check_eq!(raw(abi::__NR_sched_setparam, &[0, &raw const seven as usize]), Ok(0));
    check_eq!(raw(abi::__NR_sched_getparam, &[0, &raw mut priority as usize]), Ok(0));
    check_eq!(priority, 7);
    check_eq!(raw(abi::__NR_sched_getparam, &[0, 0]), INVALID);
    let mut interval = [9u64; 2];
    check_eq!(raw(abi::__NR_sched_rr_get_interval, &[0, interval.as_mut_ptr() as usize]), Ok(0));
    check!(interval[0] == 0 && interval[1] > 0);
    let reset = checking_child(|| {
        check_eq!(policy_of(0), Ok(0), "the flag has reset it");
        Ok(())
    })?;
    expect_success(reset)?;
    let mut attributes = [0u32; 14];
    let at = attributes.as_mut_ptr() as usize;
    check_eq!(raw(abi::__NR_sched_getattr, &[0, at, 56, 0]), Ok(0));
    check_eq!((attributes[1], attributes[2], attributes[5]), (2, 1, 7));
    check_eq!(raw(abi::__NR_sched_getattr, &[0, at, 40, 0]), INVALID);
    check_eq!(raw(abi::__NR_sched_getattr, &[0, at, 56, 1]), INVALID);
    let mut other = [0u32; 14];
    (other[0], other[4]) = (48, 3);
    let given = [0, other.as_ptr() as usize, 0];
    check_eq!(raw(abi::__NR_sched_setattr, &given), Ok(0));
    check_eq!(raw(abi::__NR_getpriority, &[0, 0]), Ok(17));
    check_eq!(policy_of(0), Ok(0));
    check_eq!(raw(abi::__NR_sched_setattr, &[0, 0, 0]), INVALID);
    check_eq!(raw(abi::__NR_sched_setattr, &[0, given[1], 1]), INVALID);
    other[1] = 77;
    check_eq!(raw(abi::__NR_sched_setattr, &[0, other.as_ptr() as usize, 0]), INVALID);
    Ok(())
}

#[guest_test]
fn choices_of_barriers() -> Outcome {
    let barrier = |command: usize, flags: usize| raw(abi::__NR_membarrier, &[command, flags]);
    let known = ok!(barrier(0, 0));
    check_eq!(known & 31, 31);
    check_eq!(barrier(0, 1), INVALID);
    check_eq!(barrier(1 << 20, 0), INVALID);
    check_eq!(barrier(8, 0), Err(Errno::EPERM), "it has not registered");
    check_eq!(barrier(16, 0), Ok(0));
    check_eq!(barrier(8, 0), Ok(0));
    let mut cpu = [9u32; 2];
    let at = cpu.as_mut_ptr() as usize;
    check_eq!(raw(abi::__NR_getcpu, &[at, at + 4, 0]), Ok(0));
    check_eq!(cpu[1], 0);
    check_eq!(raw(abi::__NR_getcpu, &[0, 0, 0]), Ok(0));
    check_eq!(raw(abi::__NR_getcpu, &[16, 0, 0]), Err(Errno::EFAULT));
    Ok(())
}

/// personality(2), capabilities, and ids for files.
#[guest_test]
fn choices_of_identity() -> Outcome {
    let personality = |value: usize| raw(abi::__NR_personality, &[value]);
    let before = ok!(personality(0xffff_ffff));
    check_eq!(personality(0x4_0000), Ok(before), "ADDR_NO_RANDOMIZE");
    check_eq!(personality(0xffff_ffff), Ok(0x4_0000));
    check_eq!(in_child(|| personality(0xffff_ffff).map_or(1, |_| 0))?.exit_code(), Some(0));
    let (mut header, mut data) = ([0x2008_0522u32, 0], [0u32; 6]);
    let call = |number: u32, header: &mut [u32; 2], data: usize| {
        raw(number, &[header.as_mut_ptr() as usize, data])
    };
    let (get, set) = (abi::__NR_capget, abi::__NR_capset);
    check_eq!(call(get, &mut header, data.as_mut_ptr() as usize), Ok(0));
    check_eq!(call(set, &mut header, data.as_ptr() as usize), Ok(0));
    check_eq!(call(set, &mut header, 16), Err(Errno::EFAULT));
    header[1] = sys::getppid() as u32;
    check_eq!(call(set, &mut header, data.as_ptr() as usize), Err(Errno::EPERM));
    header = [0, 0];
    check_eq!(call(set, &mut header, data.as_ptr() as usize), INVALID);
    check_eq!(header[0], 0x2008_0522, "the version that is known");
    header = [0x2008_0522, i32::MAX as u32 >> 4];
    check_eq!(call(get, &mut header, data.as_mut_ptr() as usize), Err(Errno::ESRCH));
    check_eq!(raw(abi::__NR_setfsuid, &[usize::MAX]), raw(abi::__NR_geteuid, &[]));
    check_eq!(raw(abi::__NR_setfsgid, &[usize::MAX]), raw(abi::__NR_getegid, &[]));
    for number in [abi::__NR_sethostname, abi::__NR_setdomainname] {
        check_eq!(raw(number, &[16, usize::MAX]), INVALID);
        check_eq!(raw(number, &[16, 65]), INVALID);
        check_eq!(raw(number, &[16, 5]), Err(Errno::EFAULT));
    }
    Ok(())
}
