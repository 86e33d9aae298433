//! C: changes to a file after a read, none of which the reader may see.

use crate::stack::Stack;
use foundation::mutant::Mutant;
use proof::guest_test;
use proof::kit::{
    self, Buffer, Child, Content, File, Named, Outcome, PAGE, UNTOUCHED, ZEROS, pattern,
    read_lazily, within,
};
use proof::lazy::{self, Meter};
use proof::random::Random;
use proof::{check, check_eq, os};
use user::prelude::*;
use user::sys::abi;

const P: u64 = PAGE as u64;

/// A range of a file as it was read, to be checked later.
struct Taken {
    buffer: Buffer,
    at: usize,
    length: usize,
    expected: Content,
}

impl Taken {
    /// Reads a range of a file that holds the pattern of a seed, and touches every tenth page:
    /// those are resident, the others are lazy.
    fn read(file: &File, seed: u64, at: usize, length: usize, offset: u64) -> Outcome<Self> {
        let buffer = Buffer::filled(at + length + PAGE, UNTOUCHED)?;
        read_lazily(file, &buffer, at, length, offset)?;
        // Fault-around would fetch their neighbours.
        let _knobs = lazy::fault_around(1)?;
        for position in (at..at + length).step_by(10 * PAGE) {
            buffer.load(position);
        }
        Ok(Self { buffer, at, length, expected: pattern(seed, offset) })
    }

    fn check(&self) -> Outcome {
        let end = self.at + self.length;
        within("before the buffer", self.buffer.check(0, self.at, UNTOUCHED))?;
        within("in the buffer", self.buffer.check(self.at, self.length, self.expected))?;
        within("past n", self.buffer.check(end, self.buffer.len_bytes() - end, UNTOUCHED))
    }
}

fn check_all(what: &str, taken: &[Taken]) -> Outcome {
    taken
        .iter()
        .enumerate()
        .try_for_each(|(index, taken)| within(format_args!("{what}: read {index}"), taken.check()))
}

/// Overwrites through the same descriptor, another one and another process, in pieces of any size:
/// each earlier read keeps its version.
#[guest_test(mutants: &[Mutant::SkipRescue, Mutant::RescueAfterChange])]
fn c1_overwrite() -> Outcome {
    let file = File::make("file", 1, 40 * P)?;
    let mut random = Random::new(7);
    let mut taken = Vec::new();
    for seed in 1..6 {
        taken.push(Taken::read(&file, seed, 0, 40 * PAGE, 0)?);
        taken.push(Taken::read(&file, seed, 100, 30 * PAGE, 5000)?);
        taken.push(Taken::read(&file, seed, 4000, 10 * PAGE + 17, 20 * P)?);
        Child::start("writer", || {
            // Pieces in any order, then everything, so that the whole file is of the next version.
            for _ in 0..8 {
                let offset = random.below(39 * P);
                file.overwrite(seed + 1, offset, 1 + random.below(3 * P).min(40 * P - offset - 1))?;
            }
            file.overwrite(seed + 1, 0, 20 * P)
        })?
        .join()?;
        let other = file.reopen()?;
        let source = Buffer::filled(20 * PAGE, pattern(seed + 1, 20 * P))?;
        check_eq!(
            os::pwrite(other, source.at(0), 20 * PAGE, 20 * P).named("pwrite")?,
            20 * PAGE,
            "bytes written"
        );
        sys::close(other).named("close")?;
    }
    check_all("whole file overwritten", &taken)?;
    // A few bytes at several places; the rest of these pages comes from the live file.
    let last = Taken::read(&file, 6, 55, 39 * PAGE, 1000)?;
    for offset in (0..40 * P - 20).step_by(7777) {
        file.overwrite(7, offset, 17)?;
    }
    within("some bytes overwritten", last.check())
}

/// A file that is truncated, extended and written again keeps its old bytes for earlier reads.
#[guest_test(mutants: &[Mutant::SkipTruncateRescue])]
fn c2_truncate() -> Outcome {
    let file = File::make("file", 1, 40 * P)?;
    let cut = 10 * P + 5;
    let mut taken = Vec::new();
    for round in 0..4 {
        let seed = 1 + round;
        taken.push(Taken::read(&file, seed, 0, 40 * PAGE, 0)?);
        taken.push(Taken::read(&file, seed, 123, 15 * PAGE, 8 * P + 77)?);
        let child = Child::start("truncating process", || {
            sys::ftruncate(file.fd, ByteCount(cut)).named("ftruncate").map(drop)
        })?;
        child.join()?;
        let short = Buffer::filled(40 * PAGE, UNTOUCHED)?;
        check_eq!(
            os::pread(file.fd, short.at(0), 40 * PAGE, 0).named("pread")?,
            cut as usize,
            "bytes of the shorter file"
        );
        sys::ftruncate(file.fd, ByteCount(40 * P)).named("ftruncate")?;
        let long = Buffer::filled(40 * PAGE, UNTOUCHED)?;
        read_lazily(&file, &long, 0, 40 * PAGE, 0)?;
        if round % 2 == 1 {
            sys::ftruncate(file.fd, ByteCount::ZERO).named("ftruncate")?;
        }
        file.overwrite(seed + 1, 0, 40 * P)?;
        within("truncated", short.check(0, cut as usize, pattern(seed, 0)))?;
        within("behind the cut", short.check(cut as usize, 40 * PAGE - cut as usize, UNTOUCHED))?;
        within("truncated and extended", long.check(0, cut as usize, pattern(seed, 0)))?;
        within("extended by a hole", long.check(cut as usize, 40 * PAGE - cut as usize, ZEROS))?;
    }
    check_all("truncated and written", &taken)
}

/// The names in the tests' directory and in the root directory. No name of the wrapper's may be
/// added to them.
fn names() -> Outcome<Vec<Vec<u8>>> {
    let mut names = user::fs::list(kit::directory().as_bytes()).named("names")?;
    names.extend(user::fs::list(b"/").named("names")?);
    names.extend(user::fs::list(b"/tmp").named("names")?);
    Ok(names)
}

/// A file that is removed, closed and replaced keeps its bytes for earlier reads. What the wrapper
/// keeps shows in no directory.
#[guest_test(mutants: &[Mutant::RemoveSnapshotted])]
fn c3_remove() -> Outcome {
    let keep = File::make("keep", 9, P)?;
    let before = names()?;
    let file = File::make("file", 1, 40 * P)?;
    let taken =
        [Taken::read(&file, 1, 0, 40 * PAGE, 0)?, Taken::read(&file, 1, 99, 33 * PAGE, 3333)?];
    sys::unlink(file.path.as_bytes()).named("unlink")?;
    check!(names()? == before, "names after the file was removed: {:?}", names()?);
    let open_still = Taken::read(&file, 1, 0, 20 * PAGE, 0)?;
    drop(file);
    check!(names()? == before, "names after the file was closed: {:?}", names()?);
    let file = File::make("file", 2, 40 * P)?;
    check_eq!(sys::stat(file.path.as_bytes()).named("stat")?.st_nlink, 1, "links of the new file");
    check_all("removed", &taken)?;
    within("read after its removal", open_still.check())?;
    drop(file);
    drop(keep);
    Ok(())
}

/// A file that another file is renamed over keeps its bytes for earlier reads.
#[guest_test(mutants: &[Mutant::RenameOverSnapshotted])]
fn c4_rename_over() -> Outcome {
    let file = File::make("file", 1, 40 * P)?;
    let taken =
        [Taken::read(&file, 1, 0, 40 * PAGE, 0)?, Taken::read(&file, 1, 99, 33 * PAGE, 3333)?];
    let path = file.path.clone();
    let other = File::make("other", 2, 40 * P)?;
    drop_descriptor(&file)?;
    Child::start("renaming process", || {
        sys::rename(other.path.as_bytes(), path.as_bytes()).named("rename")
    })?
    .join()?;
    let listed = user::fs::list(kit::directory().as_bytes()).named("names")?;
    check!(listed == [b"file"], "names after the rename: {listed:?}");
    check_eq!(
        sys::stat(path.as_bytes()).named("stat")?.st_nlink,
        1,
        "links of the file that was renamed"
    );
    let replaced = Taken::read(&other, 2, 5, 20 * PAGE, 0)?;
    other.overwrite(3, 0, 40 * P)?;
    check_all("renamed over", &taken)?;
    within("the file that took its name", replaced.check())
}

/// Closes a file's descriptor early and opens /dev/null under its number, so that the drop of the
/// file closes that and no other file.
pub fn drop_descriptor(file: &File) -> Outcome {
    let null = sys::open(b"/dev/null", abi::O_RDONLY, 0).named("/dev/null")?;
    sys::dup2(null, file.fd).named("dup2")?;
    sys::close(null).named("close")
}

/// A file that another process opens with O_TRUNC and writes to keeps its old bytes for earlier
/// reads.
#[guest_test(mutants: &[Mutant::SkipOpenTruncateRescue])]
fn c5_open_truncate() -> Outcome {
    let file = File::make("file", 1, 40 * P)?;
    let taken =
        [Taken::read(&file, 1, 0, 40 * PAGE, 0)?, Taken::read(&file, 1, 99, 33 * PAGE, 3333)?];
    Child::start("truncating process", || {
        let fd = os::create(&file.path).named("open")?;
        check_eq!(sys::fstat(fd).named("fstat")?.st_size, 0, "size after O_TRUNC");
        sys::write_all(fd, &[0x77; 5 * PAGE]).named("write")
    })?
    .join()?;
    check_all("opened with O_TRUNC", &taken)?;
    let buffer = Buffer::filled(40 * PAGE, UNTOUCHED)?;
    check_eq!(
        os::pread(file.fd, buffer.at(0), 40 * PAGE, 0).named("pread")?,
        5 * PAGE,
        "bytes of the new contents"
    );
    buffer.check(0, 5 * PAGE, Content::Only(0x77))?;
    buffer.check(5 * PAGE, 35 * PAGE, UNTOUCHED)
}

/// A punched hole does not change what earlier reads returned.
#[guest_test(mutants: &[Mutant::SkipRescue])]
fn c6_punch() -> Outcome {
    let file = File::make("file", 1, 40 * P)?;
    let taken =
        [Taken::read(&file, 1, 0, 40 * PAGE, 0)?, Taken::read(&file, 1, 99, 33 * PAGE, 3333)?];
    match os::punch_hole(file.fd, 5 * P + 100, 20 * P) {
        Err(Errno::EOPNOTSUPP) if !lazy::present() => return Ok(()),
        result => result.named("fallocate")?,
    }
    let after = Buffer::filled(40 * PAGE, UNTOUCHED)?;
    read_lazily(&file, &after, 0, 40 * PAGE, 0)?;
    file.overwrite(2, 0, 40 * P)?;
    check_all("punched", &taken)?;
    let (hole, end) = (5 * PAGE + 100, 25 * PAGE + 100);
    within("before the hole", after.check(0, hole, pattern(1, 0)))?;
    within("in the hole", after.check(hole, end - hole, ZEROS))?;
    within("behind the hole", after.check(end, 40 * PAGE - end, pattern(1, end as u64)))
}

/// Append, extension, rename, chmod and close of all descriptors leave a snapshot unchanged.
#[guest_test(mutants: &[Mutant::CloseWithFile])]
fn c7_append_rename_close() -> Outcome {
    let length = 20 * P + 100;
    let file = File::make("file", 1, length)?;
    let meter = Meter::start()?;
    let taken = [
        Taken::read(&file, 1, 0, 20 * PAGE + 100, 0)?,
        Taken::read(&file, 1, 99, 13 * PAGE, 3333)?,
    ];
    let fd = sys::open(file.path.as_bytes(), abi::O_WRONLY | abi::O_APPEND, 0).named("open")?;
    sys::write_all(fd, &[0x33; 3 * PAGE]).named("append")?;
    sys::ftruncate(fd, ByteCount(60 * P)).named("ftruncate")?;
    sys::close(fd).named("close")?;
    let renamed = format!("{}.renamed", file.path);
    sys::rename(file.path.as_bytes(), renamed.as_bytes()).named("rename")?;
    sys::chmod(renamed.as_bytes(), 0).named("chmod")?;
    drop_descriptor(&file)?;
    meter.expect_system("snapshots_live", 2)?;
    check_all("appended to, renamed, closed", &taken)?;
    sys::chmod(renamed.as_bytes(), 0o644).named("chmod")?;
    let fd = os::open(&renamed).named("open")?;
    let after = Buffer::filled(60 * PAGE, UNTOUCHED)?;
    check_eq!(
        os::read(fd, after.at(0), 60 * PAGE).named("read")?,
        60 * PAGE,
        "bytes of the longer file"
    );
    sys::close(fd).named("close")?;
    let end = length as usize;
    after.check(0, end, pattern(1, 0))?;
    after.check(end, 3 * PAGE, Content::Only(0x33))?;
    after.check(end + 3 * PAGE, 57 * PAGE - end, ZEROS)?;
    sys::unlink(renamed.as_bytes()).named("unlink")
}

/// Reads of several versions, some of the same one, each keep their own version, whichever rescue
/// serves them.
#[guest_test(mutants: &[Mutant::RescueServesAll])]
fn c8_versions() -> Outcome {
    let file = File::make("file", 1, 40 * P)?;
    let mut taken = Vec::new();
    for seed in 1..10 {
        for (at, length, offset) in
            [(0, 40 * PAGE, 0), (7, 20 * PAGE, 1234), (0, 10 * PAGE, 15 * P)]
        {
            taken.push(Taken::read(&file, seed, at, length, offset)?);
        }
        if seed % 3 == 0 {
            sys::ftruncate(file.fd, ByteCount::ZERO).named("ftruncate")?;
        }
        file.overwrite(seed + 1, 0, 40 * P)?;
        if seed % 2 == 0 {
            // Some snapshots are closed early; the rescues that others need must stay.
            taken.swap_remove(taken.len() / 2);
        }
    }
    check_all("many versions", &taken)
}

/// Whichever way the last association ends, the snapshot is closed in the kernel and on the server.
#[guest_test(mutants: &[Mutant::LeakSnapshot])]
fn c10_gone_on_close() -> Outcome {
    let stack = if lazy::present() { Some(Stack::mount("c10", 16 << 20)?) } else { None };
    let directory = stack.as_ref().map_or_else(kit::directory, |stack| stack.path.clone());
    let file = File::make_in(&directory, "file", 1, 16 * P)?;
    let other = File::make_in(&directory, "other", 2, 16 * P)?;
    let meter = Meter::start()?;
    let live = |what: &str, expected: i64| {
        within(what, meter.expect_system("snapshots_live", expected))?;
        let Some(stack) = &stack else { return Ok(()) };
        stack.settle()?;
        check_eq!(
            stack.look.kept().snapshots as i64,
            expected,
            "{what}: snapshots that the server keeps"
        );
        Ok(())
    };
    let read = || {
        let buffer = Buffer::new(16 * PAGE)?;
        read_lazily(&file, &buffer, 0, 16 * PAGE, 0)?;
        Outcome::Ok(buffer)
    };
    let closed = |what: &str, end: &dyn Fn(Buffer) -> Outcome| {
        let buffer = read()?;
        live("read", 1)?;
        file.overwrite(3, 0, P)?;
        end(buffer)?;
        live(what, 0)
    };
    closed("unmapped", &|buffer| os::munmap(buffer.at(0), buffer.len_bytes()).named("munmap"))?;
    closed("unmapped in two parts", &|buffer| {
        os::munmap(buffer.at(0), 3 * PAGE).named("munmap")?;
        os::munmap(buffer.at(3 * PAGE), 13 * PAGE).named("munmap")
    })?;
    closed("all pages stored to", &|buffer| {
        buffer.put(0, buffer.len_bytes(), UNTOUCHED);
        // The buffer stays mapped; only its association has ended.
        buffer.leak();
        Ok(())
    })?;
    let kept = read()?;
    for _ in 0..5 {
        other.read_into(&kept, 0, 16 * PAGE, 0)?;
        file.read_into(&kept, 0, 16 * PAGE, 0)?;
    }
    live("read over", 1)?;
    drop(kept);
    live("read over and unmapped", 0)?;

    Child::start("process that exits", || read().map(|buffer| _ = buffer.leak()))?.join()?;
    live("exited", 0)?;
    Child::start("process that execs", || {
        read()?.leak();
        Err(format!("execve: {:?}", sys::execve(b"/bin/true", &[b"true"], &[])))
    })?
    .join()?;
    live("replaced by exec", 0)?;
    let ready = kit::Gate::new()?;
    let killed = Child::start("process that is killed", || {
        read()?.leak();
        ready.open()?;
        kit::Gate::new()?.pass()
    })?;
    ready.pass()?;
    live("before the kill", 1)?;
    killed.kill()?;
    live("killed", 0)
}

/// Page-ins that race with writers return the version of their read, never a later one.
#[guest_test(mutants: &[Mutant::SkipRescue])]
fn c11_ordered() -> Outcome {
    if !lazy::present() {
        // Linux guarantees this on some file systems only.
        return Ok(());
    }
    const BYTES: usize = 24 * PAGE;
    const ROUNDS: usize = 60;
    let _knob = lazy::fault_around(1)?;
    let file = File::make("file", 1, BYTES as u64)?;
    file.overwrite_bytes(0, 0, BYTES)?;
    let writer = |first: usize| {
        let file = &file;
        Child::start("writer", move || {
            for version in (first..).step_by(2) {
                file.overwrite_bytes(version as u8, 0, BYTES)?;
            }
            Ok(())
        })
    };
    let writers = [writer(1)?, writer(2)?];
    let reader = |at: usize| {
        let file = &file;
        Child::start("reader", move || {
            let meter = Meter::start()?;
            let mut kept: Vec<Buffer> = Vec::new();
            for round in 0..ROUNDS {
                let buffer = Buffer::new(BYTES + PAGE)?;
                file.read_into(&buffer, at, BYTES, 0)?;
                kept.push(buffer);
                if kept.len() == 4 {
                    let oldest = kept.remove(0);
                    let version = oldest.load(at + (round * 3 % 20) * PAGE);
                    within(
                        format_args!("round {round}"),
                        oldest.check(at, BYTES, Content::Only(version)),
                    )?;
                }
            }
            meter.expect("reads_lazy", ROUNDS as i64)
        })
    };
    let readers = [reader(0)?, reader(100)?];
    for child in readers {
        child.join()?;
    }
    for child in writers {
        child.kill()?;
    }
    Ok(())
}
