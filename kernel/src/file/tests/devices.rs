//! Devices, and files of `/proc` that need no process.

use super::*;
use crate::file::devices::DeviceFileSystem;
use crate::proc::ProcFileSystem;
use fsproto::OpenFlags;

const READ: OpenHow = OpenHow { flags: OpenFlags::READ, mode: 0 };

fn open(filesystem: &dyn FileSystem, path: &[u8]) -> Arc<dyn FileObject> {
    match filesystem.open(path, READ).unwrap() {
        Walk::Done(object) => object,
        Walk::Link { target, .. } => panic!("a link to {target:?}"),
    }
}

#[test]
fn null_zero_full_and_random() {
    let process = Process::with_memory();
    let device = |name| open(&DeviceFileSystem, name);
    assert_eq!(process.read(&*device(b"null"), 10), Ok(vec![]));
    assert_eq!(process.write(&*device(b"null"), b"abc"), Ok(3));
    process.filled(0, &[1; 300_000]);
    assert_eq!(process.read(&*device(b"zero"), 300_000), Ok(vec![0; 300_000]));
    assert_eq!(process.read(&*device(b"full"), 10), Ok(vec![0; 10]));
    assert_eq!(process.write(&*device(b"full"), b"abc"), Err(Errno::ENOSPC));
    assert_eq!(process.write(&*device(b"full"), b""), Ok(0));
    let random = process.read(&*device(b"urandom"), 1000).unwrap();
    assert!(random.len() == 1000 && random.iter().filter(|&&byte| byte == 0).count() < 50);
    assert_eq!(
        device(b"zero").read(&process.io(), &mut nowhere(10), FileOffset::ZERO),
        Err(Errno::EFAULT)
    );
    assert_eq!(
        device(b"zero").read(
            &process.io(),
            &mut process.buffer(PAGES * 4096 - 10, 20),
            FileOffset::ZERO
        ),
        Ok(ByteCount(10))
    );
}

#[test]
fn dev_cannot_be_changed() {
    let create = OpenHow { flags: OpenFlags::WRITE | OpenFlags::CREATE, mode: 0o644 };
    assert_eq!(DeviceFileSystem.open(b"new", create).err(), Some(Errno::EPERM));
    assert!(matches!(DeviceFileSystem.open(b"null", create), Ok(Walk::Done(_))));
    assert_eq!(DeviceFileSystem.open(b"null/x", READ).err(), Some(Errno::ENOTDIR));
    assert_eq!(DeviceFileSystem.remove(b"null", OpenFlags::empty()).err(), Some(Errno::EPERM));
    assert!(matches!(DeviceFileSystem.open(b"stdin", READ), Ok(Walk::Link { walked: 5, .. })));
    assert!(matches!(DeviceFileSystem.open(b"fd/3", READ), Ok(Walk::Link { walked: 2, .. })));
}

#[test]
fn knobs_are_read_and_written() {
    let process = Process::with_memory();
    let knob = open(&ProcFileSystem, b"sys/lazy/fault_around");
    let before = process.read(&*knob, 100).unwrap();
    assert_eq!(process.write(&*knob, b"8\n"), Ok(2));
    assert_eq!(process.read(&*knob, 100), Ok(b"8\n".to_vec()));
    for nonsense in [&b"-1"[..], b"", b"x", b"99999999999999999999", b"\xff"] {
        assert_eq!(process.write(&*knob, nonsense), Err(Errno::EINVAL));
    }
    process.write(&*knob, &before).unwrap();
    let version = open(&ProcFileSystem, b"version");
    assert_eq!(process.write(&*version, b"1"), Err(Errno::EACCES));
    assert_eq!(ProcFileSystem.open(b"sys/nothing", READ).err(), Some(Errno::ENOENT));
    assert_eq!(ProcFileSystem.open(b"version/x", READ).err(), Some(Errno::ENOTDIR));
}

/// E3: every counter is shown, by name.
#[test]
fn e3_counters_are_shown() {
    let process = Process::with_memory();
    let text = process.read(&*open(&ProcFileSystem, b"lazy"), 10_000).unwrap();
    let text = String::from_utf8(text).unwrap();
    for counter in foundation::counter::Counter::ALL {
        assert!(
            text.lines()
                .any(|line| line.split_once(": ").is_some_and(|(name, _)| name == counter.name())),
            "{counter:?}"
        );
    }
}

#[test]
fn text_can_be_read_in_parts() {
    let process = Process::with_memory();
    let file = open(&ProcFileSystem, b"version");
    let whole = process.read(&*file, 1000).unwrap();
    let mut parts = Vec::new();
    while let Ok(count @ ByteCount(1..)) =
        file.read(&process.io(), &mut process.buffer(0, 7), FileOffset(parts.len() as u64))
    {
        parts.extend(process.bytes(0, count.to_usize()));
    }
    assert_eq!(parts, whole);
}
