//! A rule about prose: every `cargo xtask` command in it exists, with its options.

use clap::{Command, CommandFactory};

use super::{SourceFile, Violation, check};
use crate::cli::Cli;

const CALL: &str = "cargo xtask ";

/// What follows `cargo xtask` in a line, up to the end of the code.
fn calls(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices(CALL).map(|(start, _)| {
        let rest = &line[start + CALL.len()..];
        rest.split(['`', '|', ';', ',', ')', '#']).next().unwrap_or_default()
    })
}

/// What is wrong with a call, if anything.
fn complaint(cli: &Command, call: &str) -> Option<String> {
    let words: Vec<&str> = call.split_whitespace().take_while(|word| *word != "--").collect();
    let (first, rest) = words.split_first()?;
    let is_option = |command: &Command, word: &str| {
        let name = word.trim_start_matches('-').split('=').next().unwrap_or_default();
        command.get_arguments().any(|argument| argument.get_long() == Some(name))
    };
    if first.starts_with('-') {
        return (!is_option(cli, first)).then(|| format!("there is no `cargo xtask {first}`"));
    }
    let first = first.trim_end_matches(['.', ':']);
    let Some(command) = cli.get_subcommands().find(|command| command.get_name() == first) else {
        return Some(format!("there is no `cargo xtask {first}`"));
    };
    let options = rest.iter().filter(|word| word.starts_with("--"));
    options
        .map(|word| word.trim_end_matches(['.', ':', ']']))
        .find(|word| *word != "--help" && !is_option(command, word))
        .map(|word| format!("`cargo xtask {first}` has no `{word}`"))
}

fn commands(file: &SourceFile) -> Vec<Violation> {
    if !file.is_markdown() {
        return Vec::new();
    }
    let mut cli = Cli::command();
    cli.build();
    let mut violations = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        let wrong = calls(line).filter_map(|call| complaint(&cli, call));
        violations.extend(wrong.map(|what| file.violation(index + 1, what)));
    }
    violations
}

#[test]
fn commands_in_prose_exist() {
    check(commands);
}

#[test]
fn a_command_that_does_not_exist_is_reported() {
    let count = |text: &str| commands(&SourceFile::new("a.md", text)).len();
    for good in [
        "`cargo xtask run --memory 64M -- ls --all`",
        "cargo xtask --help",
        "`cargo xtask test`, then `cargo xtask ci`.",
        "cargo xtask sim --seed N",
    ] {
        assert_eq!(count(good), 0, "{good}");
    }
    for bad in ["`cargo xtask walk`", "cargo xtask run --fast", "cargo xtask ci; cargo xtask x"] {
        assert_eq!(count(bad), 1, "{bad}");
    }
}
