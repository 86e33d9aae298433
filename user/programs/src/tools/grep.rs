//! `grep [-cvinqFElhHoxw] [-e PATTERN] [PATTERN] [FILE…]`: lines that match a regular expression.
//!
//! The syntax is the regex crate's without Unicode classes, that is POSIX's extended syntax without
//! back-references. Without `-E`, the basic syntax is translated: `\(`, `\|`, `\+` are operators,
//! the bare characters are literals.

use user::prelude::*;

use regex_automata::meta::Regex;
use regex_automata::util::syntax;
use user::opt::Options;

/// The status for errors, as in POSIX: 1 means that no line matched.
const TROUBLE: i32 = 2;

pub fn run(args: &Args) -> i32 {
    let letters = "cvinqFElhHoxwsre:";
    let options =
        Options::parse(args, letters, "grep [-cvinqFElhHoxwsr] [-e PATTERN] [PATTERN] [FILE...]");
    let mut operands = options.operands.as_slice();
    let mut patterns: Vec<&[u8]> = options.values(b'e').collect();
    if patterns.is_empty() {
        let Some((pattern, rest)) = operands.split_first() else {
            eprintln!("usage: grep [-cvinqFElhHoxws] PATTERN [FILE...]");
            return TROUBLE;
        };
        patterns.push(pattern);
        operands = rest;
    }
    let regex = match compile(&patterns, &options) {
        Ok(regex) => regex,
        Err(message) => {
            eprintln!("grep: {message}");
            return TROUBLE;
        }
    };
    let mut paths: Vec<Vec<u8>> = Vec::new();
    for path in operands {
        if options.has(b'r') {
            collect(path, &mut paths);
        } else {
            paths.push(path.to_vec());
        }
    }
    let paths: Vec<&[u8]> = paths.iter().map(Vec::as_slice).collect();
    let named = options.has(b'H') || ((paths.len() > 1 || options.has(b'r')) && !options.has(b'h'));
    let mut search = Search { regex, options: &options, named, out: Out::standard(), found: false };
    let status = user::io::for_each_input("grep", &paths, |path, fd| search.file(path, fd));
    let Search { out, found, .. } = search;
    let result = if found { 0 } else { 1 };
    let result = if status != 0 && !(found && options.has(b'q')) { TROUBLE } else { result };
    out.finish("grep", result)
}

/// Collects the files below a path, with `-r`.
fn collect(path: &[u8], paths: &mut Vec<Vec<u8>>) {
    if user::fs::is_directory(path) {
        for name in user::fs::list(path).unwrap_or_default() {
            collect(&user::fs::join(path, &name), paths);
        }
    } else {
        paths.push(path.to_vec());
    }
}

fn compile(patterns: &[&[u8]], options: &Options) -> core::result::Result<Regex, String> {
    let mut sources = Vec::new();
    for pattern in patterns.iter().flat_map(|pattern| pattern.split(|byte| *byte == b'\n')) {
        let text =
            core::str::from_utf8(pattern).map_err(|_| String::from("the pattern is not UTF-8"))?;
        let mut source = if options.has(b'F') {
            escape(text)
        } else if options.has(b'E') {
            String::from(text)
        } else {
            basic_to_extended(text)
        };
        if options.has(b'w') {
            source = format!(r"(?:^|\W)(?:{source})(?:\W|$)");
        }
        if options.has(b'x') {
            source = format!("^(?:{source})$");
        }
        sources.push(source);
    }
    let syntax =
        syntax::Config::new().unicode(false).utf8(false).case_insensitive(options.has(b'i'));
    Regex::builder()
        .configure(Regex::config().utf8_empty(false))
        .syntax(syntax)
        .build_many(&sources)
        .map_err(|error| format!("{error}"))
}

fn escape(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        if r"\.+*?()|[]{}^$#&-~".contains(letter) {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

/// Exchanges the meanings of `\(` and `(`, and likewise of `)`, `{`, `}`, `|`, `+` and `?`.
fn basic_to_extended(text: &str) -> String {
    const EXCHANGED: &str = "(){}|+?";
    let mut out = String::new();
    let mut letters = text.chars().peekable();
    let mut in_brackets = false;
    while let Some(letter) = letters.next() {
        if in_brackets {
            in_brackets = letter != ']';
            // Inside brackets POSIX takes a backslash literally.
            if matches!(letter, '\\' | '[') {
                out.push('\\');
            }
            out.push(letter);
        } else if letter == '[' {
            in_brackets = true;
            out.push(letter);
            // A bracket directly after the opening one does not close it.
            for first in ['^', ']'] {
                if letters.next_if_eq(&first).is_some() {
                    if first == ']' {
                        out.push('\\');
                    }
                    out.push(first);
                }
            }
        } else if letter == '\\' {
            match letters.next() {
                Some(next) if EXCHANGED.contains(next) => out.push(next),
                Some(next) => out.extend(['\\', next]),
                None => out.push_str("\\\\"),
            }
        } else if EXCHANGED.contains(letter) || (letter == '*' && (out.is_empty() || out == "^")) {
            out.extend(['\\', letter]);
        } else {
            out.push(letter);
        }
    }
    out
}

struct Search<'a> {
    regex: Regex,
    options: &'a Options,
    named: bool,
    out: Out,
    found: bool,
}

impl Search<'_> {
    /// Searches one file line by line, in large blocks. An incomplete line at the end of a block is
    /// joined with the next block.
    fn file(&mut self, path: &[u8], fd: Fd) -> Result<()> {
        let (mut count, mut number, mut offset_line) = (0u64, 0u64, Vec::new());
        let mut done = false;
        user::io::for_each_piece(fd, |piece| {
            let mut rest = piece;
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line = &rest[..end];
                rest = &rest[end + 1..];
                number += 1;
                let carried = core::mem::take(&mut offset_line);
                done = if carried.is_empty() {
                    self.line(path, line, number, &mut count)
                } else {
                    self.line(path, &[carried.as_slice(), line].concat(), number, &mut count)
                };
                if done || self.out.failed() {
                    return false;
                }
            }
            offset_line.extend_from_slice(rest);
            true
        })?;
        if !done && !offset_line.is_empty() {
            self.line(path, &offset_line, number + 1, &mut count);
        }
        self.found |= count > 0;
        if self.options.has(b'q') {
            return Ok(());
        }
        let name = if path == b"-" { b"(standard input)" } else { path };
        if self.options.has(b'l') {
            if count > 0 {
                self.out.put(&[name, b"\n"].concat());
            }
        } else if self.options.has(b'c') {
            self.prefix(path, None);
            self.out.put(format!("{count}\n").as_bytes());
        }
        Ok(())
    }

    fn prefix(&mut self, path: &[u8], number: Option<u64>) {
        if self.named {
            let name = if path == b"-" { b"(standard input)" } else { path };
            self.out.put(&[name, b":"].concat());
        }
        if let Some(number) = number {
            self.out.put(format!("{number}:").as_bytes());
        }
    }

    /// Checks one line. Returns whether the rest of the file can be skipped.
    fn line(&mut self, path: &[u8], line: &[u8], number: u64, count: &mut u64) -> bool {
        let has = |letter| self.options.has(letter);
        if self.regex.is_match(line) == has(b'v') {
            return false;
        }
        *count += 1;
        if has(b'q') || has(b'l') {
            return true;
        }
        if has(b'c') {
            return false;
        }
        let number = has(b'n').then_some(number);
        if has(b'o') && !has(b'v') {
            let ranges: Vec<_> = self.regex.find_iter(line).map(|found| found.range()).collect();
            for range in ranges.into_iter().filter(|range| !range.is_empty()) {
                self.prefix(path, number);
                self.out.put(&[&line[range], b"\n"].concat());
            }
        } else {
            self.prefix(path, number);
            self.out.put(line);
            self.out.put(b"\n");
        }
        false
    }
}
