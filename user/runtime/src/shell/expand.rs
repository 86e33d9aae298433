//! From words to arguments: parameters, command and arithmetic substitution, field splitting,
//! patterns, quote removal.

use super::pattern::{self, Char};
use super::syntax::{Modifier, Part, Quoting, Word};
use super::{Flow, Shell, arith};
use crate::prelude::*;

/// Whether unquoted values are split into fields.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Splitting {
    On,
    Off,
}

/// The result of expanding words so far: the finished fields, and the current one. `None` means
/// that there is no current field; an empty field differs from none.
#[derive(Default)]
struct Fields {
    done: Vec<Vec<Char>>,
    current: Option<Vec<Char>>,
}

impl Fields {
    fn push(&mut self, bytes: &[u8], quoting: Quoting) {
        self.current.get_or_insert_default().extend(bytes.iter().map(|&byte| (byte, quoting)));
    }

    fn end(&mut self) {
        self.done.extend(self.current.take());
    }

    /// Adds an unquoted value, split at `separators`.
    fn split(&mut self, value: &[u8], separators: &[u8]) {
        let is_space = |byte: u8| separators.contains(&byte) && byte.is_ascii_whitespace();
        let mut at = 0;
        while at < value.len() {
            let byte = value[at];
            at += 1;
            if !separators.contains(&byte) {
                self.push(&[byte], Quoting::Plain);
                continue;
            }
            // A non-space separator ends a field even if that is empty; spaces around it belong to
            // it.
            let mut hard = !is_space(byte);
            while at < value.len()
                && (is_space(value[at]) || (!hard && separators.contains(&value[at])))
            {
                hard |= !is_space(value[at]);
                at += 1;
            }
            if hard {
                self.current.get_or_insert_default();
            }
            self.end();
        }
    }
}

impl Shell {
    /// Expands words to fields.
    pub(super) fn expand_words(
        &mut self,
        words: &[Word],
    ) -> core::result::Result<Vec<Vec<u8>>, Flow> {
        let mut arguments = Vec::new();
        for word in words {
            let mut fields = Fields::default();
            self.expand_parts(&tilde(self, word), &mut fields, Splitting::On)?;
            fields.end();
            for field in fields.done {
                let found =
                    if pattern::is_pattern(&field) { pattern::expand(&field) } else { Vec::new() };
                if found.is_empty() {
                    arguments.push(bytes_of(&field));
                } else {
                    arguments.extend(found);
                }
            }
        }
        Ok(arguments)
    }

    /// Expands a word to one string, without field splitting and patterns: for assignments,
    /// redirections, `case`.
    pub(super) fn expand_single(&mut self, word: &Word) -> core::result::Result<Vec<u8>, Flow> {
        Ok(bytes_of(&self.expand_pattern(word)?))
    }

    /// Expands a word to one string that records which characters were quoted.
    pub(super) fn expand_pattern(&mut self, word: &Word) -> core::result::Result<Vec<Char>, Flow> {
        let mut fields = Fields::default();
        self.expand_parts(&tilde(self, word), &mut fields, Splitting::Off)?;
        fields.end();
        Ok(fields.done.join(&(b' ', Quoting::Quoted)))
    }

    fn expand_parts(
        &mut self,
        word: &Word,
        fields: &mut Fields,
        splitting: Splitting,
    ) -> core::result::Result<(), Flow> {
        for part in word {
            let (value, quoting) = match part {
                Part::Text { bytes, quoting } => {
                    fields.push(bytes, *quoting);
                    continue;
                }
                Part::Parameter { name, modifier: None, quoting }
                    if matches!(name.as_slice(), b"@" | b"*") =>
                {
                    self.expand_all(name, *quoting, fields, splitting);
                    continue;
                }
                Part::Parameter {
                    name,
                    modifier: Some(Modifier::Instead { operator, colon, word }),
                    quoting,
                } => match self.instead(name, *operator, *colon, word)? {
                    Some(value) => (value, *quoting),
                    None => {
                        self.expand_parts(word, fields, splitting)?;
                        continue;
                    }
                },
                Part::Parameter { name, modifier, quoting } => {
                    (self.parameter(name, modifier.as_ref())?, *quoting)
                }
                Part::Command { source, quoting } => (self.substitute(source)?, *quoting),
                Part::Arithmetic { expression, quoting } => {
                    let text = self.expand_single(expression)?;
                    let value = arith::evaluate(self, &text).ok_or_else(|| {
                        self.error(format_args!("arithmetic: {}: cannot be evaluated", Show(&text)))
                    })?;
                    (format!("{value}").into_bytes(), *quoting)
                }
            };
            if quoting == Quoting::Quoted || splitting == Splitting::Off {
                fields.push(&value, quoting);
            } else {
                let separators = self.get(b"IFS").map_or(b" \t\n".to_vec(), |value| value.to_vec());
                fields.split(&value, &separators);
            }
        }
        Ok(())
    }

    /// Expands `$@` and `$*` to the positional parameters.
    fn expand_all(
        &mut self,
        name: &[u8],
        quoting: Quoting,
        fields: &mut Fields,
        splitting: Splitting,
    ) {
        let separators = self.get(b"IFS").map_or(b" \t\n".to_vec(), |value| value.to_vec());
        if quoting == Quoting::Quoted && name == b"*" {
            let joined = self.positional.join(separators.get(..1).unwrap_or_default());
            return fields.push(&joined, Quoting::Quoted);
        }
        for (index, value) in self.positional.iter().enumerate() {
            if index > 0 {
                if splitting == Splitting::On { fields.end() } else { fields.push(b" ", quoting) }
            }
            if quoting == Quoting::Quoted || splitting == Splitting::Off {
                fields.push(value, quoting);
            } else {
                fields.split(value, &separators);
            }
        }
        // "$@" without parameters is no field, rather than an empty one.
        if quoting == Quoting::Quoted
            && self.positional.is_empty()
            && fields.current.as_ref().is_some_and(Vec::is_empty)
        {
            fields.current = None;
        }
    }

    /// The replacement in `${NAME-word}` and its relatives, or `None` if `word` is to be expanded.
    fn instead(
        &mut self,
        name: &[u8],
        operator: u8,
        colon: bool,
        word: &Word,
    ) -> core::result::Result<Option<Vec<u8>>, Flow> {
        let value = self.parameter_value(name).filter(|value| !colon || !value.is_empty());
        match (operator, value) {
            (b'+', Some(_)) => Ok(None),
            (b'+', None) => Ok(Some(Vec::new())),
            (_, Some(value)) => Ok(Some(value)),
            (b'=', None) => {
                let value = self.expand_single(word)?;
                self.set(name, &value);
                Ok(Some(value))
            }
            (b'?', None) => {
                let message = self.expand_single(word)?;
                let message =
                    if message.is_empty() { b"parameter not set".to_vec() } else { message };
                Err(self.error(format_args!("{}: {}", Show(name), Show(&message))))
            }
            _ => Ok(None),
        }
    }

    fn parameter(
        &mut self,
        name: &[u8],
        modifier: Option<&Modifier>,
    ) -> core::result::Result<Vec<u8>, Flow> {
        let value = self.parameter_value(name);
        if value.is_none() && self.options.unset_is_error {
            return Err(self.error(format_args!("{}: parameter not set", Show(name))));
        }
        let value = value.unwrap_or_default();
        match modifier {
            Some(Modifier::Length) => Ok(format!("{}", value.len()).into_bytes()),
            Some(Modifier::Remove { suffix, longest, pattern }) => {
                let pattern = self.expand_pattern(pattern)?;
                Ok(remove(&value, &pattern, *suffix, *longest))
            }
            _ => Ok(value),
        }
    }

    /// The value of a parameter, including special parameters.
    fn parameter_value(&self, name: &[u8]) -> Option<Vec<u8>> {
        let number = |value: i64| Some(format!("{value}").into_bytes());
        match name {
            b"?" => number(self.status.into()),
            b"#" => number(self.positional.len() as i64),
            b"$" => number(self.id.into()),
            b"!" => self.last_background.and_then(|id| number(id.into())),
            b"0" => Some(self.name.clone()),
            b"-" => Some(self.options.letters()),
            b"@" | b"*" => (!self.positional.is_empty()).then(|| self.positional.join(&b' ')),
            _ if name.first().is_some_and(u8::is_ascii_digit) => {
                self.positional.get(crate::opt::number::<usize>(name)?.checked_sub(1)?).cloned()
            }
            _ => self.get(name).map(<[u8]>::to_vec),
        }
    }

    /// The output of a command, without trailing newlines.
    fn substitute(&mut self, source: &[u8]) -> core::result::Result<Vec<u8>, Flow> {
        let fail = |shell: &Shell, error: Errno| {
            shell.error(format_args!("command substitution: {error}"))
        };
        let [reader, writer] = sys::pipe(sys::abi::O_CLOEXEC).map_err(|error| fail(self, error))?;
        let child = match sys::fork() {
            Ok(Some(child)) => child,
            Ok(None) => {
                self.enter_subshell();
                let _ = sys::dup2(writer, Fd::STDOUT);
                let status = self.run_text(source);
                sys::exit(status)
            }
            Err(error) => {
                let _ = (sys::close(reader), sys::close(writer));
                return Err(fail(self, error));
            }
        };
        let _ = sys::close(writer);
        let output = crate::io::read_to_end(reader);
        let _ = sys::close(reader);
        self.status = sys::wait_for(child).map_or(127, |status| status.shell_status());
        self.substituted = true;
        let mut output = output.map_err(|error| fail(self, error))?;
        while output.last() == Some(&b'\n') {
            output.pop();
        }
        output.retain(|&byte| byte != 0);
        Ok(output)
    }
}

fn bytes_of(field: &[Char]) -> Vec<u8> {
    field.iter().map(|&(byte, _)| byte).collect()
}

/// Replaces a leading `~` by the home directory.
fn tilde(shell: &Shell, word: &Word) -> Word {
    let mut word = word.clone();
    if let Some(Part::Text { bytes, quoting: Quoting::Plain }) = word.first_mut()
        && bytes.first() == Some(&b'~')
        && matches!(bytes.get(1), None | Some(b'/'))
        && let Some(home) = shell.get(b"HOME")
    {
        *bytes = [home, &bytes[1..]].concat();
    }
    word
}

/// The value without the shortest or longest prefix or suffix that matches.
fn remove(value: &[u8], pattern: &[Char], suffix: bool, longest: bool) -> Vec<u8> {
    let split = |at: usize| {
        if suffix {
            pattern::matches(pattern, &value[at..])
        } else {
            pattern::matches(pattern, &value[..at])
        }
    };
    // In ascending order, the shortest prefix and the longest suffix are found first.
    let mut ways = 0..=value.len();
    let at = if suffix == longest {
        ways.find(|&at| split(at))
    } else {
        ways.rev().find(|&at| split(at))
    };
    match at {
        Some(at) if suffix => value[..at].to_vec(),
        Some(at) => value[at..].to_vec(),
        None => value.to_vec(),
    }
}
