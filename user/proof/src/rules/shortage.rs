//! Q8: each claim for memory of the calls that only a running thread can make fails in turn. (The
//! other calls meet that in the host's test `shortage`.)

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use core::time::Duration;
use foundation::mutant::Mutant;
use proof::kit::claims::{self, Attempt, Case};
use proof::kit::{Buffer, Child, File, Outcome, PAGE, load, raw, store};
use proof::thread::Thread;
use proof::{check, check_eq, guest_test, ok};
use user::prelude::*;
use user::sys::abi;

const PAGES: usize = 24;
/// What a call that needs memory returns, and what one that needs a process does.
const SHORT: &[Errno] = &[Errno::ENOMEM, Errno::EAGAIN];
const NO_MEMORY: &[Errno] = &[Errno::ENOMEM];
const NONE: &[Errno] = &[];

fn done<T>(result: Result<T>) -> Outcome<Result<()>> {
    Ok(result.map(drop))
}

/// Memory of each kind.
struct Memory {
    lazy: Buffer,
    private: Buffer,
    shared: Buffer,
}

impl Memory {
    fn new() -> Outcome<Self> {
        let file = File::make("file", 1, (PAGES * PAGE) as u64)?;
        let (lazy, private) = (Buffer::new(PAGES * PAGE)?, Buffer::new(PAGES * PAGE)?);
        let shared = Buffer::shared(PAGES * PAGE)?;
        file.read_into(&lazy, 0, PAGES * PAGE, 0)?;
        (0..PAGES / 2).for_each(|page| {
            store(private.at(page * PAGE), 1);
            store(shared.at(page * PAGE), 2);
        });
        Ok(Self { lazy, private, shared })
    }

    /// Touches pages of each kind, in each state.
    fn touch(&self) -> Result<()> {
        for page in [0, PAGES / 2 + 3] {
            load(self.lazy.at(page * PAGE));
            store(self.lazy.at((page + 1) * PAGE), 1);
            for buffer in [&self.private, &self.shared] {
                load(buffer.at(page * PAGE));
                store(buffer.at((page + 1) * PAGE), 1);
            }
        }
        Ok(())
    }
}

/// A child that ends at once, and has ended well afterwards.
fn child(attempt: &mut Attempt, fork: fn() -> Result<Option<i32>>) -> Outcome<Result<()>> {
    attempt.begin();
    let child = fork();
    if child == Ok(None) {
        sys::exit(0);
    }
    attempt.end();
    match child {
        Ok(child) => {
            let child = child.unwrap_or_default();
            check_eq!(ok!(sys::wait_for(child)).exit_code(), Some(0), "status of the child");
            Ok(Ok(()))
        }
        Err(error) => Ok(Err(error)),
    }
}

/// vfork(2), whose child ends at once.
fn vfork() -> Result<Option<i32>> {
    let child: isize;
    // SAFETY: the child changes nothing of the memory that it shares, and ends.
    unsafe {
        core::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor edi, edi",
            "mov eax, 60",
            "syscall",
            "2:",
            inlateout("rax") abi::__NR_vfork as isize => child,
            lateout("rcx") _,
            lateout("r11") _,
            lateout("rdi") _,
        );
    }
    sys::check(child).map(|child| Some(child as i32))
}

static ENDED: AtomicU32 = AtomicU32::new(0);

extern "C" fn end(_: usize) {
    ENDED.fetch_add(1, Ordering::SeqCst);
}

fn thread(attempt: &mut Attempt) -> Outcome<Result<()>> {
    let before = ENDED.load(Ordering::SeqCst);
    let thread = attempt.during(|| Thread::try_start(end, 0));
    let is_ok = thread.is_ok();
    let result = done(thread);
    check_eq!(ENDED.load(Ordering::SeqCst) - before, u32::from(is_ok), "threads that ran");
    result
}

#[guest_test(checked: true, timeout_s: 240, mutants: &[Mutant::KeepFailedThread])]
fn q8_each_claim_of_processes_may_fail() -> Outcome {
    if !claims::can_fail() {
        return Ok(());
    }
    let memory = Memory::new()?;
    let script = ok!(sys::open(b"script", abi::O_CREAT | abi::O_WRONLY, 0o755));
    ok!(sys::write_all(script, b"#!/bin/true an-option\n"));
    ok!(sys::close(script));
    let exec = |path: &[u8]| sys::execve(path, &[path, b"an argument"], &[b"A=1", b"B=2"]);
    let cases = [
        Case { name: "fork", errors: SHORT, call: &|attempt| child(attempt, sys::fork) },
        Case { name: "vfork", errors: SHORT, call: &|attempt| child(attempt, vfork) },
        Case { name: "clone", errors: SHORT, call: &thread },
        Case {
            name: "child_memory",
            errors: NONE,
            call: &|attempt| attempt.in_child(|| memory.touch()),
        },
        Case {
            name: "execve",
            errors: NO_MEMORY,
            call: &|attempt| attempt.in_child(|| Err(exec(b"/bin/true"))),
        },
        Case {
            name: "execve_script",
            errors: NO_MEMORY,
            call: &|attempt| attempt.in_child(|| Err(exec(b"script"))),
        },
        Case { name: "exit", errors: NONE, call: &|attempt| attempt.in_child(|| Ok(())) },
        Case {
            name: "wait4",
            errors: NONE,
            call: &|attempt| {
                let child = Child::start("ends", || Ok(()))?;
                check_eq!(ok!(attempt.during(|| sys::wait_for(child.pid))).exit_code(), Some(0));
                Ok(Ok(()))
            },
        },
        Case {
            name: "setpgid",
            errors: NONE,
            call: &|attempt| attempt.in_child(|| sys::setpgid(0, 0).map(drop)),
        },
        Case {
            name: "setsid",
            errors: NONE,
            call: &|attempt| attempt.in_child(|| sys::setsid().map(drop)),
        },
        Case {
            name: "prctl",
            errors: NO_MEMORY,
            call: &|attempt| {
                let name = b"a name\0";
                done(attempt.during(|| sys::prctl(15, name.as_ptr() as usize, 0, 0, 0)))
            },
        },
    ];
    let sum = claims::each(&cases)?;
    ok!(sys::unlink(b"script"));
    check!(sum > 100, "{sum} failures are too few");
    Ok(())
}

/// Signals that a handler has received.
static CAUGHT: AtomicU32 = AtomicU32::new(0);
/// The claim that fails from the end of a handler on; 0 for none.
static AT_RETURN: AtomicUsize = AtomicUsize::new(0);
const ON_STACK: u32 = 0x0800_0000;
const QUEUED: u32 = 40;
/// More than an empty list has space for.
const MANY: u64 = 20;

extern "C" fn note(_: i32) {
    CAUGHT.fetch_add(1, Ordering::SeqCst);
    let number = AT_RETURN.swap(0, Ordering::SeqCst);
    if number != 0 {
        let _ = claims::choose(number);
    }
}

/// A signal stack whose pages are not in memory.
struct SignalStack(Buffer);

impl SignalStack {
    fn new() -> Outcome<Self> {
        let stack = Buffer::new(8 * PAGE)?;
        let words = [stack.at(0), 0, stack.len_bytes()];
        ok!(raw(abi::__NR_sigaltstack, &[words.as_ptr() as usize, 0]));
        Ok(Self(stack))
    }

    fn drop_pages(&self) -> Outcome {
        let arguments = [self.0.at(0), self.0.len_bytes(), abi::MADV_DONTNEED as usize];
        ok!(raw(abi::__NR_madvise, &arguments));
        Ok(())
    }
}

/// A call that sends a signal to the caller, whose handler then runs once.
fn caught(attempt: &mut Attempt, send: impl FnOnce() -> Result<usize>) -> Outcome<Result<()>> {
    let before = CAUGHT.load(Ordering::SeqCst);
    let result = attempt.during(send);
    let ran = CAUGHT.load(Ordering::SeqCst) - before;
    check_eq!(ran, u32::from(result.is_ok()), "handlers that ran");
    done(result)
}

/// `siginfo_t` of a queued signal.
fn info(value: u64) -> [u64; 16] {
    let mut words = [0; 16];
    // si_code: SI_QUEUE.
    words[1] = 0xffff_ffff;
    (words[2], words[3]) = (sys::getpid() as u64, value);
    words
}

/// Takes a pending signal of [`QUEUED`]. Returns its value.
fn take() -> Result<u64> {
    let (set, mut info, time) = (1u64 << (QUEUED - 1), [0u64; 16], [0u64; 2]);
    let [set, to, time] =
        [&raw const set as usize, info.as_mut_ptr() as usize, time.as_ptr() as usize];
    raw(abi::__NR_rt_sigtimedwait, &[set, to, time, 8]).map(|_| info[3])
}

/// Queues a burst of signals. All that were accepted arrive, in their order.
fn queue(attempt: &mut Attempt, send: &dyn Fn(usize) -> Result<usize>) -> Outcome<Result<()>> {
    let mut result = Ok(());
    let mut accepted = Vec::with_capacity(MANY as usize);
    attempt.during(|| {
        for value in 0..MANY {
            match send(info(value).as_ptr() as usize) {
                Ok(_) => accepted.push(value),
                Err(error) => result = Err(error),
            }
        }
    });
    for value in accepted {
        check_eq!(take(), Ok(value), "value of the next signal");
    }
    check_eq!(take(), Err(Errno::EAGAIN), "another signal");
    Ok(result)
}

#[guest_test(checked: true, timeout_s: 240)]
fn q8_each_claim_of_signals_may_fail() -> Outcome {
    if !claims::can_fail() {
        return Ok(());
    }
    let (own, user) = (sys::getpid() as usize, abi::SIGUSR1 as usize);
    let stack = SignalStack::new()?;
    ok!(sys::signal_handle(user as i32, note, ON_STACK));
    ok!(sys::signal_mask(1 << (QUEUED - 1)));
    let cases = [
        Case {
            name: "kill_handler",
            errors: NONE,
            call: &|attempt| {
                stack.drop_pages()?;
                caught(attempt, || raw(abi::__NR_kill, &[own, user]))
            },
        },
        Case {
            name: "tkill",
            errors: NONE,
            call: &|attempt| caught(attempt, || raw(abi::__NR_tkill, &[own, user])),
        },
        Case {
            name: "tgkill",
            errors: NONE,
            call: &|attempt| caught(attempt, || raw(abi::__NR_tgkill, &[own, own, user])),
        },
        Case {
            name: "rt_sigreturn",
            errors: NONE,
            call: &|attempt| {
                AT_RETURN.store(attempt.number(), Ordering::SeqCst);
                ok!(raw(abi::__NR_kill, &[own, user]));
                attempt.end();
                Ok(Ok(()))
            },
        },
        Case {
            name: "rt_sigqueueinfo",
            errors: SHORT,
            call: &|attempt| {
                let number = abi::__NR_rt_sigqueueinfo;
                queue(attempt, &|info| raw(number, &[own, QUEUED as usize, info]))
            },
        },
        Case {
            name: "rt_tgsigqueueinfo",
            errors: SHORT,
            call: &|attempt| {
                let number = abi::__NR_rt_tgsigqueueinfo;
                queue(attempt, &|info| raw(number, &[own, own, QUEUED as usize, info]))
            },
        },
        Case {
            name: "rt_sigtimedwait",
            errors: NONE,
            call: &|attempt| {
                ok!(raw(abi::__NR_tgkill, &[own, own, QUEUED as usize]));
                done(attempt.during(take))
            },
        },
    ];
    claims::each(&cases)?;
    Ok(())
}

/// A word that threads wait for, and how many do.
static WORD: AtomicU32 = AtomicU32::new(0);
static OTHER: AtomicU32 = AtomicU32::new(0);
const WAIT: usize = 0;
const WAKE: usize = 1;
const REQUEUE: usize = 3;
const MS: [u64; 2] = [0, 1_000_000];

fn futex(word: &AtomicU32, operation: usize, rest: [usize; 3]) -> Result<usize> {
    let [value, third, second] = rest;
    raw(abi::__NR_futex, &[word.as_ptr() as usize, operation, value, third, second, 0])
}

extern "C" fn wait(_: usize) {
    ENDED.fetch_add(1, Ordering::SeqCst);
    let _ = futex(&WORD, WAIT, [0, 0, 0]);
}

/// A thread that waits for one word is moved to another one, and woken there.
fn requeue(attempt: &mut Attempt) -> Outcome<Result<()>> {
    let before = ENDED.load(Ordering::SeqCst);
    let thread = Thread::start(wait, 0)?;
    while ENDED.load(Ordering::SeqCst) == before {
        ok!(sys::sched_yield());
    }
    // It waits as soon as this one does.
    ok!(sys::sleep(Duration::from_millis(1)));
    let to = OTHER.as_ptr() as usize;
    let moved = attempt.during(|| futex(&WORD, REQUEUE, [0, 1, to]));
    let (here, there) = if moved.is_ok() { (0, 1) } else { (1, 0) };
    check_eq!(moved.unwrap_or(1), 1, "threads that were moved");
    check_eq!(futex(&WORD, WAKE, [9, 0, 0]), Ok(here), "threads that still waited");
    check_eq!(futex(&OTHER, WAKE, [9, 0, 0]), Ok(there), "threads that waited there");
    thread.join();
    done(moved)
}

/// A timer of the process is made, set and removed.
fn process_timer(attempt: &mut Attempt) -> Outcome<Result<()>> {
    let (long, mut id) = ([0u64, 0, 100, 0], 0u32);
    let monotonic = abi::CLOCK_MONOTONIC as usize;
    let made = attempt.during(|| {
        raw(abi::__NR_timer_create, &[monotonic, 0, &raw mut id as usize])?;
        raw(abi::__NR_timer_settime, &[id as usize, 0, long.as_ptr() as usize, 0])
    });
    if made.is_ok() {
        ok!(raw(abi::__NR_timer_delete, &[id as usize]));
    }
    done(made)
}

fn nothing_ready(result: Result<usize>) -> Outcome<Result<()>> {
    check!(matches!(result, Ok(0) | Err(_)), "{result:?}");
    done(result)
}

#[guest_test(checked: true, timeout_s: 240)]
fn q8_each_claim_of_waits_may_fail() -> Outcome {
    if !claims::can_fail() {
        return Ok(());
    }
    let time = MS.as_ptr() as usize;
    let timers = [0usize, 1, 2];
    let cases = [
        Case {
            name: "futex_wait",
            errors: NO_MEMORY,
            call: &|attempt| match attempt.during(|| futex(&WORD, WAIT, [0, time, 0])) {
                Err(Errno::ETIMEDOUT) => Ok(Ok(())),
                result => done(result),
            },
        },
        Case { name: "futex_requeue", errors: NO_MEMORY, call: &requeue },
        Case {
            name: "alarm",
            errors: NONE,
            call: &|attempt| {
                ok!(attempt.during(|| raw(abi::__NR_alarm, &[100])));
                done(raw(abi::__NR_alarm, &[0]))
            },
        },
        Case {
            name: "setitimer_getitimer",
            errors: NONE,
            call: &|attempt| {
                let (long, none, mut now) = ([0u64, 0, 100, 0], [0u64; 4], [0u64; 4]);
                for timer in timers {
                    let set = |value: &[u64; 4]| {
                        raw(abi::__NR_setitimer, &[timer, value.as_ptr() as usize, 0])
                    };
                    let now = now.as_mut_ptr() as usize;
                    ok!(attempt.during(
                        || set(&long).and_then(|_| { raw(abi::__NR_getitimer, &[timer, now]) })
                    ));
                    ok!(set(&none));
                }
                Ok(Ok(()))
            },
        },
        Case { name: "timers", errors: SHORT, call: &process_timer },
        Case {
            name: "nanosleep",
            errors: NONE,
            call: &|attempt| done(attempt.during(|| sys::sleep(Duration::from_millis(1)))),
        },
    ];
    claims::each(&cases)?;
    Ok(())
}

#[guest_test(checked: true, timeout_s: 240)]
fn q8_each_claim_of_poll_may_fail() -> Outcome {
    if !claims::can_fail() {
        return Ok(());
    }
    let [reader, writer] = ok!(sys::pipe(0));
    let set = || 1u64 << reader.0;
    let time = MS.as_ptr() as usize;
    let cases = [
        Case {
            name: "poll",
            errors: NO_MEMORY,
            call: &|attempt| {
                let entry = abi::pollfd { fd: reader.0, events: 1, revents: 0 };
                let mut entries = [entry; 40];
                let arguments = [entries.as_mut_ptr() as usize, entries.len(), 1];
                nothing_ready(attempt.during(|| raw(abi::__NR_poll, &arguments)))
            },
        },
        Case {
            name: "ppoll",
            errors: NO_MEMORY,
            call: &|attempt| {
                let mut entry = abi::pollfd { fd: reader.0, events: 1, revents: 0 };
                let arguments = [&raw mut entry as usize, 1, time, 0, 8];
                nothing_ready(attempt.during(|| raw(abi::__NR_ppoll, &arguments)))
            },
        },
        Case {
            name: "select",
            errors: NO_MEMORY,
            call: &|attempt| {
                let (mut read, mut time) = (set(), [0u64, 1000]);
                let arguments = [64, &raw mut read as usize, 0, 0, time.as_mut_ptr() as usize];
                nothing_ready(attempt.during(|| raw(abi::__NR_select, &arguments)))
            },
        },
        Case {
            name: "pselect6",
            errors: NO_MEMORY,
            call: &|attempt| {
                let mut read = set();
                let arguments = [64, &raw mut read as usize, 0, 0, time, 0];
                nothing_ready(attempt.during(|| raw(abi::__NR_pselect6, &arguments)))
            },
        },
    ];
    claims::each(&cases)?;
    ok!(sys::close(reader));
    ok!(sys::close(writer));
    Ok(())
}
