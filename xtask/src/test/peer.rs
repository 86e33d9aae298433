//! The program that measures Linux: that it is built and runs on Linux, and, in long runs, that it
//! measures every row.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::bench::peer::Peer;
use crate::cli::Length;
use crate::guest::{self, Guest};
use crate::interrupts::Interrupts;
use crate::paths::Paths;
use crate::setup;
use crate::test::verdict::Verdict;

/// Rows that a run must measure: one of each kind.
const ROWS: [&str; 6] = ["boot", "null", "exec", "server.rtt", "stat", "read64m.random"];

/// A test of the program.
#[derive(Debug, Clone, Copy)]
pub enum PeerTest {
    /// It starts on this host, and refuses to be anything but the first process.
    Starts,
    /// It measures the distribution's kernel.
    Measures,
}

impl PeerTest {
    /// The tests for a length.
    pub fn list(length: Length) -> &'static [Self] {
        match length {
            Length::Short => &[Self::Starts],
            Length::Long => &[Self::Starts, Self::Measures],
        }
    }

    /// The test's full name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starts => "qemu::peer_is_a_program_for_linux",
            Self::Measures => "qemu::peer_measures_linux",
        }
    }

    /// Builds the program and runs it.
    pub fn run(self, paths: &Paths, guest: &Guest, interrupts: &Interrupts) -> Result<Verdict> {
        let toolchain = setup::ensure(paths)?;
        match self {
            Self::Starts => {
                let program = guest::build_peer(paths, &toolchain)?;
                let output = Command::new(&program)
                    .stdin(Stdio::null())
                    .output()
                    .with_context(|| format!("cannot start {}", program.display()))?;
                let refuses = output.status.code() == Some(1)
                    && String::from_utf8_lossy(&output.stderr).contains("the first process");
                Ok(Verdict::from_condition(refuses, || format!("{output:?}")))
            }
            Self::Measures => {
                let peer = match Peer::get(paths, &toolchain, guest, interrupts) {
                    Ok(peer) => peer,
                    Err(error) => return Ok(Verdict::Failed(format!("{error:#}"))),
                };
                let missing: Vec<_> = ROWS.iter().filter(|row| peer.find(row).is_none()).collect();
                Ok(Verdict::from_condition(missing.is_empty(), || format!("no {missing:?}")))
            }
        }
    }
}
