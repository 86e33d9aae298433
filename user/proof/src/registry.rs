//! The tests of a program: each is registered where it is defined, by [`guest_test`].
//!
//! `cargo xtask` learns what tests there are by running a program's host build with `--list`.
//!
//! [`guest_test`]: crate::guest_test

use foundation::mutant::Mutant;
use linkme::distributed_slice;
use user::prelude::*;

use crate::kit::Outcome;

/// A test that runs in a machine of its own.
#[derive(Clone, Copy)]
pub struct Test {
    /// The function's name. The name of a rule's test begins with the rule.
    pub name: &'static str,
    /// The function's documentation; its first paragraph says what is proved.
    pub doc: &'static str,
    /// The test itself.
    pub run: fn() -> Outcome,
    /// The machine's memory, in MiB.
    pub memory_mib: u32,
    /// The machine's CPU, as QEMU's option `-cpu` takes it.
    pub cpu: &'static str,
    /// Whether the machine's clock counts instructions.
    pub icount: bool,
    /// Seconds until the machine is stopped.
    pub timeout_s: u32,
    /// Whether it takes minutes and runs only with `--long`.
    pub long: bool,
    /// Whether it needs the kernel that checks itself and can fail claims.
    pub checked: bool,
    /// The mutants that must make it fail.
    pub mutants: &'static [Mutant],
    /// The lines on traced reads that the kernel's log must contain; `*` matches anything. Empty if
    /// the log does not matter.
    pub log: &'static [&'static str],
}

impl Test {
    /// The values of the fields that the attribute does not set.
    pub const DEFAULT: Self = Self {
        name: "",
        doc: "",
        run: || Ok(()),
        memory_mib: 128,
        cpu: "max",
        icount: false,
        timeout_s: 60,
        long: false,
        checked: false,
        mutants: &[],
        log: &[],
    };

    /// The first paragraph of the documentation, as one line.
    fn summary(&self) -> String {
        let lines = self.doc.lines().map(str::trim).take_while(|line| !line.is_empty());
        lines.collect::<Vec<_>>().join(" ")
    }

    /// The test as one line of JSON. The debug format of strings is JSON if they contain printable
    /// characters only.
    fn json(&self) -> String {
        let Self { name, memory_mib, cpu, icount, timeout_s, long, checked, log, .. } = self;
        let mutants: Vec<&str> = self.mutants.iter().map(|mutant| mutant.name()).collect();
        format!(
            "{{\"name\":{name:?},\"memory_mib\":{memory_mib},\"cpu\":{cpu:?},\
             \"icount\":{icount},\"timeout_s\":{timeout_s},\"long\":{long},\
             \"checked\":{checked},\"mutants\":{mutants:?},\"doc\":{:?},\"log\":{log:?}}}",
            self.summary()
        )
    }
}

/// All tests of this program, in undefined order.
#[distributed_slice]
pub static TESTS: [Test];

/// All tests of this program, sorted by name.
pub fn sorted() -> Vec<&'static Test> {
    let mut tests: Vec<&Test> = TESTS.iter().collect();
    tests.sort_unstable_by_key(|test| test.name);
    tests
}

/// The test that has this name, if there is one.
pub fn find(name: &[u8]) -> Option<&'static Test> {
    TESTS.iter().find(|test| test.name.as_bytes() == name)
}

/// Prints one line of JSON for each test. Returns the exit status.
pub fn list(program: &str) -> i32 {
    let mut out = Out::standard();
    for test in sorted() {
        out.put(test.json().as_bytes());
        out.put(b"\n");
    }
    out.finish(program, 0)
}
