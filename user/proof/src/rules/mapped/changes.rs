//! M4: a change of the file by a system call shows in its mappings, and keeps what was stored
//! outside of its range. The mapping itself may be the buffer.

use super::compare::{P, bytes_of, expect_both, expect_bytes, expect_file, map_anew};
use foundation::mutant::Mutant;
use proof::kit::{Buffer, File, Named, Outcome, PAGE, within};
use proof::{check, check_eq, guest_test, os};
use user::prelude::*;
use user::sys::abi;

const PAGES: usize = 24;
const LENGTH: usize = PAGES * PAGE;

/// A mapped file, and what it must hold.
struct Model {
    file: File,
    map: Buffer,
    bytes: Vec<u8>,
}

impl Model {
    fn new(name: &str, seed: u64) -> Outcome<Self> {
        let file = File::make(name, seed, LENGTH as u64)?;
        let map = map_anew(&file, LENGTH)?;
        Ok(Self { file, map, bytes: bytes_of(seed, LENGTH) })
    }

    /// Stores to a few bytes of each page.
    fn store(&mut self, value: u8) {
        for page in 0..self.bytes.len() / PAGE {
            for at in [0, 1, 2000, 4095] {
                self.map.store(page * PAGE + at, value);
                self.bytes[page * PAGE + at] = value;
            }
        }
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) -> Outcome {
        let count = sys::pwrite(self.file.fd, bytes, FileOffset(offset as u64)).named("pwrite")?;
        check_eq!(count, bytes.len(), "bytes written");
        self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn punch(&mut self, offset: usize, length: usize) -> Outcome {
        os::punch_hole(self.file.fd, offset as u64, length as u64).named("fallocate")?;
        self.bytes[offset..offset + length].fill(0);
        Ok(())
    }

    fn resize(&mut self, length: usize) -> Outcome {
        sys::ftruncate(self.file.fd, ByteCount(length as u64)).named("ftruncate")?;
        self.bytes.resize(length, 0);
        Ok(())
    }

    fn check(&self, what: &str) -> Outcome {
        within(what, expect_both(&self.file, &self.map, &self.bytes))
    }
}

/// Writes of any length and place keep the stores next to them, and show in the mapping.
#[guest_test(mutants: &[Mutant::ChangeKeepsPages])]
fn m4_writes_keep_stores() -> Outcome {
    let mut model = Model::new("written", 1)?;
    let places = [
        (10, 1),
        (0, PAGE),
        (PAGE - 1, 2),
        (3 * PAGE + 2, 1997),
        (5 * PAGE + 100, 3 * PAGE),
        (8 * PAGE, 8 * PAGE),
        (LENGTH - 7, 7),
    ];
    for (round, (offset, length)) in (1..).zip(places) {
        model.store(round);
        model.write(offset, &vec![0x80 + round; length])?;
        model.check("stores, then a write")?;
        // A page that was written and not touched since, and one that is clean.
        model.map.sync().named("msync")?;
        model.write(offset, &vec![0xc0 + round; length])?;
        model.check("a write when all is clean")?;
    }
    // Pieces by reference, whole pages and parts of them.
    let buffer = Buffer::new(8 * PAGE)?;
    for (round, offset) in [(20, 12 * PAGE), (21, 12 * PAGE + 300)] {
        model.store(round);
        model.file.read_into(&buffer, 0, 8 * PAGE, 0)?;
        model.store(round + 100);
        let (fd, at) = (model.file.fd, buffer.at(0));
        let count = os::pwrite(fd, at, 8 * PAGE, offset as u64).named("pwrite")?;
        check_eq!(count, 8 * PAGE, "bytes written by reference");
        let mut read = model.bytes[..8 * PAGE].to_vec();
        (0..8).for_each(|page| {
            for at in [0, 1, 2000, 4095] {
                read[page * PAGE + at] = round;
            }
        });
        model.bytes[offset..offset + 8 * PAGE].copy_from_slice(&read);
        model.check("a write by reference")?;
    }
    Ok(())
}

/// A hole, a new length and O_TRUNC keep the stores outside of their range, and what they remove is
/// zeros in the mapping too.
#[guest_test(mutants: &[Mutant::LosePartial])]
fn m4_holes_and_lengths_keep_stores() -> Outcome {
    let mut model = Model::new("resized", 2)?;
    let holes = [(PAGE, PAGE), (3 * PAGE + 1, 10), (5 * PAGE - 1, 2), (6 * PAGE + 9, 4 * PAGE)];
    for (round, (offset, length)) in (1..).zip(holes) {
        model.store(round);
        model.punch(offset, length)?;
        model.check("a hole")?;
    }
    for (round, length) in [(11, 20 * PAGE), (12, 18 * PAGE + 2), (13, 15 * PAGE + 4095)] {
        model.store(round);
        model.resize(length)?;
        model.check("shorter")?;
        model.resize(LENGTH)?;
        model.check("longer")?;
    }
    model.store(14);
    let given = [model.file.fd.argument(), 0, 2 * PAGE, LENGTH];
    os::raw(abi::__NR_fallocate, &given).named("fallocate")?;
    model.bytes.resize(LENGTH + 2 * PAGE, 0);
    expect_file(&model.file, &model.bytes)?;
    model.resize(LENGTH)?;
    model.store(15);
    let flags = abi::O_RDWR | abi::O_TRUNC;
    let fd = sys::open(model.file.path.as_bytes(), flags, 0).named("open with O_TRUNC")?;
    model.bytes.clear();
    model.check("open with O_TRUNC")?;
    model.resize(LENGTH)?;
    model.check("longer after O_TRUNC")?;
    model.store(16);
    model.check("stores after O_TRUNC")?;
    sys::close(fd).named("close")
}

/// Transfers between a file and its own mapping: round, from, to, length. Aligned or not, over each
/// other, and to the same place.
const TRANSFERS: [(u8, usize, usize, usize); 5] = [
    (1, 0, 12 * PAGE, 8 * PAGE),
    (2, 5 * PAGE + 100, 14 * PAGE + 7, 5 * PAGE + 1),
    (3, 12 * PAGE, 0, 12 * PAGE),
    (4, 4 * PAGE, 4 * PAGE, 6 * PAGE),
    (5, 4 * PAGE + 300, 4 * PAGE + 300, 100),
];

/// read(2) puts bytes of the file into a mapping of the same file: from other pages, and from the
/// same place.
#[guest_test]
fn m4_reads_into_the_mapping() -> Outcome {
    let mut model = Model::new("into", 3)?;
    for (round, from, to, length) in TRANSFERS {
        model.store(round);
        let count = os::pread(model.file.fd, model.map.at(to), length, from as u64);
        check_eq!(count, Ok(length), "bytes read, round {round}");
        model.bytes.copy_within(from..from + length, to);
        model.check(&format!("read, round {round}"))?;
    }
    Ok(())
}

/// write(2) takes bytes of a mapping of the same file: to other pages, to the same place, and to
/// its end.
#[guest_test]
fn m4_writes_from_the_mapping() -> Outcome {
    let mut model = Model::new("from", 4)?;
    for (round, from, to, length) in TRANSFERS {
        model.store(round);
        let count = os::pwrite(model.file.fd, model.map.at(from), length, to as u64);
        check_eq!(count, Ok(length), "bytes written, round {round}");
        model.bytes.copy_within(from..from + length, to);
        model.check(&format!("write, round {round}"))?;
    }
    let flags = abi::O_WRONLY | abi::O_APPEND;
    let end = sys::open(model.file.path.as_bytes(), flags, 0).named("open")?;
    model.store(6);
    check_eq!(os::write(end, model.map.at(PAGE), 3 * PAGE), Ok(3 * PAGE), "bytes appended");
    sys::close(end).named("close")?;
    model.bytes.extend_from_within(PAGE..4 * PAGE);
    expect_file(&model.file, &model.bytes)
}

/// Source and target overlap: in which order bytes move is not defined, but the call ends, no byte
/// outside of the target changes, and each byte of it is one that its source has had.
#[guest_test]
fn m4_overlapping_transfers() -> Outcome {
    for (from, to) in [(0, PAGE), (PAGE, 0), (100, 2 * PAGE + 50), (2 * PAGE + 50, 100)] {
        for is_read in [true, false] {
            let mut model = Model::new("overlap", 5)?;
            model.store(1);
            let (fd, length) = (model.file.fd, 10 * PAGE);
            let count = if is_read {
                os::pread(fd, model.map.at(to), length, from as u64)
            } else {
                os::pwrite(fd, model.map.at(from), length, to as u64)
            };
            check_eq!(count, Ok(length), "bytes moved from {from} to {to}");
            let found = model.map.bytes(0, LENGTH);
            expect_file(&model.file, &found)?;
            expect_bytes("bytes before", &found[..to], &model.bytes[..to])?;
            expect_bytes("bytes behind", &found[to + length..], &model.bytes[to + length..])?;
            let distance = from as isize - to as isize;
            for (at, byte) in found.iter().enumerate().skip(to).take(length) {
                // What is moved may have been moved before, again and again.
                let mut place = Some(at);
                let is_moved = core::iter::from_fn(|| {
                    place = place?.checked_add_signed(distance);
                    place.filter(|place| (from..from + length).contains(place))
                })
                .any(|place| model.bytes[place] == *byte);
                check!(is_moved, "byte {at} is none of the source, from {from} to {to}");
            }
        }
    }
    Ok(())
}

/// Two writers at two descriptors and a store between them, page by page: all three are kept in
/// each page, in any order of the three.
#[guest_test]
fn m4_two_opens() -> Outcome {
    let mut model = Model::new("opens", 6)?;
    let second = model.file.reopen()?;
    let other = map_anew(&model.file, LENGTH)?;
    for page in 0..PAGES {
        let start = page * PAGE;
        for step in 0..3 {
            match (step + page) % 3 {
                0 => {
                    model.map.store(start + 10, 1);
                    other.store(start + 11, 2);
                }
                1 => model.write(start + 20, &[3; 5])?,
                _ => {
                    let at = FileOffset((start + 30) as u64);
                    check_eq!(sys::pwrite(second, &[4; 5], at), Ok(5), "bytes written");
                }
            }
        }
        model.bytes[start + 10..start + 12].copy_from_slice(&[1, 2]);
        model.bytes[start + 30..start + 35].fill(4);
        let found = other.bytes(start, PAGE);
        expect_bytes("the other mapping", &found, &model.bytes[start..start + PAGE])?;
    }
    sys::close(second).named("close")?;
    model.check("the end")
}

/// A write of several pages by one process is one change: a mapping that is loaded from meanwhile
/// has old or new bytes, and in the end the new ones in all pages, fetched or not.
#[guest_test]
fn m4_pages_fetched_during_writes() -> Outcome {
    let model = Model::new("fetched", 7)?;
    const ROUNDS: u8 = 60;
    let mut writer = proof::kit::Child::start("writer", || {
        let fd = model.file.reopen()?;
        for round in 1..=ROUNDS {
            let bytes = vec![round; 6 * PAGE];
            for first in [0, 6, 12, 18] {
                let count = sys::pwrite(fd, &bytes, FileOffset(first * P)).named("pwrite")?;
                check_eq!(count, bytes.len(), "bytes written");
            }
        }
        Ok(())
    })?;
    let mut last = [0; PAGES];
    let mut page = 0;
    while !writer.has_ended()? {
        let map = map_anew(&model.file, LENGTH)?;
        for _ in 0..PAGES {
            page = (page + 7) % PAGES;
            let found = map.load(page * PAGE + page);
            let is_first = found == model.bytes[page * PAGE + page] && last[page] == 0;
            check!(is_first || found >= last[page], "page {page} went back to {found}");
            if !is_first {
                check!(found <= ROUNDS, "page {page} holds {found}, which nobody wrote");
                last[page] = found;
            }
        }
    }
    writer.join()?;
    expect_both(&model.file, &model.map, &vec![ROUNDS; LENGTH])
}
