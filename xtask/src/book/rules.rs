//! The rules of the contract, each with a short name and its meaning for a program. Their tests are
//! found by name.

/// A rule of the contract.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// The rule's number.
    pub id: &'static str,
    /// A short name.
    pub name: &'static str,
    /// The meaning for a program.
    pub meaning: &'static str,
    /// The part that is not implemented; empty if all is.
    pub missing: &'static str,
    /// Beginnings of the names of tests that prove the rule and do not bear its number.
    pub also: &'static [&'static str],
}

/// Rules about one subject, and its name.
pub type Section = (&'static str, &'static [Rule]);

const fn rule(id: &'static str, name: &'static str, meaning: &'static str) -> Rule {
    Rule { id, name, meaning, missing: "", also: &[] }
}

/// A rule that is not or not completely implemented.
const fn without(missing: &'static str, rule: Rule) -> Rule {
    Rule { missing, ..rule }
}

/// A rule that is also proved by tests whose names begin like this.
const fn also(also: &'static [&'static str], rule: Rule) -> Rule {
    Rule { also, ..rule }
}

/// All rules of the contract by subject.
pub const SECTIONS: &[Section] = &[
    ("Reading", READ),
    ("Changes to the file after a read", CHANGE),
    ("Writing", WRITE),
    ("Page faults", FAULT),
    ("Address spaces", SPACE),
    ("Resources", RESOURCE),
    ("Safety", SAFETY),
    ("Files that are mapped shared", MAPPED),
    ("Experiments", EXPERIMENT),
];

const READ: &[Rule] = &[
    rule(
        "R1",
        "one instant",
        "One read(2) is one snapshot, from which the partial pages at both ends come as well.",
    ),
    rule(
        "R2",
        "count",
        "The server determines the read's length at the snapshot's instant; processes that share \
         an open file never read a byte twice.",
    ),
    rule("R3", "nothing past n", "No byte after the last one read is changed."),
    rule("R4", "any offset", "Neither the file offset nor the buffer has to be aligned."),
    rule(
        "R5",
        "errors as eager",
        "Counts and errors are those of a copying read, even if the address space changes during \
         the call.",
    ),
    rule("R6", "re-read", "Reading over lazy pages replaces them without fetching them."),
    rule(
        "R7",
        "frames are never written",
        "A read never writes to a frame that is visible elsewhere.",
    ),
    rule("R8", "fallback", "If no snapshot is available, the read copies, with the same result."),
    rule("R9", "vectored", "readv, pread and preadv behave as read does; one call is one instant."),
    rule(
        "R10",
        "holes",
        "A hole of a file costs no message and no frame, even after it has been overwritten.",
    ),
    rule("R11", "coalesce", "Small reads into adjacent memory become one association."),
];

const CHANGE: &[Rule] = &[
    rule(
        "C1",
        "overwrite",
        "The buffer keeps the bytes that were read, whoever writes to the file.",
    ),
    rule("C2", "truncate", "The same if the file is truncated."),
    rule(
        "C3",
        "remove",
        "The same if the file is removed; what the server keeps for readers is not visible.",
    ),
    rule("C4", "rename over", "The same if another file is renamed over it."),
    rule("C5", "open with truncation", "The same if it is opened with O_TRUNC."),
    rule("C6", "punch", "The same if a hole is punched into it, or a clone replaces its bytes."),
    rule(
        "C7",
        "append rename close",
        "An operation that removes no bytes costs no rescue and ends no snapshot.",
    ),
    rule("C8", "one rescue serves all", "Snapshots of the same bytes share the rescued bytes."),
    rule(
        "C9",
        "nothing for nothing",
        "Until the file changes, a snapshot costs the server only a record in memory.",
    ),
    rule(
        "C10",
        "gone on close",
        "When the last page of a snapshot is gone, its rescued bytes are deleted.",
    ),
    rule("C11", "ordered", "A page that is fetched during a change of the file is the old one."),
];

const WRITE: &[Rule] = &[
    rule(
        "W1",
        "references",
        "Whole pages without stores are sent as references, everything else as data.",
    ),
    rule(
        "W2",
        "same place",
        "Writing a page back to its place of origin moves no data; bytes that others changed in \
         the meantime are restored.",
    ),
    rule("W3", "shifted overlap", "Source and target may overlap in one file."),
    rule("W4", "other file", "The server itself copies to another of its files."),
    rule(
        "W5",
        "elsewhere",
        "A pipe, a device or another server receives the bytes, fetched with no lock held.",
    ),
    rule("W6", "append", "The server chooses the offset; an append is never elided."),
    rule(
        "W7",
        "effects",
        "A write that moves no data has every effect of one that does: permissions, space, times, \
         version.",
    ),
    rule(
        "W8",
        "after write",
        "Written pages are clean again, unless there was a store in the meantime.",
    ),
];

const FAULT: &[Rule] = &[
    rule("F1", "load", "An access fetches the page, and neighbours."),
    rule("F2", "store", "A store makes a private copy."),
    rule(
        "F3",
        "one fetch",
        "A page is fetched once, however many threads wait for it; a late reply is not installed \
         if the range has been remapped.",
    ),
    rule(
        "F4",
        "kernel access",
        "System calls read and write lazy memory without holding locks that others need, and lose \
         no bytes.",
    ),
    rule("F5", "page-in error", "A page that is not available is SIGBUS or EIO, never zeros."),
    without(
        "a lost server is given up at once; its readers get F5",
        rule("F6", "server lost", "Threads wait for a server that is restarted."),
    ),
    rule(
        "F7",
        "killable",
        "A thread that waits for a page can be killed; other signals do not interrupt it.",
    ),
    rule(
        "F8",
        "no self-deadlock",
        "Servers read eagerly, their pages are not evicted, and they have a reserve of frames.",
    ),
    rule("F9", "direct", "The base answers page-ins itself where it knows them to be right."),
];

const SPACE: &[Rule] = &[
    rule("A1", "fork", "Parent and child share the pages that were read."),
    rule("A2", "exec", "Arguments are copied before the old memory is unmapped."),
    rule("A3", "exit", "Exit and kill release everything."),
    rule(
        "A4",
        "split",
        "Parts of a lazy buffer are unmapped, protected and moved without being fetched.",
    ),
    rule("A5", "shared frames", "Processes that read the same bytes share frames."),
    rule("A6", "programs", "A running program's file can be overwritten."),
    rule("A7", "debuggers", "A process that reads another's memory gets the right bytes."),
    rule(
        "A8",
        "shown frames",
        "A frame that becomes visible to others can no longer be written by its first owner.",
    ),
];

const RESOURCE: &[Rule] = &[
    rule("Q1", "reservation", "Space for a rescue is reserved, or the read copies."),
    rule("Q2", "pressure", "Clean pages are evicted if memory is short, and fetched again."),
    rule("Q3", "swap", "Dirty pages are written to a swap file, and read back."),
    rule(
        "Q4",
        "limits",
        "Snapshots and regions are limited; out of memory ends the process that holds most.",
    ),
    without(
        "the snapshots of a wrapper end with it",
        rule("Q5", "restart", "A restarted wrapper continues."),
    ),
    also(
        &["storm_", "memory_", "system_limit_"],
        rule("Q6", "keepers live", "No program ends a server, init or the kernel."),
    ),
    also(
        &["system_bounded_"],
        rule("Q7", "bounded", "Long work in the kernel can be interrupted."),
    ),
    rule("Q8", "fallible", "An allocation of a size from outside fails only as an error."),
];

const SAFETY: &[Rule] = &[
    rule("X1", "permissions", "They are checked at the read, and hold for the bytes read."),
    rule("X2", "handles", "Only the kernel sends messages to a mounted server."),
    rule("X3", "untrusted servers", "Each page is fetched from an untrusted server at most once."),
    rule("X4", "arguments", "System calls copy their arguments once."),
    rule("X5", "hostile input", "No message and no system call crashes the kernel."),
    rule("X6", "times", "The access time changes at the read, never at a page-in."),
    also(
        &["system_doors"],
        rule("X8", "doors", "The kernel is entered only at its declared entries."),
    ),
    rule("X9", "silent", "A silent server delays only its clients, which can be killed."),
    rule("X10", "attributes", "The attributes of a path are those of an instant of the call."),
];

const MAPPED: &[Rule] = &[
    rule("M1", "absent is fetched", "An absent page is never zeros."),
    rule("M2", "no store lost", "No store to a mapping is lost."),
    rule("M3", "past the end", "An access past end of file is SIGBUS."),
    rule("M4", "coherent", "Every reader of the file sees every store."),
    rule("M5", "others pay nothing", "Cost follows the pages touched."),
    rule("M6", "not everywhere", "ENODEV where changes are not all seen."),
];

const EXPERIMENT: &[Rule] = &[
    rule("E1", "knobs", "Policies can be changed at run time."),
    rule("E2", "oracle", "With laziness off, the same programs read the same bytes."),
    rule("E3", "counters", "Every decision is counted, and the counts are correct."),
    rule("E4", "trace", "A trace shows the pages of each read and what replaced them."),
    without(
        "lazy and eager are the only meanings",
        rule("E5", "meanings", "Other meanings of read can be chosen at run time."),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The headings of the contract's rules, as "R1 one instant".
    fn headings(contract: &str) -> Vec<String> {
        let heading = |line: &str| {
            let (id, name) = line.strip_prefix("### ")?.split_once(' ')?;
            let number = id.strip_prefix(|letter: char| letter.is_ascii_uppercase())?;
            number.parse::<u8>().ok()?;
            Some(format!("{id} {}", name.replace('-', " ")))
        };
        contract.lines().filter_map(heading).collect()
    }

    #[test]
    fn the_chapter_lists_exactly_the_rules_of_the_contract() {
        let contract = include_str!("../../../docs/src/semantics.md");
        let mut listed: Vec<String> = SECTIONS
            .iter()
            .flat_map(|(_, rules)| *rules)
            .map(|rule| format!("{} {}", rule.id, rule.name.replace('-', " ")))
            .collect();
        let mut headings = headings(contract);
        listed.sort();
        headings.sort();
        assert_eq!(listed, headings);
    }

    #[test]
    fn other_headings_are_no_rules() {
        assert_eq!(
            headings("### R1 one-instant\n### Ranks and floors\n## X. Safety"),
            ["R1 one instant"]
        );
    }
}
