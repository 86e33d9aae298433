//! Parses the report of a group's run.

use std::collections::BTreeMap;

/// Output, status and files of each case, as one text by the case's name.
pub type Sections = BTreeMap<String, String>;

/// Prefix of the line that names a case.
const CASE: &str = "=== case ";
/// The last line of a report.
const END: &str = "=== end";

/// Splits the driver's output into cases. The last case of an incomplete output is truncated.
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

/// The first lines in which two texts differ.
pub fn difference(wanted: &str, found: &str) -> String {
    /// Number of lines printed from each text.
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
    fn a_report_is_split_into_cases() {
        let found = sections(b"noise\n\n=== case a\nx\n=== status 0\n\n=== case b\ny\n\n=== end\n");
        assert_eq!(found.len(), 2);
        assert_eq!(found["a"], "x\n=== status 0\n\n");
        assert_eq!(found["b"], "y\n\n");
    }

    #[test]
    fn a_truncated_case_differs_from_a_complete_one() {
        let whole = sections(b"\n=== case a\nx\n=== status 0\n");
        let cut = sections(b"\n=== case a\nx\n");
        assert_ne!(whole["a"], cut["a"]);
    }

    #[test]
    fn a_difference_starts_at_the_first_different_line() {
        assert_eq!(
            difference("a\nb\n", "a\nc\n"),
            "from line 2 on (-: Linux, +: Sloth)\n- b\n+ c\n"
        );
    }
}
