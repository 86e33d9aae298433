//! The targets of the benchmarks, in guest instructions.
//!
//! `target` is the most that Sloth should take. `peer` is the figure of Linux 6.1 on the same
//! emulated machine, with a minimal FUSE server, in its best mode.

/// The target of a benchmark.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The row's name in the report.
    pub name: &'static str,
    /// Limit in instructions.
    pub target: f64,
    /// Instructions on Linux, if measured.
    pub peer: Option<f64>,
}

const fn row(name: &'static str, target: f64, peer: f64) -> Target {
    Target { name, target, peer: Some(peer) }
}

const fn alone(name: &'static str, target: f64) -> Target {
    Target { name, target, peer: None }
}

/// The targets of all benchmarks that have one. `busy.files` and `map.munmap` are ratios.
pub const TARGETS: [Target; 38] = [
    row("read64m.touch0", 0.010e6, 37.5e6),
    row("read64m.touch1", 0.022e6, 0.085e6),
    row("read64m.touch16", 0.14e6, 0.375e6),
    row("read64m.touch256", 1.9e6, 5.11e6),
    row("read64m.touch4096", 8.5e6, 37.5e6),
    row("read64m.random", 8.5e6, 26.7e6),
    row("read64m.sequential", 7e6, 26.7e6),
    row("read64m.incongruent", 16e6, 26.7e6),
    row("read64m.again", 1.5e6, 75e6),
    row("loop1m", 9e6, 27e6),
    // Instructions of lazy reads over those of eager ones, in the worst case.
    alone("neverworse.worst", 1.05),
    row("loop4k", 28e6, 50e6),
    row("cp64m.1m", 1.3e6, 54e6),
    row("cp64m.64m", 0.038e6, 62e6),
    row("modify64m", 0.07e6, 62e6),
    row("null", 120.0, 325.0),
    row("server.rtt", 7_500.0, 16_676.0),
    row("base.rtt", 4_000.0, 16_676.0),
    row("pipe.rtt", 2_800.0, 12_510.0),
    row("fault.anon", 1_250.0, 3_272.0),
    row("fault.cow.copy", 1_400.0, 3_991.0),
    row("fault.cow.sole", 560.0, 1_394.0),
    row("fork", 45_000.0, 456_000.0),
    row("fork.64m", 0.15e6, 6.83e6),
    row("exec", 100_000.0, 558_000.0),
    row("stat", 4_000.0, 4_170.0),
    // Linux 6.1.176, with `clone` as the program calls it; every other round takes 7.2e6.
    row("threads.100", 3e6, 4.57e6),
    row("boot", 19.5e6, 6_080e6),
    alone("read.rescued1000", 0.03e6),
    alone("read.rescued8000", 0.03e6),
    // 1 is what a read costs of a file that nobody changed.
    alone("read.rescued8000.ratio", 1.5),
    alone("read.sparse16", 0.025e6),
    row("busy.files", 1.4, 1.47),
    alone("wait.400", 60_000.0),
    // Linux 6.1.192, of a page of a file that is mapped shared.
    row("map.fault", 1_000.0, 4_449.0),
    row("map.store", 12_000.0, 15_346.0),
    row("map.writeback", 15_000.0, 15_669.0),
    // A ratio: others may pay that much for a mapping (M5). On Linux it is 1.10.
    alone("map.munmap", 2.0),
];

/// The target of the benchmark with this name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_targets_beat_the_peer() {
        for (index, row) in TARGETS.iter().enumerate() {
            assert!(
                TARGETS.iter().skip(index + 1).all(|other| other.name != row.name),
                "{}",
                row.name
            );
            assert!(row.peer.is_none_or(|peer| row.target < peer), "{}", row.name);
        }
    }
}
