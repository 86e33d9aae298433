//! Tests of costs in instructions and bytes, which are the same in every run.

use anyhow::Result;

use crate::bench::{Figures, figures};
use crate::guest::Guest;
use crate::interrupts::Interrupts;
use crate::paths::Paths;
use crate::test::verdict::Verdict;

/// Bytes of a message's header. The rows count headers as moved; the tests do not.
const HEADER_BYTES: f64 = 128.0;

/// A limit on rows of the bench.
#[derive(Debug, Clone, Copy)]
pub struct BenchTest {
    /// The test's full name.
    pub name: &'static str,
    /// Selects the rows that the limit is about.
    filter: &'static str,
    /// Whether the limit is kept; `None` if a row is missing.
    holds: fn(&Figures) -> Option<bool>,
}

/// All tests of costs.
pub const TESTS: [BenchTest; 10] = [
    BenchTest {
        name: "qemu::bench_a_read_costs_the_same_at_any_length",
        filter: "read.",
        holds: reads_cost_the_same,
    },
    BenchTest {
        name: "qemu::bench_one_page_touched_moves_64_kib_at_most",
        filter: "read64m.touch1",
        holds: one_touch_moves_little,
    },
    BenchTest {
        name: "qemu::bench_a_copy_moves_no_file_bytes",
        filter: "cp64m.64m",
        holds: a_copy_moves_nothing,
    },
    BenchTest {
        name: "qemu::bench_a_copy_costs_the_same_at_any_length",
        filter: "cp.",
        holds: copies_cost_the_same,
    },
    BenchTest {
        name: "qemu::bench_cached_pages_need_no_message",
        filter: "read64m.again",
        holds: cached_pages_need_no_message,
    },
    BenchTest {
        name: "qemu::bench_each_write_back_moves_one_page",
        filter: "modify64m.again",
        holds: write_backs_move_one_page_each,
    },
    BenchTest {
        name: "qemu::bench_write_back_moves_two_pages_at_most",
        filter: "modify64m",
        holds: write_back_moves_little,
    },
    BenchTest {
        name: "qemu::bench_a_pipe_round_trip_has_two_switches",
        filter: "pipe.rtt",
        holds: a_pipe_round_trip_has_two_switches,
    },
    BenchTest {
        name: "qemu::bench_a_server_round_trip_has_one_message_and_four_switches",
        filter: "server.rtt",
        holds: a_server_round_trip_has_four_switches,
    },
    BenchTest {
        name: "qemu::bench_munmap_costs_twice_as_much_beside_mapped_files_at_most",
        filter: "map.munmap",
        holds: munmap_costs_twice_as_much_at_most,
    },
];

impl BenchTest {
    /// Measures the rows and checks the limit.
    pub fn run(self, paths: &Paths, guest: &Guest, interrupts: &Interrupts) -> Result<Verdict> {
        Ok(match figures(paths, guest, self.filter, interrupts)? {
            Ok(figures) => Verdict::from_condition((self.holds)(&figures) == Some(true), || {
                format!("{figures:#?}")
            }),
            Err(why) => Verdict::Failed(why),
        })
    }
}

/// A read costs the same from 64 KiB to 1 GiB, within 10 %.
fn reads_cost_the_same(figures: &Figures) -> Option<bool> {
    costs_are_the_same(figures, "read", &["64k", "1m", "64m", "1g"])
}

/// A copy costs the same from 1 MiB to 64 MiB, within 10 %, and moves no bytes of the files.
fn copies_cost_the_same(figures: &Figures) -> Option<bool> {
    let sizes = ["1m", "4m", "16m", "64m"];
    let mut moved = 0.0;
    for size in sizes {
        let row = format!("cp.{size}");
        moved += file_bytes(figures, &row, "bytes")? + file_bytes(figures, &row, "bytes_out")?;
    }
    // The remaining bytes are lists of pieces.
    Some(costs_are_the_same(figures, "cp", &sizes)? && moved < 1024.0)
}

fn costs_are_the_same(figures: &Figures, row: &str, sizes: &[&str]) -> Option<bool> {
    let costs: Option<Vec<f64>> =
        sizes.iter().map(|size| figures.get(&format!("{row}.{size}")).copied()).collect();
    let costs = costs?;
    let (least, most) =
        (costs.iter().copied().fold(f64::MAX, f64::min), costs.iter().copied().fold(0.0, f64::max));
    Some(least > 0.0 && most <= least * 1.1)
}

/// Bytes of files that a row moved from servers (`bytes`) or to servers (`bytes_out`).
fn file_bytes(figures: &Figures, row: &str, direction: &str) -> Option<f64> {
    Some(
        figures.get(&format!("{row}.{direction}"))?
            - HEADER_BYTES * figures.get(&format!("{row}.messages"))?,
    )
}

fn one_touch_moves_little(figures: &Figures) -> Option<bool> {
    Some(file_bytes(figures, "read64m.touch1", "bytes")? <= 65_536.0)
}

fn a_copy_moves_nothing(figures: &Figures) -> Option<bool> {
    // The remaining bytes are lists of pieces.
    Some(
        file_bytes(figures, "cp64m.64m", "bytes")? + file_bytes(figures, "cp64m.64m", "bytes_out")?
            < 4096.0,
    )
}

/// One page is fetched and written, and a list of pieces.
fn write_back_moves_little(figures: &Figures) -> Option<bool> {
    Some(
        file_bytes(figures, "modify64m", "bytes")? + file_bytes(figures, "modify64m", "bytes_out")?
            <= 8192.0 + 512.0,
    )
}

/// Ten write-backs send one page and a list of pieces each.
fn write_backs_move_one_page_each(figures: &Figures) -> Option<bool> {
    Some(file_bytes(figures, "modify64m.again", "bytes_out")? <= 10.0 * (4096.0 + 512.0))
}

fn cached_pages_need_no_message(figures: &Figures) -> Option<bool> {
    Some(*figures.get("read64m.again.messages")? <= 2.0)
}

/// To the other process and back, and no message.
fn a_pipe_round_trip_has_two_switches(figures: &Figures) -> Option<bool> {
    let count = |count: &str| figures.get(&format!("pipe.rtt.{count}")).copied();
    Some(count("switches")? == 2.0 && count("messages")? == 0.0 && count("bytes")? == 0.0)
}

fn munmap_costs_twice_as_much_at_most(figures: &Figures) -> Option<bool> {
    Some(*figures.get("map.munmap")? <= 2.0)
}

/// Through snapfs to memfs and back. The reply has the byte after its header.
fn a_server_round_trip_has_four_switches(figures: &Figures) -> Option<bool> {
    let count = |count: &str| figures.get(&format!("server.rtt.{count}")).copied();
    let one_byte = HEADER_BYTES + 1.0;
    Some(count("switches")? == 4.0 && count("messages")? == 1.0 && count("bytes")? == one_byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(rows: &[(&str, f64)]) -> Figures {
        rows.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    #[test]
    fn costs_may_differ_by_ten_percent() {
        let rows = |most| {
            figures(&[
                ("read.64k", 100.0),
                ("read.1m", 101.0),
                ("read.64m", 102.0),
                ("read.1g", most),
            ])
        };
        assert_eq!(reads_cost_the_same(&rows(110.0)), Some(true));
        assert_eq!(reads_cost_the_same(&rows(111.0)), Some(false));
        assert_eq!(reads_cost_the_same(&figures(&[("read.64k", 100.0)])), None, "rows are missing");
    }

    #[test]
    fn a_copy_may_move_lists_of_pieces_only() {
        let rows = |cost, bytes| {
            let mut rows = Figures::new();
            for size in ["1m", "4m", "16m", "64m"] {
                let row = |suffix: &str| format!("cp.{size}{suffix}");
                rows.extend([
                    (row(""), 100.0),
                    (row(".messages"), 3.0),
                    (row(".bytes"), 384.0),
                    (row(".bytes_out"), 408.0),
                ]);
            }
            rows.extend([("cp.16m".to_owned(), cost), ("cp.16m.bytes".to_owned(), bytes)]);
            rows
        };
        assert_eq!(copies_cost_the_same(&rows(110.0, 384.0)), Some(true));
        assert_eq!(copies_cost_the_same(&rows(111.0, 384.0)), Some(false), "too expensive");
        assert_eq!(
            copies_cost_the_same(&rows(100.0, 384.0 + 4096.0)),
            Some(false),
            "a page was moved"
        );
    }

    #[test]
    fn headers_are_not_file_bytes() {
        let rows =
            |bytes| figures(&[("read64m.touch1.bytes", bytes), ("read64m.touch1.messages", 2.0)]);
        assert_eq!(one_touch_moves_little(&rows(65_536.0 + 256.0)), Some(true));
        assert_eq!(one_touch_moves_little(&rows(65_536.0 + 257.0)), Some(false));
    }
}
