//! Rules about lines and words of code and prose.

use super::{SourceFile, Violation, check};

/// rustfmt's default width, for prose too.
const MAX_COLUMNS: usize = 100;
/// Lines of a file; its unit tests do not count.
const MAX_LINES: usize = 500;
/// Words and phrases that the style guide replaces, each with what to write instead.
const REPLACED: &str = include_str!("words.txt");
/// The file that lists those words itself.
const STYLE_GUIDE: &str = "docs/src/style.md";

/// A line of a file, without those of fenced blocks in Markdown, or with them.
fn lines(file: &SourceFile, with_fences: bool) -> impl Iterator<Item = (usize, &str)> {
    let mut in_fence = false;
    file.text.lines().enumerate().map(|(index, line)| (index + 1, line)).filter(move |(_, line)| {
        if file.is_markdown() && line.trim_start().starts_with("```") {
            in_fence = !in_fence;
        }
        with_fences || !in_fence
    })
}

/// A row of a Markdown table, in a file of Markdown or in a documentation comment.
fn is_table_row(file: &SourceFile, line: &str) -> bool {
    let line = line.trim_start();
    let in_comment = ["//! ", "/// "].iter().find_map(|mark| line.strip_prefix(mark));
    let text = if file.is_markdown() { Some(line) } else { in_comment };
    text.is_some_and(|text| text.trim_start().starts_with('|'))
}

/// Lines are at most 100 columns wide. Tables, URLs and fenced blocks are exempt.
fn columns(file: &SourceFile) -> Vec<Violation> {
    if !file.is_prose() {
        return Vec::new();
    }
    lines(file, false)
        .filter(|(_, line)| !line.contains("://") && !is_table_row(file, line))
        .map(|(number, line)| (number, line.chars().count()))
        .filter(|(_, width)| *width > MAX_COLUMNS)
        .map(|(number, width)| file.violation(number, format!("{width} columns")))
        .collect()
}

/// Source files have at most 500 lines, unit tests at their end apart.
fn length(file: &SourceFile) -> Option<Violation> {
    if !file.is_rust() {
        return None;
    }
    let lines: Vec<&str> = file.text.lines().collect();
    let is_tests = |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].ends_with('{');
    let count = lines.windows(2).position(is_tests).unwrap_or(lines.len());
    (count > MAX_LINES).then(|| file.violation(MAX_LINES + 1, format!("{count} lines in one file")))
}

/// Source files begin with their purpose.
fn purpose(file: &SourceFile) -> Option<Violation> {
    (file.is_rust() && !file.text.starts_with("//! "))
        .then(|| file.violation(1, "does not begin with `//! `"))
}

/// Nothing is left unfinished. The words are split, so that this file is not reported.
fn unfinished(file: &SourceFile) -> Vec<Violation> {
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("to", "do!"),
        concat!("unimpl", "emented!"),
    ];
    if !file.is_rust() {
        return Vec::new();
    }
    let found = lines(file, true).filter_map(|(number, line)| {
        let word = words.iter().find(|word| line.contains(**word))?;
        Some(file.violation(number, format!("says {word}")))
    });
    found.collect()
}

/// The pairs of `words.txt`: what is replaced, by what.
fn replaced() -> impl Iterator<Item = (&'static str, &'static str)> {
    REPLACED
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(" -> "))
}

/// Whether `text` contains `phrase` as whole words, which are not part of a name with hyphens
/// or underscores.
fn has_phrase(text: &str, phrase: &str) -> bool {
    text.match_indices(phrase).any(|(start, _)| {
        let before = text[..start].chars().next_back();
        let after = text[start + phrase.len()..].chars().next();
        let joins = |letter: char| letter.is_alphanumeric() || "-_".contains(letter);
        ![before, after].into_iter().flatten().any(joins)
    })
}

/// No word that the style guide replaces. A phrase is also found across the end of a line.
fn words(file: &SourceFile) -> Vec<Violation> {
    if !file.is_prose() || file.path == STYLE_GUIDE {
        return Vec::new();
    }
    let lines: Vec<String> = file.text.lines().map(str::to_lowercase).collect();
    let mut violations = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let bare = |line: &str| {
            line.trim_start().trim_start_matches(['/', '!', '#', '*']).trim().to_owned()
        };
        let next = lines.get(index + 1).map(|next| bare(next)).unwrap_or_default();
        let both = format!("{} {next}", bare(line));
        for (phrase, instead) in replaced() {
            let is_new = has_phrase(&both, phrase) && !has_phrase(&next, phrase);
            if has_phrase(line, phrase) || is_new {
                violations.push(file.violation(index + 1, format!("`{phrase}`: say `{instead}`")));
            }
        }
    }
    violations
}

#[test]
fn lines_have_at_most_100_columns() {
    check(columns);
}

#[test]
fn files_have_at_most_500_lines() {
    check(|file| length(file).into_iter().collect());
}

#[test]
fn files_begin_with_their_purpose() {
    check(|file| purpose(file).into_iter().collect());
}

#[test]
fn nothing_is_unfinished() {
    check(unfinished);
}

#[test]
fn words_are_those_of_the_style_guide() {
    check(words);
}

#[test]
fn a_wide_line_is_reported() {
    let wide = "x".repeat(MAX_COLUMNS + 1);
    let count = |path: &str, text: &str| columns(&SourceFile::new(path, text)).len();
    assert_eq!(count("a.rs", &wide[1..]), 0);
    assert_eq!(count("a.rs", &wide), 1);
    assert_eq!(count("a.md", &wide), 1);
    assert_eq!(count("a.md", &format!("```\n{wide}\n```\n{wide}")), 1);
    assert_eq!(count("a.md", &format!("| {wide} |")), 0);
    assert_eq!(count("a.rs", &format!("//! | {wide} |")), 0);
    assert_eq!(count("a.rs", &format!("let a = b | {wide};")), 1);
    assert_eq!(count("a.rs", &format!("// https://example.org/{wide}")), 0);
    assert_eq!(count("a.lock", &wide), 0);
}

#[test]
fn a_long_file_is_reported() {
    let lines = |count| "x\n".repeat(count);
    let is_long = |text: &str| length(&SourceFile::new("a.rs", text)).is_some();
    assert!(!is_long(&lines(MAX_LINES)));
    assert!(is_long(&lines(MAX_LINES + 1)));
    assert!(!is_long(&format!("x\n#[cfg(test)]\nmod tests {{\n{}", lines(MAX_LINES))));
    assert!(is_long(&format!("#[cfg(test)]\nmod tests;\n{}", lines(MAX_LINES))));
}

#[test]
fn a_file_without_a_purpose_is_reported() {
    assert!(purpose(&SourceFile::new("a.rs", "use x;\n")).is_some());
    assert!(purpose(&SourceFile::new("a.rs", "//! Why.\n")).is_none());
}

#[test]
fn unfinished_work_is_reported() {
    let file = SourceFile::new("a.rs", concat!("x\n// TO", "DO: y\n"));
    assert_eq!(unfinished(&file)[0].line, 2);
}

#[test]
fn a_replaced_word_is_reported() {
    let lines = |text: &str| -> Vec<usize> {
        words(&SourceFile::new("a.rs", text)).iter().map(|found| found.line).collect()
    };
    for (phrase, _) in replaced() {
        assert_eq!(lines(&format!("x\n// A {phrase}.\n")), [2], "{phrase}");
    }
    let (two_words, _) = replaced().find(|(phrase, _)| phrase.contains(' ')).expect("a phrase");
    let (first, second) = two_words.split_once(' ').expect("two words");
    assert_eq!(lines(&format!("/// A {first}\n/// {second}.\n")), [1]);
    assert!(lines(&format!("pre{two_words}post, {two_words}-post")).is_empty());
}
