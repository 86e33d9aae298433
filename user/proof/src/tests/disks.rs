//! Disks belong to those who have them open exclusively.

use proof::kit::{Named, Outcome, checking_child, expect_success};
use proof::{guest_test, lazy, os};
use user::prelude::*;
use user::sys::abi;

/// The disk that the servers and the swap file use.
const DISK: &str = "/dev/vda";
const LINK: &str = "/dev/disk/by-id/virtio-scratch";

/// Every way to open a file for its bytes.
const WAYS: [u32; 5] = [
    abi::O_RDONLY,
    abi::O_WRONLY,
    abi::O_RDWR,
    abi::O_RDWR | abi::O_EXCL,
    abi::O_RDWR | abi::O_CREAT,
];

fn all_busy(path: &str) -> Outcome {
    for flags in WAYS {
        let opened = sys::open(path.as_bytes(), flags, 0o600);
        check_eq!(opened, Err(Errno::EBUSY), "open of {path} with {flags:#o}");
    }
    Ok(())
}

/// Everything that may lead to the disk's bytes.
fn no_way_in() -> Outcome {
    all_busy(DISK)?;
    all_busy(LINK)?;
    sys::symlink(DISK.as_bytes(), b"/tmp/link").named("symlink")?;
    all_busy("/tmp/link")?;
    sys::unlink(b"/tmp/link").named("unlink")?;
    sys::mkdir(b"/tmp/dev", 0o700).named("mkdir")?;
    sys::mount(b"none", b"/tmp/dev", b"devtmpfs", 0, b"").named("mount")?;
    all_busy("/tmp/dev/vda")?;
    all_busy("/tmp/dev/disk/by-id/virtio-scratch")?;
    os::raw(abi::__NR_umount2, &[c"/tmp/dev".as_ptr() as usize, 0]).named("umount")?;
    sys::rmdir(b"/tmp/dev").named("rmdir")?;
    // A descriptor without permissions stays one.
    let path = sys::open(DISK.as_bytes(), abi::O_PATH, 0).named("O_PATH")?;
    check_eq!(sys::pread(path, &mut [0; 512], FileOffset::ZERO), Err(Errno::EBADF));
    all_busy(&format!("/proc/self/fd/{path}"))?;
    sys::close(path).named("close")?;
    // Descriptors of others: some process has the disk open.
    let mut found = 0;
    for pid in 1..64 {
        for fd in 0..64 {
            let path = format!("/proc/{pid}/fd/{fd}");
            if sys::readlink(path.as_bytes()).is_ok_and(|target| target == DISK.as_bytes()) {
                found += 1;
                all_busy(&path)?;
            }
        }
    }
    check!(found >= 3, "{found} descriptors of the disk; init, memfs and scratchfs have one each");
    Ok(())
}

/// Nobody can open the disk of the servers and of swap, by whatever name, be he marked as a server
/// or not, and nobody but init can name a server for the swap file.
#[guest_test(memory_mib: 64)]
fn f8_the_servers_disk_is_busy() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let stat = sys::stat(DISK.as_bytes()).named("stat")?;
    check!(stat.st_size > 0 && stat.st_mode & abi::S_IFMT == abi::S_IFBLK);
    no_way_in()?;
    expect_success(checking_child(|| {
        os::become_server().named("the mark")?;
        no_way_in()?;
        let [ours, theirs] = os::socket_pair().named("a socket pair")?;
        for fd in [ours, theirs] {
            let options = format!("fd={fd}");
            let mounted = sys::mount(b"none", b"none", b"swap", 0, options.as_bytes());
            check_eq!(mounted, Err(Errno::EPERM));
        }
        Ok(())
    })?)
}
