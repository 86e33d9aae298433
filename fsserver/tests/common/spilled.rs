//! Files larger than the server's memory, each rule as a scenario that panics if it is broken.

use super::device::Device;
use super::wrapped::Tower;
use super::*;
use foundation::{ByteCount, Errno};
use fsproto::*;

const PAGE: u64 = 4096;
const P: usize = 4096;
/// Number of pages that memfs has in memory and on its device.
const BUDGET: u64 = 16;
const SLOTS: u64 = 400;

fn server(device: &Device) -> SharedServer<Memfs<TestClock>> {
    let memfs = Memfs::new(BUDGET * PAGE, AccessTimes::Relative, TestClock::default());
    shared(memfs.spill_to(Box::new(device.clone()), BUDGET * PAGE).unwrap())
}

/// Writes a file in messages of several pages.
fn fill<C: Connection>(files: &mut Files<C>, handle: Handle, bytes: &[u8]) -> Result<(), Errno> {
    for (part, offset) in bytes.chunks(5 * P).zip((0..).step_by(5 * P)) {
        files.write(handle, offset, part)?;
    }
    Ok(())
}

pub fn q3_files_larger_than_memory() {
    let device = Device::new(SLOTS);
    let mut files = Files::of(&server(&device));
    let (handle, _) = files.open("f", CREATE).unwrap();
    let mut bytes = pattern(1, 300 * P + 100);
    fill(&mut files, handle, &bytes).unwrap();
    assert!(device.writes() > 300 - 2 * BUDGET, "{} pages were written out", device.writes());
    assert!(files.read_all(handle).unwrap() == bytes);
    // Reads whole and partial pages at random, then everything forwards and backwards.
    for step in 0..200_usize {
        let (offset, length) = (step * 7919 * 13 % (290 * P), [100, P, 3 * P + 5][step % 3]);
        let offset = if step % 2 == 0 { offset / P * P } else { offset };
        let new = pattern(step as u64 + 2, length);
        files.write(handle, offset as u64, &new).unwrap();
        bytes[offset..offset + length].copy_from_slice(&new);
    }
    assert!(files.read_all(handle).unwrap() == bytes);
    for page in (0..300).rev() {
        assert!(
            files.read(handle, page * PAGE, P).unwrap() == bytes[page as usize * P..][..P],
            "page {page}"
        );
    }
}

/// Pages on the device are shared by clones, and independent after a change.
pub fn q3_clones_share_what_is_not_in_memory() {
    let device = Device::new(SLOTS);
    let server = server(&device);
    let mut files = Files::of(&server);
    let bytes = pattern(1, 100 * P);
    let (one, _) = files.open("one", CREATE).unwrap();
    fill(&mut files, one, &bytes).unwrap();
    let (two, _) = files.open("two", CREATE).unwrap();
    let before = (files.store().blocks_free, device.reads(), device.writes());
    files.clone_range((one, 0), (two, 0), 100 * PAGE).unwrap();
    assert_eq!((files.store().blocks_free, device.reads(), device.writes()), before);
    files.write(two, 0, &[0; 50 * P]).unwrap();
    files.write(one, 99 * PAGE, b"new").unwrap();
    files.close(one).unwrap();
    files.remove("one").unwrap();
    assert!(files.read_all(two).unwrap() == [&[0; 50 * P], &bytes[50 * P..]].concat());
    assert_eq!(files.store().blocks - files.store().blocks_free, 100);
    // Unaligned clones are copied, with little memory.
    let (three, _) = files.open("three", CREATE).unwrap();
    files.clone_range((two, 100), (three, 5000), 99 * PAGE).unwrap();
    assert!(
        files.read_all(three).unwrap()[5000..] == files.read_all(two).unwrap()[100..100 + 99 * P]
    );
}

/// The whole capacity can be used repeatedly.
pub fn q3_slots_are_freed() {
    let device = Device::new(SLOTS);
    let mut files = Files::of(&server(&device));
    let all = BUDGET + SLOTS;
    assert_eq!((files.store().blocks, files.store().blocks_free), (all, all));
    for round in 0..4 {
        let (handle, _) = files.open("f", CREATE).unwrap();
        let bytes = pattern(round, all as usize * P);
        let before = device.writes();
        fill(&mut files, handle, &bytes).unwrap();
        assert!(
            device.writes() - before >= SLOTS,
            "round {round}: more than the budget is in memory"
        );
        assert_eq!(files.write(handle, all * PAGE, b"x"), Err(Errno::ENOSPC));
        assert!(files.read_all(handle).unwrap() == bytes);
        match round % 2 {
            0 => files.truncate(handle, 0).map(drop).unwrap(),
            _ => files.remove("f").map(drop).unwrap(),
        }
        files.close(handle).unwrap();
        assert_eq!(files.store().blocks_free, all);
    }
}

/// A page that cannot be read from the device is an error, and can be read later.
pub fn f5_an_unreadable_page_is_an_error() {
    let device = Device::new(SLOTS);
    let mut files = Files::of(&server(&device));
    let bytes = pattern(1, 100 * P);
    let (handle, _) = files.open("f", CREATE).unwrap();
    fill(&mut files, handle, &bytes).unwrap();
    device.fail_reads(true);
    assert_eq!(files.read(handle, 10, 100), Err(Errno::EIO));
    // Then the page cannot be changed or truncated partly, but as a whole.
    assert_eq!(files.write(handle, 10, b"part"), Err(Errno::EIO));
    assert_eq!(files.truncate(handle, 2 * PAGE + 1), Err(Errno::EIO));
    assert_eq!(files.punch(handle, 10, 3 * PAGE), Err(Errno::EIO));
    let (other, _) = files.open("other", CREATE).unwrap();
    assert_eq!(files.clone_range((handle, 0), (other, 1), 10 * PAGE), Err(Errno::EIO));
    assert_eq!(
        (files.attr(other).unwrap().size.0, files.attr(handle).unwrap().size.0),
        (0, 100 * PAGE)
    );
    files.write(handle, 3 * PAGE, &[7; P]).unwrap();
    device.fail_reads(false);
    let expected = [&bytes[..3 * P], &[7; P], &bytes[4 * P..]].concat();
    assert!(files.read_all(handle).unwrap() == expected);
}

/// A page that cannot be evicted stays in memory, and the request that needs its space fails.
pub fn f5_a_page_that_cannot_be_evicted_stays() {
    let device = Device::new(SLOTS);
    let mut files = Files::of(&server(&device));
    let bytes = pattern(1, 40 * P);
    let (handle, _) = files.open("f", CREATE).unwrap();
    fill(&mut files, handle, &bytes).unwrap();
    device.fail_writes(true);
    let mut done = 40 * PAGE;
    let refused = (0..40).find_map(|_| {
        let outcome = files.write(handle, done, &[1; P]);
        done += u64::from(outcome.is_ok()) * PAGE;
        outcome.err()
    });
    assert_eq!(refused, Some(Errno::EIO), "memory without bounds");
    assert_eq!(files.allocate(handle, done, 30 * PAGE, AllocateMode::Extend), Err(Errno::EIO));
    assert_eq!(files.attr(handle).unwrap().size, ByteCount(done));
    device.fail_writes(false);
    let now = files.read_all(handle).unwrap();
    assert!(
        now[..40 * P] == bytes
            && now[40 * P..].iter().all(|&byte| byte == 1)
            && now.len() == done as usize
    );
    files.allocate(handle, done, 30 * PAGE, AllocateMode::Extend).unwrap();
    assert_eq!(files.attr(handle).unwrap().blocks, (done / PAGE + 30) * 8);
}

/// Snapshots of a file larger than memory, while it is overwritten: rescues use the device too.
pub fn c1_overwrite_of_a_file_larger_than_memory() {
    let mut tower = Tower::spilled(Features::empty(), BUDGET, &Device::new(SLOTS));
    let bytes = pattern(1, 100 * P);
    let handle = tower.files.create("file", &[]);
    fill(&mut tower.files, handle, &bytes).unwrap();
    let snapshot = tower.files.snapshot(handle, 0, 100 * PAGE).unwrap().reply.handle;
    fill(&mut tower.files, handle, &pattern(2, 100 * P)).unwrap();
    assert!(tower.files.read_all(snapshot).unwrap() == bytes);
    assert!(tower.files.read_all(handle).unwrap() == pattern(2, 100 * P));
}
