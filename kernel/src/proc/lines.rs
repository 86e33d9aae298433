//! What several texts of `/proc` are made of.

use crate::file::tasks;
use crate::mem::{OutOfMemory, fallible::Text};
use alloc::vec::Vec;
use core::fmt::{Display, Write};

/// The numbers of all processes, ascending.
pub(super) fn pids() -> impl Iterator<Item = u32> {
    let next = |last| tasks().and_then(|tasks| tasks.next_pid(last));
    core::iter::successors(next(0), move |&last| next(last))
}

/// Text of `name: value` lines.
pub(super) fn lines<'a, V: Display>(
    lines: impl Iterator<Item = (&'a str, V)>,
) -> Result<Vec<u8>, OutOfMemory> {
    let mut text = Text::default();
    for (name, value) in lines {
        writeln!(text, "{name}: {value}")?;
    }
    Ok(text.0)
}
