//! Files of an archive whose pages are on a device.

mod common;

use common::device::Device;
use common::*;
use foundation::{Errno, archive};
use fsproto::*;
use fsserver::BlockDevice;
use fsserver::memfs::{AccessTimes, Memfs};

const P: usize = 4096;
/// Pages that memfs has in memory.
const BUDGET: u64 = 16;
/// Blocks of the device.
const BLOCKS: u64 = 300;

/// An archive with one file, of which it has this list.
fn listing(size: u64, runs: &[[u64; 3]]) -> &'static [u8] {
    let numbers = [size].into_iter().chain(runs.iter().flatten().copied());
    let list: Vec<u8> = numbers.flat_map(u64::to_le_bytes).collect();
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::new(archive::PLACED));
    header.set_mode(0o644);
    header.set_size(list.len() as u64);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header, "f", list.as_slice()).unwrap();
    builder.into_inner().unwrap().leak()
}

fn server() -> (Memfs<TestClock>, Device) {
    let device = Device::new(BLOCKS);
    let memfs = Memfs::new(BUDGET * P as u64, AccessTimes::Untouched, TestClock::default());
    let spill = Box::new(Device::new(400));
    let memfs = memfs.spill_to(spill, BUDGET * P as u64).unwrap();
    (memfs.placed_on(Box::new(device.clone())).unwrap(), device)
}

/// A file of 250 pages and a half: pages 10 to 100 in blocks from 150 on, 130 to 250 from 20 on.
/// Returns its bytes, too.
fn placed() -> (SharedServer<Memfs<TestClock>>, Device, Vec<u8>) {
    let (mut memfs, mut device) = server();
    let mut bytes = vec![0; 250 * P + P / 2];
    for (pages, block) in [(10..100_usize, 150), (130..251, 20)] {
        let filled = pages.start * P..(pages.end * P).min(bytes.len());
        bytes[filled.clone()].copy_from_slice(&pattern(block, filled.len()));
        let mut whole = bytes[filled].to_vec();
        whole.resize(pages.len() * P, 0);
        device.write(block, &whole).unwrap();
    }
    let list = listing(bytes.len() as u64, &[[10, 90, 150], [130, 121, 20]]);
    memfs.add_archive(list).unwrap();
    (shared(memfs), device, bytes)
}

#[test]
fn q3_a_placed_file_is_read_in_place() {
    let (server, device, bytes) = placed();
    let mut files = Files::of(&server);
    let before = (files.store().blocks_free, device.writes());
    let (handle, attr) = files.open("f", RW).unwrap();
    assert_eq!((attr.size.0, attr.blocks), (bytes.len() as u64, 211 * 8));
    assert!(files.read_all(handle).unwrap() == bytes);
    assert!(
        files.read(handle, 99 * P as u64 + 5, MAX_PAYLOAD).unwrap()
            == bytes[99 * P + 5..][..MAX_PAYLOAD]
    );
    // Nothing of it takes space, and reading a part reads little more.
    assert_eq!((files.store().blocks_free, device.writes()), before);
    let reads = device.reads();
    assert!(files.read(handle, 200 * P as u64, 2 * P).unwrap() == bytes[200 * P..202 * P]);
    assert_eq!(device.reads(), reads + 2);
}

#[test]
fn q3_a_placed_file_is_changed_elsewhere() {
    let (server, device, mut bytes) = placed();
    let (mut files, written) = (Files::of(&server), device.writes());
    let (handle, _) = files.open("f", RW).unwrap();
    let (copy, _) = files.open("copy", CREATE).unwrap();
    let mut copied = Vec::new();
    for step in 0..600_usize {
        let offset = step * 7919 * 13 % (240 * P);
        let offset = if step % 2 == 0 { offset / P * P } else { offset };
        let length = [100, P, 3 * P + 5][step % 3];
        match step % 5 {
            0 => {
                files.punch(handle, offset as u64, length as u64).unwrap();
                bytes[offset..offset + length].fill(0);
            }
            // Aligned, so that pages are shared, or not.
            1 => {
                let to = offset + step % 2 * 100;
                files
                    .clone_range((handle, offset as u64), (copy, to as u64), length as u64)
                    .unwrap();
                copied.resize(copied.len().max(to + length), 0);
                copied[to..to + length].copy_from_slice(&bytes[offset..offset + length]);
            }
            _ => {
                let new = pattern(step as u64, length);
                files.write(handle, offset as u64, &new).unwrap();
                bytes[offset..offset + length].copy_from_slice(&new);
            }
        }
        if step % 50 == 0 {
            assert!(files.read_all(handle).unwrap() == bytes, "step {step}");
            assert!(files.read_all(copy).unwrap() == copied, "step {step}");
        }
    }
    let cut = 200 * P + 1000;
    files.truncate(handle, cut as u64).unwrap();
    files.truncate(handle, bytes.len() as u64).unwrap();
    bytes[cut..].fill(0);
    assert!(files.read_all(handle).unwrap() == bytes);
    assert!(files.read_all(copy).unwrap() == copied);
    assert_eq!(device.writes(), written, "a placed block was written to");
    for (name, handle) in [("f", handle), ("copy", copy)] {
        files.close(handle).unwrap();
        files.remove(name).unwrap();
    }
    assert_eq!(files.store().blocks_free, files.store().blocks);
}

#[test]
fn f5_an_unreadable_placed_page_is_an_error() {
    let (server, device, mut bytes) = placed();
    let mut files = Files::of(&server);
    let (handle, _) = files.open("f", RW).unwrap();
    let page = 20 * P as u64;
    // What was loaded before is not taken for it.
    files.read(handle, page, P).unwrap();
    device.fail_reads(true);
    assert_eq!(files.read(handle, page + 5 * P as u64, 100), Err(Errno::EIO));
    assert_eq!(files.write(handle, page + 10, b"part"), Err(Errno::EIO));
    assert_eq!(files.truncate(handle, page + 1), Err(Errno::EIO));
    let (copy, _) = files.open("copy", CREATE).unwrap();
    assert_eq!(files.clone_range((handle, page), (copy, 1), 10 * P as u64), Err(Errno::EIO));
    assert_eq!(files.attr(copy).unwrap().size.0, 0);
    files.write(handle, page, &[7; P]).unwrap();
    bytes[20 * P..21 * P].fill(7);
    device.fail_reads(false);
    assert!(files.read_all(handle).unwrap() == bytes);
}

#[test]
fn a_wrong_list_is_an_error() {
    let wrong = [
        listing(10 * P as u64, &[[0, 11, 0]]),
        listing(10 * P as u64, &[[0, 5, 0], [4, 2, 5]]),
        listing(10 * P as u64, &[[3, 0, 0]]),
        listing(10 * P as u64, &[[u64::MAX, 2, 0]]),
        listing(u64::MAX, &[]),
    ];
    for list in wrong {
        let error = server().0.add_archive(list).unwrap_err().to_string();
        assert_eq!(error, "f: the list of its pages is wrong");
    }
    let beyond = listing(10 * P as u64, &[[0, 2, BLOCKS - 1]]);
    let error = server().0.add_archive(beyond).unwrap_err().to_string();
    assert_eq!(error, "f: it is on no device");
    let mut without = Memfs::new(P as u64, AccessTimes::Untouched, TestClock::default());
    let error = without.add_archive(listing(P as u64, &[[0, 1, 0]])).unwrap_err().to_string();
    assert_eq!(error, "f: it is on no device");
}

/// The tree of a file of 10 GiB fits into the memory of a small machine's server.
#[test]
fn a_large_placed_file_takes_little_memory() {
    struct Endless;
    impl BlockDevice for Endless {
        fn blocks(&self) -> u64 {
            10 << 18
        }
        fn read(&mut self, _first: u64, into: &mut [u8]) -> Result<(), Errno> {
            into.fill(1);
            Ok(())
        }
        fn write(&mut self, _first: u64, _from: &[u8]) -> Result<(), Errno> {
            Err(Errno::EIO)
        }
    }
    let server = |bytes: u64| {
        let memfs = Memfs::new(bytes, AccessTimes::Untouched, TestClock::default());
        memfs.placed_on(Box::new(Endless)).unwrap().limited_to(bytes)
    };
    let list = listing(10 << 30, &[[0, 10 << 18, 0]]);
    let mut memfs = server(20 << 20);
    memfs.add_archive(list).unwrap();
    let shared = shared(memfs);
    let mut files = Files::of(&shared);
    let (handle, _) = files.open("f", RW).unwrap();
    files.write(handle, (5 << 30) + 10, b"new").unwrap();
    assert_eq!(files.read(handle, (5 << 30) + 9, 5).unwrap(), b"\x01new\x01");
    files.close(handle).unwrap();
    files.remove("f").unwrap();
    assert_eq!(files.store().blocks_free, files.store().blocks);
    let error = server(10 << 20).add_archive(list).unwrap_err().to_string();
    assert_eq!(error, "f: there is no space for it");
}
