//! A rule about documentation comments: each says something.

use super::{SourceFile, Violation, check};

/// Words that say nothing by themselves.
const EMPTY: &[&str] = &[
    "a", "all", "an", "and", "any", "are", "as", "at", "be", "been", "being", "both", "by", "did",
    "do", "does", "each", "every", "for", "from", "had", "has", "have", "here", "how", "if", "in",
    "is", "it", "its", "many", "much", "no", "not", "of", "on", "one", "ones", "or", "other",
    "own", "same", "so", "some", "such", "that", "the", "their", "them", "there", "these", "they",
    "this", "those", "to", "was", "were", "what", "when", "where", "which", "who", "whom", "whose",
    "why", "with",
];
/// A comment has at least so many words.
const MIN_WORDS: usize = 3;

/// A documentation comment has at least three words, of which one has a meaning of its own.
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
        } else if let Some((number, text)) = block.take()
            && is_empty(&text)
        {
            violations.push(file.violation(number, format!("`{}` says nothing", text.trim())));
        }
    }
    violations
}

fn is_empty(text: &str) -> bool {
    let words: Vec<String> = text
        .split(|letter: char| !letter.is_alphanumeric() && letter != '\'' && letter != '_')
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    words.len() < MIN_WORDS || words.iter().all(|word| EMPTY.contains(&word.as_str()))
}

#[test]
#[ignore = "while the tree is being changed"]
fn documentation_says_something() {
    check(empty_docs);
}

#[test]
fn an_empty_doc_is_reported() {
    let count = |text: &str| empty_docs(&SourceFile::new("a.rs", text)).len();
    for empty in ["Which.", "How.", "Bytes.", "Its id.", "All of them.", "What it is for.", ""] {
        assert_eq!(count(&format!("    /// {empty}\n    x: u64,\n")), 1, "{empty}");
        assert_eq!(count(&format!("//! {empty}")), 1, "{empty}");
    }
    assert_eq!(count("/// Length in bytes.\nx: u64,\n"), 0);
    assert_eq!(count("/// Which.\n/// In bytes, from the start.\n"), 0);
    assert_eq!(count("//// Which.\n// How.\n"), 0);
}
