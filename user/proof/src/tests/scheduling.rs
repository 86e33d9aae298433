//! The CPU and its time: who gets how much, exact sleeps, and the account of what was used.
//!
//! The machine's clock counts instructions: one is a nanosecond, and every run is the same.

use core::time::Duration;
use foundation::mutant::Mutant;
use proof::guest_test;
use proof::kit::{Child, Named, Outcome, raw};
use proof::lazy;
use user::prelude::*;
use user::sys::abi;

/// Computes for a while. An emulator may take its time for the hint of a loop that waits.
fn compute(rounds: u64) {
    for round in 0..rounds {
        core::hint::black_box(round);
    }
}

/// A process that only computes.
fn hog() -> Outcome<Child> {
    Child::start("hog", || {
        loop {
            compute(1000);
        }
    })
}

fn now() -> Outcome<Duration> {
    sys::clock(abi::CLOCK_MONOTONIC).named("clock_gettime")
}

/// Makes and removes files. Returns the time that it took.
fn files(count: usize) -> Outcome<Duration> {
    let start = now()?;
    for _ in 0..count {
        let fd = ok!(sys::open(b"file", abi::O_CREAT | abi::O_RDWR, 0o644));
        ok!(sys::close(fd));
        ok!(sys::unlink(b"file"));
    }
    Ok(now()?.saturating_sub(start))
}

/// CPU time of a child that is ended now: in user mode and in the kernel.
fn used(child: Child) -> Outcome<[Duration; 2]> {
    let mut words = [0u64; 18];
    let (pid, usage) = (child.pid as usize, words.as_mut_ptr() as usize);
    ok!(sys::kill(child.pid, abi::SIGKILL as i32));
    ok!(raw(abi::__NR_wait4, &[pid, 0, 0, usage]));
    drop(child);
    Ok(times(&words))
}

/// User and system time of a `struct rusage`.
fn times(words: &[u64; 18]) -> [Duration; 2] {
    let time = |at: usize| Duration::new(words[at], words[at + 1] as u32 * 1000);
    [time(0), time(2)]
}

/// A process that computes has a quarter of the CPU beside one that works with files: that one and
/// both of its servers have a share each. What the three need, whatever part of it is whose, is had
/// from all three shares: so they take four thirds of the time.
#[guest_test(icount: true, mutants: &[Mutant::KeepTurn, Mutant::ClientPays, Mutant::FreeService])]
fn scheduling_neighbour() -> Outcome {
    const FILES: usize = 400;
    files(FILES)?;
    let alone = files(FILES)?;
    let neighbour = hog()?;
    files(FILES / 10)?;
    let start = now()?;
    let beside = files(FILES)?;
    let percent = beside.as_micros() * 100 / alone.as_micros();
    check!(percent <= 140, "{alone:?} alone, {beside:?} beside a process that computes");
    files(FILES)?;
    let took = now()?.saturating_sub(start);
    let [user, system] = used(neighbour)?;
    let part = (user + system).as_micros() * 100 / took.as_micros();
    check!((25..=30).contains(&part), "{part} % of {took:?} are the other one's");
    Ok(())
}

/// A step of niceness is a tenth of the CPU: of two processes with a difference of 5, one gets
/// three times as much.
#[guest_test(icount: true, mutants: &[Mutant::IgnoreNiceness])]
fn scheduling_niceness() -> Outcome {
    let (normal, nicer) = (hog()?, hog()?);
    let set = |pid: i32, niceness: usize| {
        raw(abi::__NR_setpriority, &[abi::PRIO_PROCESS as usize, pid as usize, niceness])
    };
    let get = |pid: i32| raw(abi::__NR_getpriority, &[abi::PRIO_PROCESS as usize, pid as usize]);
    ok!(set(nicer.pid, 5));
    check_eq!((get(normal.pid), get(nicer.pid)), (Ok(20), Ok(15)));
    check_eq!(set(99_999, 0), Err(Errno::ESRCH));
    check_eq!(raw(abi::__NR_getpriority, &[3, 0]), Err(Errno::EINVAL));
    ok!(sys::sleep(Duration::from_millis(400)));
    let ([normal, _], [nicer, _]) = (used(normal)?, used(nicer)?);
    let ratio = normal.as_micros() * 100 / nicer.as_micros();
    check!((280..=335).contains(&ratio), "{normal:?} and {nicer:?}, {ratio} %");
    // A child inherits it, and the range is bounded.
    ok!(set(0, 100));
    let child = Child::start("child", || {
        check_eq!(get(0), Ok(1));
        Ok(())
    })?;
    child.join()
}

/// The nicest process is not starved beside others that compute: it gets its weight's part, 15 of
/// 1024 and 15.
#[guest_test(icount: true)]
fn scheduling_nicest() -> Outcome {
    let (normal, nicest) = (hog()?, hog()?);
    ok!(raw(abi::__NR_setpriority, &[abi::PRIO_PROCESS as usize, nicest.pid as usize, 19]));
    ok!(sys::sleep(Duration::from_secs(2)));
    let ([normal, _], [nicest, _]) = (used(normal)?, used(nicest)?);
    // 29 slices of a millisecond, of which the last one may be cut, and one more before the change.
    let ratio = normal.as_micros() * 15 * 100 / (nicest.as_micros() * 1024);
    check!((85..=115).contains(&ratio), "{normal:?} and {nicest:?}: {ratio} % of the weights");
    Ok(())
}

/// Reads a little from a file, again and again. Returns the time that it took, and the longest one.
fn small_reads(count: usize) -> Outcome<[Duration; 2]> {
    let fd = ok!(sys::open(b"small", abi::O_CREAT | abi::O_RDWR, 0o644));
    ok!(sys::write_all(fd, &[1; 100]));
    let (start, mut longest) = (now()?, Duration::ZERO);
    for _ in 0..count {
        let before = now()?;
        // The server is asked each time: nothing is kept of a file's attributes.
        ok!(sys::fstat(fd));
        check_eq!(sys::pread(fd, &mut [0; 100], user::prelude::FileOffset(0)), Ok(100));
        longest = longest.max(now()?.saturating_sub(before));
    }
    let took = now()?.saturating_sub(start);
    ok!(sys::close(fd));
    Ok([took, longest])
}

/// Sends a request; the buffer is for its bytes.
type Request = fn(&mut [u8]) -> Outcome;

/// A client that sends requests without end, small ones or large ones, does not keep another one's
/// small reads waiting for more than its share: these take at most twice as long as alone, and each
/// of them the length of a request that is under way, and a slice, at most.
#[guest_test(icount: true)]
fn scheduling_flood() -> Outcome {
    const READS: usize = 400;
    small_reads(READS)?;
    let [alone, _] = small_reads(READS)?;
    let floods: [(&str, Request); 2] = [
        ("small requests", |_| {
            ok!(sys::statfs(b"small"));
            Ok(())
        }),
        ("large requests", |bytes| {
            let fd = ok!(sys::open(b"large", abi::O_CREAT | abi::O_RDWR, 0o644));
            ok!(sys::write_all(fd, bytes));
            done_with(fd)
        }),
    ];
    for (what, request) in floods {
        let flood = Child::start(what, || {
            let mut bytes = vec![7; 1 << 20];
            loop {
                request(&mut bytes)?;
            }
        })?;
        small_reads(READS / 10)?;
        let [beside, longest] = small_reads(READS)?;
        flood.kill()?;
        println!("{what}: {alone:?} alone, {beside:?} beside, {longest:?} at most");
        check!(beside <= alone * 2 + Duration::from_millis(5), "{what}: {beside:?}, {alone:?}");
        check!(longest <= Duration::from_millis(4), "{what}: one takes {longest:?}");
    }
    Ok(())
}

fn done_with(fd: Fd) -> Outcome {
    sys::close(fd).named("close")
}

/// A wait with a time limit, and its name.
type Wait = (&'static str, fn(Duration) -> Result<usize>);

/// The waits of this test.
fn waits() -> [Wait; 4] {
    fn spec(time: Duration) -> [usize; 2] {
        [time.as_secs() as usize, time.subsec_nanos() as usize]
    }
    [
        ("nanosleep", |time| raw(abi::__NR_nanosleep, &[spec(time).as_ptr() as usize, 0])),
        ("clock_nanosleep", |time| {
            let now = sys::clock(abi::CLOCK_MONOTONIC)?;
            let at = spec(now + time);
            let clock = abi::CLOCK_MONOTONIC as usize;
            raw(abi::__NR_clock_nanosleep, &[clock, 1, at.as_ptr() as usize, 0])
        }),
        ("ppoll", |time| raw(abi::__NR_ppoll, &[0, 0, spec(time).as_ptr() as usize, 0, 8])),
        ("futex", |time| {
            let word = 0u32;
            let (word, time) = (&raw const word as usize, spec(time));
            match raw(abi::__NR_futex, &[word, 0, 0, time.as_ptr() as usize]) {
                Err(Errno(110)) => Ok(0),
                other => other,
            }
        }),
    ]
}

/// Sleeps and time limits are exact to 100 µs, beside processes that compute, too.
#[guest_test(icount: true)]
fn scheduling_exact_sleeps() -> Outcome {
    let check = |beside: &str| -> Outcome {
        for (name, wait) in waits() {
            for micros in [100, 1000, 10_500, 33_333] {
                let time = Duration::from_micros(micros);
                let start = now()?;
                wait(time).named(name)?;
                let late = now()?.checked_sub(start + time);
                let late = late.ok_or_else(|| format!("{name} of {time:?} ends too early"))?;
                check!(late < Duration::from_micros(100), "{name} of {time:?}{beside}: {late:?}");
            }
        }
        Ok(())
    };
    check("")?;
    let hogs = [hog()?, hog()?];
    // After a while, what they have had is all that counts.
    ok!(sys::sleep(Duration::from_millis(20)));
    check(" beside others")?;
    hogs.into_iter().try_for_each(Child::kill)
}

/// Time in the kernel and in user mode is accounted for, and both together are all there is.
#[guest_test(icount: true)]
fn scheduling_cpu_time() -> Outcome {
    let usage = || -> Outcome<[Duration; 2]> {
        let mut words = [0u64; 18];
        ok!(raw(abi::__NR_getrusage, &[0, words.as_mut_ptr() as usize]));
        Ok(times(&words))
    };
    let (start, before) = (now()?, usage()?);
    for _ in 0..100_000 {
        ok!(raw(abi::__NR_getppid, &[]));
    }
    let (middle, calls) = (now()?, usage()?);
    compute(3_000_000);
    let (end, after) = (now()?, usage()?);
    // Each of the figures is in whole microseconds.
    let rounding = Duration::from_micros(2);
    let [user, system] = [calls[0] - before[0], calls[1] - before[1]];
    let all = middle - start + rounding;
    check!(
        user + system <= all && (user + system) * 20 > all * 19,
        "{user:?}, {system:?}: {all:?}"
    );
    check!(system.min(user) > all / 5, "{user:?}, {system:?} of system calls");
    let [user, system] = [after[0] - calls[0], after[1] - calls[1]];
    check!(system < user / 20, "{user:?}, {system:?} of computing");
    let all = end - middle + rounding;
    check!(user + system <= all, "{user:?}, {system:?}: {all:?}");
    Ok(())
}

/// Uptime, and the time of it for which the CPU has waited, in hundredths of seconds.
fn uptime() -> Outcome<[u64; 2]> {
    let text = lazy::read_text("/proc/uptime")?;
    let mut fields = text.split_whitespace().map(|field| field.replace('.', "").parse());
    match [fields.next(), fields.next()] {
        [Some(Ok(up)), Some(Ok(idle))] => Ok([up, idle]),
        _ => Err(format!("/proc/uptime: {text}")),
    }
}

/// Time in which everybody waits is idle time, and no other.
#[guest_test(icount: true, mutants: &[Mutant::ChargeWaiting])]
fn scheduling_idle_time() -> Outcome {
    let growth = |act: fn()| -> Outcome<[u64; 2]> {
        let before = uptime()?;
        act();
        let after = uptime()?;
        Ok([0, 1].map(|field| after[field] - before[field]))
    };
    let [up, idle] = growth(|| {
        let _ = sys::sleep(Duration::from_millis(500));
    })?;
    check!(up >= 50 && (up - 2..=up + 1).contains(&idle), "{idle} of {up} hundredths asleep");
    let [up, idle] = growth(|| compute(100_000_000))?;
    check!(up >= 10 && idle <= 1, "{idle} of {up} hundredths computing");
    Ok(())
}
