//! Machines of each size that is supported, with and without a disk: they boot, and ordinary work
//! ends with the right output, without a leak, and with each server still running.

use crate::machine::Disk;
use crate::test::qemu::{Expected, QemuTest};

/// The sizes of memory, in MiB.
pub const SIZES_MIB: [u64; 5] = [24, 32, 48, 64, 128];

/// Files, pipelines, several processes at once, and a file of 3 MiB, all of which fit into the
/// smallest machine without a disk.
const WORK: &str = "mkdir d; seq 20000 > d/a; sort -r d/a | sort -n > d/b; cmp d/a d/b; \
    cat d/a d/b d/a | wc -l; dd if=/dev/zero of=d/z bs=64K count=48; wc -c < d/z; cp d/z d/y; \
    cmp d/z d/y; for i in 1 2 3 4; do seq $i 500 | sort | tail -n 1 & done; wait; rm -r d";

/// The output of [`WORK`].
const WORK_OUTPUT: &str = "60000 3145728 99 99 99 99";

/// What a machine says that is smaller than those.
const TOO_SMALL: &[&str] = &["this machine is too small: Sloth needs 24 MiB of memory"];

/// The tests: two for each size, and two for sizes that are too small.
pub fn list() -> Vec<QemuTest> {
    let disks = [Disk::Scratch, Disk::None];
    let sizes = SIZES_MIB.iter().flat_map(|&mib| disks.map(|disk| test(mib, disk)));
    sizes.chain([(10, Disk::Scratch), (20, Disk::None)].map(too_small)).collect()
}

fn too_small((memory_mib, disk): (u64, Disk)) -> QemuTest {
    let name = format!("memory_{memory_mib}M_is_too_small");
    let mut test = QemuTest::new(&name, "echo hi", Expected::Panic(TOO_SMALL));
    test.memory = format!("{memory_mib}M");
    test.disk = disk;
    test.about = "a machine that is too small says so at boot".to_owned();
    test
}

fn test(memory_mib: u64, disk: Disk) -> QemuTest {
    let (kind, servers) = match disk {
        Disk::Scratch | Disk::Second | Disk::Full => ("disk", "3"),
        Disk::None => ("no_disk", "2"),
    };
    let name = format!("memory_{memory_mib}M_{kind}");
    let command = format!(
        "leaks sh -c '[ \"$(echo $({WORK}))\" = \"{WORK_OUTPUT}\" ]' && ps | grep -c '{{[a-z]*fs}}'"
    );
    let mut test = QemuTest::new(&name, &command, Expected::Words(servers.to_owned()));
    test.memory = format!("{memory_mib}M");
    test.disk = disk;
    test.about = "a machine of this size boots and works".to_owned();
    test
}
