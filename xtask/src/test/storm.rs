//! The storm: hostile processes of every kind in small machines, while a witness and a shell must
//! go on. The clock counts instructions, so the limit of the shell's answer does not depend on the
//! host.

use std::time::Duration;

use crate::cli::Length;
use crate::machine::{Clock, Disk};
use crate::test::qemu::{Expected, QemuTest};
use crate::test::sizes::SIZES_MIB;

/// Seeds, spread over the sizes of memory, first with and then without a disk.
const SEEDS: u64 = 10;
/// Instructions of each storm. `leaks` may run it twice. All of them take less than four minutes.
const SHORT: u64 = 600_000_000;
/// Instructions with `--long`: all of them take about ten minutes.
const LONG: u64 = 3_000_000_000;
/// Limits for hosts that emulate 10^7 instructions in a second; most are several times faster.
const LIMITS: [Duration; 2] = [Duration::from_secs(150), Duration::from_secs(1_200)];

/// The tests, one for each seed.
pub fn list(length: Length) -> Vec<QemuTest> {
    (0..SEEDS)
        .zip(SIZES_MIB.into_iter().cycle())
        .map(|(seed, mib)| test(seed, mib, length))
        .collect()
}

fn test(seed: u64, memory_mib: u64, length: Length) -> QemuTest {
    let (instructions, limit) = match length {
        Length::Short => (SHORT, LIMITS[0]),
        Length::Long => (LONG, LIMITS[1]),
    };
    let name = format!("storm_{memory_mib}M_seed_{seed}");
    let command = format!("leaks storm -i {instructions} {seed}");
    let mut test = QemuTest::new(&name, &command, Expected::Status(0));
    test.memory = format!("{memory_mib}M");
    test.clock = Clock::Instructions;
    test.disk = if seed < SEEDS / 2 { Disk::Scratch } else { Disk::None };
    test.limit = limit;
    test.has_figures = true;
    test.about = "nothing that programs do brings a server, init or the kernel down".to_owned();
    test
}
