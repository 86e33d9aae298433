//! The file of known differences: names of programs, each with a reason.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// The programs of a list.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Those that may differ, with the reason.
    pub differ: BTreeMap<String, String>,
    /// Those that are not run, with the reason.
    pub left_out: BTreeMap<String, String>,
}

impl Known {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the known differences in {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", path.display()))
    }

    /// Parses the file: in each line a name, white space (or a colon and white space) and a reason.
    /// Empty lines and those that begin with `#` are comments.
    fn parse(text: &str) -> Result<Self> {
        let mut known = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, reason) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let (name, reason) = (name.trim_end_matches(':'), reason.trim());
            if reason.is_empty() {
                bail!("line {number}: {name} has no reason");
            }
            let (list, name) = match name.strip_prefix('!') {
                Some(name) => (&mut known.left_out, name),
                None => (&mut known.differ, name),
            };
            if list.insert(name.to_owned(), reason.to_owned()).is_some() {
                bail!("line {number}: {name} is there twice");
            }
        }
        Ok(known)
    }

    /// The names that are none of these.
    pub fn strangers<'a>(&'a self, names: &[&str]) -> Vec<&'a str> {
        let all = self.differ.keys().chain(self.left_out.keys()).map(String::as_str);
        all.filter(|name| !names.contains(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_name_and_a_reason() {
        let known =
            Known::parse("# list\n\na/b: no such call\nc   two words \n!d hangs\n").unwrap();
        assert_eq!(known.differ["a/b"], "no such call");
        assert_eq!(known.differ["c"], "two words");
        assert_eq!(known.left_out["d"], "hangs");
        assert_eq!(known.strangers(&["a/b", "d"]), ["c"]);
    }

    #[test]
    fn a_name_needs_a_reason_and_is_there_once() {
        let error = |text| format!("{:#}", Known::parse(text).unwrap_err());
        assert_eq!(error("a x\nb"), "line 2: b has no reason");
        assert_eq!(error("a x\na y"), "line 2: a is there twice");
    }
}
