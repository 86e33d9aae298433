//! Q: the servers' memory is bounded, whatever programs make them keep.

use proof::guest_test;
use proof::kit::{File, Named, Outcome, PAGE, directory, load};
use proof::{check, check_eq, lazy, os};
use user::prelude::*;
use user::sys::abi;

const P: u64 = PAGE as u64;

/// More single-page changes under a snapshot than the wrapper's map may have entries, in a machine
/// whose memory would not hold one for each. No write fails, and the reader's bytes stay.
#[guest_test(memory_mib: 64, timeout_s: 180)]
fn q6_changes_under_a_snapshot() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    const LENGTH: usize = 4 << 30;
    const CHANGES: u64 = 60_000;
    let file = File::sparse("big", LENGTH as u64)?;
    let flags = abi::MAP_PRIVATE | abi::MAP_ANONYMOUS | abi::MAP_NORESERVE;
    let buffer = os::mmap(0, LENGTH, abi::PROT_READ | abi::PROT_WRITE, flags).named("mmap")?;
    let mut done = 0;
    while done < LENGTH {
        let count = os::pread(file.fd, buffer + done, LENGTH - done, done as u64).named("read")?;
        check!(count > 0, "the file ended at {done}");
        done += count;
    }
    for change in 0..CHANGES {
        sys::pwrite(file.fd, b"x", FileOffset(2 * change * P))
            .named(format_args!("change {change}"))?;
    }
    for page in (0..2 * CHANGES as usize).step_by(7) {
        check_eq!(load(buffer + page * PAGE), 0, "page {page} of what was read before");
    }
    let mut byte = [0];
    check_eq!(sys::pread(file.fd, &mut byte, FileOffset(2 * 777 * P)), Ok(1));
    check_eq!(&byte, b"x");
    Ok(())
}

/// Makes entries until one fails. Returns how many there were.
fn fill(directory: &str, make: impl Fn(&str) -> Result<()>) -> Outcome<usize> {
    for count in 0.. {
        match make(&format!("{directory}/{count:0200}")) {
            Ok(()) => {}
            Err(Errno::ENOSPC) => return Ok(count),
            Err(error) => return Err(format!("entry {count}: {error:?}")),
        }
    }
    Ok(0)
}

fn empty(directory: &str, count: usize, remove: impl Fn(&[u8]) -> Result<()>) -> Outcome {
    for index in 0..count {
        remove(format!("{directory}/{index:0200}").as_bytes()).named("removing an entry")?;
    }
    Ok(())
}

/// Names of a kind, until there is no space: others go on, and what is removed can be made again.
fn names_are_bounded(
    make: impl Fn(&str) -> Result<()>,
    remove: impl Fn(&[u8]) -> Result<()>,
) -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let directory = directory();
    let witness = File::make("witness", 1, 3 * P)?;
    let first = fill(&directory, &make)?;
    check!(first > 500, "only {first} entries");
    witness.overwrite(2, 0, P)?;
    empty(&directory, first, &remove)?;
    let second = fill(&directory, &make)?;
    check!(second >= first - first / 10, "{first} entries at first, then {second}");
    empty(&directory, second, &remove)?;
    File::make("another", 1, 100 * P).map(drop)
}

/// Long names take memory, within memfs's floor. Beyond it there is no space (ENOSPC).
#[guest_test(memory_mib: 24, timeout_s: 120)]
fn q6_long_names() -> Outcome {
    let make = |path: &str| {
        let flags = abi::O_WRONLY | abi::O_CREAT | abi::O_EXCL;
        sys::open(path.as_bytes(), flags, 0o600).and_then(sys::close)
    };
    names_are_bounded(make, sys::unlink)
}

/// Targets of symbolic links take memory, too.
#[guest_test(memory_mib: 24, timeout_s: 120)]
fn q6_targets_of_links() -> Outcome {
    let target = [b't'; 4000];
    names_are_bounded(|path| sys::symlink(&target, path.as_bytes()), sys::unlink)
}

/// Directories that find no memory are refused, too.
#[guest_test(memory_mib: 24, timeout_s: 120)]
fn q6_directories() -> Outcome {
    names_are_bounded(|path| sys::mkdir(path.as_bytes(), 0o700), sys::rmdir)
}
