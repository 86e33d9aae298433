//! The kernel that checks its lock order, which `--long` boots: it boots, and a short storm ends.

use std::time::Duration;

use anyhow::Result;

use crate::guest::{self, Variant};
use crate::interrupts::Interrupts;
use crate::machine::Clock;
use crate::paths::Paths;
use crate::setup;
use crate::test::qemu::{Expected, QemuTest};
use crate::test::verdict::Verdict;

/// The test's full name.
pub const NAME: &str = "qemu::lock_checks";

/// Builds the kernel with lock checks, and boots it.
pub fn run(paths: &Paths, interrupts: &Interrupts) -> Result<Verdict> {
    let guest = guest::build(paths, &setup::ensure(paths)?, Variant::LockChecks)?;
    let command = "leaks storm -i 50000000 1";
    let mut test = QemuTest::new("lock_checks", command, Expected::Status(0));
    test.clock = Clock::Instructions;
    test.limit = Duration::from_secs(90);
    test.run(paths, &guest, interrupts)
}
