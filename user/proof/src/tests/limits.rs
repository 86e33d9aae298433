//! Limits of what a program can make the kernel keep. Each is exhausted, and others go on: a shell
//! with a pipe answers beside the program that holds everything that it got.

use foundation::mutant::Mutant;
use proof::counters::ask_servers;
use proof::guest_test;
use proof::kit::{Child, Gate, Outcome, checking_child, child, expect_success, file, raw};
use proof::{lazy, omitted};
use user::alloc::string::ToString;
use user::prelude::*;
use user::sys::abi;

/// Refusals for want of memory or of a place.
const SHORT: [Errno; 3] = [Errno::EAGAIN, Errno::ENOMEM, Errno(105)];

/// A shell with two children answers.
pub fn others_go_on() -> Outcome {
    let [reader, writer] = ok!(sys::pipe(0));
    let Some(shell) = ok!(sys::fork()) else {
        let _ = sys::dup2(writer, Fd(1));
        let _ = sys::execve(b"/bin/sh", &[b"sh", b"-c", b"echo 4 2 | cat; echo 7 | cat"], &[]);
        sys::exit(9);
    };
    ok!(sys::close(writer));
    let mut answer = [0; 16];
    let count = ok!(sys::read_full(reader, &mut answer));
    check_eq!(answer[..count].escape_ascii().to_string(), "4 2\\n7\\n");
    ok!(sys::close(reader));
    expect_success(shell)
}

/// Repeats a call until it is refused for want of memory or of a place, `most` times at most.
/// Returns how often it succeeded.
pub fn until_refused<T>(most: usize, mut call: impl FnMut() -> Result<T>) -> Outcome<usize> {
    for done in 0..most {
        if let Err(error) = call() {
            check!(SHORT.contains(&error), "refused with {error:?}");
            return Ok(done);
        }
    }
    Ok(most)
}

/// Empty messages count: the number in a socket is limited, and they do not fill the kernel's heap.
#[guest_test(memory_mib: 64, mutants: &[Mutant::FreeMessages])]
fn limit_messages() -> Outcome {
    const KIND: u32 = 5 | abi::O_NONBLOCK;
    for length in [0, 1] {
        let mut pairs = Vec::new();
        for _ in 0..24 {
            let pair = ok!(sys::socketpair(KIND));
            let sent = until_refused(1 << 20, || sys::write(pair[0], &[1][..length]))?;
            check!((10..20_000).contains(&sent), "{sent} messages of {length} bytes");
            pairs.push(pair);
        }
        others_go_on()?;
        for fd in pairs.into_iter().flatten() {
            ok!(sys::close(fd));
        }
    }
    Ok(())
}

/// A terminal keeps 4096 bytes of input, each end of file counted; the rest waits or is dropped.
#[guest_test(memory_mib: 64, mutants: &[Mutant::FreeEndOfFile])]
fn limit_terminal_input() -> Outcome {
    for byte in [4, b'\n', 0x12, b'x'] {
        let master = ok!(sys::open(b"/dev/ptmx", abi::O_RDWR | abi::O_NOCTTY | abi::O_NONBLOCK, 0));
        let bytes = [byte; 16384];
        let mut total = 0;
        let refused = until_refused(64, || sys::write(master, &bytes).map(|count| total += count))?;
        match byte {
            // A line that is being edited drops what exceeds it.
            b'x' | 0x12 => check!(refused <= 64),
            // Linux has another buffer before the terminal.
            _ => check!(total <= if omitted::is_ours() { 4096 } else { 1 << 20 }),
        }
        ok!(sys::close(master));
    }
    others_go_on()
}

/// Populating more than the machine has is ENOMEM; what takes long gives way and can be killed.
#[guest_test(memory_mib: 96)]
fn limit_populate() -> Outcome {
    if !omitted::is_ours() {
        return Ok(());
    }
    const HUGE: usize = 256 << 30;
    const MUCH: usize = 16 << 30;
    let map = |length: usize, flags: u32| {
        let flags = abi::MAP_PRIVATE | abi::MAP_ANONYMOUS | abi::MAP_NORESERVE | flags;
        let given = [0, length, abi::PROT_READ as usize, flags as usize, usize::MAX, 0];
        raw(abi::__NR_mmap, &given)
    };
    let start = ok!(map(HUGE, 0));
    check_eq!(raw(abi::__NR_mlock, &[start, HUGE]), Err(Errno::ENOMEM));
    check_eq!(raw(abi::__NR_madvise, &[start, HUGE, 22]), Err(Errno::ENOMEM));
    check_eq!(raw(abi::__NR_madvise, &[start, HUGE, 23]), Err(Errno::ENOMEM));
    ok!(map(HUGE, abi::MAP_POPULATE));
    let busy = Child::start("populate", || {
        loop {
            let _ = raw(abi::__NR_madvise, &[start, MUCH, 22]);
        }
    })?;
    others_go_on()?;
    busy.kill()
}

/// Another job, which starts programs once the gate is open.
pub fn job_beside(gate: &Gate) -> Outcome<Child> {
    Child::start("beside", || {
        ok!(raw(abi::__NR_setpgid, &[0, 0]));
        gate.pass()?;
        others_go_on()
    })
}

/// Starts children that run `body`, until that is refused.
fn children_until_refused(body: impl Fn()) -> Outcome<Vec<i32>> {
    let mut children = Vec::new();
    until_refused(10_000, || match sys::fork()? {
        Some(child) => {
            children.push(child);
            Ok(())
        }
        None => {
            body();
            sys::exit(0)
        }
    })?;
    check!((50..=4096).contains(&children.len()), "{} children", children.len());
    Ok(children)
}

pub fn pause_forever() {
    loop {
        let _ = raw(abi::__NR_pause, &[]);
    }
}

pub fn kill_all(children: Vec<i32>) -> Outcome {
    for &child in &children {
        ok!(sys::kill(child, abi::SIGKILL as i32));
    }
    reap(children)
}

fn reap(children: Vec<i32>) -> Outcome {
    for child in children {
        ok!(sys::wait_for(child));
    }
    Ok(())
}

/// Children until there is an error, beside which another process group starts programs; then
/// zombies that nobody reaps.
#[guest_test(memory_mib: 64)]
fn limit_processes() -> Outcome {
    if !omitted::is_ours() {
        return Ok(());
    }
    let gate = Gate::new()?;
    let beside = job_beside(&gate)?;
    let children = children_until_refused(pause_forever)?;
    gate.open()?;
    beside.join()?;
    kill_all(children)?;
    others_go_on()?;
    reap(children_until_refused(|| ())?)?;
    others_go_on()
}

/// Children that each begin a session of their own, until there is an error: sessions are no way
/// around the limit of processes, so another job goes on.
#[guest_test(memory_mib: 64)]
fn limit_sessions() -> Outcome {
    if !omitted::is_ours() {
        return Ok(());
    }
    let gate = Gate::new()?;
    let beside = job_beside(&gate)?;
    let children = children_until_refused(|| {
        let _ = sys::setsid();
        pause_forever()
    })?;
    gate.open()?;
    beside.join()?;
    kill_all(children)
}

#[inline(never)]
fn use_stack(depth: usize) -> usize {
    let page = core::hint::black_box([depth as u8; 4096]);
    if depth == 0 { 0 } else { use_stack(depth - 1) + usize::from(page[depth % 4096]) }
}

/// The limit of the stack holds for the running program: lowered, deep calls end it; raised, they
/// go on.
#[guest_test]
fn limit_stack() -> Outcome {
    let deep = |limit: u64, pages: usize| {
        checking_child(|| {
            ok!(set_limits(abi::RLIMIT_STACK, [limit, u64::MAX]));
            core::hint::black_box(use_stack(core::hint::black_box(pages)));
            Ok(())
        })
    };
    expect_success(deep(8 << 20, 1000)?)?;
    let low = deep(1 << 20, 1000)?;
    check_eq!(ok!(sys::wait_for(low)).signal(), Some(abi::SIGSEGV as i32));
    expect_success(deep(1 << 20, 100)?)?;
    expect_success(deep(14 << 20, 3000)?)
}

/// 65,530 regions, or as many as memory allows; then each call that needs more is ENOMEM.
#[guest_test(memory_mib: 128)]
fn limit_regions() -> Outcome {
    if !omitted::is_ours() {
        return Ok(());
    }
    const PAGES: usize = 70_000;
    let flags = abi::MAP_PRIVATE | abi::MAP_ANONYMOUS | abi::MAP_NORESERVE;
    let given = [0, PAGES * 4096, abi::PROT_READ as usize, flags as usize, usize::MAX, 0];
    let start = ok!(raw(abi::__NR_mmap, &given));
    let mut page = 0;
    let made = until_refused(PAGES / 2, || {
        page += 2;
        raw(abi::__NR_mprotect, &[start + (page - 2) * 4096, 4096, 0])
    })?;
    check!((30_000..=32_766).contains(&made), "{made} splits");
    let beyond = start + (page + 10) * 4096;
    check_eq!(raw(abi::__NR_munmap, &[beyond, 4096]), Err(Errno::ENOMEM));
    check_eq!(raw(abi::__NR_mprotect, &[beyond, 4096, 0]), Err(Errno::ENOMEM));
    // Children share the limit, and get copies as long as there is memory.
    let mut children = Vec::new();
    until_refused(40, || match sys::fork()? {
        Some(child) => {
            children.push(child);
            Ok(())
        }
        None => loop {
            let _ = raw(abi::__NR_pause, &[]);
        },
    })?;
    for &child in &children {
        ok!(sys::kill(child, abi::SIGKILL as i32));
    }
    for child in children {
        ok!(sys::wait_for(child));
    }
    ok!(raw(abi::__NR_madvise, &[start, PAGES * 4096, 4]));
    ok!(raw(abi::__NR_munmap, &[start, PAGES * 4096]));
    others_go_on()
}

/// Pipes grow to 1 MiB each. Full ones end in an error, and others go on.
#[guest_test(memory_mib: 64)]
fn limit_pipes() -> Outcome {
    if !omitted::is_ours() {
        return Ok(());
    }
    let size = |fd: Fd, bytes: usize| {
        raw(abi::__NR_fcntl, &[fd.argument(), abi::F_SETPIPE_SZ as usize, bytes])
    };
    let one = ok!(sys::pipe(abi::O_NONBLOCK));
    check_eq!(size(one[1], 1 << 20), Ok(1 << 20));
    check_eq!(size(one[1], 5000), Ok(8192));
    let mut pipes = vec![one];
    let bytes = [7; 4096];
    until_refused(200, || {
        let pipe = sys::pipe(abi::O_NONBLOCK)?;
        pipes.push(pipe);
        let _ = size(pipe[1], 1 << 20);
        while sys::write(pipe[1], &bytes).is_ok() {}
        Ok(())
    })?;
    // This process has what it may have; a child has an account of its own.
    Child::start("beside", others_go_on)?.join()?;
    for fd in pipes.into_iter().flatten() {
        ok!(sys::close(fd));
    }
    others_go_on()
}

pub fn set_limit(resource: u32, value: u64) -> Result<()> {
    set_limits(resource, [value, value])
}

/// Sets a soft and a hard limit.
pub fn set_limits(resource: u32, limit: [u64; 2]) -> Result<()> {
    raw(abi::__NR_setrlimit, &[resource as usize, limit.as_ptr() as usize]).map(drop)
}

fn soft_limit(resource: u32) -> Result<u64> {
    let mut limit = [0u64; 2];
    let given = [0, resource as usize, 0, limit.as_mut_ptr() as usize];
    raw(abi::__NR_prlimit64, &given).map(|_| limit[0])
}

/// Limits that are set are reported, inherited and enforced.
#[guest_test]
fn limit_resources() -> Outcome {
    expect_success(checking_child(|| {
        for (resource, value) in [
            (abi::RLIMIT_CORE, 0),
            (abi::RLIMIT_DATA, 64 << 20),
            (abi::RLIMIT_STACK, 1 << 20),
            (abi::RLIMIT_MEMLOCK, 4096),
            (abi::RLIMIT_NICE, 0),
            (abi::RLIMIT_NPROC, 100),
            (abi::RLIMIT_NOFILE, 20),
            (abi::RLIMIT_FSIZE, 4096),
        ] {
            ok!(set_limit(resource, value));
            check_eq!(soft_limit(resource), Ok(value));
        }
        check_eq!(set_limit(99, 1), Err(Errno::EINVAL));
        let busy = checking_child(|| {
            ok!(set_limits(abi::RLIMIT_CPU, [1, 3]));
            loop {
                core::hint::spin_loop();
            }
        })?;
        check_eq!(ok!(sys::wait_for(busy)).signal(), Some(abi::SIGXCPU as i32));
        expect_success(checking_child(enforced)?)
    })?)
}

fn enforced() -> Outcome {
    check_eq!(soft_limit(abi::RLIMIT_NOFILE), Ok(20));
    let fd = file(b"limited", b"")?;
    let mut last = fd;
    let opened = until(Errno(24), || sys::dup(fd).map(|copy| last = copy))?;
    check!(opened < 20);
    check_eq!(last, Fd(19));
    check_eq!(sys::dup2(fd, Fd(20)), Err(Errno::EBADF));
    // A write reaches the limit; one beyond it is EFBIG with SIGXFSZ, and so is a truncation.
    check_eq!(sys::write(fd, &[1; 8192]), Ok(4096));
    let beyond = checking_child(|| {
        let _ = sys::write(fd, b"x");
        Ok(())
    })?;
    check_eq!(ok!(sys::wait_for(beyond)).signal(), Some(abi::SIGXFSZ as i32));
    ok!(sys::signal_ignore(abi::SIGXFSZ as i32));
    check_eq!(sys::write(fd, b"x"), Err(Errno::EFBIG));
    check_eq!(raw(abi::__NR_ftruncate, &[fd.argument(), 4097]), Err(Errno::EFBIG));
    ok!(raw(abi::__NR_ftruncate, &[fd.argument(), 4096]));
    let map = |length: usize, protection: u32| {
        let flags = (abi::MAP_PRIVATE | abi::MAP_ANONYMOUS) as usize;
        raw(abi::__NR_mmap, &[0, length, protection as usize, flags, usize::MAX, 0])
    };
    check_eq!(map(128 << 20, abi::PROT_READ | abi::PROT_WRITE), Err(Errno::ENOMEM));
    ok!(map(128 << 20, abi::PROT_READ));
    ok!(set_limit(abi::RLIMIT_AS, 64 << 20));
    check_eq!(map(4096, abi::PROT_READ), Err(Errno::ENOMEM));
    Ok(())
}

/// Repeats a call until it fails with this error. Returns how often it succeeded.
fn until(wanted: Errno, mut call: impl FnMut() -> Result<()>) -> Outcome<usize> {
    for done in 0.. {
        if let Err(error) = call() {
            check_eq!(error, wanted);
            return Ok(done);
        }
    }
    Ok(0)
}

/// More real-time signals than `RLIMIT_SIGPENDING` are refused.
#[guest_test]
fn limit_signals() -> Outcome {
    expect_success(checking_child(|| {
        ok!(sys::signal_mask(1 << 39));
        ok!(set_limit(abi::RLIMIT_SIGPENDING, 10));
        let mut info = [0u64; 16];
        info[1] = u64::from(u32::MAX);
        let own = sys::getpid() as usize;
        let given = [own, 40, info.as_ptr() as usize];
        let sent = until(Errno::EAGAIN, || raw(abi::__NR_rt_sigqueueinfo, &given).map(drop))?;
        check!(sent <= 10, "{sent} signals queued");
        Ok(())
    })?)
}

/// Scripts that are interpreted by scripts: five, as on Linux, and then ELOOP.
#[guest_test]
fn limit_interpreters() -> Outcome {
    const STATUS: i32 = 7;
    let script = |name: &str, interpreter: &str| -> Outcome {
        let content = format!("#!{interpreter}\nexit {STATUS}\n");
        ok!(sys::close(file(name.as_bytes(), content.as_bytes())?));
        ok!(sys::chmod(name.as_bytes(), 0o755));
        Ok(())
    };
    script("s1", "/bin/sh")?;
    for depth in 2..=6 {
        script(&format!("s{depth}"), &format!("./s{}", depth - 1))?;
    }
    let run = |name: &[u8]| {
        child(|| match sys::execve(name, &[name], &[]) {
            Errno::ELOOP => 40,
            _ => 1,
        })
    };
    for (name, status) in [(b"s5", STATUS), (b"s6", 40), (b"s5", STATUS)] {
        check_eq!(ok!(sys::wait_for(run(name)?)).exit_code(), Some(status));
    }
    Ok(())
}

/// 2^26 references to the zero page: it stays what it is.
#[guest_test(memory_mib: 1536, timeout_s: 240)]
fn limit_references() -> Outcome {
    const CHILDREN: usize = 31;
    const PAGES: usize = ((1 << 26) - 4096) / (CHILDREN + 1);
    const STEP: usize = 65_536;
    if !omitted::is_ours() {
        return Ok(());
    }
    let map = |pages: usize| {
        let flags = (abi::MAP_PRIVATE | abi::MAP_ANONYMOUS | abi::MAP_NORESERVE) as usize;
        let protection = (abi::PROT_READ | abi::PROT_WRITE) as usize;
        raw(abi::__NR_mmap, &[0, pages * 4096, protection, flags, usize::MAX, 0])
    };
    let (start, own) = (ok!(map(PAGES)), ok!(map(STEP)));
    for first in (0..PAGES).step_by(STEP) {
        let pages = STEP.min(PAGES - first);
        ok!(raw(abi::__NR_madvise, &[start + first * 4096, pages * 4096, 22]));
    }
    let mut children = Vec::new();
    // Page tables count: they take 512 MiB.
    let forked = until_refused(CHILDREN, || match sys::fork()? {
        Some(child) => {
            children.push(child);
            Ok(())
        }
        None => loop {
            let _ = raw(abi::__NR_pause, &[]);
        },
    })?;
    check_eq!(forked, CHILDREN);
    for page in 0..8192 {
        check_eq!(proof::kit::load(own + page * 4096), 0);
        proof::kit::store(own + page * 4096 + 7, 0x5a);
        check_eq!(proof::kit::load(start + 7), 0);
    }
    for &child in &children {
        ok!(sys::kill(child, abi::SIGKILL as i32));
    }
    for child in children {
        ok!(sys::wait_for(child));
    }
    Ok(())
}

/// Bytes that the kernel's heap keeps, without caches; `None` on Linux.
fn heap_bytes() -> Outcome<Option<i64>> {
    if omitted::is_ours() {
        lazy::write_text("/proc/sys/lazy/drop_caches", "1\n")?;
        // With the next request, the rest of what is to be closed is sent.
        ask_servers();
        return lazy::value(&lazy::read_text("/proc/kept")?, "heap_bytes").map(Some);
    }
    Ok(None)
}

/// Looks at what is kept: before each, the servers reply to what was requested earlier.
const LOOKS: usize = 100;

/// Nothing of the kernel's heap is kept for many files that were open at once: nearly as many as
/// one process may have.
#[guest_test(memory_mib: 64)]
fn many_open_files_leave_nothing() -> Outcome {
    let opening = |files: usize| {
        Child::start("opens", move || {
            let opened = until_refused(files, || sys::open(b"/bin/sh", abi::O_RDONLY, 0))?;
            check_eq!(opened, files, "open files");
            Ok(())
        })?
        .join()
    };
    opening(8)?;
    let before = heap_bytes()?;
    opening(700)?;
    // The server closes the files one after the other.
    let most = before.map(|bytes| bytes + 1024);
    let mut after = heap_bytes()?;
    for _ in 0..LOOKS {
        if after <= most {
            return Ok(());
        }
        ok!(sys::sched_yield());
        after = heap_bytes()?;
    }
    check!(false, "{before:?} bytes before, {after:?} after");
    Ok(())
}
