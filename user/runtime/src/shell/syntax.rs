//! What a line of shell means, as a tree. Names follow POSIX's shell grammar.

use crate::prelude::*;
use alloc::rc::Rc;

/// A piece of a word. `quoted` says that its value is neither split into fields nor taken as a
/// pattern.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Part {
    /// Characters as they stand.
    Text { bytes: Vec<u8>, quoted: bool },
    /// `$NAME` and `${NAME…}`.
    Parameter { name: Vec<u8>, modifier: Option<Modifier>, quoted: bool },
    /// `$(…)` and `` `…` ``.
    Command { source: Vec<u8>, quoted: bool },
    /// `$((…))`.
    Arithmetic { expression: Word, quoted: bool },
}

/// A word before expansion.
pub type Word = Vec<Part>;

/// What `${NAME…}` does with the value.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Modifier {
    /// `${#NAME}`
    Length,
    /// `-`, `=`, `?` or `+`; with a colon an empty value counts as none.
    Instead { operator: u8, colon: bool, word: Word },
    /// `#`, `##`, `%` and `%%`.
    Remove { suffix: bool, longest: bool, pattern: Word },
}

/// What a redirection does to its descriptor.
#[derive(Clone, Debug, PartialEq)]
pub enum RedirectKind {
    /// `<`
    Read,
    /// `>`
    Write,
    /// `>>`
    Append,
    /// `<>`
    ReadWrite,
    /// `<&` and `>&`
    Duplicate,
    /// `<<`: the target is the document itself.
    Here,
}

/// One redirection.
#[derive(Clone, Debug, PartialEq)]
pub struct Redirect {
    /// The descriptor redirected.
    pub fd: Fd,
    /// How.
    pub kind: RedirectKind,
    /// To what.
    pub target: Word,
}

/// A command of a pipeline.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Command {
    /// Assignments, then a program or builtin with its arguments.
    Simple { assignments: Vec<(Vec<u8>, Word)>, words: Vec<Word>, redirects: Vec<Redirect> },
    /// A construct of its own.
    Compound { body: Compound, redirects: Vec<Redirect> },
    /// `name() body`
    Function { name: Vec<u8>, body: Rc<Command> },
}

/// The constructs.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Compound {
    /// `{ …; }`
    Group(List),
    /// `( … )`
    Subshell(List),
    /// `if` and `elif` arms, each a condition and a body, then `else`.
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
    /// Begins with `!`.
    pub negated: bool,
    /// The commands, at least one.
    pub commands: Vec<Command>,
}

/// What stands between two pipelines of a list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Connector {
    /// `&&`
    And,
    /// `||`
    Or,
}

/// Pipelines joined by `&&` and `||`.
#[derive(Clone, Debug, PartialEq)]
pub struct AndOr {
    /// The first pipeline.
    pub first: Pipeline,
    /// The others, each with what stands before it.
    pub rest: Vec<(Connector, Pipeline)>,
    /// Ends with `&`.
    pub background: bool,
}

/// Commands one after the other.
pub type List = Vec<AndOr>;
