//! A run of the bench that is kept in a file, as JSON.
//!
//! The file is an object: `commit`, `machine` (QEMU's options) and `rows`, the array that `--json`
//! prints. Such an array alone is a kept run, too.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::report::as_json;
use super::{Figure, hardware};
use crate::machine::Debugging;
use crate::paths::Paths;

/// A run that was kept.
#[derive(Debug, PartialEq)]
pub struct Saved {
    /// The commit that was measured, and whether files had changed since; empty if unknown.
    pub commit: String,
    /// The rows, in the order of the report.
    pub figures: Vec<Figure>,
}

impl Saved {
    /// The figures of this run.
    pub fn now(paths: &Paths, figures: &[Figure]) -> Self {
        Self { commit: commit(paths), figures: figures.to_vec() }
    }

    /// Writes the file.
    pub fn write(&self, file: &Path) -> Result<()> {
        let rows: Value = serde_json::from_str(&as_json(&self.figures, None, None))?;
        let saved = json!({ "commit": self.commit, "machine": machine(), "rows": rows });
        fs::write(file, format!("{saved:#}\n"))
            .with_context(|| format!("cannot write {}", file.display()))
    }

    /// Reads a file.
    pub fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file)
            .with_context(|| format!("cannot read the figures in {}", file.display()))?;
        Self::parse(&text).with_context(|| format!("{} holds no run of the bench", file.display()))
    }

    /// Parses what `--save` has written or `--json` has printed.
    fn parse(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text)?;
        if let Some(measured_on) = value.get("machine") {
            let (here, there) = (machine(), measured_on.as_str().unwrap_or("an unknown one"));
            ensure!(here == there, "it is of another machine: {there}, and not {here}");
        }
        let rows = value.get("rows").unwrap_or(&value).as_array().context("there are no rows")?;
        let figures: Option<Vec<Figure>> = rows.iter().map(figure).collect();
        let figures = figures.context("a row has no name, value and unit")?;
        if figures.is_empty() {
            bail!("there are no rows");
        }
        let commit = value.get("commit").and_then(Value::as_str).unwrap_or_default();
        Ok(Self { commit: commit.to_owned(), figures })
    }
}

fn figure(row: &Value) -> Option<Figure> {
    let text = |field: &str| row.get(field)?.as_str().map(str::to_owned);
    Some(Figure { name: text("name")?, value: row.get("value")?.as_f64()?, unit: text("unit")? })
}

/// Ensures that a file can be written later.
pub fn ensure_folder(file: &Path) -> Result<()> {
    let folder = file.parent().filter(|folder| *folder != Path::new(""));
    ensure!(!file.is_dir(), "{} is a folder", file.display());
    ensure!(
        folder.is_none_or(Path::is_dir),
        "cannot write {}: there is no such folder",
        file.display()
    );
    Ok(())
}

/// The machine: QEMU's options.
fn machine() -> String {
    hardware(Debugging::default()).options().join(" ")
}

fn commit(paths: &Paths) -> String {
    let mut query = Command::new("git");
    query.args(["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]);
    let output = query.current_dir(&paths.root).output();
    let known = output.ok().filter(|output| output.status.success());
    known.map(|it| String::from_utf8_lossy(&it.stdout).trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Saved {
        let row = |name: &str, value| Figure {
            name: name.to_owned(),
            value,
            unit: "instructions".to_owned(),
        };
        Saved { commit: "abc".to_owned(), figures: vec![row("null", 114.0), row("busy", 1.5)] }
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("run.json");
        run().write(&file).unwrap();
        assert_eq!(Saved::read(&file).unwrap(), run());
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains("-icount shift=0,sleep=off"), "the machine is missing: {text}");
    }

    #[test]
    fn the_output_of_json_is_a_run_without_a_commit() {
        let read = Saved::parse(&as_json(&run().figures, None, None)).unwrap();
        assert_eq!(read, Saved { commit: String::new(), ..run() });
    }

    #[test]
    fn other_files_are_refused() {
        let other =
            r#"{"machine": "-accel kvm", "rows": [{"name": "a", "value": 1, "unit": "b"}]}"#;
        for bad in ["", "[]", "{}", "7", r#"[{"name": "null"}]"#, r#"{"rows": 1}"#, other] {
            assert!(Saved::parse(bad).is_err(), "{bad}");
        }
        let missing = Saved::read(Path::new("/nowhere/run.json")).unwrap_err();
        assert!(format!("{missing:#}").contains("/nowhere/run.json"));
        assert!(ensure_folder(Path::new("/nowhere/run.json")).is_err());
        assert!(ensure_folder(Path::new("/")).is_err());
        assert!(ensure_folder(Path::new("run.json")).is_ok());
    }
}
