//! The syntax tree of the shell. The names follow POSIX's shell grammar.

use crate::prelude::*;
use alloc::rc::Rc;

/// Whether characters are quoted. Quoted ones are not split into fields, nor special in patterns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Quoting {
    /// Not quoted.
    Plain,
    /// In quotation marks, or after a backslash.
    Quoted,
}

/// A part of a word. The value of a quoted part is neither split into fields nor used as a pattern.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Part {
    /// Literal characters.
    Text { bytes: Vec<u8>, quoting: Quoting },
    /// `$NAME` and `${NAME…}`.
    Parameter { name: Vec<u8>, modifier: Option<Modifier>, quoting: Quoting },
    /// Command substitution: `$(…)` and `` `…` ``.
    Command { source: Vec<u8>, quoting: Quoting },
    /// Arithmetic expansion: `$((…))`.
    Arithmetic { expression: Word, quoting: Quoting },
}

/// A word before expansion.
pub type Word = Vec<Part>;

/// What `${NAME…}` does to the value.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Modifier {
    /// `${#NAME}`
    Length,
    /// `-`, `=`, `?` or `+`. With a colon an empty value counts as unset.
    Instead { operator: u8, colon: bool, word: Word },
    /// `#`, `##`, `%` and `%%`: removes a matching prefix or suffix.
    Remove { suffix: bool, longest: bool, pattern: Word },
}

/// What a redirection does to its descriptor.
#[derive(Clone, Debug, PartialEq)]
pub enum RedirectKind {
    /// `<` opens a file for reading.
    Read,
    /// `>` opens a file for writing and truncates it.
    Write,
    /// `>>` opens a file for appending.
    Append,
    /// `<>` opens a file for reading and writing.
    ReadWrite,
    /// `<&` and `>&` copy or close a descriptor.
    Duplicate,
    /// `<<`: the target is the document itself.
    Here,
}

/// One redirection.
#[derive(Clone, Debug, PartialEq)]
pub struct Redirect {
    /// The redirected descriptor.
    pub fd: Fd,
    /// The operator.
    pub kind: RedirectKind,
    /// A file name, a descriptor's number, or the here-document.
    pub target: Word,
}

/// A command of a pipeline.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Command {
    /// Assignments, then a program or builtin with its arguments.
    Simple { assignments: Vec<(Vec<u8>, Word)>, words: Vec<Word>, redirects: Vec<Redirect> },
    /// A compound command.
    Compound { body: Compound, redirects: Vec<Redirect> },
    /// The definition of a function: `name() body`.
    Function { name: Vec<u8>, body: Rc<Command> },
}

/// Compound commands.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Compound {
    /// A group in the same shell: `{ …; }`.
    Group(List),
    /// A group in a subshell: `( … )`.
    Subshell(List),
    /// The `if` and `elif` arms, each a condition and a body; then `else`.
    If { arms: Vec<(List, List)>, otherwise: List },
    /// `while`, or `until` if the loop ends when the condition holds.
    Loop { until: bool, condition: List, body: List },
    /// `for NAME in WORDS`; without words, over the positional parameters.
    For { name: Vec<u8>, words: Option<Vec<Word>>, body: List },
    /// `case WORD in PATTERNS) …;; esac`
    Case { word: Word, arms: Vec<(Vec<Word>, List)> },
}

/// Commands joined by `|`.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline {
    /// Whether the pipeline begins with `!`.
    pub negated: bool,
    /// The commands, at least one.
    pub commands: Vec<Command>,
}

/// The operator between two pipelines of a list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Connector {
    /// `&&` runs the next pipeline after success.
    And,
    /// `||` runs the next pipeline after failure.
    Or,
}

/// Pipelines joined by `&&` and `||`.
#[derive(Clone, Debug, PartialEq)]
pub struct AndOr {
    /// The pipeline that always runs.
    pub first: Pipeline,
    /// The other pipelines, each with the operator before it.
    pub rest: Vec<(Connector, Pipeline)>,
    /// Whether the list ends with `&`.
    pub background: bool,
}

/// Commands in sequence.
pub type List = Vec<AndOr>;
