//! Locked memory: mlock(2) and its relatives.

use foundation::mutant::Mutant;
use proof::guest_test;
use proof::kit::{Buffer, Child, Gate, Named, Outcome, PAGE, pattern};
use proof::{check, check_eq, lazy, os};
use user::prelude::*;
use user::sys::abi;

const MIB: usize = 1 << 20;
const BYTES: usize = 2 * MIB;

fn status(name: &str) -> Outcome<i64> {
    lazy::value(&lazy::read_text("/proc/self/status")?, name)
}

/// Pages of a range that are resident.
fn resident(start: usize, bytes: usize) -> Outcome<usize> {
    let mut found = vec![0u8; bytes / PAGE];
    let out = found.as_mut_ptr() as usize;
    os::raw(abi::__NR_mincore, &[start, bytes, out]).named("mincore")?;
    Ok(found.iter().filter(|&&byte| byte & 1 == 1).count())
}

fn call(number: u32, given: &[usize]) -> Result<()> {
    os::raw(number, given).map(drop)
}

/// Stores to more than the machine has.
fn press() -> Outcome {
    Buffer::filled(48 * MIB, pattern(5, 0)).map(drop)
}

/// Locked pages stay resident while memory is short, whatever backs them; others are swapped out.
/// Neither a child nor the next program inherits locks, and what is unlocked or unmapped does not
/// count.
#[guest_test(memory_mib: 32, timeout_s: 120, mutants: &[Mutant::ReclaimLocked])]
fn q6_locked_memory_stays() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    // Pages that a child shares are swapped out last: this one has none of the buffers.
    let go = Gate::new()?;
    let pressing = Child::start("pressure", || {
        go.pass()?;
        press()
    })?;
    let (locked, other) =
        (Buffer::filled(BYTES, pattern(1, 0))?, Buffer::filled(BYTES, pattern(2, 0))?);
    let shared = Buffer::shared(BYTES)?;
    shared.put(0, BYTES, pattern(3, 0));
    call(abi::__NR_mlock, &[locked.at(0), BYTES]).named("mlock")?;
    call(abi::__NR_mlock2, &[shared.at(0), BYTES / 2, abi::MLOCK_ONFAULT as usize])
        .named("mlock2")?;
    check_eq!(status("VmLck")?, 3 * 1024, "KiB locked");
    go.open()?;
    pressing.join()?;
    check_eq!(resident(locked.at(0), BYTES)?, BYTES / PAGE, "resident pages");
    check_eq!(resident(shared.at(0), BYTES / 2)?, BYTES / 2 / PAGE, "resident shared pages");
    check!(status("VmSwap")? > 1024, "the other pages were not swapped out");
    check!(resident(other.at(0), BYTES)? < BYTES / PAGE, "all other pages are resident");
    Child::start("child", || {
        check_eq!(status("VmLck")?, 0, "KiB locked by a child");
        press()
    })?
    .join()?;
    check_eq!(resident(locked.at(0), BYTES)?, BYTES / PAGE, "resident pages after a fork");
    for buffer in [(&locked, 1), (&other, 2), (&shared, 3)] {
        buffer.0.check(0, BYTES, pattern(buffer.1, 0))?;
    }
    const DONT_NEED: usize = abi::MADV_DONTNEED as usize;
    let discard = call(abi::__NR_madvise, &[locked.at(0), PAGE, DONT_NEED]);
    check_eq!(discard, Err(Errno::EINVAL), "MADV_DONTNEED");
    call(abi::__NR_munlock, &[locked.at(0), BYTES / 2]).named("munlock")?;
    check_eq!(status("VmLck")?, 2 * 1024, "KiB locked after munlock");
    drop((locked, shared));
    check_eq!(status("VmLck")?, 0, "KiB locked after munmap");
    Ok(())
}

/// mlockall locks what is there and what comes, and fails where too much would be locked.
#[guest_test(memory_mib: 48, timeout_s: 120)]
fn q6_locked_memory_is_limited() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let (now, future) = (abi::MCL_CURRENT as usize, abi::MCL_FUTURE as usize);
    let on_fault = abi::MCL_ONFAULT as usize;
    for nonsense in [0, on_fault, 8] {
        let done = call(abi::__NR_mlockall, &[nonsense]);
        check_eq!(done, Err(Errno::EINVAL), "mlockall({nonsense})");
    }
    let big = Buffer::new(64 * MIB)?;
    check_eq!(call(abi::__NR_mlock, &[big.at(0), 64 * MIB]), Err(Errno::ENOMEM), "too much");
    check_eq!(call(abi::__NR_mlockall, &[now]), Err(Errno::ENOMEM), "all of it");
    check_eq!(status("VmLck")?, 0, "KiB locked");
    drop(big);
    call(abi::__NR_mlockall, &[now | future]).named("mlockall")?;
    let before = status("VmLck")?;
    let buffer = Buffer::new(BYTES)?;
    check_eq!(resident(buffer.at(0), BYTES)?, BYTES / PAGE, "resident pages");
    check_eq!(status("VmLck")? - before, 2 * 1024, "KiB more locked");
    let refused = os::mmap(0, 64 * MIB, os::READ_WRITE, abi::MAP_PRIVATE);
    check_eq!(refused, Err(Errno::EAGAIN), "a mapping that cannot be locked");
    // Others go on beside as much locked memory as there can be, and it ends with its owner.
    let greedy = || {
        let mut held = Vec::new();
        while let Ok(start) = os::mmap(0, MIB, os::READ_WRITE, abi::MAP_PRIVATE | abi::MAP_LOCKED) {
            held.push(start);
        }
        check!(!held.is_empty(), "nothing could be locked");
        Child::start("another", || Buffer::filled(8 * MIB, pattern(4, 0)).map(drop))?.join()
    };
    Child::start("greedy", greedy)?.join()?;
    call(abi::__NR_munlockall, &[]).named("munlockall")?;
    check_eq!(status("VmLck")?, 0, "KiB locked after munlockall");
    Ok(())
}
