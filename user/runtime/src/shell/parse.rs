//! The parser: from text to [`List`]s, by recursive descent on the bytes, one complete command at a
//! time.
//!
//! A script is parsed only to the end of its next command, so that the commands before a syntax
//! error still run, as in POSIX. Nothing is executed here.

mod redirect;
mod words;

use super::syntax::{AndOr, Command, Compound, Connector, List, Part, Pipeline, Quoting, Word};
use crate::prelude::*;
use alloc::rc::Rc;

/// Why a text is not a command.
#[derive(Clone, Debug, PartialEq)]
pub enum SyntaxError {
    /// The text ends in the middle of a command: more lines may complete it.
    Incomplete,
    /// This token is not allowed here.
    Unexpected(Vec<u8>),
}

type Parse<T> = core::result::Result<T, SyntaxError>;

/// The maximum nesting of compound commands, which bounds the stack of parser and executor.
const MAX_DEPTH: u32 = 100;

/// A parser: the text and a position in it.
pub struct Parser<'a> {
    source: &'a [u8],
    at: usize,
    /// The position after the here-documents that begin at the next newline.
    after_documents: Option<usize>,
    depth: u32,
    /// Whether the text ends with a line continuation.
    pub(super) continues: bool,
}

const RESERVED: [&[u8]; 14] = [
    b"if", b"then", b"else", b"elif", b"fi", b"while", b"until", b"do", b"done", b"for", b"case",
    b"esac", b"}", b"in",
];

/// The reserved words that end a list.
const CLOSING: [&[u8]; 8] = [b"then", b"else", b"elif", b"fi", b"do", b"done", b"esac", b"}"];

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn is_meta(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b';' | b'&' | b'|' | b'<' | b'>' | b'(' | b')')
}

/// Whether `name` is a valid name of a variable.
pub fn is_name(name: &[u8]) -> bool {
    name.first().is_some_and(|&byte| is_name_byte(byte) && !byte.is_ascii_digit())
        && name.iter().all(|&byte| is_name_byte(byte))
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Appends a character to a word.
fn push(word: &mut Word, byte: u8, quoting: Quoting) {
    match word.last_mut() {
        Some(Part::Text { bytes, quoting: before }) if *before == quoting => bytes.push(byte),
        _ => word.push(Part::Text { bytes: vec![byte], quoting }),
    }
}

/// The bytes of a word that consists of one piece of plain text.
fn plain(word: &Word) -> Option<&[u8]> {
    match word.as_slice() {
        [Part::Text { bytes, quoting: Quoting::Plain }] => Some(bytes),
        _ => None,
    }
}

impl<'a> Parser<'a> {
    /// A parser at the start of `source`.
    pub fn new(source: &'a [u8]) -> Parser<'a> {
        Parser { source, at: 0, after_documents: None, depth: 0, continues: false }
    }

    /// The next complete command: a line, or several if a compound command spans them. `None` at
    /// the end.
    pub fn next_command(&mut self) -> Parse<Option<List>> {
        self.newlines();
        if self.peek().is_none() {
            return Ok(None);
        }
        let list = self.list_on_line()?;
        match self.peek() {
            None | Some(b'\n') => Ok(Some(list)),
            Some(_) => Err(self.unexpected()),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.source.get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.source.get(self.at..).unwrap_or_default()
    }

    fn take(&mut self, text: &[u8]) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    /// The error for the token at the current position.
    fn unexpected(&self) -> SyntaxError {
        let rest = self.rest();
        if rest.is_empty() {
            return SyntaxError::Incomplete;
        }
        let end = rest.iter().position(|&byte| is_meta(byte)).unwrap_or(rest.len()).max(1);
        SyntaxError::Unexpected(if rest[0] == b'\n' {
            b"newline".to_vec()
        } else {
            rest[..end].to_vec()
        })
    }

    /// Skips blanks, line continuations and a comment.
    fn blanks(&mut self) {
        loop {
            match self.peek() {
                Some(byte) if is_blank(byte) => self.at += 1,
                Some(b'\\') if self.rest().starts_with(b"\\\n") => {
                    self.at += 2;
                    self.continues = self.rest().is_empty();
                }
                Some(b'#') => {
                    let rest = self.rest();
                    self.at += rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
                }
                _ => return,
            }
        }
    }

    /// Skips one newline and the here-documents after it.
    fn newline(&mut self) -> bool {
        self.blanks();
        let found = self.take(b"\n");
        if found && let Some(after) = self.after_documents.take() {
            self.at = after;
        }
        found
    }

    fn newlines(&mut self) {
        while self.newline() {}
    }

    /// Skips the reserved word if it is next. Returns whether it was.
    fn reserved(&mut self, word: &[u8]) -> bool {
        self.blanks();
        let found = self.at_reserved(word);
        if found {
            self.at += word.len();
        }
        found
    }

    fn at_reserved(&self, word: &[u8]) -> bool {
        self.rest()
            .strip_prefix(word)
            .is_some_and(|rest| rest.first().is_none_or(|&byte| is_meta(byte)))
    }

    fn expect(&mut self, word: &[u8]) -> Parse<()> {
        self.newlines();
        if self.reserved(word) { Ok(()) } else { Err(self.unexpected()) }
    }

    /// Parses commands up to the end of the line.
    fn list_on_line(&mut self) -> Parse<List> {
        let mut list = Vec::new();
        loop {
            let mut item = self.and_or()?;
            self.blanks();
            let separated = if self.rest().starts_with(b";;") {
                false
            } else if self.take(b";") {
                true
            } else {
                item.background = self.take(b"&");
                item.background
            };
            list.push(item);
            self.blanks();
            let ends = matches!(self.peek(), None | Some(b'\n' | b')' | b';'));
            if !separated || ends || CLOSING.iter().any(|word| self.at_reserved(word)) {
                return Ok(list);
            }
        }
    }

    /// Parses commands over any number of lines, up to the end of the enclosing compound command.
    fn compound_list(&mut self) -> Parse<List> {
        let mut list = Vec::new();
        loop {
            self.newlines();
            let ends = matches!(self.peek(), Some(b')')) || self.rest().starts_with(b";;");
            if ends || CLOSING.iter().any(|word| self.at_reserved(word)) {
                return Ok(list);
            }
            list.extend(self.list_on_line()?);
        }
    }

    /// Parses a non-empty compound list and the word that ends it.
    fn body(&mut self, end: &[u8]) -> Parse<List> {
        let list = self.compound_list()?;
        if list.is_empty() {
            return Err(self.unexpected());
        }
        self.expect(end)?;
        Ok(list)
    }

    fn and_or(&mut self) -> Parse<AndOr> {
        let first = self.pipeline()?;
        let mut rest = Vec::new();
        loop {
            self.blanks();
            let connector = if self.take(b"&&") {
                Connector::And
            } else if self.take(b"||") {
                Connector::Or
            } else {
                return Ok(AndOr { first, rest, background: false });
            };
            self.newlines();
            rest.push((connector, self.pipeline()?));
        }
    }

    fn pipeline(&mut self) -> Parse<Pipeline> {
        let mut negated = false;
        while self.reserved(b"!") {
            negated = !negated;
        }
        let mut commands = vec![self.command()?];
        loop {
            self.blanks();
            if self.rest().starts_with(b"||") || !self.take(b"|") {
                return Ok(Pipeline { negated, commands });
            }
            self.newlines();
            commands.push(self.command()?);
        }
    }

    fn command(&mut self) -> Parse<Command> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(SyntaxError::Unexpected(b"nesting".to_vec()));
        }
        let command = match self.compound()? {
            Some(body) => {
                let mut redirects = Vec::new();
                while let Some(redirect) = self.redirect()? {
                    redirects.push(redirect);
                }
                Command::Compound { body, redirects }
            }
            None => self.simple()?,
        };
        self.depth -= 1;
        Ok(command)
    }

    fn compound(&mut self) -> Parse<Option<Compound>> {
        self.blanks();
        Ok(Some(if self.take(b"(") {
            let list = self.compound_list()?;
            if list.is_empty() || !self.take(b")") {
                return Err(self.unexpected());
            }
            Compound::Subshell(list)
        } else if self.reserved(b"{") {
            Compound::Group(self.body(b"}")?)
        } else if self.reserved(b"if") {
            self.if_arms()?
        } else if self.reserved(b"while") {
            Compound::Loop { until: false, condition: self.body(b"do")?, body: self.body(b"done")? }
        } else if self.reserved(b"until") {
            Compound::Loop { until: true, condition: self.body(b"do")?, body: self.body(b"done")? }
        } else if self.reserved(b"for") {
            self.for_loop()?
        } else if self.reserved(b"case") {
            self.case()?
        } else {
            return Ok(None);
        }))
    }

    fn if_arms(&mut self) -> Parse<Compound> {
        let mut arms = Vec::new();
        loop {
            let condition = self.body(b"then")?;
            let body = self.compound_list()?;
            if body.is_empty() {
                return Err(self.unexpected());
            }
            arms.push((condition, body));
            if self.reserved(b"elif") {
                continue;
            }
            if self.reserved(b"else") {
                return Ok(Compound::If { arms, otherwise: self.body(b"fi")? });
            }
            self.expect(b"fi")?;
            return Ok(Compound::If { arms, otherwise: Vec::new() });
        }
    }

    fn for_loop(&mut self) -> Parse<Compound> {
        self.blanks();
        let error = self.unexpected();
        let word = self.word()?;
        let name =
            word.as_ref().and_then(plain).filter(|name| is_name(name)).ok_or(error)?.to_vec();
        self.newlines();
        let words = if self.reserved(b"in") {
            let mut words = Vec::new();
            while let Some(word) = self.word()? {
                words.push(word);
            }
            Some(words)
        } else {
            None
        };
        self.blanks();
        self.take(b";");
        self.expect(b"do")?;
        Ok(Compound::For { name, words, body: self.body(b"done")? })
    }

    fn case(&mut self) -> Parse<Compound> {
        let word = self.word()?.ok_or_else(|| self.unexpected())?;
        self.expect(b"in")?;
        let mut arms = Vec::new();
        loop {
            self.newlines();
            if self.reserved(b"esac") {
                return Ok(Compound::Case { word, arms });
            }
            self.take(b"(");
            let mut patterns = Vec::new();
            loop {
                patterns.push(self.word()?.ok_or_else(|| self.unexpected())?);
                self.blanks();
                if !self.take(b"|") {
                    break;
                }
            }
            if !self.take(b")") {
                return Err(self.unexpected());
            }
            arms.push((patterns, self.compound_list()?));
            if !self.take(b";;") {
                self.expect(b"esac")?;
                return Ok(Compound::Case { word, arms });
            }
        }
    }

    fn simple(&mut self) -> Parse<Command> {
        let (mut assignments, mut words, mut redirects) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            if let Some(redirect) = self.redirect()? {
                redirects.push(redirect);
                continue;
            }
            if words.is_empty()
                && assignments.is_empty()
                && RESERVED.iter().any(|word| self.at_reserved(word))
            {
                return Err(self.unexpected());
            }
            let Some(word) = self.word()? else { break };
            match split_assignment(&word) {
                Some(assignment) if words.is_empty() => assignments.push(assignment),
                _ => words.push(word),
            }
            if let ([word], true) = (words.as_slice(), assignments.is_empty())
                && let Some(name) = plain(word)
                && self.rest().starts_with(b"(")
            {
                return self.function(name.to_vec());
            }
        }
        if assignments.is_empty() && words.is_empty() && redirects.is_empty() {
            return Err(self.unexpected());
        }
        Ok(Command::Simple { assignments, words, redirects })
    }

    fn function(&mut self, name: Vec<u8>) -> Parse<Command> {
        self.take(b"(");
        self.blanks();
        if !is_name(&name) || !self.take(b")") {
            return Err(self.unexpected());
        }
        self.newlines();
        Ok(Command::Function { name, body: Rc::new(self.command()?) })
    }
}

/// Splits `NAME=…`.
fn split_assignment(word: &Word) -> Option<(Vec<u8>, Word)> {
    let Some(Part::Text { bytes, quoting: Quoting::Plain }) = word.first() else { return None };
    let equals = bytes.iter().position(|&byte| byte == b'=')?;
    let (name, value) = (&bytes[..equals], &bytes[equals + 1..]);
    if !is_name(name) {
        return None;
    }
    let mut rest = word.clone();
    rest[0] = Part::Text { bytes: value.to_vec(), quoting: Quoting::Plain };
    Some((name.to_vec(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(source: &str) -> Parse<Vec<List>> {
        let mut parser = Parser::new(source.as_bytes());
        let mut lists = Vec::new();
        while let Some(list) = parser.next_command()? {
            lists.push(list);
        }
        Ok(lists)
    }

    #[test]
    fn incomplete_differs_from_wrong() {
        for source in [
            "echo 'a",
            "if true",
            "for x in 1; do",
            "a |",
            "a &&",
            "echo $(x",
            "{ a",
            "cat <<E\nx\n",
            "a \\",
        ] {
            assert_eq!(parse(source), Err(SyntaxError::Incomplete), "{source}");
        }
        for source in
            ["fi", ")", "a )", "if then", ";;", "| a", "a ;; b", "a | ; b", "&", "()", "x=1 (y)"]
        {
            assert!(matches!(parse(source), Err(SyntaxError::Unexpected(_))), "{source}");
        }
    }

    #[test]
    fn a_line_at_a_time() {
        assert_eq!(
            parse("a\nb; c\n\n# d\ne #f").map(|lists| lists.iter().map(Vec::len).collect()),
            Ok(vec![1, 2, 1])
        );
    }

    #[test]
    fn here_documents_follow_their_line() {
        let lists = parse("cat <<A <<'B'; x\none $y\nA\ntwo $z\nB\nnext").expect("parses");
        assert_eq!(lists.len(), 2);
        let Command::Simple { redirects, .. } = &lists[0][0].first.commands[0] else {
            panic!("simple")
        };
        assert_eq!(redirects[0].target.len(), 3);
        assert_eq!(
            redirects[1].target,
            [Part::Text { bytes: b"two $z\n".to_vec(), quoting: Quoting::Quoted }]
        );
    }

    #[test]
    fn random_text_does_not_panic() {
        let pieces: [&[u8]; 24] = [
            b"if",
            b" ",
            b"then",
            b"fi",
            b";",
            b"&",
            b"|",
            b"(",
            b")",
            b"$(",
            b"${",
            b"}",
            b"'",
            b"\"",
            b"`",
            b"\\",
            b"\n",
            b"<<E",
            b"$((",
            b"))",
            b"a=",
            b"case x in",
            b"esac",
            b"#",
        ];
        let mut seed = 1u64;
        for _ in 0..20_000 {
            let mut source = Vec::new();
            for _ in 0..12 {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                source.extend_from_slice(pieces[(seed >> 33) as usize % pieces.len()]);
            }
            let mut parser = Parser::new(&source);
            while let Ok(Some(_)) = parser.next_command() {}
        }
        let deep = b"(".repeat(100_000);
        assert!(Parser::new(&deep).next_command().is_err());
        assert!(Parser::new(&b"$(".repeat(100_000)).next_command().is_err());
    }
}
