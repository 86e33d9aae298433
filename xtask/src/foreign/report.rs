//! What a run of a group's cases has told, taken apart.

use std::collections::BTreeMap;

/// What a case left: output, status, files, as one text.
pub type Sections = BTreeMap<String, String>;

/// What stands before a case's name.
const CASE: &str = "=== case ";
/// What stands at the end.
const END: &str = "=== end";

/// Takes a driver's output apart. A case that is cut off in the middle by the end of the output is
/// there as far as it came.
pub fn sections(output: &[u8]) -> Sections {
    let mut sections = Sections::new();
    let mut current: Option<(String, String)> = None;
    for line in String::from_utf8_lossy(output).lines() {
        if let Some(name) = line.strip_prefix(CASE) {
            sections.extend(current.replace((name.to_owned(), String::new())));
        } else if line == END {
            sections.extend(current.take());
        } else if let Some((_, text)) = &mut current {
            text.push_str(line);
            text.push('\n');
        }
    }
    sections.extend(current);
    sections
}

/// The first lines in which two texts differ, for people.
pub fn difference(wanted: &str, found: &str) -> String {
    /// Lines that are shown of each.
    const SHOWN: usize = 12;
    let same =
        wanted.lines().zip(found.lines()).take_while(|(wanted, found)| wanted == found).count();
    let part = |text: &str, mark: char| -> String {
        text.lines().skip(same).take(SHOWN).map(|line| format!("{mark} {line}\n")).collect()
    };
    format!(
        "from line {} on (-: Linux, +: Sloth)\n{}{}",
        same + 1,
        part(wanted, '-'),
        part(found, '+')
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_taken_apart() {
        let found = sections(b"noise\n\n=== case a\nx\n=== status 0\n\n=== case b\ny\n\n=== end\n");
        assert_eq!(found.len(), 2);
        assert_eq!(found["a"], "x\n=== status 0\n\n");
        assert_eq!(found["b"], "y\n\n");
    }

    #[test]
    fn what_is_cut_off_is_not_lost_and_not_whole() {
        let whole = sections(b"\n=== case a\nx\n=== status 0\n");
        let cut = sections(b"\n=== case a\nx\n");
        assert_ne!(whole["a"], cut["a"]);
    }

    #[test]
    fn a_difference_begins_where_it_begins() {
        assert_eq!(
            difference("a\nb\n", "a\nc\n"),
            "from line 2 on (-: Linux, +: Sloth)\n- b\n+ c\n"
        );
    }
}
