//! The command line: `cargo xtask` with arguments and input, as a script calls it.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Result;

use crate::exit_status::XTASK;
use crate::interrupts::Interrupts;
use crate::paths::Paths;
use crate::process;
use crate::test::verdict::Verdict;

/// Time limit; a build may be part of it.
const LIMIT: Duration = Duration::from_secs(120);
/// The exit status for a wrong command line.
const USAGE: u8 = 2;

/// A call of xtask and its result.
#[derive(Debug, Clone)]
pub struct CommandTest {
    /// The test's full name.
    pub name: &'static str,
    arguments: &'static [&'static str],
    input: &'static [u8],
    status: u8,
    output: &'static [u8],
    /// Texts that standard error contains.
    errors: &'static [&'static str],
}

/// A call without input and output that succeeds.
const PLAIN: CommandTest =
    CommandTest { name: "", arguments: &[], input: b"", status: 0, output: b"", errors: &[] };

/// Three times as many bytes as may be on the way, with all values.
const BYTES: [u8; 6000] = {
    let mut bytes = [0; 6000];
    let mut index = 0;
    while index < bytes.len() {
        bytes[index] = (index * 7 / 3) as u8;
        index += 1;
    }
    bytes
};

/// The tests.
pub const TESTS: &[CommandTest] = &[
    CommandTest {
        name: "qemu::command_gets_its_input",
        arguments: &["run", "--", "cat"],
        input: &BYTES,
        output: &BYTES,
        ..PLAIN
    },
    CommandTest {
        name: "qemu::command_input_has_an_end",
        arguments: &["run", "--", "echo a; cat; echo b"],
        output: b"a\nb\n",
        ..PLAIN
    },
    CommandTest {
        name: "qemu::command_shell_runs_its_input",
        arguments: &["run"],
        input: b"echo a $((1 + 2))\nread line\nsome text\necho $line\nexit 9",
        output: b"a 3\nsome text\n",
        status: 9,
        ..PLAIN
    },
    relayed("qemu::command_relay_client", &["run", "--relay", "client", "--", "true"]),
    relayed("qemu::command_relay_base", &["run", "--relay", "base", "--", "true"]),
    relayed("qemu::command_relay_both", &["run", "--relay", "client,base", "--", "true"]),
    relayed("qemu::command_relay_log", &["run", "--relay", "client,base,log", "--", "true"]),
    CommandTest {
        name: "qemu::command_end_by_a_signal_is_logged",
        arguments: &["run", "--", "sh -c 'kill -ABRT $$'; tests signal_faults"],
        errors: &[
            "is ended by SIGABRT: sent by process",
            "is ended by SIGSEGV: Store of 0x",
            "is ended by SIGILL: at 0x",
        ],
        ..PLAIN
    },
    refused(
        "qemu::command_test_without_a_match",
        &["test", "qemu::secnd_disk"],
        XTASK,
        &["no test matches", "qemu::second_disk"],
    ),
    refused(
        "qemu::command_foreign_without_a_match",
        &["foreign", "ash_jbs"],
        XTASK,
        &["no case matches", "ash_jobs"],
    ),
    refused(
        "qemu::command_foreign_without_a_folder",
        &["foreign", "--suite", "/nowhere"],
        XTASK,
        &["--suite /nowhere: No such file or directory"],
    ),
    refused(
        "qemu::command_foreign_without_programs",
        &["foreign", "--suite", "docs"],
        XTASK,
        &["--suite docs: none of the", "files is a program"],
    ),
    refused(
        "qemu::command_bench_without_a_match",
        &["bench", "server.rt2"],
        XTASK,
        &["no row matches", "server.rtt"],
    ),
    refused(
        "qemu::command_bench_against_a_missing_file",
        &["bench", "null", "--against", "/nowhere/run.json"],
        XTASK,
        &["cannot read the figures in /nowhere/run.json"],
    ),
    refused("qemu::command_without_dashes", &["run", "echo", "hi"], USAGE, &["run -- echo hi"]),
    refused("qemu::command_without_memory", &["run", "--memory", "0"], USAGE, &["--memory", "1M"]),
];

const fn relayed(name: &'static str, arguments: &'static [&'static str]) -> CommandTest {
    CommandTest { name, arguments, errors: &["operation", "all"], ..PLAIN }
}

const fn refused(
    name: &'static str,
    arguments: &'static [&'static str],
    status: u8,
    errors: &'static [&'static str],
) -> CommandTest {
    CommandTest { name, arguments, status, errors, ..PLAIN }
}

impl CommandTest {
    /// Calls xtask and compares the result.
    pub fn run(&self, paths: &Paths, interrupts: &Interrupts) -> Result<Verdict> {
        let [mut input, mut output, mut errors] =
            [paths.scratch_file()?, paths.scratch_file()?, paths.scratch_file()?];
        input.write_all(self.input)?;
        input.rewind()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(self.arguments).stdin(input);
        command.stdout(output.try_clone()?).stderr(Stdio::from(errors.try_clone()?));
        let ended = process::finish(command, LIMIT, interrupts)?;
        let (output, errors) = (contents(&mut output)?, contents(&mut errors)?);
        let errors = String::from_utf8_lossy(&errors);
        let process::Ended::ByItself(status) = ended else {
            return Ok(Verdict::Failed(format!("stopped: it did not end\n{errors}")));
        };
        let good = status.code() == Some(self.status.into())
            && output == self.output
            && self.errors.iter().all(|text| errors.contains(text));
        Ok(Verdict::from_condition(good, || {
            let output = String::from_utf8_lossy(&output);
            format!("{status}\n--- output\n{output}\n--- errors\n{errors}")
        }))
    }
}

fn contents(file: &mut File) -> Result<Vec<u8>> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}
