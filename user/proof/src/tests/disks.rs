//! Disks belong to those who have them open exclusively, and the swap file's server can end.

use core::time::Duration;
use proof::kit::{
    Buffer, Child, Gate, Named, Outcome, PAGE, checking_child, content, expect_success, pattern,
};
use proof::{guest_test, lazy, os};
use user::prelude::*;
use user::sys::abi;

/// The disk that the servers and the swap file use.
const DISK: &str = "/dev/vda";
const LINK: &str = "/dev/disk/by-id/virtio-scratch";

/// Every way to open a file for its bytes.
const WAYS: [u32; 5] = [
    abi::O_RDONLY,
    abi::O_WRONLY,
    abi::O_RDWR,
    abi::O_RDWR | abi::O_EXCL,
    abi::O_RDWR | abi::O_CREAT,
];

fn all_busy(path: &str) -> Outcome {
    for flags in WAYS {
        let opened = sys::open(path.as_bytes(), flags, 0o600);
        check_eq!(opened, Err(Errno::EBUSY), "open of {path} with {flags:#o}");
    }
    Ok(())
}

/// Everything that may lead to the disk's bytes.
fn no_way_in() -> Outcome {
    all_busy(DISK)?;
    all_busy(LINK)?;
    sys::symlink(DISK.as_bytes(), b"/tmp/link").named("symlink")?;
    all_busy("/tmp/link")?;
    sys::unlink(b"/tmp/link").named("unlink")?;
    sys::mkdir(b"/tmp/dev", 0o700).named("mkdir")?;
    sys::mount(b"none", b"/tmp/dev", b"devtmpfs", 0, b"").named("mount")?;
    all_busy("/tmp/dev/vda")?;
    all_busy("/tmp/dev/disk/by-id/virtio-scratch")?;
    os::raw(abi::__NR_umount2, &[c"/tmp/dev".as_ptr() as usize, 0]).named("umount")?;
    sys::rmdir(b"/tmp/dev").named("rmdir")?;
    // A descriptor without permissions stays one.
    let path = sys::open(DISK.as_bytes(), abi::O_PATH, 0).named("O_PATH")?;
    check_eq!(sys::pread(path, &mut [0; 512], FileOffset::ZERO), Err(Errno::EBADF));
    all_busy(&format!("/proc/self/fd/{path}"))?;
    sys::close(path).named("close")?;
    // Descriptors of others: some process has the disk open.
    let mut found = 0;
    for pid in 1..64 {
        for fd in 0..64 {
            let path = format!("/proc/{pid}/fd/{fd}");
            if sys::readlink(path.as_bytes()).is_ok_and(|target| target == DISK.as_bytes()) {
                found += 1;
                all_busy(&path)?;
            }
        }
    }
    check!(found >= 3, "{found} descriptors of the disk; init, memfs and scratchfs have one each");
    Ok(())
}

/// Nobody can open the disk of the servers and of swap, by whatever name, be he marked as a server
/// or not, and nobody but init can name a server for the swap file.
#[guest_test(memory_mib: 64)]
fn f8_the_servers_disk_is_busy() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let stat = sys::stat(DISK.as_bytes()).named("stat")?;
    check!(stat.st_size > 0 && stat.st_mode & abi::S_IFMT == abi::S_IFBLK);
    no_way_in()?;
    expect_success(checking_child(|| {
        os::become_server().named("the mark")?;
        no_way_in()?;
        let [ours, theirs] = os::socket_pair().named("a socket pair")?;
        for fd in [ours, theirs] {
            let options = format!("fd={fd}");
            let mounted = sys::mount(b"none", b"none", b"swap", 0, options.as_bytes());
            check_eq!(mounted, Err(Errno::EPERM));
        }
        Ok(())
    })?)
}

const MIB: usize = 1 << 20;

/// More than the memory of a machine of 64 MiB.
const MORE_THAN_MEMORY: usize = 80 * MIB;

/// Status of a process that a lost page has ended.
const LOST: i32 = 77;

/// The number of the process with this name; `None` if there is none.
fn process(name: &str) -> Outcome<Option<i32>> {
    for pid in 1..1000 {
        let comm = content(format!("/proc/{pid}/comm").as_bytes());
        if comm.is_ok_and(|comm| comm.trim_ascii() == name.as_bytes()) {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

/// The status files of this process and its ancestors but init, the shell among them.
fn own_family() -> Outcome<Vec<(i64, String)>> {
    let mut family = Vec::new();
    let mut pid = i64::from(sys::getpid());
    while pid > 1 {
        let status = lazy::read_text(&format!("/proc/{pid}/status"))?;
        let parent = lazy::value(&status, "PPid")?;
        family.push((pid, status));
        pid = parent;
    }
    Ok(family)
}

/// Brings back every page of this process and its ancestors: none of them is lost then with the
/// swap file. Returns how many KiB were swapped out again meanwhile.
fn hold_own_pages() -> Outcome<i64> {
    for (pid, _) in own_family()? {
        let maps = lazy::read_text(&format!("/proc/{pid}/maps"))?;
        let mem = format!("/proc/{pid}/mem");
        let mem = sys::open(mem.as_bytes(), abi::O_RDONLY, 0).named("mem")?;
        for line in maps.lines() {
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            let range = range.and_then(|(start, end)| {
                let number = |text| u64::from_str_radix(text, 16).ok();
                Some(number(start)?..number(end)?)
            });
            for page in range.into_iter().flat_map(|range| range.step_by(PAGE)) {
                // Memory that cannot be read is not swapped out either.
                let _ = sys::pread(mem, &mut [0], FileOffset(page));
            }
        }
        sys::close(mem).named("close")?;
    }
    own_family()?.iter().map(|(_, status)| lazy::value(status, "VmSwap")).sum()
}

/// Ends the swap file's server, and waits until another one has taken its place. While own pages
/// are brought back, the users of swap are stopped.
fn replace_swap(users: &[Child]) -> Outcome {
    let signal_users = |signal: u32| {
        users.iter().try_for_each(|user| sys::kill(user.pid, signal as i32).named("kill").map(drop))
    };
    signal_users(abi::SIGSTOP)?;
    while hold_own_pages()? > 0 {}
    let Some(old) = process("scratchfs")? else { return Err("there is no scratchfs".into()) };
    sys::kill(old, abi::SIGKILL as i32).named("kill")?;
    // Not before: once they run, own pages may be swapped out again, and lost.
    signal_users(abi::SIGCONT)?;
    // The machine's time limit ends this.
    while process("scratchfs")?.is_none_or(|new| new == old)
        || sys::sysinfo().named("sysinfo")?.totalswap == 0
    {
        sys::sleep(Duration::from_millis(10)).named("sleep")?;
    }
    Ok(())
}

extern "C" fn on_bus(_: i32) {
    sys::exit(LOST)
}

/// A child that stores to all of a buffer and compares it, `turns` times, as soon as the gate
/// opens; the first time it is ready before it compares.
fn user_of_swap(bytes: usize, turns: u64, ready: &Gate, go: &Gate) -> Outcome<Child> {
    Child::start("user of swap", || {
        sys::signal_handle(abi::SIGBUS as i32, on_bus, 0).named("signal")?;
        let buffer = Buffer::new(bytes)?;
        for turn in 0..turns {
            buffer.put(0, bytes, pattern(turn, 0));
            if turn == 0 {
                ready.open()?;
                go.pass()?;
            }
            buffer.check(0, bytes, pattern(turn, 0))?;
        }
        Ok(())
    })
}

/// A process with pages in the lost swap file has ended by SIGBUS (its handler's frame may be on a
/// lost page), or for want of memory while there was no swap file (Q4); never by wrong bytes.
fn expect_loss(child: Child, may_succeed: bool) -> Outcome {
    let status = child.status()?;
    let killed = [abi::SIGBUS, abi::SIGKILL].map(|signal| Some(signal as i32));
    let is_lost = status.exit_code() == Some(LOST) || killed.contains(&status.signal());
    let succeeded = may_succeed && status.exit_code() == Some(0);
    check!(is_lost || succeeded, "a user of swap ended with {}", status.shell_status());
    Ok(())
}

/// Others can use more than memory, with the new server.
fn swap_works() -> Outcome {
    let (ready, go) = (Gate::new()?, Gate::new()?);
    let user = user_of_swap(MORE_THAN_MEMORY, 2, &ready, &go)?;
    ready.pass()?;
    go.open()?;
    user.join()
}

/// The end of the swap file's server takes only processes whose pages it kept: they end when they
/// use one, and see no other bytes. All others go on, pages can be swapped out again at once, and
/// that several times in a row.
#[guest_test(memory_mib: 64, timeout_s: 180)]
fn q3_the_swap_server_ends() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    for _ in 0..3 {
        let (ready, go) = (Gate::new()?, Gate::new()?);
        let user = user_of_swap(MORE_THAN_MEMORY, 1, &ready, &go)?;
        ready.pass()?;
        let bystander = Child::start("bystander", || {
            let buffer = Buffer::new(MIB)?;
            buffer.put(0, MIB, pattern(9, 0));
            replace_swap(&[])?;
            buffer.check(0, MIB, pattern(9, 0))
        })?;
        bystander.join()?;
        go.open()?;
        expect_loss(user, false)?;
        swap_works()?;
    }
    Ok(())
}

/// The server ends again and again while programs use more than memory.
#[guest_test(memory_mib: 64, timeout_s: 240)]
fn q3_the_swap_server_ends_in_the_middle() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    for round in 0..4 {
        let (ready, go) = (Gate::new()?, Gate::new()?);
        let user = || user_of_swap(MORE_THAN_MEMORY / 5 * 3, 3, &ready, &go);
        let users = [user()?, user()?];
        ready.pass()?;
        ready.pass()?;
        go.open()?;
        go.open()?;
        sys::sleep(Duration::from_millis(50 * round)).named("sleep")?;
        replace_swap(&users)?;
        for user in users {
            expect_loss(user, true)?;
        }
    }
    swap_works()
}
