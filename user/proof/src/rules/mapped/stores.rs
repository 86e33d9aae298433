//! M2: no store to a mapping is lost, whatever else happens to the file.

use super::compare::{P, bytes_of, expect_bytes, expect_file, expect_mapped, map_anew};
use core::hint::spin_loop;
use core::ops::Range;
use foundation::mutant::Mutant;
use proof::kit::{Buffer, Child, File, Named, Outcome, PAGE, within};
use proof::lazy;
use proof::{check_eq, guest_test, os};
use user::prelude::*;
use user::sys::abi;

/// Pages of the file, and of the mapping at its beginning that is stored to.
const PAGES: usize = 64;
const MAPPED: usize = 16;
/// The two words that are stored to again and again, and the bytes of a word.
const WORDS: [usize; 2] = [5 * PAGE, 6 * PAGE + 24];
const WORD: usize = 8;
/// How often another process does its part meanwhile.
const ROUNDS: usize = 150;
/// Seed of the file's bytes.
const SEED: u64 = 22;

/// Something that another process does to the file again and again.
pub struct Act {
    /// A name for reports.
    pub name: &'static str,
    /// Does it once, with a descriptor of its own; the number of the round comes last.
    pub once: fn(&File, Fd, usize) -> Outcome,
    /// Bytes of the file that it may change: from where to where.
    pub changes: &'static [(usize, usize)],
}

/// Stores to both words, and reads them back, while another process acts. In the end the file must
/// have the last stores, and outside of what the other process changed all its bytes.
pub fn store_beside(act: &Act) -> Outcome {
    let file = File::make("beside", SEED, (PAGES * PAGE) as u64)?;
    let map = Buffer::of_file(file.fd, MAPPED * PAGE)?;
    let mut other = Child::start(act.name, || {
        let fd = file.reopen()?;
        (0..ROUNDS).try_for_each(|round| (act.once)(&file, fd, round))
    })?;
    let mut number = 0;
    while !other.has_ended()? {
        for _ in 0..200 {
            number += 1;
            let stores = [number, !number];
            WORDS.iter().zip(stores).for_each(|(at, word)| map.store_word(*at, word));
            (0..50).for_each(|_| spin_loop());
            let found = WORDS.map(|at| map.load_word(at));
            check_eq!(found, stores, "{}: words after store {number}", act.name);
        }
    }
    other.join()?;
    let mut expected = bytes_of(SEED, PAGES * PAGE);
    for (at, word) in WORDS.iter().zip([number, !number]) {
        expected[*at..*at + WORD].copy_from_slice(&word.to_le_bytes());
    }
    let mut found = vec![0; PAGES * PAGE];
    let count = sys::pread(file.fd, &mut found, FileOffset::ZERO).named("pread")?;
    check_eq!(count, found.len(), "bytes of the file");
    for &(start, end) in act.changes {
        expected[start..end].copy_from_slice(&found[start..end]);
    }
    within(act.name, expect_bytes("the file", &found, &expected))?;
    within(act.name, expect_mapped(&map, &expected[..MAPPED * PAGE]))
}

fn fallocate(fd: Fd, mode: usize, offset: usize, length: usize) -> Outcome {
    let given = [fd.argument(), mode, offset, length];
    os::raw(abi::__NR_fallocate, &given).named("fallocate").map(drop)
}

fn resize(fd: Fd, length: usize) -> Outcome {
    sys::ftruncate(fd, ByteCount(length as u64)).named("ftruncate").map(drop)
}

fn write_at(fd: Fd, offset: usize, bytes: &[u8]) -> Outcome {
    let count = sys::pwrite(fd, bytes, FileOffset(offset as u64)).named("pwrite")?;
    check_eq!(count, bytes.len(), "bytes written");
    Ok(())
}

/// The file becomes longer and shorter behind the stores, close to them too, holes are punched and
/// space is allocated.
#[guest_test(timeout_s: 120)]
fn m2_resized_meanwhile() -> Outcome {
    const CLOSE: usize = 6 * PAGE + 100;
    let acts = [
        Act {
            name: "ftruncate behind",
            once: |_, fd, round| resize(fd, (PAGES + round % 2) * PAGE),
            changes: &[],
        },
        Act {
            name: "ftruncate in a page that is stored to",
            once: |_, fd, round| {
                resize(fd, CLOSE + round % 7)?;
                resize(fd, PAGES * PAGE)
            },
            changes: &[(CLOSE, PAGES * PAGE)],
        },
        Act {
            name: "hole elsewhere",
            once: |_, fd, _| fallocate(fd, 3, 32 * PAGE, PAGE),
            changes: &[(32 * PAGE, 33 * PAGE)],
        },
        Act {
            name: "hole in the same page",
            once: |_, fd, _| fallocate(fd, 3, 5 * PAGE + 2000, 1000),
            changes: &[(5 * PAGE + 2000, 5 * PAGE + 3000)],
        },
        Act {
            name: "hole around both pages",
            once: |_, fd, _| {
                fallocate(fd, 3, 3 * PAGE + 1, 2 * PAGE - 1)?;
                fallocate(fd, 3, 6 * PAGE + 32, 3 * PAGE)
            },
            changes: &[(3 * PAGE + 1, 5 * PAGE), (6 * PAGE + 32, 9 * PAGE + 32)],
        },
        Act {
            name: "fallocate",
            once: |_, fd, round| fallocate(fd, 0, 0, (PAGES + round % 7) * PAGE),
            changes: &[],
        },
        Act {
            name: "truncate by path",
            once: |file, _, round| {
                let length = ByteCount(((PAGES + round % 3) * PAGE + round) as u64);
                sys::truncate(file.path.as_bytes(), length).named("truncate")
            },
            changes: &[],
        },
    ];
    acts.iter().try_for_each(store_beside)
}

/// The file is written elsewhere, in the same pages and across both of them, by any kind of write.
#[guest_test(timeout_s: 120)]
fn m2_written_meanwhile() -> Outcome {
    const BETWEEN: Range<usize> = 5 * PAGE + WORD..6 * PAGE + 24;
    let acts = [
        Act {
            name: "write elsewhere",
            once: |_, fd, _| write_at(fd, 40 * PAGE, &[b'x'; 100]),
            changes: &[(40 * PAGE, 40 * PAGE + 100)],
        },
        Act {
            name: "write to the same page",
            once: |_, fd, round| write_at(fd, 5 * PAGE + 2000, &[round as u8; 100]),
            changes: &[(5 * PAGE + 2000, 5 * PAGE + 2100)],
        },
        Act {
            name: "write from word to word",
            once: |_, fd, round| {
                write_at(fd, BETWEEN.start, &[round as u8; BETWEEN.end - BETWEEN.start])
            },
            changes: &[(BETWEEN.start, BETWEEN.end)],
        },
        Act {
            name: "write of whole pages around",
            once: |_, fd, round| {
                write_at(fd, 0, &[round as u8; 5 * PAGE])?;
                write_at(fd, 7 * PAGE, &[round as u8; 40 * PAGE])
            },
            changes: &[(0, 5 * PAGE), (7 * PAGE, 47 * PAGE)],
        },
        Act {
            name: "append",
            once: |file, fd, _| {
                let flags = abi::O_WRONLY | abi::O_APPEND;
                let end = sys::open(file.path.as_bytes(), flags, 0).named("open")?;
                sys::write_all(end, &[1; 3000]).named("append")?;
                sys::close(end).named("close")?;
                resize(fd, PAGES * PAGE)
            },
            changes: &[],
        },
        Act {
            name: "vectors",
            once: |_, fd, _| {
                let bytes = [9; PAGE];
                let parts = [100, 2000, PAGE].map(|length| [bytes.as_ptr() as usize, length]);
                os::seek(fd, 6 * P + 2048).named("lseek")?;
                check_eq!(os::writev(fd, &parts), Ok(2100 + PAGE), "bytes that writev wrote");
                Ok(())
            },
            changes: &[(6 * PAGE + 2048, 7 * PAGE + 4148)],
        },
    ];
    acts.iter().try_for_each(store_beside)
}

/// Pages of the file are written to another place of it, or to their own, without being touched.
#[guest_test(timeout_s: 120)]
fn m2_written_by_reference_meanwhile() -> Outcome {
    let acts = [
        Act {
            name: "pages of the file itself, by reference",
            once: |_, fd, _| {
                let buffer = Buffer::new(16 * PAGE)?;
                os::pread(fd, buffer.at(0), 16 * PAGE, 16 * P).named("pread")?;
                os::pwrite(fd, buffer.at(0), 16 * PAGE, 40 * P + 40).named("pwrite").map(drop)
            },
            changes: &[(40 * PAGE + 40, 56 * PAGE + 40)],
        },
        Act {
            name: "the same bytes, by reference",
            once: |_, fd, _| {
                let buffer = Buffer::new(40 * PAGE)?;
                os::pread(fd, buffer.at(0), 40 * PAGE, 8 * P).named("pread")?;
                os::pwrite(fd, buffer.at(0), 40 * PAGE, 8 * P).named("pwrite").map(drop)
            },
            changes: &[],
        },
    ];
    acts.iter().try_for_each(store_beside)
}

/// Maps the file by a descriptor, stores to a page and unmaps it.
fn map_and_store(fd: Fd, at: usize, byte: usize) -> Outcome {
    let map = Buffer::of_file(fd, PAGES * PAGE)?;
    map.store(at, byte as u8);
    Ok(())
}

/// Other processes map the same file, store to other bytes, protect and unmap their mappings, and
/// fork.
#[guest_test(timeout_s: 120)]
fn m2_mapped_meanwhile() -> Outcome {
    let acts = [
        Act {
            name: "store elsewhere",
            once: |_, fd, round| map_and_store(fd, 50 * PAGE, round),
            changes: &[(50 * PAGE, 50 * PAGE + 1)],
        },
        Act {
            name: "store to the same page",
            once: |_, fd, round| map_and_store(fd, 5 * PAGE + 1000, round),
            changes: &[(5 * PAGE + 1000, 5 * PAGE + 1001)],
        },
        Act {
            name: "private mapping",
            once: |_, fd, _| {
                let (length, flags) = (MAPPED * PAGE, abi::MAP_PRIVATE);
                let map = Buffer::map(fd, 0, length, os::READ_WRITE, flags).named("mmap")?;
                map.store(5 * PAGE, 0xee);
                map.load(6 * PAGE);
                Ok(())
            },
            changes: &[],
        },
        Act {
            name: "protected mapping",
            once: |_, fd, round| {
                let map = Buffer::of_file(fd, MAPPED * PAGE)?;
                map.store(7 * PAGE, round as u8);
                os::mprotect(map.at(0), 8 * PAGE, abi::PROT_READ).named("mprotect")?;
                map.load(5 * PAGE);
                os::mprotect(map.at(0), 8 * PAGE, os::READ_WRITE).named("mprotect")?;
                map.store(7 * PAGE + 1, round as u8);
                os::munmap(map.at(4 * PAGE), 2 * PAGE).named("munmap")
            },
            changes: &[(7 * PAGE, 7 * PAGE + 2)],
        },
        Act {
            name: "children",
            once: |_, fd, round| {
                let map = Buffer::of_file(fd, MAPPED * PAGE)?;
                map.store(5 * PAGE + 3000, round as u8);
                let child = Child::start("child", || {
                    map.store(6 * PAGE + 3000, round as u8);
                    Ok(())
                })?;
                child.join()
            },
            changes: &[(5 * PAGE + 3000, 5 * PAGE + 3001), (6 * PAGE + 3000, 6 * PAGE + 3001)],
        },
        Act {
            name: "dropped pages",
            once: |_, fd, _| {
                let map = Buffer::of_file(fd, MAPPED * PAGE)?;
                map.load(5 * PAGE);
                let given = [map.at(0), MAPPED * PAGE, abi::MADV_DONTNEED as usize];
                os::raw(abi::__NR_madvise, &given).named("madvise")?;
                if lazy::present() {
                    lazy::write_text("/proc/sys/lazy/drop_caches", "1\n")?;
                }
                Ok(())
            },
            changes: &[],
        },
    ];
    acts.iter().try_for_each(store_beside)
}

/// The file is read, synchronised, renamed, and its attributes change.
#[guest_test(timeout_s: 120, mutants: &[Mutant::UnprotectedWriteBack])]
fn m2_read_meanwhile() -> Outcome {
    let acts = [
        Act {
            name: "read",
            once: |_, fd, _| {
                let mut bytes = vec![0; PAGES * PAGE];
                let count = sys::pread(fd, &mut bytes, FileOffset::ZERO).named("pread")?;
                check_eq!(count, bytes.len(), "bytes read");
                Ok(())
            },
            changes: &[],
        },
        Act {
            name: "synchronisation",
            once: |_, fd, round| {
                match round % 3 {
                    0 => os::sync(fd).named("fsync")?,
                    1 => os::raw(abi::__NR_fdatasync, &[fd.argument()])
                        .named("fdatasync")
                        .map(drop)?,
                    _ => os::raw(abi::__NR_syncfs, &[fd.argument()]).named("syncfs").map(drop)?,
                }
                let map = Buffer::of_file(fd, MAPPED * PAGE)?;
                map.sync().named("msync")
            },
            changes: &[],
        },
        Act {
            name: "names",
            once: |file, _, _| {
                let (path, second) = (file.path.as_bytes(), format!("{}.second", file.path));
                sys::rename(path, second.as_bytes()).named("rename")?;
                sys::link(second.as_bytes(), path).named("link")?;
                sys::unlink(second.as_bytes()).named("unlink")
            },
            changes: &[],
        },
        Act {
            name: "attributes",
            once: |file, fd, round| {
                let times = [abi::__kernel_timespec { tv_sec: round as i64, tv_nsec: 0 }; 2];
                sys::utimens(file.path.as_bytes(), Some(times)).named("utimensat")?;
                sys::fchmod(fd, 0o600 + round as u32 % 2 * 0o40).named("fchmod")?;
                sys::fstat(fd).named("fstat").map(drop)
            },
            changes: &[],
        },
        Act {
            name: "open and close",
            once: |file, _, _| sys::close(file.reopen()?).named("close"),
            changes: &[],
        },
    ];
    acts.iter().try_for_each(store_beside)
}

/// Words of a page's 64-byte blocks: two processes store to two each, and two write(2) the others,
/// which reach from each block into the next one, and so from page to page.
const SHARED_PAGES: usize = 8;
const BLOCKS: usize = SHARED_PAGES * PAGE / 64;
const LAST: u64 = 40;

fn store_words(file: &File, first: usize) -> Outcome {
    let map = map_anew(file, SHARED_PAGES * PAGE)?;
    for round in 0..=LAST {
        for block in 0..BLOCKS {
            for word in [first, first + 1] {
                let at = block * 64 + word * WORD;
                map.store_word(at, round << 32 | at as u64);
                check_eq!(map.load_word(at), round << 32 | at as u64, "the word at {at}");
            }
        }
    }
    Ok(())
}

fn write_words(file: &File, parity: usize) -> Outcome {
    let fd = file.reopen()?;
    for round in 0..=LAST {
        for block in (0..BLOCKS - 1).filter(|block| block % 2 == parity) {
            let start = block * 64 + 6 * WORD;
            let words = [0, 1, 2, 3].map(|word| round << 32 | (start + word * WORD) as u64);
            write_at(fd, start, &words.map(u64::to_le_bytes).concat())?;
        }
    }
    sys::close(fd).named("close")
}

/// Four processes change words that are neighbours: two store, and two write across the boundaries
/// of pages. In the end each word has its last value.
#[guest_test(timeout_s: 120)]
fn m2_neighbours_in_a_page() -> Outcome {
    let file = File::make("neighbours", 3, (SHARED_PAGES * PAGE) as u64)?;
    let mut expected = bytes_of(3, SHARED_PAGES * PAGE);
    for block in 0..BLOCKS {
        for word in 2..10 {
            let at = block * 64 + word * WORD;
            if word < 6 || block < BLOCKS - 1 {
                let value = LAST << 32 | at as u64;
                expected[at..at + WORD].copy_from_slice(&value.to_le_bytes());
            }
        }
    }
    let children = [
        Child::start("stores", || store_words(&file, 2))?,
        Child::start("more stores", || store_words(&file, 4))?,
        Child::start("writes", || write_words(&file, 0))?,
        Child::start("more writes", || write_words(&file, 1))?,
    ];
    children.into_iter().try_for_each(Child::join)?;
    expect_file(&file, &expected)
}
