//! The shell: POSIX's grammar and expansions, without aliases, traps and job control beyond the
//! foreground job.
//!
//! [`parse`] turns text into trees ([`syntax`]), [`expand`] turns words into arguments, [`exec`]
//! runs trees, [`builtins`] are the commands that run in the shell's own process. A [`Shell`] is
//! all state that changes at run time. A subshell is a fork, so no state is copied or restored by
//! hand, except for the descriptors of a builtin.

pub mod arith;
pub mod builtins;
pub mod condition;
mod exec;
mod expand;
pub mod interactive;
mod limits;
pub mod parse;
pub mod pattern;
pub mod syntax;
pub mod text;

use crate::prelude::*;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use parse::{Parser, SyntaxError};
use syntax::Command;

/// A shell variable.
#[derive(Clone, Default)]
struct Variable {
    value: Option<Vec<u8>>,
    exported: bool,
}

/// The options of `set`.
#[derive(Default)]
struct Options {
    /// `-e`: a failing command ends the shell.
    exit_on_error: bool,
    /// `-u`: expanding an unset parameter is an error.
    unset_is_error: bool,
    /// `-x`: commands are printed before they run.
    trace: bool,
}

impl Options {
    /// The letters of the options that are on.
    fn letters(&self) -> Vec<u8> {
        let all = [(self.exit_on_error, b'e'), (self.unset_is_error, b'u'), (self.trace, b'x')];
        all.iter().filter(|(on, _)| *on).map(|(_, letter)| *letter).collect()
    }
}

/// Why commands are not run in sequence any more.
#[derive(Debug, PartialEq)]
enum Flow {
    /// `break` out of this many loops.
    Break(u32),
    /// `continue` the outermost of this many loops.
    Continue(u32),
    /// `return` from a function or a file.
    Return(i32),
    /// `exit` from the shell.
    Exit(i32),
    /// An error that ends a script, or the current line of an interactive shell.
    Error(i32),
}

/// The state of a shell.
pub struct Shell {
    variables: BTreeMap<Vec<u8>, Variable>,
    functions: BTreeMap<Vec<u8>, Rc<Command>>,
    positional: Vec<Vec<u8>>,
    name: Vec<u8>,
    status: i32,
    /// Set by a command substitution: a command without words takes its status.
    substituted: bool,
    id: i32,
    last_background: Option<i32>,
    /// Whether this process ends with the simple command that runs next: a program takes its
    /// place, so that its process is the one that the parent knows.
    ends_with_command: bool,
    /// The statuses of background processes that have ended and were not waited for.
    ended: BTreeMap<i32, i32>,
    options: Options,
    /// How many conditions are being tested: in these `set -e` does not apply.
    tested: u32,
    /// The current nesting of functions and sourced files.
    calls: u32,
    loops: u32,
    interactive: bool,
}

impl Shell {
    /// A shell called `name`, with this process's environment.
    pub fn new(name: &[u8]) -> Shell {
        let mut variables = BTreeMap::new();
        for entry in crate::rt::environment() {
            if let Some(equals) = entry.iter().position(|&byte| byte == b'=') {
                let value = Some(entry[equals + 1..].to_vec());
                variables.insert(entry[..equals].to_vec(), Variable { value, exported: true });
            }
        }
        let fixed = |value: &[u8]| Variable { value: Some(value.to_vec()), exported: false };
        // POSIX: field separators are not taken from the environment.
        variables.insert(b"IFS".to_vec(), fixed(b" \t\n"));
        variables.entry(b"PATH".to_vec()).or_insert_with(|| fixed(b"/bin:/sbin"));
        Shell {
            variables,
            functions: BTreeMap::new(),
            positional: Vec::new(),
            name: name.to_vec(),
            status: 0,
            substituted: false,
            id: sys::getpid(),
            last_background: None,
            ends_with_command: false,
            ended: BTreeMap::new(),
            options: Options::default(),
            tested: 0,
            calls: 0,
            loops: 0,
            interactive: false,
        }
    }

    /// Sets the positional parameters.
    pub fn set_positional(&mut self, values: &[&[u8]]) {
        self.positional = values.iter().map(|value| value.to_vec()).collect();
    }

    /// The value of a variable.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.variables.get(name)?.value.as_deref()
    }

    /// Assigns to a variable.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        self.variables.entry(name.to_vec()).or_default().value = Some(value.to_vec());
    }

    /// Prints an error, and returns the flow that ends the script.
    fn error(&self, message: core::fmt::Arguments<'_>) -> Flow {
        eprintln!("{}: {message}", Show(&self.name));
        Flow::Error(2)
    }

    /// In a new child: it is not interactive any more.
    fn enter_subshell(&mut self) {
        self.interactive = false;
        self.ended.clear();
        interactive::restore_signals();
    }

    /// Runs a whole text and returns the status of its last command.
    pub fn run_text(&mut self, text: &[u8]) -> i32 {
        match self.run_commands(text) {
            Ok(()) => self.status,
            Err(Flow::Exit(status) | Flow::Return(status) | Flow::Error(status)) => status,
            Err(Flow::Break(_) | Flow::Continue(_)) => self.status,
        }
    }

    /// Runs commands from standard input. A line is read only after those before it have run, since
    /// they may read standard input, too.
    pub fn run_input(&mut self) -> i32 {
        let mut text = Vec::new();
        loop {
            let mut byte = [0];
            let more = sys::read_full(Fd::STDIN, &mut byte).unwrap_or(0) == 1;
            text.extend(byte.iter().take(usize::from(more)));
            if more && (byte[0] != b'\n' || Parser::new(&text).breaks_off()) {
                continue;
            }
            let line = core::mem::take(&mut text);
            match self.run_commands(&line) {
                Err(Flow::Exit(status) | Flow::Return(status) | Flow::Error(status)) => {
                    return status;
                }
                _ if !more => return self.status,
                _ => {}
            }
        }
    }

    /// Runs a text in this shell and passes on how its flow ended.
    fn run_commands(&mut self, text: &[u8]) -> core::result::Result<(), Flow> {
        let mut parser = Parser::new(text);
        loop {
            match parser.next_command() {
                Ok(Some(list)) => self.run_list(&list)?,
                Ok(None) => return Ok(()),
                Err(SyntaxError::Incomplete) => {
                    return Err(self.error(format_args!("syntax error: unexpected end of file")));
                }
                Err(SyntaxError::Unexpected(token)) => {
                    return Err(self.error(format_args!("syntax error near `{}'", Show(&token))));
                }
            }
        }
    }
}
