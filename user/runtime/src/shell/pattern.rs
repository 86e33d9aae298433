//! Patterns with `*`, `?` and `[…]`, and the files that match one.

use super::syntax::Quoting;
use crate::prelude::*;

/// A character of an expanded word: the byte, and whether it was quoted and so matches only itself.
pub type Char = (u8, Quoting);

/// Whether the pattern matches all of `text`. Takes linear time for each star.
pub fn matches(pattern: &[Char], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to resume if the text after the last star does not match.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&(b'*', Quoting::Plain)) {
            retry = Some((p + 1, t));
            p += 1;
            continue;
        }
        if p == pattern.len() && t == text.len() {
            return true;
        }
        let step = text.get(t).and_then(|&byte| match_one(&pattern[p..], byte));
        match (step, &mut retry) {
            (Some(length), _) => {
                p += length;
                t += 1;
            }
            (None, Some((after, from))) if *from < text.len() => {
                *from += 1;
                (p, t) = (*after, *from);
            }
            _ => return false,
        }
    }
}

/// The number of pattern characters that match `byte`, or `None` if they do not.
fn match_one(pattern: &[Char], byte: u8) -> Option<usize> {
    match *pattern.first()? {
        (b'?', Quoting::Plain) => Some(1),
        (b'[', Quoting::Plain) => match bracket(pattern, byte) {
            Some((true, length)) => Some(length),
            Some((false, _)) => None,
            None => (byte == b'[').then_some(1),
        },
        (expected, _) => (expected == byte).then_some(1),
    }
}

/// A bracket expression: whether it matches, and its length. `None` if it is not closed.
fn bracket(pattern: &[Char], byte: u8) -> Option<(bool, usize)> {
    let mut at = 1;
    let negated = matches!(pattern.get(at), Some((b'!' | b'^', Quoting::Plain)));
    at += usize::from(negated);
    let first = at;
    let mut found = false;
    loop {
        let (low, quoting) = *pattern.get(at)?;
        if low == b']' && quoting == Quoting::Plain && at > first {
            return Some((found != negated, at + 1));
        }
        if let (Some(&(b'-', Quoting::Plain)), Some(&(high, high_quoting))) =
            (pattern.get(at + 1), pattern.get(at + 2))
            && (high != b']' || high_quoting == Quoting::Quoted)
        {
            found |= (low..=high).contains(&byte);
            at += 3;
        } else {
            found |= low == byte;
            at += 1;
        }
    }
}

/// Whether any character is special.
pub fn is_pattern(word: &[Char]) -> bool {
    word.iter()
        .any(|&(byte, quoting)| quoting == Quoting::Plain && matches!(byte, b'*' | b'?' | b'['))
}

/// The paths that match, sorted; empty if none does.
pub fn expand(pattern: &[Char]) -> Vec<Vec<u8>> {
    let mut found = vec![Vec::new()];
    let components: Vec<&[Char]> = pattern.split(|&(byte, _)| byte == b'/').collect();
    for (index, component) in components.iter().enumerate() {
        let last = index + 1 == components.len();
        let mut next = Vec::new();
        for prefix in found {
            descend(&prefix, component, &mut next);
        }
        if !last {
            for path in &mut next {
                path.push(b'/');
            }
        }
        found = next;
    }
    found.retain(|path| sys::lstat(path).is_ok());
    found.sort();
    found
}

/// Adds to `found` the entries of the directory `prefix` that match `component`. `prefix` is empty
/// or ends with a slash.
fn descend(prefix: &[u8], component: &[Char], found: &mut Vec<Vec<u8>>) {
    let with = |name: &[u8]| [prefix, name].concat();
    if !is_pattern(component) {
        let name: Vec<u8> = component.iter().map(|&(byte, _)| byte).collect();
        found.push(with(&name));
        return;
    }
    let directory: &[u8] = if prefix.is_empty() { b"." } else { prefix };
    let dots = component.first().is_some_and(|&(byte, _)| byte == b'.');
    for entry in crate::fs::read_directory(directory).unwrap_or_default() {
        if (dots || !entry.name.starts_with(b".")) && matches(component, &entry.name) {
            found.push(with(&entry.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, text: &str) -> bool {
        let pattern: Vec<Char> = pattern.bytes().map(|byte| (byte, Quoting::Plain)).collect();
        matches(&pattern, text.as_bytes())
    }

    #[test]
    fn patterns() {
        for (pattern, text) in [
            ("*", ""),
            ("a*c", "abbc"),
            ("a*b*c", "aXbYbZc"),
            ("?b", "ab"),
            ("[a-c]x", "bx"),
            ("[!a]x", "bx"),
            ("[]]", "]"),
            ("[a", "[a"),
            ("*.txt", "a.txt"),
            ("a[-x]", "a-"),
            ("**", "abc"),
        ] {
            assert!(check(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("?", ""), ("a*c", "ab"), ("[a-c]", "d"), ("[!a]", "a"), ("a", "ab"), ("*x", "y")]
        {
            assert!(!check(pattern, text), "{pattern} {text}");
        }
        assert!(!matches(&[(b'*', Quoting::Quoted)], b"x"));
        assert!(matches(&[(b'*', Quoting::Quoted)], b"*"));
    }
}
