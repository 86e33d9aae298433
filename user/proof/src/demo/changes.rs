//! What other processes do to the file while its reader sleeps.

use crate::plan::Plan;
use proof::random::Random;
use user::prelude::*;
use user::sys::abi;

/// Number of concurrent writers, each with its share of the places.
const WRITERS: usize = 3;

/// Runs the changes in sequence, the writers concurrently. Returns an exit status.
pub fn make_all(plan: &Plan, path: &[u8]) -> i32 {
    let writers =
        (0..WRITERS).map(|writer| spawn(|| overwrite(plan, path, writer))).collect::<Vec<_>>();
    let mut good = writers.into_iter().all(finish);
    good = good && finish(spawn(|| cut_and_extend(plan, path)));
    good = good && finish(spawn(|| rename_over(plan, path)));
    good = good && finish(spawn(|| sys::unlink(path)));
    i32::from(!good)
}

/// What [`make_all`] did.
pub fn summary(plan: &Plan) -> String {
    let bytes: u64 = plan.overwritten.iter().map(|range| range.end - range.start).sum();
    format!(
        "{bytes} bytes in {} places overwritten by {WRITERS} processes, \
         then truncated to {} bytes and extended, replaced by rename, deleted",
        plan.overwritten.len(),
        plan.truncated_bytes
    )
}

fn spawn(work: impl FnOnce() -> Result<()>) -> Option<i32> {
    match sys::fork() {
        Ok(Some(child)) => Some(child),
        Ok(None) => sys::exit(match work() {
            Ok(()) => 0,
            Err(error) => complain("demo", b"changing the file", error),
        }),
        Err(error) => {
            complain("demo", b"forking", error);
            None
        }
    }
}

fn finish(child: Option<i32>) -> bool {
    child
        .is_some_and(|child| sys::wait_for(child).is_ok_and(|status| status.exit_code() == Some(0)))
}

fn random_bytes(seed: u64, len_bytes: u64) -> Vec<u8> {
    let mut bytes = vec![0; len_bytes as usize];
    proof::random::fill(seed, 0, &mut bytes);
    bytes
}

fn write_at(fd: Fd, bytes: &[u8], offset: u64) -> Result<()> {
    if sys::pwrite(fd, bytes, FileOffset(offset))? == bytes.len() {
        Ok(())
    } else {
        Err(Errno::ENOSPC)
    }
}

/// Overwrites every third place.
fn overwrite(plan: &Plan, path: &[u8], writer: usize) -> Result<()> {
    let fd = sys::open(path, abi::O_WRONLY, 0)?;
    for (index, range) in plan.overwritten.iter().enumerate().skip(writer).step_by(WRITERS) {
        let bytes = random_bytes(plan.seed ^ 0xbad ^ index as u64, range.end - range.start);
        write_at(fd, &bytes, range.start)?;
    }
    sys::close(fd)
}

/// Truncates the file, extends it to its former length, and writes where data had been.
fn cut_and_extend(plan: &Plan, path: &[u8]) -> Result<()> {
    sys::truncate(path, ByteCount(plan.truncated_bytes))?;
    sys::truncate(path, ByteCount(plan.size_bytes))?;
    let fd = sys::open(path, abi::O_WRONLY, 0)?;
    let cut_off = plan.islands.iter().filter(|island| island.start > plan.truncated_bytes);
    for island in cut_off.step_by(4) {
        write_at(fd, b"not what was read", island.start)?;
    }
    sys::close(fd)
}

/// Creates another file of the same length and renames it over the first.
fn rename_over(plan: &Plan, path: &[u8]) -> Result<()> {
    let other = [path, b".other"].concat();
    let fd = sys::open(&other, abi::O_WRONLY | abi::O_CREAT | abi::O_TRUNC, 0o600)?;
    sys::ftruncate(fd, ByteCount(plan.size_bytes))?;
    let mut random = Random::new(plan.seed ^ 0xface);
    for island in plan.islands.iter().step_by(16) {
        write_at(fd, &random_bytes(random.draw(), 4096), island.start)?;
    }
    sys::close(fd)?;
    sys::rename(&other, path)
}
