//! Futexes: arguments, requeues, updates of the word, and locks.

use core::sync::atomic::{AtomicU32, Ordering};
use proof::guest_test;
use proof::kit::{Buffer, Outcome, PAGE, checking_child, expect_success, raw};
use proof::os;
use proof::thread::Thread;
use user::prelude::*;
use user::sys::abi;

const WAIT: u32 = abi::FUTEX_WAIT;
const WAKE: u32 = abi::FUTEX_WAKE;
const PRIVATE: u32 = abi::FUTEX_PRIVATE_FLAG;
const NO_SUCH_CALL: Errno = Errno::ENOSYS;

fn address(word: &AtomicU32) -> usize {
    word.as_ptr() as usize
}

fn futex(at: usize, operation: u32, value: usize, rest: [usize; 3]) -> Result<usize> {
    let [timeout, second, value3] = rest;
    raw(abi::__NR_futex, &[at, operation as usize, value, timeout, second, value3])
}

/// A timeout that is over soon.
const SHORT: [u64; 2] = [0, 1_000_000];

#[guest_test]
fn futex_arguments() -> Outcome {
    let (first, second) = (AtomicU32::new(0), AtomicU32::new(0));
    let (first, second) = (address(&first), address(&second));
    let none = ok!(os::mmap(0, PAGE, abi::PROT_NONE, abi::MAP_PRIVATE));
    let hole = ok!(os::mmap(0, PAGE, abi::PROT_NONE, abi::MAP_PRIVATE));
    ok!(os::munmap(hole, PAGE));
    const MINUS: usize = usize::MAX;
    for operation in [abi::FUTEX_REQUEUE, abi::FUTEX_CMP_REQUEUE] {
        check_eq!(futex(first, operation, MINUS, [1, second, 0]), Err(Errno::EINVAL));
        check_eq!(futex(first, operation, 1, [MINUS, second, 0]), Err(Errno::EINVAL));
        check_eq!(futex(first, operation, 1, [1, hole, 0]), Err(Errno::EFAULT));
        check_eq!(futex(first, operation, 1, [1, second + 1, 0]), Err(Errno::EINVAL));
    }
    check_eq!(futex(first, abi::FUTEX_CMP_REQUEUE, 1, [1, second, 1]), Err(Errno::EAGAIN));
    for at in [none, hole] {
        check_eq!(futex(at, WAKE, 1, [0; 3]), Err(Errno::EFAULT));
        check_eq!(futex(at, WAIT, 0, [0; 3]), Err(Errno::EFAULT));
        // Nobody else can mean a private one, so it is not looked at.
        check_eq!(futex(at, WAKE | PRIVATE, 1, [0; 3]), Ok(0));
    }
    for operation in [WAIT, WAKE, WAKE | PRIVATE, abi::FUTEX_LOCK_PI] {
        check_eq!(futex(first + 2, operation, 1, [0; 3]), Err(Errno::EINVAL), "{operation}");
    }
    check_eq!(futex(first, abi::FUTEX_WAKE_BITSET, 1, [0; 3]), Err(Errno::EINVAL));
    check_eq!(futex(first, abi::FUTEX_WAIT_BITSET, 0, [0; 3]), Err(Errno::EINVAL));
    let invalid = [0, 1_000_000_000u64];
    check_eq!(futex(first, WAIT, 0, [invalid.as_ptr() as usize, 0, 0]), Err(Errno::EINVAL));
    check_eq!(futex(first, WAIT, 0, [hole, 0, 0]), Err(Errno::EFAULT));
    check_eq!(futex(first, WAIT, 1, [0; 3]), Err(Errno::EAGAIN));
    let timeout = SHORT.as_ptr() as usize;
    check_eq!(futex(first, WAIT, 0, [timeout, 0, 0]), Err(Errno(110)));
    check_eq!(futex(first, WAKE | abi::FUTEX_CLOCK_REALTIME, 1, [0; 3]), Err(NO_SUCH_CALL));
    check_eq!(futex(first, 99, 1, [0; 3]), Err(NO_SUCH_CALL));
    Ok(())
}

/// `FUTEX_WAKE_OP` changes the second word and compares what it was.
#[guest_test]
fn futex_update() -> Outcome {
    let words = [AtomicU32::new(0), AtomicU32::new(7)];
    let [first, second] = [address(&words[0]), address(&words[1])];
    let update = |operation: u32, comparison: u32, operand: u32, bound: u32| {
        let bits = operation << 28 | comparison << 24 | operand << 12 | bound;
        futex(first, abi::FUTEX_WAKE_OP, 1, [1, second, bits as usize])
    };
    let value = || words[1].load(Ordering::SeqCst);
    for (operation, operand, expected) in
        [(0, 12, 12), (1, 3, 15), (2, 16, 31), (3, 1, 30), (4, 2, 28), (8 | 2, 0, 29)]
    {
        check_eq!(update(operation, 0, operand, 0), Ok(0));
        check_eq!(value(), expected, "operation {operation}");
    }
    check_eq!(update(1, 0, 0xfff, 0), Ok(0));
    check_eq!(value(), 28, "the operand has a sign");
    check_eq!(update(5, 0, 0, 0), Err(NO_SUCH_CALL));
    check_eq!(update(0, 6, 0, 0), Err(NO_SUCH_CALL));
    let read_only = ok!(os::mmap(0, PAGE, abi::PROT_READ, abi::MAP_PRIVATE));
    check_eq!(futex(first, abi::FUTEX_WAKE_OP, 1, [1, read_only, 0]), Err(Errno::EFAULT));
    Ok(())
}

/// Words that the threads of a test wait for: the state and two futexes.
static WORDS: [AtomicU32; 3] = [const { AtomicU32::new(0) }; 3];
static WAITING: AtomicU32 = AtomicU32::new(0);
static WOKEN: AtomicU32 = AtomicU32::new(0);

extern "C" fn wait_for_first(_: usize) {
    WAITING.fetch_add(1, Ordering::SeqCst);
    let _ = futex(address(&WORDS[0]), WAIT | PRIVATE, 0, [0; 3]);
    WOKEN.fetch_add(1, Ordering::SeqCst);
}

/// Waits until so many threads wait, most likely.
fn await_waiters(count: u32) -> Outcome {
    while WAITING.load(Ordering::SeqCst) < count {
        ok!(sys::sched_yield());
    }
    ok!(sys::sleep(core::time::Duration::from_millis(30)));
    Ok(())
}

/// A shared wake does not wake who waits for a private futex; a requeue moves waiters, and a
/// conditional wake reaches both words.
#[guest_test]
fn futex_moves() -> Outcome {
    let [first, second, _] = WORDS.each_ref().map(address);
    let threads = [
        Thread::start(wait_for_first, 0)?,
        Thread::start(wait_for_first, 0)?,
        Thread::start(wait_for_first, 0)?,
    ];
    await_waiters(3)?;
    check_eq!(futex(first, WAKE, 9, [0; 3]), Ok(0), "a shared wake");
    let requeue = abi::FUTEX_CMP_REQUEUE | PRIVATE;
    check_eq!(futex(first, requeue, 0, [2, second, 0]), Ok(2));
    check_eq!(WOKEN.load(Ordering::SeqCst), 0);
    // The word changes from 0 to 5, so the condition "was 0" holds.
    let bits = 5usize << 12;
    let operation = abi::FUTEX_WAKE_OP | PRIVATE;
    check_eq!(futex(first, operation, 9, [1, second, bits]), Ok(2));
    check_eq!(WORDS[1].load(Ordering::SeqCst), 5);
    check_eq!(futex(second, WAKE | PRIVATE, 0, [0; 3]), Ok(1), "at least one is woken");
    threads.into_iter().for_each(Thread::join);
    check_eq!(WOKEN.load(Ordering::SeqCst), 3);
    Ok(())
}

/// A `struct futex_waitv` for a private word that is 0.
fn entry(at: usize) -> [u64; 3] {
    [0, at as u64, u64::from(2 | PRIVATE)]
}

extern "C" fn wait_for_either(_: usize) {
    let entries = [entry(address(&WORDS[0])), entry(address(&WORDS[1]))];
    WAITING.fetch_add(1, Ordering::SeqCst);
    let result = raw(abi::__NR_futex_waitv, &[entries.as_ptr() as usize, 2, 0, 0, 1]);
    WOKEN.store(result.map_or(99, |index| index as u32), Ordering::SeqCst);
}

#[guest_test]
fn futex_several() -> Outcome {
    let number = abi::__NR_futex_waitv;
    let word = entry(address(&WORDS[0]));
    let call = |count: usize, flags: usize, clock: usize, entry: &[u64; 3]| {
        raw(number, &[entry.as_ptr() as usize, count, flags, SHORT.as_ptr() as usize, clock])
    };
    check_eq!(call(0, 0, 1, &word), Err(Errno::EINVAL));
    check_eq!(call(129, 0, 1, &word), Err(Errno::EINVAL));
    check_eq!(call(1, 1, 1, &word), Err(Errno::EINVAL));
    check_eq!(call(1, 0, 9, &word), Err(Errno::EINVAL));
    check_eq!(call(1, 0, 1, &[1, word[1], word[2]]), Err(Errno::EAGAIN));
    check_eq!(call(1, 0, 1, &[0, word[1], 3]), Err(Errno::EINVAL));
    check_eq!(call(1, 0, 1, &word), Err(Errno(110)));
    let thread = Thread::start(wait_for_either, 0)?;
    await_waiters(1)?;
    check_eq!(futex(address(&WORDS[1]), WAKE | PRIVATE, 9, [0; 3]), Ok(1));
    thread.join();
    check_eq!(WOKEN.load(Ordering::SeqCst), 1);
    check_eq!(futex(address(&WORDS[0]), WAKE | PRIVATE, 9, [0; 3]), Ok(0));
    Ok(())
}

fn own_tid() -> u32 {
    raw(abi::__NR_gettid, &[]).map_or(0, |tid| tid as u32)
}

const WAITED_FOR: u32 = 1 << 31;
const DIED: u32 = 1 << 30;

/// Locks without others: states of the word, and errors.
#[guest_test]
fn futex_lock_alone() -> Outcome {
    let word = AtomicU32::new(0);
    let (at, own) = (address(&word), own_tid());
    let lock = |operation: u32| futex(at, operation, 0, [0; 3]);
    check_eq!(lock(abi::FUTEX_UNLOCK_PI), Err(Errno::EPERM));
    check_eq!(lock(abi::FUTEX_LOCK_PI), Ok(0));
    check_eq!(word.load(Ordering::SeqCst), own);
    for operation in [abi::FUTEX_LOCK_PI, abi::FUTEX_TRYLOCK_PI, abi::FUTEX_LOCK_PI2] {
        check_eq!(lock(operation), Err(Errno(35)), "EDEADLK of {operation}");
    }
    check_eq!(lock(abi::FUTEX_UNLOCK_PI), Ok(0));
    check_eq!(word.load(Ordering::SeqCst), 0);
    check_eq!(lock(abi::FUTEX_TRYLOCK_PI | PRIVATE), Ok(0));
    check_eq!(lock(abi::FUTEX_UNLOCK_PI | PRIVATE), Ok(0));
    word.store(0x3fff_fff0, Ordering::SeqCst);
    check_eq!(lock(abi::FUTEX_LOCK_PI), Err(Errno::ESRCH));
    check_eq!(lock(abi::FUTEX_TRYLOCK_PI), Err(Errno::ESRCH));
    word.store(DIED, Ordering::SeqCst);
    check_eq!(lock(abi::FUTEX_LOCK_PI), Ok(0));
    check_eq!(word.load(Ordering::SeqCst), own | DIED);
    let hole = ok!(os::mmap(0, PAGE, abi::PROT_READ, abi::MAP_PRIVATE));
    check_eq!(futex(hole, abi::FUTEX_LOCK_PI, 0, [0; 3]), Err(Errno::EFAULT));
    Ok(())
}

/// A lock in shared memory goes to who waits for it, at an unlock and at the owner's end.
#[guest_test]
fn futex_lock_passes_on() -> Outcome {
    let shared = Buffer::shared(PAGE)?;
    // SAFETY: the mapping stays until the end of the test.
    let word = unsafe { AtomicU32::from_ptr(shared.at(0) as *mut u32) };
    let at = shared.at(0);
    check_eq!(futex(at, abi::FUTEX_LOCK_PI, 0, [0; 3]), Ok(0));
    let other = checking_child(|| {
        let time = SHORT.as_ptr() as usize;
        check_eq!(futex(at, abi::FUTEX_TRYLOCK_PI, 0, [0; 3]), Err(Errno::EAGAIN));
        check_eq!(futex(at, abi::FUTEX_UNLOCK_PI, 0, [0; 3]), Err(Errno::EPERM));
        check_eq!(futex(at, abi::FUTEX_LOCK_PI, 0, [time, 0, 0]), Err(Errno(110)));
        check_eq!(futex(at, abi::FUTEX_LOCK_PI, 0, [0; 3]), Ok(0));
        check_eq!(word.load(Ordering::SeqCst) & !WAITED_FOR, own_tid());
        // It ends without an unlock, once the parent waits.
        while word.load(Ordering::SeqCst) & WAITED_FOR == 0 || shared.load(8) == 0 {
            ok!(sys::sched_yield());
        }
        ok!(sys::sleep(core::time::Duration::from_millis(30)));
        Ok(())
    })?;
    while word.load(Ordering::SeqCst) & WAITED_FOR == 0 {
        ok!(sys::sched_yield());
    }
    ok!(sys::sleep(core::time::Duration::from_millis(30)));
    check_eq!(futex(at, abi::FUTEX_UNLOCK_PI, 0, [0; 3]), Ok(0));
    while word.load(Ordering::SeqCst) & !WAITED_FOR != other as u32 {
        ok!(sys::sched_yield());
    }
    shared.store(8, 1);
    check_eq!(futex(at, abi::FUTEX_LOCK_PI, 0, [0; 3]), Ok(0));
    check_eq!(word.load(Ordering::SeqCst) & !WAITED_FOR, own_tid() | DIED);
    expect_success(other)
}

extern "C" fn wait_for_lock(_: usize) {
    WAITING.fetch_add(1, Ordering::SeqCst);
    let [first, second, _] = WORDS.each_ref().map(address);
    let operation = abi::FUTEX_WAIT_REQUEUE_PI | PRIVATE;
    let result = futex(first, operation, 0, [0, second, 0]);
    let has_lock = WORDS[1].load(Ordering::SeqCst) & !WAITED_FOR == own_tid();
    if result == Ok(0) && has_lock {
        WOKEN.fetch_add(1, Ordering::SeqCst);
    }
    let _ = futex(second, abi::FUTEX_UNLOCK_PI | PRIVATE, 0, [0; 3]);
}

/// Waiters of a futex are moved to a lock, one after the other has it.
#[guest_test]
fn futex_lock_requeue() -> Outcome {
    let [first, second, _] = WORDS.each_ref().map(address);
    let threads = [Thread::start(wait_for_lock, 0)?, Thread::start(wait_for_lock, 0)?];
    await_waiters(2)?;
    let operation = abi::FUTEX_CMP_REQUEUE_PI | PRIVATE;
    check_eq!(futex(first, operation, 2, [9, second, 0]), Err(Errno::EINVAL));
    check_eq!(futex(first, operation, 1, [9, second, 1]), Err(Errno::EAGAIN));
    check_eq!(futex(first, operation, 1, [9, first, 0]), Err(Errno::EINVAL));
    check_eq!(futex(first, WAKE | PRIVATE, 1, [0; 3]), Err(Errno::EINVAL));
    check_eq!(futex(first, operation, 1, [9, second, 0]), Ok(2));
    threads.into_iter().for_each(Thread::join);
    check_eq!(WOKEN.load(Ordering::SeqCst), 2);
    check_eq!(WORDS[1].load(Ordering::SeqCst) & !WAITED_FOR, 0);
    Ok(())
}
