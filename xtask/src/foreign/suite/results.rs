//! What a run of `suiterun` prints, split into the programs; and how a program ended.

use std::collections::BTreeMap;
use std::fmt;

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// It exited with this status.
    Exit(u8),
    /// This signal ended it.
    Signal(u8),
    /// It did not end in time and was killed.
    TimeOut,
    /// It took its system along; this says how.
    Lost(String),
}

impl fmt::Display for End {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(status) => write!(to, "exit status {status}"),
            Self::Signal(signal) => write!(to, "signal {signal}"),
            Self::TimeOut => write!(to, "time limit"),
            Self::Lost(how) => write!(to, "{how}"),
        }
    }
}

/// One program's part of the output.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// What it printed.
    pub output: Vec<u8>,
    /// How it ended; `None` if the output ends before it.
    pub end: Option<End>,
}

/// Splits output at the runner's marks, which begin with the token.
pub fn parts(token: &str, output: &[u8]) -> BTreeMap<usize, Part> {
    let mark = format!("\n{token} ");
    let mut parts: BTreeMap<usize, Part> = BTreeMap::new();
    let mut current = None;
    let mut rest = output;
    while let Some(at) = find(rest, mark.as_bytes()) {
        let (text, after) = rest.split_at(at);
        append(&mut parts, current, text);
        let after = after.get(mark.len()..).unwrap_or_default();
        let end = find(after, b"\n").unwrap_or(after.len());
        let line = String::from_utf8_lossy(after.get(..end).unwrap_or_default()).into_owned();
        rest = after.get((end + 1).min(after.len())..).unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        let index = words.get(1).and_then(|word| word.parse().ok());
        current = match (words.as_slice(), index) {
            (["start", _], Some(index)) => {
                parts.entry(index).or_default();
                Some(index)
            }
            (["end", _, how @ ..], Some(index)) => {
                parts.entry(index).or_default().end = parse_end(how);
                None
            }
            _ => current,
        };
    }
    append(&mut parts, current, rest);
    parts
}

fn append(parts: &mut BTreeMap<usize, Part>, index: Option<usize>, text: &[u8]) {
    if let Some(part) = index.and_then(|index| parts.get_mut(&index)) {
        part.output.extend_from_slice(text);
    }
}

fn parse_end(words: &[&str]) -> Option<End> {
    match words {
        ["exit", status] => status.parse().ok().map(End::Exit),
        ["signal", signal] => signal.parse().ok().map(End::Signal),
        ["time"] => Some(End::TimeOut),
        ["stuck"] => Some(End::Lost("time limit, and SIGKILL does not end it".to_owned())),
        _ => None,
    }
}

/// The offset of the first occurrence.
pub fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_split_at_the_marks() {
        let text =
            b"noise\nT start 0\none\ntwo\nT end 0 exit 3\n\nT start 1\n\nT end 1 signal 11\n\
            \nT start 2\nunfinished\nX end 2 exit 0\n";
        let parts = parts("T", text);
        assert_eq!(parts.len(), 3);
        assert_eq!(parts[&0], Part { output: b"one\ntwo".to_vec(), end: Some(End::Exit(3)) });
        assert_eq!(parts[&1], Part { output: b"".to_vec(), end: Some(End::Signal(11)) });
        assert_eq!(parts[&2].end, None);
        assert!(parts[&2].output.starts_with(b"unfinished"));
    }

    #[test]
    fn ends_are_distinguished() {
        let end = |text: &str| {
            let output = format!("\nT start 0\n\nT end 0 {text}\n");
            parts("T", output.as_bytes()).remove(&0).and_then(|part| part.end)
        };
        assert_eq!(end("time"), Some(End::TimeOut));
        assert!(matches!(end("stuck"), Some(End::Lost(_))));
        assert_eq!(end("exit 256"), None);
        assert_eq!(end("nonsense"), None);
    }

    #[test]
    fn a_truncated_mark_is_no_end() {
        assert_eq!(parts("T", b"\nT start 0\nx\nT en")[&0].end, None);
    }
}
