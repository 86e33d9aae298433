//! A rule about documentation comments: each says something that the code does not.

use super::{SourceFile, Violation, check};

/// Words without a meaning of their own.
const EMPTY: &[&str] = &[
    "a", "all", "an", "and", "any", "are", "as", "at", "be", "been", "being", "both", "by", "did",
    "do", "does", "each", "every", "for", "from", "had", "has", "have", "here", "how", "if", "in",
    "is", "it", "its", "many", "much", "no", "not", "of", "on", "one", "ones", "or", "other",
    "own", "same", "so", "some", "such", "that", "the", "their", "them", "there", "these", "they",
    "this", "those", "to", "was", "were", "what", "when", "where", "which", "who", "whom", "whose",
    "why", "with",
];

/// Words before the name of an item.
const KEYWORDS: &[&str] = &[
    "async", "const", "enum", "extern", "fn", "mod", "mut", "static", "struct", "trait", "type",
    "unsafe",
];

/// A documentation comment has at least two words, and one with a meaning of its own that is not in
/// the name of the documented item. Code such as `&&` says something by itself.
fn empty_docs(file: &SourceFile) -> Vec<Violation> {
    let mut violations = Vec::new();
    if !file.is_rust() {
        return violations;
    }
    let mut block: Option<(usize, String)> = None;
    for (index, line) in file.text.lines().chain([""]).enumerate() {
        let line = line.trim_start();
        let doc = line.strip_prefix("///").filter(|rest| !rest.starts_with('/'));
        if let Some(text) = doc.or_else(|| line.strip_prefix("//!")) {
            let (_, so_far) = block.get_or_insert_with(|| (index + 1, String::new()));
            so_far.push_str(text);
            so_far.push(' ');
        } else if !line.starts_with("#[")
            && let Some((number, text)) = block.take()
            && is_empty(&text, line)
        {
            violations.push(file.violation(number, format!("`{}` says nothing", text.trim())));
        }
    }
    violations
}

fn is_empty(text: &str, code: &str) -> bool {
    let (words, name) = (words(text), words(name(code)));
    let says_nothing = |word: &String| EMPTY.contains(&word.as_str()) || name.contains(word);
    !text.contains('`') && (words.len() < 2 || words.iter().all(says_nothing))
}

/// The name of the item that a line of code declares.
fn name(code: &str) -> &str {
    let visibility = code.strip_prefix("pub").unwrap_or(code);
    let inner = match visibility.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
        Some((_, rest)) => rest,
        None => visibility,
    };
    let names = inner.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
    names.filter(|word| !word.is_empty()).find(|word| !KEYWORDS.contains(word)).unwrap_or_default()
}

/// The words of a text or an identifier in lower case, without the ending of a plural or a verb.
fn words(text: &str) -> Vec<String> {
    let mut spaced = String::new();
    for letter in text.chars() {
        if letter.is_uppercase() {
            spaced.push(' ');
        }
        spaced.push(letter);
    }
    let parts = spaced.split(|letter: char| !letter.is_alphanumeric() && letter != '\'');
    let lower = parts.filter(|word| !word.is_empty()).map(str::to_lowercase);
    lower
        .map(|word| match word.strip_suffix('s') {
            Some(stem) if !EMPTY.contains(&word.as_str()) => stem.to_owned(),
            _ => word,
        })
        .collect()
}

#[test]
fn documentation_says_something() {
    check(empty_docs);
}

#[test]
fn an_empty_doc_is_reported() {
    let count = |text: &str| empty_docs(&SourceFile::new("a.rs", text)).len();
    for empty in ["Which.", "How.", "Bytes.", "Its id.", "All of them.", "What it is for.", ""] {
        assert_eq!(count(&format!("    /// {empty}\n    id: u64,\n")), 1, "{empty}");
    }
    assert_eq!(count("/// Its name.\n#[allow(x)]\npub file_names: Names,\n"), 1);
    assert_eq!(count("/// Runs it.\npub fn run() {\n"), 1);
    assert_eq!(count("/// The page cache.\npub struct PageCache;\n"), 1);
    assert_eq!(count("/// Kills a process.\npub(super) fn kill(process: usize) {\n"), 0);
    assert_eq!(count("/// `&&`\nAnd,\n"), 0);
    assert_eq!(count("/// Access time.\natime: Time,\n"), 0);
    assert_eq!(count("/// Length in bytes.\nx: u64,\n"), 0);
    assert_eq!(count("/// Which.\n/// In bytes, from the start.\n"), 0);
    assert_eq!(count("//// Which.\n// How.\n"), 0);
}
