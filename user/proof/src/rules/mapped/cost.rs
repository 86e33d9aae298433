//! M5: a mapping costs what follows from the pages that are touched and changed, and others pay
//! nothing. M6: a shared mapping is not possible where changes of the file are not all seen.

use super::compare::{P, expect_file, map_anew};
use crate::scripted::{Server, USUAL, honest};
use alloc::boxed::Box;
use core::arch::x86_64::_rdtsc;
use foundation::mutant::Mutant;
use proof::kit::{Buffer, Child, File, Named, Outcome, PAGE, store};
use proof::lazy::{self, Meter};
use proof::{check, check_eq, guest_test, omitted, os};
use user::prelude::*;
use user::sys::abi;

/// How many times as much something may cost others beside a mapping.
const MOST_TIMES: u64 = 2;

/// The ticks of doing something, on average.
fn ticks(work: &dyn Fn() -> Outcome) -> Outcome<u64> {
    const TIMES: u64 = 50;
    work()?;
    // SAFETY: every processor that this kernel runs on has RDTSC, and it changes nothing.
    let now = || unsafe { _rdtsc() };
    let start = now();
    (0..TIMES).try_for_each(|_| work())?;
    Ok((now() - start) / TIMES)
}

/// Something that is measured.
type Work<'a> = Box<dyn Fn() -> Outcome + 'a>;

/// What a process does that has nothing to do with mapped files.
fn work_of_others(other: &File) -> [(&'static str, Work<'_>); 5] {
    [
        (
            "munmap",
            Box::new(|| {
                let start = os::mmap(0, PAGE, os::READ_WRITE, abi::MAP_PRIVATE).named("mmap")?;
                store(start, 1);
                os::munmap(start, PAGE).named("munmap")
            }),
        ),
        ("fork and exit", Box::new(|| Child::start("child", || Ok(()))?.join())),
        (
            "read",
            Box::new(|| {
                sys::pread(other.fd, &mut [0; 512], FileOffset(0)).named("pread").map(drop)
            }),
        ),
        (
            "write",
            Box::new(|| sys::pwrite(other.fd, &[1; 512], FileOffset(0)).named("pwrite").map(drop)),
        ),
        ("fsync", Box::new(|| os::sync(other.fd).named("fsync"))),
    ]
}

/// While another process has 32 MiB of files mapped, untouched, loaded and stored to, what others
/// do costs at most twice what it costs without.
#[guest_test(icount: true, timeout_s: 120)]
fn m5_others_pay_nothing() -> Outcome {
    const MAPPED: usize = 32 << 20;
    if !omitted::is_ours() {
        // Linux's time-stamp counter counts time.
        return Ok(());
    }
    let other = File::make("other", 1, 4 * P)?;
    let work = work_of_others(&other);
    let measure = || work.iter().map(|(_, work)| ticks(work.as_ref())).collect::<Outcome<Vec<_>>>();
    let before = measure()?;
    let file = File::sparse("mapped", MAPPED as u64)?;
    let (mapped, go) = (proof::kit::Gate::new()?, proof::kit::Gate::new()?);
    let neighbour = Child::start("neighbour", || {
        let map = map_anew(&file, MAPPED)?;
        let steps: [&dyn Fn(); 3] =
            [&|| {}, &|| (0..MAPPED).step_by(PAGE).for_each(|at| _ = map.load(at)), &|| {
                (0..MAPPED).step_by(16 * PAGE).for_each(|at| map.store(at, 1))
            }];
        for step in steps {
            step();
            mapped.open()?;
            go.pass()?;
        }
        Ok(())
    })?;
    for state in ["mapped", "loaded", "stored to"] {
        mapped.pass()?;
        for (((name, _), before), after) in work.iter().zip(&before).zip(measure()?) {
            println!("{name}: {before} alone, {after} beside files that are {state}");
            check!(
                after <= MOST_TIMES * before,
                "{name} costs {after} beside files that are {state}, and {before} alone"
            );
        }
        go.open()?;
    }
    neighbour.join()
}

/// A shared mapping can be of any size. Its cost in memory and messages is that of the pages that
/// are touched.
#[guest_test]
fn m5_any_size() -> Outcome {
    for length in (0..16).map(|power| 1usize << (20 + power)) {
        let file = File::sparse("sized", length as u64)?;
        let meter = Meter::start()?;
        let free = crate::space::memory_free()?;
        let map = map_anew(&file, length)?;
        let places = [0, length / 2 + 9, length - 1];
        (1..).zip(places).for_each(|(byte, at)| map.store(at, byte));
        (1..).zip(places).try_for_each(|(byte, at)| {
            check_eq!(map.load(at), byte, "the byte at {at} of {length} bytes");
            Ok::<_, String>(())
        })?;
        if let (Some(before), Some(after)) = (free, crate::space::memory_free()?) {
            check!(before - after < 1 << 20, "{length} bytes took {} of memory", before - after);
        }
        drop(map);
        let mut byte = [0];
        for (expected, at) in (1..).zip(places) {
            sys::pread(file.fd, &mut byte, FileOffset(at as u64)).named("pread")?;
            check_eq!(byte[0], expected, "the byte at {at} of {length} bytes, read");
        }
        meter.expect_system_within("messages_sent", 0, 60)?;
    }
    Ok(())
}

/// Loads of clean pages send nothing when they are resident, and stores to pages that are
/// dirty neither fault nor send anything.
#[guest_test]
fn m5_repeated_accesses() -> Outcome {
    let file = File::make("repeated", 2, 8 * P)?;
    let map = map_anew(&file, 8 * PAGE)?;
    (0..8).for_each(|page| map.store(page * PAGE, 1));
    let meter = Meter::start()?;
    for round in 0..1000 {
        (0..8).for_each(|page| map.store(page * PAGE + round, round as u8));
    }
    // The test's own pages count, too.
    let faults = meter.own("faults")?.unwrap_or(0);
    check!(faults <= 16, "{faults} faults for 8000 stores to dirty pages");
    meter.expect_system_within("messages_sent", 0, 40)
}

/// A file is mapped and unmapped while others have it mapped too, 500 times: nothing is kept of a
/// mapping that is gone.
#[guest_test]
fn m5_nothing_is_kept() -> Outcome {
    let file = File::make("kept", 3, 64 * P)?;
    let holder = map_anew(&file, PAGE)?;
    holder.store(1, 1);
    let round = |round: usize| {
        let map = map_anew(&file, 64 * PAGE)?;
        map.store((round % 64) * PAGE + 5, 0x50);
        Ok::<_, String>(())
    };
    (0..64).try_for_each(round)?;
    let before = crate::space::memory_free()?;
    (0..500).try_for_each(round)?;
    if let (Some(before), Some(after)) = (before, crate::space::memory_free()?) {
        check!(before - after < 256 << 10, "{} bytes of memory are gone", before - after);
    }
    let mut expected = super::compare::bytes_of(3, 64 * PAGE);
    (0..64).for_each(|page| expected[page * PAGE + 5] = 0x50);
    expected[1] = 1;
    expect_file(&file, &expected)
}

/// Files whose server lets others change them have no shared mappings, to read or to write. Their
/// private ones are snapshots. Pipes, sockets and directories have none at all.
#[guest_test(mutants: &[Mutant::MapUncertain])]
fn m6_not_everywhere() -> Outcome {
    let kinds = [(abi::PROT_READ, "to read"), (os::READ_WRITE, "to write")];
    let pipe = sys::pipe(0).named("pipe")?;
    let sockets = os::socket_pair().named("socketpair")?;
    let directory = sys::open(b"/tmp", abi::O_RDONLY, 0).named("/tmp")?;
    for (fd, what) in [(pipe[0], "a pipe"), (sockets[0], "a socket"), (directory, "a directory")] {
        for flags in [abi::MAP_SHARED, abi::MAP_PRIVATE] {
            let found = Buffer::map(fd, 0, PAGE, abi::PROT_READ, flags).map(drop);
            check_eq!(found, Err(Errno::ENODEV), "mmap of {what}");
        }
    }
    if !lazy::present() {
        return Ok(());
    }
    let server = Server::mount("m6", USUAL, honest())?;
    let fd = os::open(&server.file(0)).named("open")?;
    for (protection, what) in kinds {
        let found = Buffer::map(fd, 0, PAGE, protection, abi::MAP_SHARED).map(drop);
        check_eq!(found, Err(Errno::ENODEV), "shared mapping {what}");
        let private =
            Buffer::map(fd, 0, PAGE, protection, abi::MAP_PRIVATE).named("private mapping")?;
        private.check(0, PAGE, crate::scripted::content(0, 0, 0))?;
    }
    sys::close(fd).named("close")
}
