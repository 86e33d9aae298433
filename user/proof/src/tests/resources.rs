//! Limits of resources (setrlimit(2)): what they may be, who inherits them, who is exempt.

use super::limits::{set_limit, set_limits};
use proof::kit::{Outcome, checking_child, expect_success, raw};
use proof::{guest_test, omitted};
use user::alloc::string::ToString;
use user::prelude::*;
use user::sys::abi;

/// All resources with a value that a program can live with. The first five are those that a shell's
/// `ulimit` shows in the same unit everywhere.
const VALUES: [(u32, u64); 16] = [
    (abi::RLIMIT_NOFILE, 77),
    (abi::RLIMIT_STACK, 4 << 20),
    (abi::RLIMIT_AS, 4 << 30),
    (abi::RLIMIT_DATA, 2 << 30),
    (abi::RLIMIT_CPU, 3000),
    (abi::RLIMIT_FSIZE, 1 << 30),
    (abi::RLIMIT_CORE, 0),
    (abi::RLIMIT_RSS, 1 << 30),
    (abi::RLIMIT_NPROC, 3000),
    (abi::RLIMIT_MEMLOCK, 1 << 20),
    (abi::RLIMIT_LOCKS, 100),
    (abi::RLIMIT_SIGPENDING, 99),
    (abi::RLIMIT_MSGQUEUE, 4096),
    (abi::RLIMIT_NICE, 5),
    (abi::RLIMIT_RTPRIO, 1),
    (abi::RLIMIT_RTTIME, 1 << 40),
];

/// A hard limit, which Linux may not let root raise.
fn hard_limit(resource: u32) -> u64 {
    sys::limit(resource).map_or(0, |[_, hard]| hard)
}

/// Limits are inherited by children and by the programs that they execute, and the shell shows and
/// sets them.
#[guest_test]
fn limit_inheritance() -> Outcome {
    expect_success(checking_child(|| {
        let mut set = Vec::new();
        for (resource, value) in VALUES {
            let limits = [value, value + 1].map(|value| value.min(hard_limit(resource)));
            ok!(set_limits(resource, limits));
            set.push((resource, limits));
        }
        expect_success(checking_child(|| {
            for (resource, limits) in set {
                check_eq!(ok!(sys::limit(resource)), limits, "resource {resource}");
            }
            Ok(())
        })?)?;
        let script = b"ulimit -n; ulimit -s; ulimit -v; ulimit -d; ulimit -t; ulimit -n 33; \
                       ulimit -n; sh -c 'ulimit -n'";
        let [reader, writer] = ok!(sys::pipe(0));
        let shell = checking_child(|| {
            ok!(sys::dup2(writer, Fd(1)));
            Err(format!(
                "execve: {:?}",
                sys::execve(b"/bin/sh", &[b"sh", b"-c", script], &[b"PATH=/bin:/usr/bin",])
            ))
        })?;
        ok!(sys::close(writer));
        let mut answer = [0; 200];
        let count = ok!(sys::read_full(reader, &mut answer));
        let answer = answer[..count].escape_ascii().to_string();
        check_eq!(answer, "77\\n4096\\n4194304\\n2097152\\n3000\\n33\\n33\\n");
        expect_success(shell)
    })?)
}

/// A soft limit above the hard one is EINVAL, and an unknown resource, too.
#[guest_test]
fn limit_values() -> Outcome {
    expect_success(checking_child(|| {
        for (resource, value) in VALUES {
            let value = value.min(hard_limit(resource));
            check_eq!(set_limits(resource, [value + 1, value]), Err(Errno::EINVAL));
            check_eq!(set_limits(resource, [value, value]), Ok(()));
            check_eq!(sys::limit(resource), Ok([value, value]));
        }
        check_eq!(set_limits(16, [0, 0]), Err(Errno::EINVAL));
        check_eq!(raw(abi::__NR_getrlimit, &[16, 0]), Err(Errno::EINVAL));
        Ok(())
    })?)
}

/// A process that does not heed SIGXCPU is killed at its hard limit of CPU time.
#[guest_test]
fn limit_cpu_hard() -> Outcome {
    let busy = checking_child(|| {
        ok!(sys::signal_ignore(abi::SIGXCPU as i32));
        ok!(set_limits(abi::RLIMIT_CPU, [1, 2]));
        loop {
            core::hint::spin_loop();
        }
    })?;
    check_eq!(ok!(sys::wait_for(busy)).signal(), Some(abi::SIGKILL as i32));
    Ok(())
}

/// Root is exempt from the limits of processes, locked memory and niceness, as on Linux, and from
/// no other one.
#[guest_test]
fn limit_exemptions() -> Outcome {
    expect_success(checking_child(|| {
        for resource in [abi::RLIMIT_NPROC, abi::RLIMIT_MEMLOCK, abi::RLIMIT_NICE] {
            ok!(set_limit(resource, 0));
        }
        expect_success(checking_child(|| Ok(()))?)?;
        let page = [0u8; 8192];
        ok!(raw(abi::__NR_mlock, &[page.as_ptr() as usize, 4096]));
        ok!(raw(abi::__NR_setpriority, &[abi::PRIO_PROCESS as usize, 0, usize::MAX]));
        ok!(set_limits(abi::RLIMIT_NOFILE, [10, 10]));
        if omitted::is_ours() {
            ok!(set_limits(abi::RLIMIT_NOFILE, [20, 20]));
        }
        Ok(())
    })?)
}
