//! The file-system exerciser in the guest: lazily and eagerly, aligned and unaligned, with one
//! process and four, with little memory, with shared mappings of the file, and with several
//! processes that map one file.

use std::time::Duration;

use crate::cli::{Lazy, Length};
use crate::test::qemu::{Expected, QemuTest};

/// A set of options for the exerciser.
struct Exercise {
    name: &'static str,
    lazy: Lazy,
    options: &'static str,
    /// Mutants that must make it fail.
    mutants: &'static [&'static str],
}

const MEMORY: &str = "64M";

/// The option `-c` requires a counter to increase and `-C` requires it not to. With ballast (`-m`)
/// pages must be evicted and fetched again.
const EXERCISES: [Exercise; 12] = [
    Exercise {
        name: "lazy",
        lazy: Lazy::On,
        options: "-S 1 -c reads_lazy -c pages_referenced",
        mutants: &["skip-rescue", "align-offset", "zero-past-end", "fork-leaves-writable"],
    },
    Exercise {
        name: "lazy_aligned",
        lazy: Lazy::On,
        options: "-S 2 -a 4096 -c reads_lazy -c pages_referenced",
        mutants: &["skip-truncate-rescue"],
    },
    Exercise {
        name: "lazy_four",
        lazy: Lazy::On,
        options: "-S 3 -p 4 -c reads_lazy",
        mutants: &["rescue-serves-all"],
    },
    Exercise {
        name: "lazy_pressure",
        lazy: Lazy::On,
        options: "-S 4 -p 4 -m 32M -c reads_lazy -c evictions",
        mutants: &[],
    },
    Exercise { name: "eager", lazy: Lazy::Off, options: "-S 1 -C reads_lazy", mutants: &[] },
    Exercise {
        name: "eager_aligned_four",
        lazy: Lazy::Off,
        options: "-S 5 -a 4096 -p 4 -C reads_lazy",
        mutants: &[],
    },
    Exercise {
        name: "mapped",
        lazy: Lazy::On,
        options: "-S 6 -M -c reads_lazy -c pages_referenced",
        mutants: &[],
    },
    Exercise {
        name: "mapped_aligned",
        lazy: Lazy::On,
        options: "-S 7 -M -a 4096 -c reads_lazy -c pages_referenced",
        mutants: &[],
    },
    Exercise {
        name: "mapped_pressure",
        lazy: Lazy::On,
        options: "-S 8 -M -p 4 -m 32M -c reads_lazy -c evictions",
        mutants: &[],
    },
    Exercise {
        name: "mapped_eager",
        lazy: Lazy::Off,
        options: "-S 9 -M -p 2 -C reads_lazy",
        mutants: &[],
    },
    Exercise { name: "together", lazy: Lazy::On, options: "-S 10 -o -p 4", mutants: &[] },
    Exercise {
        name: "together_aligned",
        lazy: Lazy::On,
        options: "-S 11 -o -p 3 -a 4096 -l 100K",
        mutants: &[],
    },
];

/// The tests, with 5,000 operations each or with 100,000.
pub fn list(length: Length) -> Vec<QemuTest> {
    EXERCISES.iter().map(|exercise| exercise.test(length)).collect()
}

impl Exercise {
    fn test(&self, length: Length) -> QemuTest {
        let (operations, limit_s) = match length {
            Length::Short => (5_000, 120),
            Length::Long => (100_000, 3_600),
        };
        let command = format!("leaks fsx -N {operations} {} /tmp/fsx", self.options);
        let mut test = QemuTest::new(&format!("fsx_{}", self.name), &command, Expected::Status(0));
        test.memory = MEMORY.to_owned();
        test.lazy = self.lazy;
        test.limit = Duration::from_secs(limit_s);
        test.mutants = self.mutants.iter().map(|&name| name.to_owned()).collect();
        test.about = "every byte that is read is the byte that was written".to_owned();
        test
    }
}
