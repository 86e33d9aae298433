//! Two runs of the bench, row by row. In every row less is better.

use super::Figure;
use super::report::cell;
use super::saved::Saved;
use crate::say;

/// The exit status where a row has become worse.
const WORSE: u8 = 1;

/// A run compared with an older one.
#[derive(Debug)]
pub struct Comparison {
    /// The rows of the new run, in its order.
    rows: Vec<Row>,
    /// Names of rows that only the older run has.
    gone: Vec<String>,
    /// The older run's commit, which may be empty.
    commit: String,
    /// By how many percent a figure may rise.
    tolerance: f64,
}

/// A row of the new run.
#[derive(Debug)]
pub struct Row {
    name: String,
    unit: String,
    /// The older figure; `None` if the older run has no such row.
    pub old: Option<f64>,
    new: f64,
}

impl Row {
    /// New over old. `None` if there is no older figure, or it is 0 and the new one is not.
    pub fn ratio(&self) -> Option<f64> {
        match self.old? {
            old if old == self.new => Some(1.0),
            0.0 => None,
            old => Some(self.new / old),
        }
    }
}

impl Comparison {
    /// Compares the figures with an older run's; they may rise by `tolerance` percent.
    pub fn new(old: &Saved, figures: &[Figure], tolerance: f64) -> Self {
        let find = |name: &str| old.figures.iter().find(|figure| figure.name == name);
        let rows = figures.iter().map(|figure| Row {
            name: figure.name.clone(),
            unit: figure.unit.clone(),
            old: find(&figure.name).map(|old| old.value),
            new: figure.value,
        });
        let is_gone = |name: &&str| figures.iter().all(|figure| figure.name != **name);
        let names = old.figures.iter().map(|figure| figure.name.as_str());
        let gone = names.filter(is_gone).map(str::to_owned).collect();
        Self { rows: rows.collect(), gone, commit: old.commit.clone(), tolerance }
    }

    /// The row of this name.
    pub fn find(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    fn is_worse(&self, row: &Row) -> bool {
        row.old.is_some_and(|old| row.new > old * (1.0 + self.tolerance / 100.0))
    }

    fn worse(&self) -> usize {
        self.rows.iter().filter(|row| self.is_worse(row)).count()
    }

    /// A table with one line for each row of the new run.
    pub fn as_table(&self) -> String {
        let mut text =
            format!("{:<32} {:>14} {:>14} {:>8} {:<12}\n", "name", "old", "new", "ratio", "unit");
        for row in &self.rows {
            let ratio = row.ratio().map_or_else(|| "-".to_owned(), |it| format!("{it:.3}"));
            text.push_str(&format!(
                "{:<32} {:>14} {:>14} {ratio:>8} {:<12}{}\n",
                row.name,
                cell(row.old),
                cell(Some(row.new)),
                row.unit,
                if self.is_worse(row) { " WORSE" } else { "" }
            ));
        }
        text
    }

    /// Says how many rows are worse, and which of those that match `filter` are gone. Returns the
    /// exit status.
    pub fn conclude(&self, filter: &str) -> u8 {
        let gone: Vec<&str> =
            self.gone.iter().map(String::as_str).filter(|name| name.contains(filter)).collect();
        if !gone.is_empty() {
            say!("only the older run has {}", gone.join(", "));
        }
        let of = if self.commit.is_empty() { "the older run" } else { &self.commit };
        let worse = self.worse();
        say!(
            "{worse} of {} rows are worse than {of} by more than {} %",
            self.rows.len(),
            self.tolerance
        );
        if worse == 0 { 0 } else { WORSE }
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::as_json;
    use super::*;
    use serde_json::{Value, json};

    fn figures(rows: &[(&str, f64)]) -> Vec<Figure> {
        let row =
            |&(name, value): &(&str, f64)| Figure { name: name.into(), value, unit: "x".into() };
        rows.iter().map(row).collect()
    }

    fn compare(old: &[(&str, f64)], new: &[(&str, f64)], tolerance: f64) -> Comparison {
        let old = Saved { commit: String::new(), figures: figures(old) };
        Comparison::new(&old, &figures(new), tolerance)
    }

    #[test]
    fn a_row_is_worse_beyond_the_tolerance_only() {
        for (new, tolerance, status) in
            [(102.0, 2.0, 0), (102.1, 2.0, 1), (50.0, 2.0, 0), (101.0, 0.0, 1), (100.0, 0.0, 0)]
        {
            let comparison = compare(&[("a", 100.0)], &[("a", new)], tolerance);
            assert_eq!(comparison.conclude(""), status, "{new} {tolerance}");
            assert_eq!(comparison.as_table().contains("WORSE"), status == 1);
        }
    }

    #[test]
    fn one_of_nothing_is_worse_and_none_of_nothing_is_not() {
        assert_eq!(compare(&[("a", 0.0)], &[("a", 1.0)], 2.0).conclude(""), 1);
        assert_eq!(compare(&[("a", 0.0)], &[("a", 0.0)], 2.0).conclude(""), 0);
    }

    #[test]
    fn rows_of_one_run_alone_are_listed_and_are_not_worse() {
        let comparison = compare(&[("a", 1.0), ("b", 1.0)], &[("c", 9.0), ("a", 1.0)], 2.0);
        assert_eq!(comparison.conclude(""), 0);
        assert_eq!(comparison.gone, ["b"]);
        let table = comparison.as_table();
        let names: Vec<_> = table.lines().map(|it| it.split(' ').next().unwrap()).collect();
        assert_eq!(names, ["name", "c", "a"], "the order is that of the new run");
    }

    #[test]
    fn the_json_has_the_older_figure_and_the_ratio() {
        let new = figures(&[("a", 3.0), ("b", 1.0)]);
        let comparison = compare(&[("a", 2.0)], &[("a", 3.0), ("b", 1.0)], 2.0);
        let rows: Value = serde_json::from_str(&as_json(&new, None, Some(&comparison))).unwrap();
        assert_eq!((&rows[0]["old"], &rows[0]["ratio"]), (&json!(2), &json!(1.5)));
        assert_eq!((&rows[1]["old"], &rows[1]["ratio"]), (&Value::Null, &Value::Null));
    }
}
