//! The report: a table for people, or JSON for scripts.

use serde_json::{Value, json};

use super::compare::Comparison;
use super::peer::Peer;
use super::{Figure, targets};

/// A JSON array with one object for each figure. `peer` is what was measured of another kernel, if
/// it was, or else the constant. In a comparison each also has `old` and `ratio`.
pub fn as_json(
    figures: &[Figure],
    measured: Option<&Peer>,
    comparison: Option<&Comparison>,
) -> String {
    let rows = figures.iter().map(|figure| {
        let target = targets::find(&figure.name);
        let mut row = json!({
            "name": figure.name,
            "unit": figure.unit,
            "value": number(figure.value),
            "target": target.map(|target| number(target.target)),
            "peer": match measured {
                Some(measured) => measured.find(&figure.name).map(|best| best.value),
                None => target.and_then(|target| target.peer),
            }.map(number),
        });
        if let Some(comparison) = comparison {
            let compared = comparison.find(&figure.name);
            row["old"] = compared.and_then(|row| row.old).map(number).into();
            row["ratio"] = compared.and_then(|row| row.ratio()).into();
        }
        row
    });
    format!("{:#}\n", Value::Array(rows.collect()))
}

/// A number for JSON, without a decimal point if it is whole.
pub fn number(value: f64) -> Value {
    let whole = value as i64;
    if whole as f64 == value { json!(whole) } else { json!(value) }
}

/// A number for a table, with three decimals unless it is whole; `-` for none.
pub fn cell(value: Option<f64>) -> String {
    let decimals = |value: f64| if value.fract() == 0.0 { 0 } else { 3 };
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.0$}", decimals(value)))
}

/// Endings of the names of counts, which stand below the row that they belong to.
const COUNTS: [&str; 6] = ["messages", "bytes", "bytes_out", "switches", "flushes", "faults"];

/// A table with one line for each row, and one below it for the counts that are not 0. If another
/// kernel was measured, its figures stand beside the constants, with the way that was best.
pub fn as_table(figures: &[Figure], measured: Option<&Peer>) -> String {
    let mut text =
        format!("{:<32} {:>14} {:<12} {:>14} {:>14}", "name", "value", "unit", "target", "Linux");
    if let Some(measured) = measured {
        text.push_str(&format!(" {:>14} in Linux {}", "measured", measured.version));
    }
    text.push('\n');
    let mut rows = figures.iter().peekable();
    while let Some(figure) = rows.next() {
        let target = targets::find(&figure.name);
        let mark = match target {
            Some(target) if figure.value <= target.target => "met",
            Some(_) => "MISSED",
            None => "",
        };
        text.push_str(&format!(
            "{:<32} {:>14} {:<12} {:>14} {:>14}{} {mark}\n",
            figure.name,
            cell(Some(figure.value)),
            figure.unit,
            cell(target.map(|target| target.target)),
            cell(target.and_then(|target| target.peer)),
            measured.map(|measured| measured_cell(figure, measured)).unwrap_or_default(),
        ));
        let mut counts = Vec::new();
        while let Some((count, value)) = rows.peek().and_then(|next| count_of(figure, next)) {
            counts.push(format!("{count} {}", cell(Some(value))));
            rows.next();
        }
        counts.retain(|count| !count.ends_with(" 0"));
        if !counts.is_empty() {
            text.push_str(&format!("    {}\n", counts.join(", ")));
        }
    }
    text
}

/// What another kernel takes for a row, how, and whether that is less.
fn measured_cell(row: &Figure, measured: &Peer) -> String {
    let best = measured.find(&row.name);
    let way = best.map_or("", |best| &best.way);
    let loses = best.is_some_and(|best| best.value < row.value);
    let mark = if loses { " LOSES" } else { "" };
    format!(" {:>14} {way:<18}{mark}", cell(best.map(|best| best.value)))
}

/// The name and the value of a count, if it is one of this row.
fn count_of<'a>(row: &Figure, count: &'a Figure) -> Option<(&'a str, f64)> {
    let name = count.name.strip_prefix(&row.name)?.strip_prefix('.')?;
    COUNTS.contains(&name).then_some((name, count.value))
}

#[cfg(test)]
mod tests {
    use super::super::{figure, peer};
    use super::*;

    #[test]
    fn the_json_names_target_and_peer() {
        let figures = [figure("null 99 instructions").unwrap(), figure("other 1.5 bytes").unwrap()];
        let rows: Value = serde_json::from_str(&as_json(&figures, None, None)).unwrap();
        assert_eq!(
            rows[0],
            json!({"name": "null", "unit": "instructions", "value": 99, "target": 120, "peer": 325})
        );
        assert_eq!(rows[1]["value"], json!(1.5));
        assert_eq!(rows[1]["target"], Value::Null);
        assert_eq!(rows[1]["peer"], Value::Null);
    }

    #[test]
    fn counts_stand_below_their_row() {
        let lines = ["a 9 instructions", "a.messages 2 messages", "a.flushes 0 flushes", "a.b 1 x"];
        let table = as_table(&lines.map(|line| figure(line).unwrap()), None);
        let lines: Vec<&str> = table.lines().map(str::trim_end).collect();
        assert_eq!(lines.len(), 4, "{table}");
        assert!(lines[1].starts_with("a  ") && lines[3].starts_with("a.b "), "{table}");
        assert_eq!(lines[2], "    messages 2");
    }

    #[test]
    fn what_was_measured_stands_beside_the_constant() {
        let peer = peer::of_output("figure cached null 50 instructions\ndone\n");
        let figures = ["null 99 instructions", "fork 9 instructions"].map(|it| figure(it).unwrap());
        let table = as_table(&figures, Some(&peer));
        let row = table.lines().nth(1).unwrap();
        let words: Vec<&str> = row.split_whitespace().collect();
        let wanted = ["null", "99", "instructions", "120", "325", "50", "cached", "LOSES", "met"];
        assert_eq!(words, wanted);
        let rows: Value = serde_json::from_str(&as_json(&figures, Some(&peer), None)).unwrap();
        assert_eq!((&rows[0]["peer"], &rows[1]["peer"]), (&json!(50), &Value::Null));
    }
}
