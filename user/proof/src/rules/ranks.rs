//! F8, Q4: servers and init go on while programs hold all memory, and who is ended where
//! nothing helps.

use foundation::mutant::Mutant;
use proof::guest_test;
use proof::kit::{Buffer, Child, File, Gate, Named, Outcome, PAGE, pattern, raw, store};
use proof::lazy::{self, Knob};
use proof::{check, check_eq};
use user::prelude::*;
use user::sys::abi;

const MIB: usize = 1 << 20;

/// Bytes of memory.
fn memory() -> Outcome<usize> {
    let text = lazy::read_text("/proc/meminfo")?;
    Ok(lazy::value(&text, "MemTotal")? as usize * 1024)
}

/// A child that holds so many bytes of its own until the gate opens, and then checks them.
fn holder<'a>(bytes: usize, ready: &'a Gate, go: &'a Gate) -> impl FnOnce() -> Outcome + 'a {
    move || {
        let buffer = Buffer::new(bytes)?;
        buffer.put(0, bytes, pattern(7, 0));
        ready.open()?;
        go.pass()?;
        buffer.check(0, bytes, pattern(7, 0))
    }
}

/// New memory, to each page of which was stored.
fn take(bytes: usize) -> Outcome<Buffer> {
    let buffer = Buffer::new(bytes)?;
    (0..bytes / PAGE).for_each(|page| store(buffer.at(page * PAGE), 1));
    Ok(buffer)
}

/// Programs hold four fifths of memory; a file of a fifth is written beside them. The file server's
/// claims have the programs' pages swapped out.
fn still(holders: usize, file_share: usize) -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let bytes = memory()? / 5 * 4 / holders / PAGE * PAGE;
    let (ready, go) = (Gate::new()?, Gate::new()?);
    let mut children = Vec::new();
    for _ in 0..holders {
        children.push(Child::start("holds memory", holder(bytes, &ready, &go))?);
    }
    children.iter().try_for_each(|_| ready.pass())?;
    let size = memory()? / file_share / MIB * MIB;
    let file = File::make("beside", 3, size as u64)?;
    let buffer = Buffer::new(MIB)?;
    for at in (0..size).step_by(MIB) {
        file.read_into(&buffer, 0, MIB, at as u64)?;
        buffer.check(0, MIB, pattern(3, at as u64))?;
    }
    children.iter().try_for_each(|_| go.open())?;
    children.into_iter().try_for_each(Child::join)?;
    servers_live()
}

/// The servers, and init, which has no page in swap.
fn servers_live() -> Outcome {
    for (pid, name) in [(1, "init"), (2, "memfs"), (3, "snapfs"), (4, "scratchfs")] {
        let status = lazy::read_text(&format!("/proc/{pid}/status"))?;
        check!(status.contains(name), "process {pid} is not {name}: {status}");
        check_eq!(lazy::value(&status, "VmSwap")?, 0, "swapped pages of {name}");
    }
    Ok(())
}

#[guest_test(memory_mib: 128, timeout_s: 120)]
fn f8_a_file_is_written_beside_a_program_that_holds_memory() -> Outcome {
    still(1, 6)
}

#[guest_test(memory_mib: 48, timeout_s: 120, mutants: &[Mutant::SwapInit])]
fn f8_a_file_is_written_beside_programs_that_hold_memory() -> Outcome {
    still(3, 4)
}

/// The process with the largest charge is ended, and not the one that found no memory.
#[guest_test(memory_mib: 64, timeout_s: 120, mutants: &[Mutant::EndSmallest])]
fn q4_the_largest_process_is_ended() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let _no_swap = Knob::set("swap_pages", 0)?;
    let (ready, go) = (Gate::new()?, Gate::new()?);
    let small = Child::start("small", holder(4 * MIB, &ready, &go))?;
    ready.pass()?;
    // More than the rest can have, but less than all memory.
    let large = Child::start("large", holder(memory()? / 2, &ready, &go))?;
    ready.pass()?;
    // Not more than `large` at any time: it is charged half of memory.
    Child::start("third", || take(memory()? / 5 * 2).map(drop))?.join()?;
    check_eq!(large.status()?.signal(), Some(abi::SIGKILL as i32), "signal of the largest");
    go.open()?;
    small.join()?;
    servers_live()
}

/// `oom_score_adj` moves a process in the order: it is inherited, kept by exec, and read back. (And
/// one end serves all who searched for memory at the same time: this process and its child begin to
/// store where memory has just run out.)
#[guest_test(memory_mib: 64, timeout_s: 120, mutants: &[Mutant::EndSmallest])]
fn q4_oom_score_adj_moves_a_process_in_the_order() -> Outcome {
    const OWN: &str = "/proc/self/oom_score_adj";
    const ROUNDS: usize = 4;
    if !lazy::present() {
        return Ok(());
    }
    let _no_swap = Knob::set("swap_pages", 0)?;
    for (wrong, error) in [("1001", "above"), ("-1001", "below"), ("many", "no number")] {
        check!(lazy::write_text(OWN, wrong).is_err(), "{wrong} is {error}, but taken");
    }
    check_eq!(lazy::read_text(OWN)?, "0\n", "after what was refused");
    let (ready, go) = (Gate::new()?, Gate::new()?);
    let spared = Child::start("spared", || {
        lazy::write_text(OWN, "-1000")?;
        holder(memory()? / 5 * 2, &ready, &go)()
    })?;
    ready.pass()?;
    for round in 0..ROUNDS {
        let ended = Child::start("ended", holder(memory()? / 4, &ready, &go))?;
        ready.pass()?;
        // With `spared`, more than all memory. At any time less than `ended` until that has ended.
        Child::start("third", || take(memory()? / 5).map(drop))?.join()?;
        check_eq!(ended.status()?.signal(), Some(abi::SIGKILL as i32), "signal, in round {round}");
    }
    go.open()?;
    spared.join()?;
    lazy::write_text(OWN, "300")?;
    let heir = Child::start("heir", || {
        check_eq!(lazy::read_text(OWN)?, "300\n", "inherited");
        let line = b"read score < /proc/self/oom_score_adj && test $score = 300";
        Err(format!("execve: {:?}", sys::execve(b"/bin/sh", &[b"sh", b"-c", line], &[])))
    })?;
    heir.join()?;
    servers_live()
}

/// One process is ended at a time: its memory is there for all that need it as soon as it has
/// ended, and not only once the process that waited for that runs again.
#[guest_test(memory_mib: 64, timeout_s: 120, mutants: &[Mutant::HoldVictim])]
fn q4_one_end_serves_all_who_wait() -> Outcome {
    const LEAST: usize = 19;
    if !lazy::present() {
        return Ok(());
    }
    let _no_swap = Knob::set("swap_pages", 0)?;
    let (ready, go) = (Gate::new()?, Gate::new()?);
    let large = Child::start("large", holder(memory()? / 2, &ready, &go))?;
    ready.pass()?;
    // Finds no memory, and waits for the end of `large`. Then it is the last one to run again: it
    // has used its share of the CPU, which is the least.
    let waits = Child::start("waits", || {
        raw(abi::__NR_setpriority, &[0, 0, LEAST]).named("setpriority")?;
        take(memory()? / 5 * 2).map(drop)
    })?;
    // This process runs as soon as `large` has ended.
    check_eq!(large.status()?.signal(), Some(abi::SIGKILL as i32), "signal of the largest");
    let _taken = take(memory()? / 6)?;
    waits.join()?;
    servers_live()
}

/// The floors of memfs, snapfs and scratchfs are those of the contract's table, in tenths of MiB,
/// and at most half of memory.
fn floors_are(table: [i64; 3]) -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let floor = |pid| lazy::value(&lazy::read_text(&format!("/proc/{pid}/status"))?, "Floor");
    let kib = [floor(2)?, floor(3)?, floor(4)?];
    let sum: i64 = kib.iter().sum();
    check!(sum << 10 <= memory()? as i64 / 2, "{sum} KiB of floors");
    for (kib, tenths) in kib.into_iter().zip(table) {
        // memfs's depends on the size of the kernel and the ramdisk.
        check!(
            (kib * 10 / 1024 - tenths).abs() <= 1,
            "{kib} KiB instead of {tenths} tenths of MiB"
        );
    }
    Ok(())
}

#[guest_test(memory_mib: 24)]
fn f8_floors_in_24_mib() -> Outcome {
    floors_are([61, 20, 27])
}

#[guest_test(memory_mib: 32)]
fn f8_floors_in_32_mib() -> Outcome {
    floors_are([95, 20, 34])
}

#[guest_test(memory_mib: 64)]
fn f8_floors_in_64_mib() -> Outcome {
    floors_are([211, 39, 59])
}

#[guest_test(memory_mib: 128)]
fn f8_floors_in_128_mib() -> Outcome {
    floors_are([489, 79, 60])
}

fn mark(floor: usize, rank: usize) -> sys::Result<()> {
    const PR_SET_IO_FLUSHER: u32 = 57;
    sys::prctl(PR_SET_IO_FLUSHER, 1, floor, rank, 0).map(drop)
}

/// Ranks, floors and their promises are for init's own servers only.
#[guest_test]
fn f8_a_program_that_marks_itself_gets_no_floor() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    Child::start("marks itself", || {
        check_eq!(mark(4096, 2), Err(Errno::EPERM), "a floor");
        check_eq!(mark(0, 1), Err(Errno::EPERM), "the rank of the swap server");
        check_eq!(mark(0, 3), Err(Errno::EINVAL), "no rank of servers");
        check_eq!(mark(0, 2), Ok(()), "the mark alone");
        Ok(())
    })?
    .join()
}
