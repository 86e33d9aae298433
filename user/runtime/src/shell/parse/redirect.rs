//! Redirections and here-documents.

use super::{Parse, Parser, SyntaxError};
use crate::prelude::*;
use crate::shell::syntax::{Part, Quoting, Redirect, RedirectKind, Word};

impl Parser<'_> {
    /// Parses a redirection, if one is next.
    pub fn redirect(&mut self) -> Parse<Option<Redirect>> {
        self.blanks();
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        let fd = crate::opt::number(&self.source[start..self.at]);
        let (default, kind) =
            if (self.at > start && fd.is_none()) || !matches!(self.peek(), Some(b'<' | b'>')) {
                self.at = start;
                return Ok(None);
            } else if self.take(b"<<") {
                (Fd::STDIN, RedirectKind::Here)
            } else if self.take(b"<&") {
                (Fd::STDIN, RedirectKind::Duplicate)
            } else if self.take(b"<>") {
                (Fd::STDIN, RedirectKind::ReadWrite)
            } else if self.take(b"<") {
                (Fd::STDIN, RedirectKind::Read)
            } else if self.take(b">>") {
                (Fd::STDOUT, RedirectKind::Append)
            } else if self.take(b">&") {
                (Fd::STDOUT, RedirectKind::Duplicate)
            } else {
                let _ = self.take(b">|") || self.take(b">");
                (Fd::STDOUT, RedirectKind::Write)
            };
        let strip_tabs = kind == RedirectKind::Here && self.take(b"-");
        let mut target = self.word()?.ok_or_else(|| self.unexpected())?;
        if kind == RedirectKind::Here {
            target = self.here_document(&target, strip_tabs)?;
        }
        Ok(Some(Redirect { fd: fd.unwrap_or(default), kind, target }))
    }

    /// Parses the here-document that begins at the next newline, or after the previous one.
    fn here_document(&mut self, delimiter: &Word, strip_tabs: bool) -> Parse<Word> {
        let (mut end_line, mut literal) = (Vec::new(), false);
        for part in delimiter {
            let Part::Text { bytes, quoting } = part else { return Err(self.unexpected()) };
            end_line.extend_from_slice(bytes);
            literal |= *quoting == Quoting::Quoted;
        }
        let line_end =
            self.rest().iter().position(|&byte| byte == b'\n').map(|end| self.at + end + 1);
        let mut at = self.after_documents.or(line_end).ok_or(SyntaxError::Incomplete)?;
        let mut body = Vec::new();
        loop {
            let rest = self
                .source
                .get(at..)
                .filter(|rest| !rest.is_empty())
                .ok_or(SyntaxError::Incomplete)?;
            let length =
                rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |end| end + 1);
            at += length;
            let mut line = &rest[..length];
            while strip_tabs && line.starts_with(b"\t") {
                line = &line[1..];
            }
            if line.strip_suffix(b"\n").unwrap_or(line) == end_line {
                break;
            }
            body.extend_from_slice(line);
        }
        self.after_documents = Some(at);
        if literal {
            return Ok(vec![Part::Text { bytes: body, quoting: Quoting::Quoted }]);
        }
        let mut inner = Parser { depth: self.depth, ..Parser::new(&body) };
        inner.quoted_until(None)
    }
}
