//! Pseudo-terminals: numbers and limits.

use super::*;
use crate::file::devices::DeviceFileSystem;
use crate::file::tty::pair::MAX_PAIRS;
use fsproto::OpenFlags;
use linux_raw_sys::ioctl;

fn open(path: &[u8]) -> Result<Arc<dyn FileObject>, Errno> {
    let how = OpenHow { flags: OpenFlags::READ | OpenFlags::WRITE, mode: 0 };
    match DeviceFileSystem.open(path, how)? {
        Walk::Done(object) => Ok(object),
        Walk::Link { target, .. } => panic!("a link to {target:?}"),
    }
}

#[test]
fn ptys_are_limited_and_their_numbers_are_reused() {
    let process = Process::with_memory();
    let mut masters: Vec<_> = (0..MAX_PAIRS).map(|_| open(b"ptmx").unwrap()).collect();
    assert_eq!(open(b"ptmx").err(), Some(Errno::ENOSPC));
    assert_eq!(open(b"pts/7").err(), Some(Errno::EIO), "locked");
    process.filled(0, &[0; 4]);
    masters[7].ioctl(&process, ioctl::TIOCSPTLCK, BASE).unwrap();
    let terminal = open(b"pts/7").unwrap();
    assert_eq!(process.write(&*terminal, b"shown\n"), Ok(6));
    assert_eq!(process.read(&*masters[7], 100), Ok(b"shown\r\n".to_vec()));
    masters.remove(7);
    assert_eq!(open(b"pts/7").err(), Some(Errno::ENOENT));
    assert_eq!(process.read(&*terminal, 10), Ok(vec![]));
    assert_eq!(open(b"ptmx").err(), Some(Errno::ENOSPC), "the terminal is still open");
    drop(terminal);
    let again = open(b"ptmx").unwrap();
    assert_eq!(again.ioctl(&process, ioctl::TIOCGPTN, BASE), Ok(0));
    assert_eq!(process.bytes(0, 4), [7, 0, 0, 0]);
    for nonsense in [&b"pts/07"[..], b"pts/64", b"pts/x", b"pts/", b"pts/7/x"] {
        assert_eq!(open(nonsense).err(), Some(Errno::ENOENT));
    }
}
