//! fork, vfork, execve, wait4, exit, threads, time.

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use core::time::Duration;
use proof::guest_test;
use proof::kit::{Buffer, File, Outcome, PAGE, child, file, in_child, load, raw};
use proof::lazy;
use proof::thread::Thread;
use user::prelude::*;
use user::sys::abi;

#[guest_test]
fn process_fork_and_wait() -> Outcome {
    let parent = sys::getpid();
    for code in [0, 1, 42, 255] {
        let status =
            in_child(
                || if sys::getppid() == parent && sys::getpid() != parent { code } else { 99 },
            )?;
        check_eq!(status.exit_code(), Some(code));
    }
    check_eq!(in_child(|| 256 + 7)?.exit_code(), Some(7));
    check_eq!(sys::wait(-1, 0), Err(Errno::ECHILD));
    Ok(())
}

#[guest_test]
fn process_wait_choices() -> Outcome {
    let [reader, writer] = ok!(sys::pipe(0));
    let first = child(|| {
        let _ = (sys::close(writer), sys::read(reader, &mut [0]));
        11
    })?;
    check_eq!(sys::wait(first, abi::WNOHANG), Ok(None));
    let second = child(|| 22)?;
    check_eq!(ok!(sys::wait_for(second)).exit_code(), Some(22));
    check_eq!(sys::wait(second, 0), Err(Errno::ECHILD));
    ok!(sys::close(writer));
    check_eq!(
        ok!(sys::wait(-1, 0)).map(|(id, status)| (id, status.exit_code())),
        Some((first, Some(11)))
    );
    check_eq!(raw(abi::__NR_wait4, &[usize::MAX, 0, 0xffff_0000, 0]), Err(Errno::EINVAL));
    Ok(())
}

#[guest_test]
fn process_memory_is_private() -> Outcome {
    let mut pages = user::pages::Pages::new(1 << 20).map_err(|error| format!("{error}"))?;
    pages.fill(1);
    let address = pages.as_ptr() as usize;
    let status = in_child(|| {
        // SAFETY: the child's own copy of the mapping.
        let copy = unsafe { core::slice::from_raw_parts_mut(address as *mut u8, 1 << 20) };
        if copy.iter().any(|byte| *byte != 1) {
            return 1;
        }
        copy.fill(2);
        i32::from(copy.iter().any(|byte| *byte != 2))
    })?;
    check_eq!(status.exit_code(), Some(0));
    check!(pages.iter().all(|byte| *byte == 1));
    pages.fill(3);
    check!(pages.iter().all(|byte| *byte == 3));
    Ok(())
}

/// An orphan gets a new parent, and its status is not lost.
#[guest_test]
fn process_orphans() -> Outcome {
    let [reader, writer] = ok!(sys::pipe(0));
    let middle = child(|| {
        let id = sys::getpid();
        let orphan = sys::fork();
        if orphan == Ok(None) {
            while sys::getppid() == id {
                let _ = sys::sched_yield();
            }
            let _ = sys::write(writer, b"o");
            sys::exit(0)
        }
        i32::from(orphan.is_err())
    })?;
    check_eq!(ok!(sys::wait_for(middle)).exit_code(), Some(0));
    ok!(sys::close(writer));
    let mut byte = [0];
    check_eq!(sys::read(reader, &mut byte), Ok(1));
    check_eq!(sys::read(reader, &mut byte), Ok(0));
    Ok(())
}

/// vfork with a child that sleeps and exits with 7 inside this function: it runs on its parent's
/// stack.
#[unsafe(naked)]
extern "C" fn vfork_and_exit(time: *const abi::__kernel_timespec, flag: *mut u32) -> isize {
    core::arch::naked_asm!(
        "mov r8, rdi",
        "mov r9, rsi",
        "mov eax, 58",
        "syscall",
        "test rax, rax",
        "jnz 2f",
        "mov rdi, r8",
        "xor esi, esi",
        "mov eax, 35",
        "syscall",
        "mov dword ptr [r9], 1",
        "mov edi, 7",
        "mov eax, 231",
        "syscall",
        "ud2",
        "2:",
        "ret",
    )
}

#[guest_test]
fn process_vfork() -> Outcome {
    let time = abi::__kernel_timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    let mut flag = 0;
    let child = vfork_and_exit(&time, &raw mut flag);
    check!(child > 0);
    // The parent continued only after the child had released their shared memory.
    // SAFETY: a local variable; the child that wrote to it has ended.
    check_eq!(unsafe { core::ptr::read_volatile(&flag) }, 1);
    check_eq!(ok!(sys::wait_for(child as i32)).exit_code(), Some(7));
    Ok(())
}

/// Runs a program with its output redirected to a file.
fn output_of(path: &[u8], args: &[&[u8]], environment: &[&[u8]]) -> Outcome<Vec<u8>> {
    let out = file(b"out", b"")?;
    let status = in_child(|| {
        let _ = sys::dup2(out, Fd::STDOUT);
        let error = sys::execve(path, args, environment);
        complain("tests", path, error)
    })?;
    check_eq!(status.exit_code(), Some(0));
    proof::kit::content(b"out")
}

#[guest_test]
fn process_exec() -> Outcome {
    check_eq!(output_of(b"/bin/echo", &[b"echo", b"a b", b"", b"c"], &[])?, b"a b  c\n");
    check_eq!(
        output_of(b"/bin/sh", &[b"sh", b"-c", b"echo $ONE-$TWO"], &[b"ONE=1", b"TWO=two words"])?,
        b"1-two words\n"
    );
    let long = vec![b'x'; 100_000];
    check_eq!(output_of(b"/bin/echo", &[b"echo", &long], &[])?, [long.as_slice(), b"\n"].concat());
    let many: Vec<&[u8]> = core::iter::repeat_n(&b"w"[..], 2000).collect();
    check_eq!(
        output_of(b"/bin/echo", &[&[&b"echo"[..]], many.as_slice()].concat(), &[])?.len(),
        2 * 2000
    );
    ok!(sys::close(file(b"script", b"#!/bin/sh\necho script $1 $#\n")?));
    ok!(sys::chmod(b"script", 0o755));
    check_eq!(output_of(b"/bin/sh", &[b"sh", b"-c", b"./script one two"], &[])?, b"script one 2\n");
    Ok(())
}

#[guest_test]
fn process_exec_errors() -> Outcome {
    let args: &[&[u8]] = &[b"x"];
    check_eq!(sys::execve(b"none", args, &[]), Errno::ENOENT);
    check_eq!(sys::execve(b".", args, &[]), Errno::EACCES);
    ok!(sys::close(file(b"f", b"\x7fELF, but not really")?));
    check_eq!(sys::execve(b"f", args, &[]), Errno::EACCES);
    ok!(sys::chmod(b"f", 0o755));
    check_eq!(sys::execve(b"f", args, &[]), Errno::ENOEXEC);
    check_eq!(sys::execve(b"f/g", args, &[]), Errno::ENOTDIR);
    let huge = vec![b'x'; 3 << 20];
    check_eq!(sys::execve(b"/bin/echo", &[b"echo", &huge], &[]), Errno::E2BIG);
    // A header with wrong lengths must be rejected and do no harm.
    let mut cut = ok!(user::io::read_file(b"/proc/self/exe"));
    cut.truncate(100);
    ok!(sys::close(file(b"cut", &cut)?));
    ok!(sys::chmod(b"cut", 0o755));
    check_eq!(
        in_child(|| i32::from(sys::execve(b"cut", args, &[]) == Errno::ENOENT))?.exit_code(),
        Some(0)
    );
    Ok(())
}

/// Many processes at once, and many in sequence.
#[guest_test]
fn process_many() -> Outcome {
    for _ in 0..4 {
        let children = (0..24).map(|code| child(|| code)).collect::<Outcome<Vec<i32>>>()?;
        let mut codes = Vec::new();
        for _ in &children {
            codes.extend(ok!(sys::wait(-1, 0)).and_then(|(_, status)| status.exit_code()));
        }
        codes.sort_unstable();
        check_eq!(codes, (0..24).collect::<Vec<i32>>());
    }
    Ok(())
}

static COUNT: AtomicU32 = AtomicU32::new(0);

extern "C" fn count_up(times: usize) {
    for _ in 0..times {
        COUNT.fetch_add(1, Ordering::Relaxed);
    }
}

#[guest_test]
fn process_threads() -> Outcome {
    let threads = (0..6)
        .map(|_| Ok(ok!(Thread::start(count_up, 50_000))))
        .collect::<Outcome<Vec<Thread>>>()?;
    for thread in threads {
        thread.join();
    }
    check_eq!(COUNT.load(Ordering::Relaxed), 300_000);
    // exit_group ends all threads of a process, whichever calls it.
    extern "C" fn leave(code: usize) {
        sys::exit(code as i32)
    }
    let status = in_child(|| match Thread::start(leave, 33) {
        Ok(_) => loop {
            let _ = sys::sched_yield();
        },
        Err(_) => 1,
    })?;
    check_eq!(status.exit_code(), Some(33));
    Ok(())
}

static TURN: AtomicU32 = AtomicU32::new(0);

fn futex_call(operation: u32, value: u32) -> Result<usize> {
    raw(
        abi::__NR_futex,
        &[
            &raw const TURN as usize,
            (operation | abi::FUTEX_PRIVATE_FLAG) as usize,
            value as usize,
            0,
        ],
    )
}

extern "C" fn take_turns(rounds: usize) {
    for _ in 0..rounds {
        while TURN.load(Ordering::SeqCst) == 0 {
            let _ = futex_call(abi::FUTEX_WAIT, 0);
        }
        TURN.store(0, Ordering::SeqCst);
        let _ = futex_call(abi::FUTEX_WAKE, 1);
    }
}

/// A lock of the C library's kind, the list that contains it, and the list's head.
static LOCK: AtomicU32 = AtomicU32::new(0);
static LINK: AtomicUsize = AtomicUsize::new(0);
static HEAD: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];
const HOLDER_DIED: u32 = 0x4000_0000;
const WAITERS: u32 = 0x8000_0000;

/// Takes the lock, as a robust one that others wait for, and ends.
extern "C" fn die_with_lock(pending: usize) {
    let link = LINK.as_ptr() as usize;
    LINK.store(HEAD.as_ptr() as usize, Ordering::SeqCst);
    let offset = (LOCK.as_ptr() as usize).wrapping_sub(link);
    let (first, pending) = if pending == 1 { (HEAD.as_ptr() as usize, link) } else { (link, 0) };
    for (word, value) in HEAD.iter().zip([first, offset, pending]) {
        word.store(value, Ordering::SeqCst);
    }
    let _ = raw(abi::__NR_set_robust_list, &[HEAD.as_ptr() as usize, 24]);
    let tid = raw(abi::__NR_gettid, &[]).unwrap_or(0) as u32;
    LOCK.store(tid | WAITERS, Ordering::SeqCst);
}

/// A lock whose holder ends is marked, whether it is in the list or on its way into it, and who
/// waits for it is woken. A list that makes no sense does no harm.
#[guest_test]
fn process_robust_futex() -> Outcome {
    for pending in [0, 1] {
        LOCK.store(0, Ordering::SeqCst);
        let thread = ok!(Thread::start(die_with_lock, pending));
        loop {
            match LOCK.load(Ordering::SeqCst) {
                0 => drop(sys::sched_yield()),
                word if word & HOLDER_DIED != 0 => break,
                word => {
                    let place = LOCK.as_ptr() as usize;
                    // Not private: the kernel wakes without that flag.
                    let wait = abi::FUTEX_WAIT as usize;
                    let _ = raw(abi::__NR_futex, &[place, wait, word as usize, 0]);
                }
            }
        }
        thread.join();
        check_eq!(LOCK.load(Ordering::SeqCst), WAITERS | HOLDER_DIED);
    }
    check_eq!(raw(abi::__NR_set_robust_list, &[0, 23]), Err(Errno::EINVAL));
    let mut found = [0usize; 2];
    let [head, bytes] = [&raw mut found[0] as usize, &raw mut found[1] as usize];
    for address in [1usize, 8, usize::MAX - 4, found.as_ptr() as usize] {
        let status = in_child(|| {
            // Its own address is the next entry: an endless list.
            found[0] = found.as_ptr() as usize;
            i32::from(raw(abi::__NR_set_robust_list, &[address, 24]).is_err())
        })?;
        check_eq!(status.exit_code(), Some(0));
    }
    check_eq!(raw(abi::__NR_get_robust_list, &[0, head, bytes]), Ok(0));
    check_eq!(core::hint::black_box(found)[1], 24);
    Ok(())
}

#[guest_test]
fn process_futex() -> Outcome {
    check_eq!(futex_call(abi::FUTEX_WAIT, 1), Err(Errno::EAGAIN));
    check_eq!(futex_call(abi::FUTEX_WAKE, 1), Ok(0));
    let thread = ok!(Thread::start(take_turns, 500));
    for _ in 0..500 {
        TURN.store(1, Ordering::SeqCst);
        let _ = futex_call(abi::FUTEX_WAKE, 1);
        while TURN.load(Ordering::SeqCst) == 1 {
            let _ = futex_call(abi::FUTEX_WAIT, 1);
        }
    }
    thread.join();
    check_eq!(TURN.load(Ordering::SeqCst), 0);
    Ok(())
}

/// A process that computes without end does not stop others from running.
#[guest_test]
fn process_preemption() -> Outcome {
    let busy = child(|| {
        loop {
            core::hint::spin_loop();
        }
    })?;
    for _ in 0..5 {
        check_eq!(in_child(|| 5)?.exit_code(), Some(5));
    }
    ok!(sys::kill(busy, abi::SIGKILL as i32));
    check_eq!(ok!(sys::wait_for(busy)).signal(), Some(abi::SIGKILL as i32));
    Ok(())
}

#[guest_test]
fn time_passes() -> Outcome {
    let now = || sys::clock(abi::CLOCK_MONOTONIC);
    let start = ok!(now());
    ok!(sys::sleep(Duration::from_millis(30)));
    let slept = ok!(now()).saturating_sub(start);
    check!(slept >= Duration::from_millis(30));
    check!(slept < Duration::from_secs(20));
    let mut last = ok!(now());
    for _ in 0..1000 {
        let next = ok!(now());
        check!(next >= last);
        last = next;
    }
    check!(ok!(sys::clock(abi::CLOCK_REALTIME)) > Duration::from_secs(1_500_000_000));
    Ok(())
}

/// A futex in shared memory works between processes, at different addresses.
#[guest_test]
fn process_futex_shared() -> Outcome {
    const WAIT: usize = abi::FUTEX_WAIT as usize;
    const WAKE: usize = abi::FUTEX_WAKE as usize;
    let flags = abi::MAP_SHARED | abi::MAP_ANONYMOUS;
    // SAFETY: without MAP_FIXED nothing that exists is touched.
    let page = ok!(unsafe {
        sys::mmap(0, 8192, abi::PROT_READ | abi::PROT_WRITE, flags, Fd::NONE, FileOffset::ZERO)
    }) as usize;
    let word = page + 4096;
    let waiter = child(|| {
        // Another address than in the parent.
        let moved = raw(abi::__NR_mremap, &[page, 8192, 16384, abi::MREMAP_MAYMOVE as usize]);
        let Ok(own) = moved else { return 1 };
        i32::from(raw(abi::__NR_futex, &[own + 4096, WAIT, 0, 0]) != Ok(0)) * 2
    })?;
    while raw(abi::__NR_futex, &[word, WAKE, 1]) == Ok(0) {
        ok!(sys::sched_yield());
    }
    check_eq!(ok!(sys::wait_for(waiter)).exit_code(), Some(0));
    // A wait that has ended is not woken in place of another.
    let timeout = [0u64, 1_000_000];
    check_eq!(
        raw(abi::__NR_futex, &[word, WAIT, 0, timeout.as_ptr() as usize]),
        Err(Errno::ETIMEDOUT)
    );
    check_eq!(raw(abi::__NR_futex, &[word, WAKE, 1]), Ok(0));
    Ok(())
}

static WORD: AtomicUsize = AtomicUsize::new(0);

extern "C" fn end_elsewhere(_: usize) {
    let _ = raw(abi::__NR_set_tid_address, &[WORD.load(Ordering::SeqCst)]);
}

/// At the end of a thread, a word is cleared that is not in memory at that time.
#[guest_test]
fn thread_end_clears_a_word_that_is_elsewhere() -> Outcome {
    const LENGTH: usize = 32 * PAGE;
    let file = File::make_in(".", "words", 1, LENGTH as u64)?;
    let buffer = Buffer::new(LENGTH)?;
    file.read_into(&buffer, 0, LENGTH, 0)?;
    let status = in_child(|| {
        WORD.store(buffer.at(3 * PAGE), Ordering::SeqCst);
        // Its own word is not cleared.
        let Ok(thread) = Thread::start(end_elsewhere, 0) else { return 2 };
        core::mem::forget(thread);
        let threads = || lazy::value(&lazy::read_text("/proc/self/status")?, "Threads");
        // Nobody touches the page before the thread has ended.
        while threads() != Ok(1) {
            let _ = sys::sched_yield();
        }
        i32::from((0..4).any(|at| load(buffer.at(3 * PAGE + at)) != 0))
    })?;
    check_eq!(status.exit_code(), Some(0));
    Ok(())
}
