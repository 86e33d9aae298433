//! Words: quotation, and everything that begins with a dollar sign or a backquote.

use super::{MAX_DEPTH, Parse, Parser, SyntaxError, is_meta, is_name_byte, push};
use crate::prelude::*;
use crate::shell::syntax::{Modifier, Part, Quoting, Word};

impl Parser<'_> {
    /// Parses the next word, if one is next.
    pub fn word(&mut self) -> Parse<Option<Word>> {
        self.blanks();
        let mut word = Word::new();
        let start = self.at;
        while let Some(byte) = self.peek() {
            if is_meta(byte) {
                break;
            }
            self.word_byte(&mut word, byte)?;
        }
        Ok((self.at > start).then_some(word))
    }

    /// Parses one character, quotation or expansion of an unquoted word.
    fn word_byte(&mut self, word: &mut Word, byte: u8) -> Parse<()> {
        self.at += 1;
        match byte {
            b'\\' => match self.peek() {
                None => return Err(SyntaxError::Incomplete),
                Some(b'\n') => {
                    self.at += 1;
                    self.continues = self.rest().is_empty();
                }
                Some(next) => {
                    self.at += 1;
                    push(word, next, Quoting::Quoted);
                }
            },
            b'\'' => {
                let length = self
                    .rest()
                    .iter()
                    .position(|&byte| byte == b'\'')
                    .ok_or(SyntaxError::Incomplete)?;
                word.push(Part::Text {
                    bytes: self.rest()[..length].to_vec(),
                    quoting: Quoting::Quoted,
                });
                self.at += length + 1;
            }
            b'"' => {
                // An empty quotation still makes a word.
                word.push(Part::Text { bytes: Vec::new(), quoting: Quoting::Quoted });
                word.extend(self.quoted_until(Some(b'"'))?);
            }
            b'$' => self.dollar(word, Quoting::Plain)?,
            b'`' => self.backquote(word, Quoting::Plain)?,
            _ => push(word, byte, Quoting::Plain),
        }
        Ok(())
    }

    /// Parses the text between double quotes, or a here-document, which ends with the text.
    pub(super) fn quoted_until(&mut self, end: Option<u8>) -> Parse<Word> {
        let mut word = Word::new();
        loop {
            let Some(byte) = self.peek() else {
                return if end.is_none() { Ok(word) } else { Err(SyntaxError::Incomplete) };
            };
            self.at += 1;
            match byte {
                _ if Some(byte) == end => return Ok(word),
                b'\\' => match self.peek() {
                    Some(b'\n') => self.at += 1,
                    Some(next) if matches!(next, b'$' | b'`' | b'\\') || Some(next) == end => {
                        self.at += 1;
                        push(&mut word, next, Quoting::Quoted);
                    }
                    _ => push(&mut word, b'\\', Quoting::Quoted),
                },
                b'$' => self.dollar(&mut word, Quoting::Quoted)?,
                b'`' => self.backquote(&mut word, Quoting::Quoted)?,
                _ => push(&mut word, byte, Quoting::Quoted),
            }
        }
    }

    /// Parses what follows a `$`.
    pub(super) fn dollar(&mut self, word: &mut Word, quoting: Quoting) -> Parse<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(SyntaxError::Unexpected(b"nesting".to_vec()));
        }
        let result = self.expansion(word, quoting);
        self.depth -= 1;
        result
    }

    fn expansion(&mut self, word: &mut Word, quoting: Quoting) -> Parse<()> {
        if self.rest().starts_with(b"((")
            && let Some(expression) = self.arithmetic()?
        {
            word.push(Part::Arithmetic { expression, quoting });
        } else if self.take(b"(") {
            let start = self.at;
            let mut inner = Parser { at: start, depth: self.depth, ..Parser::new(self.source) };
            inner.compound_list()?;
            self.at = inner.at;
            let source = self.source[start..self.at].to_vec();
            if !self.take(b")") {
                return Err(self.unexpected());
            }
            word.push(Part::Command { source, quoting });
        } else if self.take(b"{") {
            self.braced(word, quoting)?;
        } else {
            let name = self.parameter_name();
            if name.is_empty() {
                push(word, b'$', quoting);
            } else {
                word.push(Part::Parameter { name, modifier: None, quoting });
            }
        }
        Ok(())
    }

    /// Parses a name, one digit, or one special parameter.
    fn parameter_name(&mut self) -> Vec<u8> {
        let rest = self.rest();
        let length = match rest.first() {
            Some(b'@' | b'*' | b'#' | b'?' | b'-' | b'$' | b'!' | b'0'..=b'9') => 1,
            _ => rest.iter().position(|&byte| !is_name_byte(byte)).unwrap_or(rest.len()),
        };
        self.at += length;
        rest[..length].to_vec()
    }

    /// Parses what follows `${`.
    fn braced(&mut self, word: &mut Word, quoting: Quoting) -> Parse<()> {
        let length = self.rest().starts_with(b"#") && !self.rest().starts_with(b"#}");
        if length {
            self.at += 1;
        }
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        let mut name = self.source[start..self.at].to_vec();
        if name.is_empty() {
            name = self.parameter_name();
        }
        let mut modifier = length.then_some(Modifier::Length);
        if !length && !self.rest().starts_with(b"}") {
            let colon = self.take(b":");
            let operator = self.peek().ok_or(SyntaxError::Incomplete)?;
            let error = self.unexpected();
            self.at += 1;
            modifier = Some(match operator {
                b'-' | b'=' | b'?' | b'+' => {
                    Modifier::Instead { operator, colon, word: self.braced_word(quoting)? }
                }
                b'#' | b'%' if !colon => {
                    let longest = self.take(&[operator]);
                    Modifier::Remove {
                        suffix: operator == b'%',
                        longest,
                        pattern: self.braced_word(Quoting::Plain)?,
                    }
                }
                _ => return Err(error),
            });
        }
        if name.is_empty() || !self.take(b"}") {
            return Err(self.unexpected());
        }
        word.push(Part::Parameter { name, modifier, quoting });
        Ok(())
    }

    /// Parses the word of a modifier, up to the closing brace.
    fn braced_word(&mut self, quoting: Quoting) -> Parse<Word> {
        let mut word = Word::new();
        loop {
            match self.peek().ok_or(SyntaxError::Incomplete)? {
                b'}' => return Ok(word),
                byte if quoting == Quoting::Quoted
                    && !matches!(byte, b'"' | b'\\' | b'$' | b'`') =>
                {
                    self.at += 1;
                    push(&mut word, byte, Quoting::Quoted);
                }
                byte => self.word_byte(&mut word, byte)?,
            }
        }
    }

    /// Parses `((…))` after a `$`. Consumes nothing if there is none.
    fn arithmetic(&mut self) -> Parse<Option<Word>> {
        let rest = &self.rest()[2..];
        let mut open = 0u32;
        for (length, &byte) in rest.iter().enumerate() {
            match byte {
                b'(' => open += 1,
                b')' if open > 0 => open -= 1,
                b')' if rest.get(length + 1) == Some(&b')') => {
                    let mut inner = Parser { depth: self.depth, ..Parser::new(&rest[..length]) };
                    let expression = inner.quoted_until(None)?;
                    self.at += 2 + length + 2;
                    return Ok(Some(expression));
                }
                b')' => return Ok(None),
                _ => {}
            }
        }
        Err(SyntaxError::Incomplete)
    }

    /// Parses what follows a backquote. Inside, a backslash quotes only `$`, a backquote and
    /// itself.
    pub(super) fn backquote(&mut self, word: &mut Word, quoting: Quoting) -> Parse<()> {
        let mut source = Vec::new();
        loop {
            let byte = self.peek().ok_or(SyntaxError::Incomplete)?;
            self.at += 1;
            match (byte, self.peek()) {
                (b'`', _) => break,
                (b'\\', Some(next @ (b'$' | b'`' | b'\\'))) => {
                    self.at += 1;
                    source.push(next);
                }
                _ => source.push(byte),
            }
        }
        word.push(Part::Command { source, quoting });
        Ok(())
    }
}
