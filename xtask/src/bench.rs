//! `bench`: what things cost, in instructions and bytes, the same in every run.
//!
//! The guest's program `bench` measures and prints lines `name value unit`; the figures that only
//! the kernel knows stand in its log as `bench: name value unit`. The targets are added here.

use std::io::{Write, stdout};
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::cli::{BenchArgs, Lazy};
use crate::guest::Variant;
use crate::interrupts::Interrupts;
use crate::machine::{Clock, Debugger, Ending, Hardware, Machine};
use crate::paths::Paths;
use crate::run::{Task, describe};
use crate::session::{Input, Outcome, Session};
use crate::{guest, say, setup, status, targets};

/// The machine that the figures of other systems were measured on.
const MEMORY: &str = "1G";
/// All benchmarks together, on an emulator that counts.
const LIMIT: Duration = Duration::from_secs(900);
/// What marks a figure in the kernel's log.
const LOG_MARK: &str = "bench: ";

/// One figure.
#[derive(Debug, Clone, PartialEq)]
struct Figure {
    name: String,
    value: f64,
    unit: String,
}

/// Measures what matches; the status is xtask's.
pub fn bench(paths: &Paths, arguments: &BenchArgs) -> Result<u8> {
    let toolchain = setup::ensure(paths)?;
    let guest = guest::build(paths, &toolchain, Variant::Normal)?;
    let filter = arguments.filter.as_deref().unwrap_or_default();
    if !filter.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        bail!("a filter is made of letters, digits, dots and dashes");
    }
    let command = format!("bench {filter}");
    let task = Task { command: Some(command.trim()), lazy: Lazy::On, mutant: None, memory: MEMORY, additions: &[] };
    let initrd = task.initrd(paths, &guest)?;
    let hardware = Hardware { memory: MEMORY.to_owned(), clock: Clock::Instructions, debugger: Debugger::None };
    let interrupts = Interrupts::listen()?;
    say!("measuring (this takes a while)");
    let machine = Machine::start(&guest, &initrd, &hardware)?;
    let (mut console, mut log) = (Vec::new(), Vec::new());
    let session = Session { input: Input::None, console: &mut console, log: &mut log, limit: Some(LIMIT), interrupts: &interrupts };
    let outcome = session.run(machine)?;
    let (console, log) = (String::from_utf8_lossy(&console), String::from_utf8_lossy(&log));
    let in_log = log.lines().filter_map(|line| Some(line.split_once(LOG_MARK)?.1));
    let mut figures: Vec<Figure> = in_log.chain(console.lines()).filter_map(figure).collect();
    figures.retain(|figure| figure.name.contains(filter));
    let report = if arguments.json { as_json(&figures) } else { as_table(&figures) };
    stdout().write_all(report.as_bytes())?;
    if outcome == Outcome::Ended(Ending::PowerOff, Some(0)) {
        return Ok(0);
    }
    let (status, complaint) = describe(&outcome);
    eprint!("{log}");
    say!("{complaint}; the figures above are what was measured until then");
    Ok(if status == 0 { status::QEMU_ENDED } else { status })
}

/// Reads a line `name value unit`; anything else is not a figure.
fn figure(line: &str) -> Option<Figure> {
    let mut words = line.split_whitespace();
    let (name, value, unit) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
    words.next().is_none().then(|| Figure { name: name.to_owned(), value, unit: unit.to_owned() })
}

fn as_json(figures: &[Figure]) -> String {
    let rows: Vec<Value> = figures
        .iter()
        .map(|figure| {
            let target = targets::find(&figure.name);
            json!({
                "name": figure.name,
                "unit": figure.unit,
                "value": figure.value,
                "target": target.map(|target| target.target),
                "peer": target.and_then(|target| target.peer),
            })
        })
        .collect();
    format!("{:#}\n", Value::Array(rows))
}

fn as_table(figures: &[Figure]) -> String {
    let mut text = format!("{:<32} {:>14} {:<12} {:>14} {:>14}\n", "name", "value", "unit", "target", "Linux");
    for figure in figures {
        let target = targets::find(&figure.name);
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.0}"));
        let mark = match target {
            Some(target) if figure.value <= target.target => "met",
            Some(_) => "MISSED",
            None => "",
        };
        text.push_str(&format!(
            "{:<32} {:>14} {:<12} {:>14} {:>14} {mark}\n",
            figure.name,
            number(Some(figure.value)),
            figure.unit,
            number(target.map(|target| target.target)),
            number(target.and_then(|target| target.peer)),
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_three_words() {
        let null = Figure { name: "null".to_owned(), value: 120.0, unit: "instructions".to_owned() };
        assert_eq!(figure("null 120 instructions"), Some(null));
        for bad in ["", "null", "null x instructions", "null 120", "null 120 instructions or so"] {
            assert_eq!(figure(bad), None);
        }
    }

    #[test]
    fn the_json_names_target_and_peer() {
        let figures = [figure("null 99 instructions").unwrap(), figure("other 1 bytes").unwrap()];
        let rows: Value = serde_json::from_str(&as_json(&figures)).unwrap();
        assert_eq!(rows[0], json!({"name": "null", "unit": "instructions", "value": 99.0, "target": 120.0, "peer": 325.0}));
        assert_eq!(rows[1]["target"], Value::Null);
        assert_eq!(rows[1]["peer"], Value::Null);
    }
}
