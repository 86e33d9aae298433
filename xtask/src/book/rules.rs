//! The contract's rules, each with its short name and what it means for a program. Which tests
//! prove them is found out, not told here.

/// A rule.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Its number.
    pub id: &'static str,
    /// Its short name.
    pub name: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// What of it is not done, if anything.
    pub missing: &'static str,
}

/// Rules of one kind, and what they are about.
pub type Section = (&'static str, &'static [Rule]);

const fn rule(id: &'static str, name: &'static str, meaning: &'static str) -> Rule {
    Rule { id, name, meaning, missing: "" }
}

/// One that is not done yet, or not all of it.
const fn without(missing: &'static str, rule: Rule) -> Rule {
    Rule { missing, ..rule }
}

/// All of them.
pub const SECTIONS: &[Section] = &[
    ("Reading", READ),
    ("Changes to the file after a read", CHANGE),
    ("Writing", WRITE),
    ("Page faults", FAULT),
    ("Address spaces", SPACE),
    ("Resources", RESOURCE),
    ("Safety", SAFETY),
    ("Experiments", EXPERIMENT),
];

const READ: &[Rule] = &[
    rule(
        "R1",
        "one instant",
        "One read(2) is one snapshot; the parts of pages at its ends come from the same one.",
    ),
    rule(
        "R2",
        "count",
        "The server says how long the read is, at the snapshot's instant; who shares an open file never gets a byte twice.",
    ),
    rule("R3", "nothing past n", "No byte behind the last one read is touched."),
    rule("R4", "any offset", "Neither the file's offset nor the buffer has to be aligned."),
    rule(
        "R5",
        "errors as eager",
        "Counts and errors are those of a copying read, also where the address space changes during the call.",
    ),
    rule("R6", "re-read", "Reading over lazy pages replaces them without fetching them."),
    rule("R7", "frames are never written", "A read writes to no frame that anyone else can see."),
    rule(
        "R8",
        "fallback",
        "Where no snapshot is to be had, the read copies, with the same result.",
    ),
    rule("R9", "vectored", "readv, pread and preadv do as read does; one call is one instant."),
    rule(
        "R10",
        "holes",
        "A hole of a file costs no message and no frame, also after it was written over.",
    ),
    without(
        "small adjacent reads are not joined",
        rule("R11", "coalesce", "Many small reads of one file become one association."),
    ),
];

const CHANGE: &[Rule] = &[
    rule("C1", "overwrite", "Whoever writes to the file, the buffer keeps what was read."),
    rule("C2", "truncate", "The same where the file is cut off."),
    rule("C3", "remove", "The same where it is removed; what is kept for readers shows nowhere."),
    rule("C4", "rename over", "The same where another file takes its name."),
    rule("C5", "open with truncation", "The same where it is opened with O_TRUNC."),
    rule("C6", "punch", "The same where a hole is punched into it, or a clone replaces its bytes."),
    rule(
        "C7",
        "append, rename, close",
        "What takes no bytes away costs no rescue and ends no snapshot.",
    ),
    rule(
        "C8",
        "one rescue serves all",
        "Snapshots of the same bytes share what was saved for them.",
    ),
    rule(
        "C9",
        "nothing for nothing",
        "While nobody changes the file, a snapshot costs the server a record in memory.",
    ),
    rule(
        "C10",
        "gone on close",
        "With the last page of a snapshot its rescued bytes go, however that page goes.",
    ),
    rule(
        "C11",
        "ordered",
        "A page that is fetched while the file is being changed is the old one.",
    ),
];

const WRITE: &[Rule] = &[
    rule(
        "W1",
        "references",
        "Whole pages that nobody stored to travel as references, everything else as bytes.",
    ),
    rule(
        "W2",
        "same place",
        "Writing a page back where it came from moves no data; what others changed meanwhile is brought back.",
    ),
    rule("W3", "shifted overlap", "Source and target may overlap in one file."),
    rule("W4", "other file", "A copy to another file of the server is made by the server."),
    rule(
        "W5",
        "elsewhere",
        "To a pipe, a device, another server the bytes themselves go, fetched with no lock held.",
    ),
    rule("W6", "append", "The server chooses the offset; an append is never elided."),
    rule(
        "W7",
        "effects",
        "A write that moved no data has every effect of one that did: rights, room, times, version.",
    ),
    rule(
        "W8",
        "after write",
        "Pages that were written are clean again, unless they were stored to meanwhile.",
    ),
];

const FAULT: &[Rule] = &[
    rule("F1", "load", "A touch brings the page, and neighbours."),
    rule("F2", "store", "A store makes a private copy."),
    rule(
        "F3",
        "one fetch",
        "A page is asked for once, however many wait for it; what comes late is not put where something else is meant by now.",
    ),
    rule(
        "F4",
        "kernel access",
        "System calls read and write lazy memory, hold nothing meanwhile that others need, and lose nothing.",
    ),
    rule("F5", "page-in error", "A page that cannot be had is SIGBUS or EIO, never zeros."),
    without(
        "a server that is lost is given up at once: its readers get F5",
        rule("F6", "server lost", "Waiters wait for a server that comes back."),
    ),
    rule("F7", "killable", "Who waits for a page can be killed; no other signal is felt."),
    rule(
        "F8",
        "no self-deadlock",
        "Servers read eagerly, keep their pages, and have a reserve of frames.",
    ),
];

const SPACE: &[Rule] = &[
    rule("A1", "fork", "Parent and child share what was read."),
    rule("A2", "exec", "Arguments are copied before the old memory goes."),
    rule("A3", "exit", "Exit and kill give everything back."),
    rule(
        "A4",
        "unmap, protect, remap",
        "Parts of a lazy buffer are unmapped, protected and moved without being fetched.",
    ),
    rule("A5", "shared frames", "Processes that read the same bytes share frames."),
    rule("A6", "programs", "A running program's file can be overwritten."),
    rule("A7", "debuggers", "Who looks into a process sees the right bytes."),
    rule(
        "A8",
        "shown frames",
        "A frame that others get to see cannot be written any more by who had it.",
    ),
];

const RESOURCE: &[Rule] = &[
    rule("Q1", "reservation", "Room for a rescue is set aside, or the read copies."),
    rule("Q2", "pressure", "Clean pages go when memory is short, and come back."),
    rule("Q3", "swap", "Dirty pages go to a file, and come back."),
    rule(
        "Q4",
        "limits",
        "Snapshots and regions are bounded; out of memory ends the program that asked, and nothing else.",
    ),
    without(
        "a wrapper that dies takes its snapshots along",
        rule("Q5", "restart", "A wrapper that is started again carries on."),
    ),
];

const SAFETY: &[Rule] = &[
    rule("X1", "rights", "They are checked at the read, and hold for what was read."),
    rule("X2", "handles", "Nobody but the kernel speaks to a server that is mounted."),
    rule("X3", "untrusted servers", "A server that is not trusted is asked for each page once."),
    rule("X4", "arguments", "System calls copy their arguments once."),
    rule("X5", "lies", "No message and no system call crashes the kernel."),
    rule("X6", "times", "The access time moves at the read, never at a page-in."),
];

const EXPERIMENT: &[Rule] = &[
    rule("E1", "knobs", "Policies can be changed while it runs."),
    rule("E2", "the oracle", "With laziness off the same programs see the same bytes."),
    rule("E3", "counters", "Every decision is counted, and the counts are true."),
    rule("E4", "trace", "A trace shows what became of each read."),
];
