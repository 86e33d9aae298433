//! The program `tools`: it runs the tool that its name or its first argument selects.

use std::os::unix::fs::symlink;
use std::process::{Command, Output};

const TOOLS: &str = env!("CARGO_BIN_EXE_tools");

fn run(program: &str, args: &[&str]) -> Output {
    Command::new(program).args(args).output().expect("runs")
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

#[test]
fn a_link_and_an_argument_select_the_same_tool() {
    let folder = std::env::temp_dir().join(format!("tools-{}", std::process::id()));
    std::fs::create_dir(&folder).expect("makes a folder");
    let link = folder.join("seq");
    symlink(TOOLS, &link).expect("makes a link");
    let linked = run(link.to_str().expect("text"), &["2"]);
    std::fs::remove_dir_all(&folder).expect("removes the folder");
    assert_eq!(text(&linked), "1\n2\n");
    assert_eq!(text(&run(TOOLS, &["seq", "2"])), "1\n2\n");
    assert_eq!(run(TOOLS, &["false"]).status.code(), Some(1));
}

#[test]
fn all_tools_are_listed_and_others_are_an_error() {
    let listed = text(&run(TOOLS, &["--list"]));
    let names: Vec<&str> = listed.lines().collect();
    assert!(names.len() > 30 && names.contains(&"cat") && names.contains(&"grep"), "{names:?}");
    // It is a program of its own.
    assert!(!names.contains(&"true"), "{names:?}");
    assert_eq!(run(TOOLS, &["no-such-tool"]).status.code(), Some(2));
    assert_eq!(run(TOOLS, &[]).status.code(), Some(2));
}
