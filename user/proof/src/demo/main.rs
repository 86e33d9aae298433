//! `demo [--size SIZE] [--seed SEED] [--dir DIRECTORY]`: the experiment.
//!
//! A program reads all of a sparse file, 16 GiB by default, into memory with one read(2), looks at
//! a few pages, and sleeps. The file has seeded islands of data. Meanwhile other processes
//! overwrite parts of it, truncate it, rename another file over it, and delete that. Then the
//! program wakes up and checks every island, and thousands of places between them, against the
//! seed: a read(2) has to return what the file held at one instant.
//!
//! The hash covers all that was looked at. It is the same for the same size and seed wherever this
//! runs: on a kernel that reads lazily, on one that does not, on Linux. The exit status is 1 if a
//! byte was wrong, 2 if the experiment could not be made.

#![no_std]
#![cfg_attr(target_os = "none", no_main)]

mod changes;
mod plan;

use plan::Plan;
use proof::counters::Counters;
use sha2::{Digest, Sha256};
use user::pages::{PAGE_BYTES, Pages};
use user::prelude::*;
use user::sys::abi;

program!(run);

/// The default size: 16 GiB, as proposed.
const DEFAULT_SIZE_BYTES: u64 = 16 << 30;

/// Number of islands that are checked before the changes.
const EARLY_LOOKS: usize = 4;

/// Why the experiment could not be made.
type Attempt<T> = core::result::Result<T, (&'static str, Errno)>;

/// Results of the experiment.
struct Findings {
    islands: usize,
    holes: usize,
    wrong_bytes: u64,
    hash: Sha256,
}

fn run(args: &Args) -> i32 {
    let (mut size_bytes, mut seed, mut directory) =
        (Some(DEFAULT_SIZE_BYTES), Some(1), &b"/tmp"[..]);
    for pair in args.get(1..).unwrap_or_default().chunks(2) {
        match *pair {
            [b"--size", value] => size_bytes = user::opt::size(value),
            [b"--seed", value] => seed = user::opt::number(value),
            [b"--dir", value] => directory = value,
            _ => size_bytes = None,
        }
    }
    let (Some(size_bytes @ plan::MIN_SIZE_BYTES..), Some(seed)) = (size_bytes, seed) else {
        eprintln!(
            "usage: demo [--size SIZE] [--seed SEED] [--dir DIRECTORY]   (a size of at least {})",
            plan::MIN_SIZE_BYTES
        );
        return 2;
    };
    match experiment(&Plan::new(size_bytes, seed), directory) {
        Ok(wrong_bytes) => i32::from(wrong_bytes > 0),
        Err((attempt, error)) => complain("demo", attempt.as_bytes(), error) + 1,
    }
}

/// Runs the experiment. Returns the number of wrong bytes.
fn experiment(plan: &Plan, directory: &[u8]) -> Attempt<u64> {
    let path = user::fs::join(directory, b"demo.file");
    let blocks_at_start = used_blocks(directory);
    println!(
        "file         {} bytes, {} islands of data, seed {}",
        plan.size_bytes,
        plan.islands.len(),
        plan.seed
    );
    make_file(plan, &path).map_err(|error| ("making the file", error))?;
    let blocks_with_file = used_blocks(directory);
    let (before, of_servers) = (Counters::now(), Counters::of_servers());
    // The writers are forked before there is a large buffer, and wait for a byte in this pipe.
    let [waiting, starting] = sys::pipe(0).map_err(|error| ("a pipe", error))?;
    let writers = sys::fork().map_err(|error| ("forking", error))?;
    let Some(writers) = writers else {
        let _ = sys::close(starting);
        let _ = sys::read(waiting, &mut [0]);
        sys::exit(changes::make_all(plan, &path))
    };
    let _ = sys::close(waiting);
    let buffer = read_all(plan, &path)?;
    let mut findings = Findings { islands: 0, holes: 0, wrong_bytes: 0, hash: Sha256::new() };
    for index in 0..EARLY_LOOKS {
        check_island(plan, &buffer, index * plan.islands.len() / EARLY_LOOKS, &mut findings);
    }
    println!("first look   {EARLY_LOOKS} islands, wrong bytes: {}", findings.wrong_bytes);
    sys::write_all(starting, b"!").map_err(|error| ("the pipe", error))?;
    println!("asleep       while other processes change the file");
    let status = sys::wait_for(writers).map_err(|error| ("waiting", error))?;
    if status.exit_code() != Some(0) {
        eprintln!("demo: the changes to the file failed: {status:?}");
        return Err(("changing the file", Errno::EIO));
    }
    println!("changed      {}", changes::summary(plan));
    for (name, grown) in Counters::of_servers().since(&of_servers) {
        println!("server       {name}: {grown}");
    }
    let blocks_changed = used_blocks(directory);
    check_everything(plan, &buffer, &mut findings);
    report(
        plan,
        findings,
        &before,
        [blocks_at_start, blocks_with_file, blocks_changed, used_blocks(directory)],
        buffer,
        directory,
    )
}

/// Creates the sparse file and writes its islands.
fn make_file(plan: &Plan, path: &[u8]) -> Result<()> {
    let fd = sys::open(path, abi::O_RDWR | abi::O_CREAT | abi::O_TRUNC, 0o600)?;
    sys::ftruncate(fd, ByteCount(plan.size_bytes))?;
    for island in &plan.islands {
        let mut bytes = vec![0; (island.end - island.start) as usize];
        proof::random::fill(plan.seed, island.start, &mut bytes);
        if sys::pwrite(fd, &bytes, FileOffset(island.start))? != bytes.len() {
            return Err(Errno::ENOSPC);
        }
    }
    sys::close(fd)
}

/// Reads the whole file into fresh memory with one read(2), or several where the kernel (Linux)
/// limits one.
fn read_all(plan: &Plan, path: &[u8]) -> Attempt<Pages> {
    let mut buffer = Pages::new(plan.size_bytes as usize)
        .map_err(|error| ("memory for the whole file", error))?;
    let fd = sys::open(path, abi::O_RDONLY, 0).map_err(|error| ("opening the file", error))?;
    let start = sys::clock(abi::CLOCK_MONOTONIC).unwrap_or_default();
    let (mut filled, mut calls) = (0, 0);
    while filled < buffer.len() {
        let count =
            sys::read(fd, &mut buffer[filled..]).map_err(|error| ("reading the file", error))?;
        if count == 0 {
            return Err(("reading the file: it ends early", Errno::EIO));
        }
        filled += count;
        calls += 1;
    }
    let took = sys::clock(abi::CLOCK_MONOTONIC).unwrap_or_default().saturating_sub(start);
    let _ = sys::close(fd);
    println!("read         {filled} bytes with {calls} read(2) in {} us", took.as_micros());
    Ok(buffer)
}

/// Compares an island with the seed.
fn check_island(plan: &Plan, buffer: &[u8], index: usize, findings: &mut Findings) {
    let Some(island) = plan.islands.get(index) else { return };
    let found = &buffer[island.start as usize..island.end as usize];
    let mut expected = vec![0; found.len()];
    proof::random::fill(plan.seed, island.start, &mut expected);
    compare(found, &expected, island.start, findings);
    findings.islands += 1;
}

fn compare(found: &[u8], expected: &[u8], offset: u64, findings: &mut Findings) {
    findings.hash.update(offset.to_le_bytes());
    findings.hash.update(found);
    if found != expected {
        let wrong =
            found.iter().zip(expected).filter(|(found, expected)| found != expected).count();
        let first =
            found.iter().zip(expected).position(|(found, expected)| found != expected).unwrap_or(0);
        eprintln!(
            "demo: {wrong} wrong bytes from {} on: {:#04x} for {:#04x}",
            offset + first as u64,
            found[first],
            expected[first]
        );
        findings.wrong_bytes += wrong as u64;
    }
}

/// Checks all islands, the boundaries of each, and the sampled pages in between.
fn check_everything(plan: &Plan, buffer: &[u8], findings: &mut Findings) {
    for index in 0..plan.islands.len() {
        check_island(plan, buffer, index, findings);
    }
    for hole in plan.sampled_holes() {
        let zeros = [0; PAGE_BYTES];
        let found = &buffer[hole.start as usize..hole.end as usize];
        compare(found, &zeros[..found.len()], hole.start, findings);
        findings.holes += 1;
    }
}

/// Prints the results. Drops the buffer, to show that its snapshot is closed with it.
fn report(
    plan: &Plan,
    findings: Findings,
    before: &Counters,
    blocks: [u64; 4],
    buffer: Pages,
    directory: &[u8],
) -> Attempt<u64> {
    let Findings { islands, holes, wrong_bytes, hash } = findings;
    println!(
        "awake        islands checked: {islands}, holes checked: {holes}, \
         wrong bytes: {wrong_bytes}"
    );
    let after = Counters::now();
    for (name, grown) in after.since(before) {
        println!("counter      {name}: {grown}");
    }
    drop(buffer);
    let [start, file, changed, checked] = blocks;
    println!(
        "store        4 KiB blocks in use: {start} before, {file} with the file, \
         {changed} after the changes, {checked} after the look, {} at the end",
        used_blocks(directory)
    );
    if let Some(live) = Counters::now().get("snapshots_live") {
        println!("snapshots    alive at the end: {live}");
    }
    println!("size         {}", plan.size_bytes);
    let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    println!("hash         {hash}");
    println!(
        "{}",
        if wrong_bytes == 0 {
            "every byte is what the file held when it was read"
        } else {
            "THE READ WAS NOT OF ONE INSTANT"
        }
    );
    Ok(wrong_bytes)
}

/// Blocks of the file system in use, rescued bytes included.
fn used_blocks(directory: &[u8]) -> u64 {
    sys::statfs(directory)
        .map_or(0, |store| (store.f_blocks as u64).saturating_sub(store.f_bfree as u64))
}
