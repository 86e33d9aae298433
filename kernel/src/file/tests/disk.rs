//! Disks in `/dev`, with disks in the host's memory.

use super::*;
use crate::dev::disk::{self, Device, Driver, SECTOR, SERIAL_BYTES};
use crate::file::devices::DeviceFileSystem;
use crate::mem::Frame;
use alloc::format;
use fsproto::OpenFlags;
use std::boxed::Box;
use std::sync::Mutex;

const SECTORS: u64 = 2000;
const SIZE: u64 = SECTORS * SECTOR as u64;

/// A disk in memory, shared with the test.
struct RamDisk(Arc<Mutex<Vec<u8>>>);

impl Driver for RamDisk {
    fn read(&mut self, sector: u64, into: &mut [Frame], bytes: usize) -> Result<(), Errno> {
        assert!(bytes > 0 && bytes.is_multiple_of(SECTOR) && bytes <= into.len() * 4096);
        let start = sector as usize * SECTOR;
        let from = self.0.lock().unwrap()[start..start + bytes].to_vec();
        for (frame, from) in into.iter_mut().zip(from.chunks(4096)) {
            frame.bytes_mut().expect("nobody else holds it")[..from.len()].copy_from_slice(from);
        }
        Ok(())
    }
    fn write(&mut self, sector: u64, from: &[Frame], bytes: usize) -> Result<(), Errno> {
        assert!(bytes > 0 && bytes.is_multiple_of(SECTOR) && bytes <= from.len() * 4096);
        let start = sector as usize * SECTOR;
        let mut disk = self.0.lock().unwrap();
        for (to, frame) in disk[start..start + bytes].chunks_mut(4096).zip(from) {
            to.copy_from_slice(&frame.bytes()[..to.len()]);
        }
        Ok(())
    }
    fn flush(&mut self) -> Result<(), Errno> {
        Ok(())
    }
}

/// A new disk: its name, and its bytes.
fn new_disk(serial: &str) -> (String, Arc<Mutex<Vec<u8>>>) {
    mem::host::init();
    let bytes: Vec<u8> = (0..SIZE).map(|at| (at % 251) as u8).collect();
    let bytes = Arc::new(Mutex::new(bytes));
    let mut padded = [0; SERIAL_BYTES];
    padded[..serial.len()].copy_from_slice(serial.as_bytes());
    let driver = Box::new(RamDisk(bytes.clone()));
    let device = Device { driver, sectors: SECTORS, serial: padded, read_only: false };
    let number = disk::add(device).unwrap().number();
    (format!("vd{}", (b'a' + number as u8) as char), bytes)
}

fn open(name: &str, flags: OpenFlags) -> Result<Arc<dyn FileObject>, Errno> {
    match DeviceFileSystem.open(name.as_bytes(), OpenHow { flags, mode: 0 })? {
        Walk::Done(object) => Ok(object),
        Walk::Link { .. } => Err(Errno::ELOOP),
    }
}

const BOTH: OpenFlags = OpenFlags::READ.union(OpenFlags::WRITE);

#[test]
fn any_range_of_a_disk_is_read_and_written() {
    let _alone = mem::host::exclusive();
    let (name, disk) = new_disk("");
    let process = Process::with_memory();
    let object = open(&name, BOTH).unwrap();
    let mut model = disk.lock().unwrap().clone();
    // In one page, over several, over more than one transfer moves, at the end; aligned or not.
    let ranges: [(u64, usize); 10] = [
        (0, 512),
        (4096, 8192),
        (100, 5),
        (510, 4),
        (513, 1022),
        (4000, 10_000),
        (1024, 262_144),
        (7, 262_143),
        (SIZE - 1, 1),
        (4608, 300_000),
    ];
    for (round, (at, len)) in ranges.into_iter().enumerate() {
        for address in [0, 4096, 100, 4095] {
            let bytes: Vec<u8> =
                (0..len).map(|byte| (byte * 7 + round * 13 + address) as u8).collect();
            let mut from = process.filled(address as u64, &bytes);
            let position = WritePosition::At(FileOffset(at));
            let written = object.write(&process.io(), &mut from, position).unwrap();
            assert_eq!(written.bytes.0, len as u64, "{len} bytes at {at}");
            model[at as usize..at as usize + len].copy_from_slice(&bytes);
            assert!(*disk.lock().unwrap() == model, "{len} bytes at {at} from {address}");
            process.filled(address as u64, &vec![0; len]);
            let mut to = process.buffer(address as u64, len as u64);
            let read = object.read(&process.io(), &mut to, FileOffset(at)).unwrap();
            assert_eq!(read.0, len as u64);
            assert!(process.bytes(address as u64, len) == bytes, "{len} bytes at {at}");
        }
    }
    // What was lent is the program's own again.
    process.filled(0, &[9; 8192]);
    assert!(*disk.lock().unwrap() == model);
    let end = object.read(&process.io(), &mut process.buffer(0, 10), FileOffset(SIZE));
    assert_eq!(end, Ok(ByteCount::ZERO));
    let position = WritePosition::At(FileOffset(SIZE));
    let past = object.write(&process.io(), &mut process.buffer(0, 10), position);
    assert_eq!(past.err(), Some(Errno::ENOSPC));
    let last = object.read(&process.io(), &mut process.buffer(0, 100), FileOffset(SIZE - 10));
    assert_eq!(last, Ok(ByteCount(10)));
}

#[test]
fn f8_memory_that_ends_ends_a_transfer() {
    let _alone = mem::host::exclusive();
    let (name, disk) = new_disk("");
    let process = Process::with_memory();
    let object = open(&name, BOTH).unwrap();
    let before = disk.lock().unwrap().clone();
    let position = WritePosition::At(FileOffset(0));
    let mut bad = nowhere(4096);
    assert_eq!(object.write(&process.io(), &mut bad, position).err(), Some(Errno::EFAULT));
    let mut bad = nowhere(4096);
    assert_eq!(object.read(&process.io(), &mut bad, FileOffset(0)), Err(Errno::EFAULT));
    assert!(*disk.lock().unwrap() == before, "nothing was written");
    // The last page of memory, and what would follow it.
    let at = (PAGES - 1) * 4096;
    process.filled(at, &[5; 4096]);
    let written = object.write(&process.io(), &mut process.buffer(at, 16384), position).unwrap();
    assert_eq!(written.bytes, ByteCount(4096));
    assert!(disk.lock().unwrap()[..4097] == [[5; 4096].as_slice(), &before[4096..4097]].concat());
    let read = object.read(&process.io(), &mut process.buffer(at, 16384), FileOffset(8192));
    assert_eq!(read, Ok(ByteCount(4096)));
    assert!(process.bytes(at, 4096) == before[8192..12288]);
    // Memory that cannot be written.
    let slice = UserAddr(BASE);
    process.space.protect(slice, ByteCount(4096), Prot::READ).unwrap();
    let read = object.read(&process.io(), &mut process.buffer(0, 4096), FileOffset(0));
    assert_eq!(read, Err(Errno::EFAULT));
}

#[test]
fn f8_an_exclusive_disk_is_busy() {
    let _alone = mem::host::exclusive();
    let (name, _) = new_disk("");
    let server = Process::server();
    let exclusive = BOTH | OpenFlags::EXCLUSIVE;
    let shared = [open(&name, OpenFlags::READ).unwrap(), open(&name, BOTH).unwrap()];
    assert_eq!(open(&name, exclusive).err(), Some(Errno::EBUSY), "it is open");
    drop(shared);
    let owner = open(&name, exclusive).unwrap();
    let ways = [OpenFlags::READ, OpenFlags::WRITE, BOTH, exclusive];
    for flags in ways {
        assert_eq!(open(&name, flags).err(), Some(Errno::EBUSY), "{flags:?}");
        // Through /proc/PID/fd.
        assert_eq!(owner.reopen(flags).err(), Some(Errno::EBUSY), "{flags:?}");
    }
    // Its attributes can be seen, and lead to nothing more.
    let closed = open(&name, OpenFlags::empty()).unwrap();
    assert_eq!(closed.stat().unwrap().size, ByteCount(SIZE));
    assert_eq!(closed.reopen(BOTH).err(), Some(Errno::EBUSY));
    let read = closed.read(&server.io(), &mut server.buffer(0, 512), FileOffset::ZERO);
    assert_eq!(read, Err(Errno::EINVAL));
    assert_eq!(
        owner.read(&server.io(), &mut server.buffer(0, 512), FileOffset::ZERO).unwrap().0,
        512
    );
    drop(owner);
    assert!(closed.reopen(BOTH).unwrap().is_some());
    assert!(open(&name, exclusive).is_ok());
}

#[test]
fn disks_have_names_and_links() {
    let _alone = mem::host::exclusive();
    let (first, _) = new_disk("my disk/1");
    let (second, _) = new_disk("my disk/1");
    let link = "disk/by-id/virtio-my_disk_1";
    let read = OpenHow { flags: OpenFlags::READ, mode: 0 };
    let Ok(Walk::Link { walked, target, .. }) = DeviceFileSystem.open(link.as_bytes(), read) else {
        panic!("{link} is a link")
    };
    // The first disk of two with the same number.
    assert_eq!((walked, target), (link.len(), format!("../../{first}").into_bytes()));
    let itself = open(link, OpenFlags::READ | OpenFlags::NO_FOLLOW).unwrap();
    assert_eq!(itself.stat().unwrap().file_type, FileType::Symlink);
    assert_eq!(open("disk/by-id/virtio-none", OpenFlags::READ).err(), Some(Errno::ENOENT));
    assert_eq!(open("disk/by-name", OpenFlags::READ).err(), Some(Errno::ENOENT));
    assert_eq!(open("vdz/x", OpenFlags::READ).err(), Some(Errno::ENOENT));
    assert_eq!(open(&format!("{first}/x"), OpenFlags::READ).err(), Some(Errno::ENOTDIR));
    let names = |path: &str| {
        let mut names = Vec::new();
        let directory = open(path, OpenFlags::READ).unwrap();
        directory
            .read_dir(0, &mut |entry| {
                names.push(String::from_utf8(entry.name.to_vec()).unwrap());
                true
            })
            .unwrap();
        names
    };
    assert!(names("").contains(&first) && names("").contains(&second));
    assert_eq!(names("disk"), ["by-id"]);
    let links = names("disk/by-id");
    assert_eq!(links.iter().filter(|name| *name == "virtio-my_disk_1").count(), 1);
}
