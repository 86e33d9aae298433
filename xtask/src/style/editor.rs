//! Rules about the settings of editors: they are well-formed and agree with the project's.

use super::{TREE, root};

/// The keys of `.editorconfig` that editors know.
const KEYS: &[&str] = &[
    "root",
    "charset",
    "end_of_line",
    "indent_size",
    "indent_style",
    "insert_final_newline",
    "max_line_length",
    "trim_trailing_whitespace",
];

fn text_of(path: &str) -> &'static str {
    let file = TREE.iter().find(|file| file.path == path);
    &file.unwrap_or_else(|| panic!("there is no {path}")).text
}

/// What is wrong with a text in the format of `.editorconfig`, if anything.
fn complaint(text: &str) -> Option<String> {
    for line in text.lines().map(str::trim) {
        let is_section = line.starts_with('[') && line.ends_with(']');
        if line.is_empty() || line.starts_with('#') || is_section {
            continue;
        }
        match line.split_once(" = ") {
            Some((key, value)) if KEYS.contains(&key) && !value.is_empty() => {}
            _ => return Some(format!("`{line}` is not a setting")),
        }
    }
    None
}

#[test]
fn editors_agree_with_rustfmt() {
    let (settings, rustfmt) = (text_of(".editorconfig"), text_of("rustfmt.toml"));
    assert_eq!(complaint(settings), None);
    let width =
        rustfmt.lines().find_map(|line| line.strip_prefix("max_width = ")).expect("a width");
    assert!(settings.contains(&format!("max_line_length = {width}\n")));
}

#[test]
fn a_malformed_setting_is_reported() {
    assert_eq!(complaint("root = true\n\n[*.rs]\nindent_size = 4\n"), None);
    for bad in ["indent_size 4", "colour = red", "indent_size = ", "[*.rs"] {
        assert!(complaint(bad).is_some(), "{bad}");
    }
}

#[test]
fn settings_of_visual_studio_code_are_json() {
    for name in ["settings", "tasks", "extensions"] {
        let path = format!(".vscode/{name}.json");
        let value: serde_json::Value =
            serde_json::from_str(text_of(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(value.is_object(), "{path}");
    }
    let tasks: serde_json::Value = serde_json::from_str(text_of(".vscode/tasks.json")).unwrap();
    for task in tasks["tasks"].as_array().expect("a list of tasks") {
        assert_eq!(task["command"], "cargo", "{task}");
    }
    let settings = text_of(".vscode/settings.json");
    for manifest in settings.split('"').filter(|word| word.ends_with("Cargo.toml")) {
        assert!(root().join(manifest).is_file(), "there is no {manifest}");
    }
}
