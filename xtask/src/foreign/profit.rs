//! `foreign --profit`: what laziness is worth to programs that know nothing of it. Each runs with laziness on and off, on a machine that counts
//! instructions, with nothing cached.

use std::collections::BTreeMap;
use std::io::{Write, stdout};

use anyhow::Result;

use super::Store;
use super::cases::{Group, PROFIT};
use super::programs::GUEST_BIN;
use crate::cli::Lazy;
use crate::guest::Guest;
use crate::interrupts::Interrupts;
use crate::paths::Paths;
use crate::{bench, say};

/// What the programs work on: ten and 64 MiB, and small things.
const SETUP: &str = "cd /tmp; seq 1 1400000 > in; cp in twin; head -c 1000000 in > small; \
    dd if=/dev/urandom of=big bs=1M count=64; busybox tar cf archive in twin small; \
    sqlite3 db 'PRAGMA page_size=65536; CREATE TABLE t(a, b); WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 20000) \
    INSERT INTO t SELECT n, zeroblob(400) FROM c;'; sync";

/// What a run told of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cost {
    asked: u64,
    moved: u64,
    messages: u64,
    instructions: u64,
    status: u64,
}

/// Measures and prints the table; the status is xtask's.
pub fn profit(paths: &Paths, guest: &Guest, filter: &str, interrupts: &Interrupts) -> Result<u8> {
    let store = Store::open(paths)?;
    let ready = match super::prepare(paths, &store, &PROFIT, &PROFIT.cases())? {
        Ok(ready) => ready,
        Err(why) => {
            println!("skipped: {why}");
            return Ok(0);
        }
    };
    let command = command(&PROFIT, filter);
    let mut costs = Vec::new();
    for lazy in [Lazy::On, Lazy::Off] {
        say!("measuring with laziness {} (this takes a while)", lazy.word());
        let (console, log) = bench::counted(paths, guest, &command, lazy, &ready.additions, interrupts)?;
        let found: BTreeMap<String, Cost> = console.lines().filter_map(cost).collect();
        if found.is_empty() {
            say!("nothing was measured:\n{log}");
            return Ok(1);
        }
        costs.push(found);
    }
    let [on, off] = costs.as_slice() else { return Ok(1) };
    stdout().write_all(table(&PROFIT, on, off).as_bytes())?;
    Ok(0)
}

/// The shell line that measures all programs.
fn command(group: &Group, filter: &str) -> String {
    let cases = group.cases();
    let chosen = cases.iter().filter(|case| case.name.contains(filter));
    let lines: String = chosen
        .map(|case| {
            let words: String = case.text.split_whitespace().map(|word| format!(" '{}'", word.replace('\'', "'\\''"))).collect();
            format!("; profit {}{words}; rm -f copy", case.name)
        })
        .collect();
    format!("export PATH=/{GUEST_BIN}:/bin LC_ALL=C; {SETUP}{lines}")
}

/// Reads a line of the guest's program.
fn cost(line: &str) -> Option<(String, Cost)> {
    let mut words = line.strip_prefix("profit ")?.split_whitespace();
    let name = words.next()?.to_owned();
    let mut number = || words.next()?.parse().ok();
    Some((name, Cost { asked: number()?, moved: number()?, messages: number()?, instructions: number()?, status: number()? }))
}

/// The table, as Markdown has it.
fn table(group: &Group, on: &BTreeMap<String, Cost>, off: &BTreeMap<String, Cost>) -> String {
    let mut text =
        "| program | asked | moved, lazy | moved, eager | messages, lazy | eager | instructions, lazy | eager | lazy/eager |\n".to_owned();
    text.push_str("|---|--:|--:|--:|--:|--:|--:|--:|--:|\n");
    for case in group.cases() {
        let (Some(lazy), Some(eager)) = (on.get(&case.name), off.get(&case.name)) else { continue };
        let failed = if (lazy.status, eager.status) == (0, 0) { "" } else { " (failed)" };
        text.push_str(&format!(
            "| `{}`{failed} | {} | {} | {} | {} | {} | {} | {} | {:.2} |\n",
            case.text.trim(),
            lazy.asked,
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
    fn a_line_of_the_guest_is_read() {
        let wanted = Cost { asked: 1, moved: 2, messages: 3, instructions: 4, status: 0 };
        assert_eq!(cost("profit cat 1 2 3 4 0"), Some(("cat".to_owned(), wanted)));
        assert_eq!(cost("profit cat 1 2"), None);
        assert_eq!(cost("other cat 1 2 3 4 5"), None);
    }

    #[test]
    fn words_reach_the_program_as_they_are() {
        let line = command(&PROFIT, "sqlite_readfile");
        assert!(
            line.ends_with(r"; profit sqlite_readfile 'sqlite3' ':memory:' 'select(length(readfile('\''in'\'')))'; rm -f copy"),
            "{line}"
        );
    }
}
