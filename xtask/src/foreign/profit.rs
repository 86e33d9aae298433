//! `foreign --profit`: the effect of laziness on unmodified programs. Each runs lazily and eagerly
//! on a machine that counts instructions, with an empty cache. The counts are the same in every
//! run, and [`ProfitTest`] checks limits for some programs.

use std::collections::BTreeMap;
use std::io::{Write, stdout};

use anyhow::{Result, bail};

use super::ForeignFolder;
use super::cases::{Case, Group, PROFIT, PROFIT_QUICK};
use super::programs::GUEST_BIN;
use crate::cli::Lazy;
use crate::guest::Guest;
use crate::interrupts::Interrupts;
use crate::paths::Paths;
use crate::test::verdict::Verdict;
use crate::{bench, say};

/// Creates the input files of 10 MiB, 64 MiB and 1 MB.
const SETUP: &str = "cd /tmp; seq 1 1400000 > in; cp in twin; head -c 1000000 in > small; \
    dd if=/dev/urandom of=big bs=1M count=64; sync";

/// Creates the input files of some of the programs.
const MORE_SETUP: &str = "busybox tar cf archive in twin small; \
    sqlite3 db 'PRAGMA page_size=65536; CREATE TABLE t(a, b); \
    WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 20000) \
    INSERT INTO t SELECT n, zeroblob(400) FROM c;'; sync";

/// Bytes of a message's header.
const HEADER_BYTES: u64 = 128;
/// Limit for the instructions of a lazy run, relative to the eager run.
const SLOWER_AT_MOST: f64 = 1.05;
/// Limit in bytes for a copy of 64 MiB, in addition to a program that does nothing: lists of
/// pieces, and other pages of the program itself.
const COPY_BYTES: u64 = 1 << 20;

/// The measured costs of a program's run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cost {
    requested: u64,
    moved: u64,
    messages: u64,
    instructions: u64,
    status: u64,
}

/// Values in bytes of the knob `block_bytes`, which stat(2) returns as `st_blksize`.
const BLOCK_SIZES: [u64; 4] = [4 << 10, 64 << 10, 128 << 10, 1 << 20];
/// The programs that use `st_blksize` as a buffer's size.
const BLOCK_SIZED: [&str; 7] =
    ["gnu_cmp", "gnu_diff", "gnu_cat", "gnu_cp", "busybox_wc", "busybox_cmp", "busybox_tail"];

/// Measures and prints two tables: laziness on and off, and block sizes; returns the exit status.
pub fn profit(paths: &Paths, guest: &Guest, filter: &str, interrupts: &Interrupts) -> Result<u8> {
    let store = ForeignFolder::open(paths)?;
    let ready = match super::prepare(paths, &store, &PROFIT, &PROFIT.cases())? {
        Ok(ready) => ready,
        Err(why) => {
            println!("skipped: {why}");
            return Ok(0);
        }
    };
    let chosen = |case: &Case| case.name.contains(filter);
    let measure = |lazy: Lazy| {
        say!("measuring with laziness {} (this takes a while)", lazy.word());
        let more = command(&PROFIT, MORE_SETUP, chosen);
        costs(bench::counted(paths, guest, &more, lazy, &ready.additions, interrupts)?)
    };
    let (on, off) = (measure(Lazy::On)?, measure(Lazy::Off)?);
    stdout().write_all(table(&PROFIT, &on, &off).as_bytes())?;
    let mut sizes = Vec::new();
    for bytes in BLOCK_SIZES {
        say!("measuring with blocks of {bytes} bytes");
        let more = format!("{MORE_SETUP}; echo {bytes} > /proc/sys/lazy/block_bytes");
        let command = command(&PROFIT, &more, |case| {
            BLOCK_SIZED.contains(&case.name.as_str()) && chosen(case)
        });
        sizes.push(
            costs(bench::counted(paths, guest, &command, Lazy::On, &ready.additions, interrupts)?)
                .unwrap_or_default(),
        );
    }
    stdout().write_all(sizes_table(&PROFIT, &sizes).as_bytes())?;
    Ok(0)
}

/// The names of the programs that are measured.
pub fn names() -> Vec<String> {
    PROFIT.cases().into_iter().map(|case| case.name).collect()
}

/// Instructions and messages at each size of blocks.
fn sizes_table(group: &Group, sizes: &[Costs]) -> String {
    let mut text = format!(
        "| program |{}\n|---|",
        BLOCK_SIZES.map(|bytes| format!(" {} KiB |", bytes >> 10)).concat()
    );
    text.push_str(&"--:|".repeat(BLOCK_SIZES.len()));
    text.push('\n');
    for case in group.cases() {
        let found: Vec<&Cost> = sizes.iter().filter_map(|costs| costs.get(&case.name)).collect();
        if found.len() == sizes.len() {
            let cells = found
                .iter()
                .map(|cost| format!(" {} ({}) |", cost.instructions, cost.messages))
                .collect::<String>();
            text.push_str(&format!("| `{}` |{cells}\n", case.text.trim()));
        }
    }
    text
}

/// The costs of each program by its name.
type Costs = BTreeMap<String, Cost>;

fn costs((console, log): (String, String)) -> Result<Costs> {
    let found: Costs = console.lines().filter_map(cost).collect();
    if found.is_empty() { bail!("nothing was measured:\n{log}") } else { Ok(found) }
}

/// A test of limits on the costs of foreign programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProfitTest {
    /// `busybox cp` and `dd bs=1M` of 64 MiB move no bytes of the file.
    CopiesMoveNothing,
    /// Programs that read whole files, in blocks of any size, take at most 5 % more instructions
    /// lazily than eagerly.
    NothingIsSlower,
}

impl ProfitTest {
    /// Every test of costs.
    pub const ALL: [Self; 2] = [Self::CopiesMoveNothing, Self::NothingIsSlower];

    /// The test's full name.
    pub fn name(self) -> &'static str {
        match self {
            Self::CopiesMoveNothing => "qemu::profit_foreign_copies_move_no_file_bytes",
            Self::NothingIsSlower => "qemu::profit_no_foreign_program_is_slower_lazily",
        }
    }

    fn cases(self) -> &'static [&'static str] {
        match self {
            Self::CopiesMoveNothing => &["busybox_true", "busybox_cp_64m", "busybox_dd_1m_64m"],
            Self::NothingIsSlower => &[
                "busybox_true",
                "busybox_cat",
                "busybox_dd_4k",
                "busybox_tar_c",
                "busybox_wc",
                "busybox_cmp",
            ],
        }
    }

    /// Measures the programs and checks the limit.
    pub fn run(self, paths: &Paths, guest: &Guest, interrupts: &Interrupts) -> Result<Verdict> {
        let store = ForeignFolder::open(paths)?;
        let ready = match super::prepare(paths, &store, &PROFIT_QUICK, &PROFIT_QUICK.cases())? {
            Ok(ready) => ready,
            Err(why) => return Ok(Verdict::Skipped(why)),
        };
        let command =
            command(&PROFIT_QUICK, "true", |case| self.cases().contains(&case.name.as_str()));
        let measure = |lazy| {
            costs(bench::counted(paths, guest, &command, lazy, &ready.additions, interrupts)?)
        };
        let on = measure(Lazy::On)?;
        if self == Self::CopiesMoveNothing {
            return Ok(Verdict::from_condition(copies_move_nothing(&on) == Some(true), || {
                format!("{on:#?}")
            }));
        }
        let off = measure(Lazy::Off)?;
        let holds = on.len() == self.cases().len() && slower(&on, &off) == Some(Vec::new());
        Ok(Verdict::from_condition(holds, || table(&PROFIT_QUICK, &on, &off)))
    }
}

/// Whether the copies moved no more than a program that does nothing, headers apart. `None` if one
/// was not measured, or failed.
fn copies_move_nothing(costs: &Costs) -> Option<bool> {
    let bytes = |name: &str| {
        let cost = costs.get(name).filter(|cost| cost.status == 0)?;
        cost.moved.checked_sub(2 * HEADER_BYTES * cost.messages)
    };
    let nothing = bytes("busybox_true")?;
    Some(
        bytes("busybox_cp_64m")? <= nothing + COPY_BYTES
            && bytes("busybox_dd_1m_64m")? <= nothing + COPY_BYTES,
    )
}

/// The names of the programs that are slower lazily. `None` if one was not measured eagerly, or
/// failed.
fn slower(on: &Costs, off: &Costs) -> Option<Vec<String>> {
    let mut slower = Vec::new();
    for (name, lazy) in on {
        let eager = off.get(name)?;
        if (lazy.status, eager.status) != (0, 0) {
            return None;
        }
        if lazy.instructions as f64 > eager.instructions as f64 * SLOWER_AT_MOST {
            slower.push(name.clone());
        }
    }
    Some(slower)
}

/// The line of shell that measures the chosen programs.
fn command(group: &Group, more_setup: &str, chosen: impl Fn(&Case) -> bool) -> String {
    let cases = group.cases();
    let chosen = cases.iter().filter(|case| chosen(case));
    let lines: String = chosen
        .map(|case| {
            let words: String = case
                .text
                .split_whitespace()
                .map(|word| format!(" '{}'", word.replace('\'', "'\\''")))
                .collect();
            format!("; profit {}{words}; rm -f copy", case.name)
        })
        .collect();
    format!("export PATH=/{GUEST_BIN}:/bin LC_ALL=C; {SETUP}; {more_setup}{lines}")
}

/// Parses a line of the guest's program `profit`.
fn cost(line: &str) -> Option<(String, Cost)> {
    let mut words = line.strip_prefix("profit ")?.split_whitespace();
    let name = words.next()?.to_owned();
    let mut number = || words.next()?.parse().ok();
    Some((
        name,
        Cost {
            requested: number()?,
            moved: number()?,
            messages: number()?,
            instructions: number()?,
            status: number()?,
        },
    ))
}

/// The comparison as a Markdown table.
fn table(group: &Group, on: &Costs, off: &Costs) -> String {
    let mut text = "| program | requested | moved, lazy | moved, eager | messages, lazy | eager \
         | instructions, lazy | eager | lazy/eager |\n"
        .to_owned();
    text.push_str("|---|--:|--:|--:|--:|--:|--:|--:|--:|\n");
    for case in group.cases() {
        let (Some(lazy), Some(eager)) = (on.get(&case.name), off.get(&case.name)) else { continue };
        let failed = if (lazy.status, eager.status) == (0, 0) {
            String::new()
        } else {
            format!(" (status {}, {})", lazy.status, eager.status)
        };
        text.push_str(&format!(
            "| `{}`{failed} | {} | {} | {} | {} | {} | {} | {} | {:.2} |\n",
            case.text.trim(),
            lazy.requested,
            lazy.moved,
            eager.moved,
            lazy.messages,
            eager.messages,
            lazy.instructions,
            eager.instructions,
            lazy.instructions as f64 / eager.instructions.max(1) as f64
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_guest_is_parsed() {
        let wanted = Cost { requested: 1, moved: 2, messages: 3, instructions: 4, status: 0 };
        assert_eq!(cost("profit cat 1 2 3 4 0"), Some(("cat".to_owned(), wanted)));
        assert_eq!(cost("profit cat 1 2"), None);
        assert_eq!(cost("other cat 1 2 3 4 5"), None);
    }

    fn costs_of(rows: &[(&str, u64, u64)]) -> Costs {
        let cost = |moved, instructions| Cost {
            requested: 0,
            moved,
            messages: 10,
            instructions,
            status: 0,
        };
        rows.iter()
            .map(|&(name, moved, instructions)| (name.to_owned(), cost(moved, instructions)))
            .collect()
    }

    #[test]
    fn a_copy_that_moves_its_file_is_reported() {
        let rows = |cp| {
            costs_of(&[
                ("busybox_true", 1 << 21, 1),
                ("busybox_cp_64m", cp, 1),
                ("busybox_dd_1m_64m", 1 << 21, 1),
            ])
        };
        assert_eq!(copies_move_nothing(&rows((1 << 21) + COPY_BYTES)), Some(true));
        assert_eq!(copies_move_nothing(&rows((1 << 21) + COPY_BYTES + 1)), Some(false));
        assert_eq!(copies_move_nothing(&costs_of(&[("busybox_true", 1 << 21, 1)])), None);
    }

    #[test]
    fn five_percent_more_is_not_slower() {
        let eager = costs_of(&[("cat", 0, 100)]);
        assert_eq!(slower(&costs_of(&[("cat", 0, 105)]), &eager), Some(vec![]));
        assert_eq!(slower(&costs_of(&[("cat", 0, 106)]), &eager), Some(vec!["cat".to_owned()]));
        assert_eq!(slower(&costs_of(&[("dog", 0, 100)]), &eager), None);
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        let line = command(&PROFIT, MORE_SETUP, |case| case.name == "sqlite_readfile");
        assert!(
            line.ends_with(concat!(
                r"; profit sqlite_readfile 'sqlite3' ':memory:' ",
                r"'select(length(readfile('\''in'\'')))'; rm -f copy"
            )),
            "{line}"
        );
    }
}
