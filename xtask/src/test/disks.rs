//! A machine with a disk of the user's before its own: the servers use the one with the serial
//! number `scratch` and leave the other alone, which everybody may read and write. And a machine
//! whose host has no space left for its disk.

use crate::machine::{Disk, OTHER_LINE, OTHER_LINES};
use crate::test::qemu::{Expected, QemuTest};

/// Files and memory go to the machine's disk; then the other disk is read, and written in the
/// middle of a sector. The last line is for the disk that is in use.
const WORK: &str = "dd if=/dev/zero of=/tmp/f bs=1M count=60; rm /tmp/f; \
    grep -c '^LINE$' /dev/vda; printf XY | dd of=/dev/vda bs=1 seek=1021 conv=notrunc; \
    grep -c '^LINE$' /dev/vda; \
    head -c 1024 /dev/vda | tail -c 4; echo; cat /dev/vdb || echo busy; \
    ls /dev/disk/by-id";

/// More than memory is written. The writer gets an error, and what is in memory is left as it was.
const FULL_WORK: &str = "seq 10000 > kept; before=$(sha256sum < kept); \
    dd if=/dev/urandom of=f bs=1M count=100 2>/dev/null; echo $?; \
    [ \"$(sha256sum < kept)\" = \"$before\" ] && echo kept; rm f; seq 20000 > again; \
    tail -n 1 again; dmesg | grep -c 'disk scratch: a write failed (Input.output error); the host'";

fn full() -> QemuTest {
    let expected = Expected::Words("1 kept 20000 1".to_owned());
    let mut test = QemuTest::new("full_disk", FULL_WORK, expected);
    test.memory = "64M".to_owned();
    test.disk = Disk::Full;
    test.about = "a full disk of the host is an error for who writes".to_owned();
    test
}

/// The tests.
pub fn list() -> Vec<QemuTest> {
    let line = OTHER_LINE.trim_end();
    let command = WORK.replace("LINE", line);
    let bytes = OTHER_LINE.repeat(60);
    let end = &bytes[1020..1024];
    let (first, last) = (&end[..1], &end[3..]);
    let expected = format!(
        "{OTHER_LINES} {} {first}XY{last} busy virtio-other virtio-scratch",
        OTHER_LINES - 1
    );
    let mut test = QemuTest::new("second_disk", &command, Expected::Words(expected));
    test.memory = "64M".to_owned();
    test.disk = Disk::Second;
    test.about = "a disk of the user's is left alone, and can be used".to_owned();
    vec![test, full()]
}
