//! The kernel that checks its lock order: it boots, and a short storm ends.

use std::time::Duration;

use crate::machine::Clock;
use crate::test::qemu::{Expected, QemuTest};

/// A program in a machine whose kernel checks its lock order.
pub fn test() -> QemuTest {
    let command = "leaks storm -i 50000000 1";
    let mut test = QemuTest::new("lock_checks", command, Expected::Status(0));
    test.clock = Clock::Instructions;
    test.limit = Duration::from_secs(90);
    test.checked = true;
    test
}
