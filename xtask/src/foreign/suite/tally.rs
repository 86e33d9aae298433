//! The report of a suite: what differs, how often each end occurred, and the summary.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::results::{End, find};

/// Words by which LTP's programs report results.
const LTP_WORDS: [&str; 4] = ["TPASS", "TFAIL", "TBROK", "TCONF"];

/// The comparison of one program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Both sides have the same result.
    Agrees,
    /// The same, and the list of known differences names it.
    AgreesThoughKnown,
    /// It ends differently.
    Differs,
    /// It ends equally, and prints something else.
    OutputDiffers,
    /// It differs, for this known reason.
    Known(String),
}

/// Counts of a run.
#[derive(Debug, Default)]
pub struct Tally {
    agree: usize,
    differ: usize,
    known: usize,
    skipped: usize,
    /// How often each end occurred on Linux and on Sloth.
    ends: BTreeMap<End, [usize; 2]>,
    /// Whether a program reported as LTP's do.
    is_ltp: bool,
}

impl Tally {
    /// Counts a program, and prints it if it deserves attention.
    pub fn add(&mut self, name: &str, verdict: &Verdict, ends: [&End; 2], files: &[PathBuf; 2]) {
        for (side, end) in ends.iter().enumerate() {
            self.ends.entry(kind(end)).or_default()[side] += 1;
        }
        let [linux, sloth] = ends;
        let both = format!("{linux} on Linux, {sloth} on Sloth");
        let shown = format!("    {}\n    {}", files[0].display(), files[1].display());
        match verdict {
            Verdict::Agrees => self.agree += 1,
            Verdict::AgreesThoughKnown => {
                println!("agrees, and is in the list of known differences: {name}");
                self.agree += 1;
            }
            Verdict::Differs => {
                println!("differs: {name}: {both}\n{shown}");
                self.differ += 1;
            }
            Verdict::OutputDiffers => {
                println!("differs: {name}: in its output\n{shown}");
                self.differ += 1;
            }
            Verdict::Known(reason) => {
                println!("known: {name}: {both}: {reason}");
                self.known += 1;
            }
        }
    }

    /// Counts a program that is not run.
    pub fn skip(&mut self, name: &str, why: &str) {
        println!("skipped: {name}: {why}");
        self.skipped += 1;
    }

    /// Looks whether a program's output is that of LTP's.
    pub fn note_output(&mut self, output: &[u8]) {
        self.is_ltp |= LTP_WORDS.iter().any(|word| find(output, word.as_bytes()).is_some());
    }

    /// Prints the summary; returns the exit status.
    pub fn conclude(&self) -> u8 {
        print!("{self}");
        u8::from(self.differ > 0)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(to, "{:36} {:>6} {:>6}", "end", "Linux", "Sloth")?;
        for (end, [linux, sloth]) in &self.ends {
            let text = match end {
                End::Exit(status) if self.is_ltp => format!("{end}, {}", ltp(*status)),
                _ => end.to_string(),
            };
            writeln!(to, "{text:36} {linux:>6} {sloth:>6}")?;
        }
        if self.known > 0 {
            writeln!(to, "known differences, which are not counted: {}", self.known)?;
        }
        writeln!(to, "{} agree, {} differ, {} skipped", self.agree, self.differ, self.skipped)
    }
}

/// An end as it is counted: all ends of the system alike.
fn kind(end: &End) -> End {
    match end {
        End::Lost(_) => End::Lost("lost with its system".to_owned()),
        other => other.clone(),
    }
}

/// LTP's words for an exit status, which is a set of bits (`TTYPE_RESULT` in its headers).
fn ltp(status: u8) -> String {
    const BITS: [(u8, &str); 4] = [(1, "TFAIL"), (2, "TBROK"), (4, "TWARN"), (32, "TCONF")];
    if status == 0 {
        return "TPASS".to_owned();
    }
    let known = BITS.iter().fold(0, |sum, (bit, _)| sum | bit);
    if status & !known != 0 {
        return "no status of LTP".to_owned();
    }
    let words: Vec<&str> =
        BITS.iter().filter(|(bit, _)| status & bit != 0).map(|(_, word)| *word).collect();
    words.join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(tally: &mut Tally, verdict: Verdict, ends: [End; 2]) {
        let files = [PathBuf::from("linux/x.log"), PathBuf::from("sloth/x.log")];
        tally.add("x", &verdict, [&ends[0], &ends[1]], &files);
    }

    #[test]
    fn the_last_line_is_the_summary() {
        let mut tally = Tally::default();
        add(&mut tally, Verdict::Agrees, [End::Exit(0), End::Exit(0)]);
        assert_eq!(tally.conclude(), 0);
        add(&mut tally, Verdict::Differs, [End::Exit(0), End::Lost("panic".to_owned())]);
        add(&mut tally, Verdict::Known("why".to_owned()), [End::Exit(0), End::TimeOut]);
        tally.skip("y", "no interpreter");
        assert_eq!(tally.conclude(), 1);
        let text = tally.to_string();
        assert_eq!(text.lines().last(), Some("1 agree, 1 differ, 1 skipped"));
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines: Vec<String> = text.lines().map(words).collect();
        assert!(lines.contains(&"exit status 0 3 1".to_owned()), "{text}");
        assert!(lines.contains(&"lost with its system 0 1".to_owned()), "{text}");
    }

    #[test]
    fn the_statuses_of_ltp_have_names() {
        let mut tally = Tally::default();
        add(&mut tally, Verdict::Agrees, [End::Exit(32), End::Exit(32)]);
        assert!(!tally.to_string().contains("TCONF"));
        tally.note_output(b"x.c:3: TCONF: not here\n");
        assert!(tally.to_string().contains("exit status 32, TCONF"));
        assert_eq!(ltp(0), "TPASS");
        assert_eq!(ltp(3), "TFAIL and TBROK");
        assert_eq!(ltp(127), "no status of LTP");
    }
}
