//! Programs that want a terminal: editors, and shells with job control, typed at. The same keys,
//! and the same to be seen, on Linux and on Sloth's console.

use std::process::Command;

use anyhow::Result;

use super::programs::{GUEST_BIN, Store};
use super::{Outcome, SETTINGS};
use crate::cli::Lazy;
use crate::console_tests::{Step, play};
use crate::interrupts::Interrupts;
use crate::verdict::Verdict;

use Step::{End, See, Type};

/// A script, which begins and ends at the prompt of busybox's shell.
pub struct ConsoleCase {
    name: &'static str,
    programs: &'static [&'static str],
    script: &'static [Step],
}

/// All of them. What is looked for never stands literally in what was typed: that is echoed. Keys
/// that signal are typed once the job has said that it runs.
pub const CASES: &[ConsoleCase] = &[
    ConsoleCase {
        name: "vi",
        programs: &[],
        script: &[
            Type("busybox vi f\r"),
            See("1/1"),
            // Text, an escape, and a word put in at the start of the line. What follows an escape
            // at once would be taken for a key's sequence.
            Type("ihello\rworld\x1b"),
            See("- f [Modified]"),
            Type("0ibrave \x1b"),
            See("- f [Modified]"),
            Type(":wq\r"),
            See("% "),
            Type("busybox sha256sum f\r"),
            See("99f99f4edd68b9b5"),
            See("% "),
        ],
    },
    ConsoleCase { name: "ash_jobs", programs: &[], script: JOBS },
];

/// A job is stopped, gone on with in the foreground, and another killed in the background.
const JOBS: &[Step] = &[
    Type("sh -c 'echo sta\"\"rted; cat > out'\r"),
    See("started"),
    Type("\x1a"),
    See("Stopped"),
    See("% "),
    Type("jobs\r"),
    See("Stopped"),
    See("% "),
    Type("fg\r"),
    See("cat > out"),
    Type("a line\r\x04"),
    See("% "),
    Type("busybox sha256sum out\r"),
    See("786e184927ec9dda"),
    See("% "),
    Type("sleep 100 &\r"),
    See("% "),
    Type("kill %1; wait\r"),
    See("Terminated"),
    See("% "),
];

/// On Sloth the foreign shell is started from the guest's own, and a prompt is agreed on.
const ENTER: &[Step] = &[
    See("# "),
    Type("mkdir /tmp/w; cd /tmp/w; export PATH=/opt/bin:/bin; PS1='% ' busybox sh\r"),
    See("\r\n"),
    See("% "),
];
/// And left, and the machine with it.
const LEAVE: &[Step] = &[Type("exit\r"), See("# "), Type("exit\r"), End];

impl ConsoleCase {
    /// Its full name.
    pub fn name(&self) -> String {
        format!("foreign::console::{}", self.name)
    }

    /// Plays it on Linux, which has to show the same, and on Sloth with both settings.
    pub fn run(&self, store: &Store, interrupts: &Interrupts) -> Result<Vec<(String, Outcome)>> {
        let bin = store.fresh("bin")?;
        let mut arguments = Vec::new();
        for name in ["busybox"].iter().chain(self.programs) {
            if let Err(why) = store.get(name, &bin) {
                return Ok(SETTINGS
                    .map(|lazy| {
                        (
                            self.case_name(lazy),
                            Outcome::Skipped(format!("{name} is not to be had: {why}")),
                        )
                    })
                    .to_vec());
            }
            arguments.extend([
                "--add".to_owned(),
                format!("{}:/{GUEST_BIN}/{name}", bin.join(name).display()),
            ]);
        }
        let mut command = Command::new(bin.join("busybox"));
        command.arg("sh").env_clear().env("PATH", format!("{}:/bin:/usr/bin", bin.display()));
        command.env("PS1", "% ").env("TERM", "vt100").current_dir(store.fresh("work")?);
        let on_linux: Vec<Step> = [&[See("% ")], self.script, &[Type("exit\r"), End]].concat();
        let oracle = play(command, &on_linux, interrupts)?;
        let mut outcomes = Vec::new();
        for lazy in SETTINGS {
            let outcome = match &oracle {
                Verdict::Passed => self.on_sloth(&arguments, lazy, interrupts)?,
                Verdict::Failed(why) | Verdict::Skipped(why) => {
                    Outcome::Failed(format!("on Linux: {why}"))
                }
            };
            outcomes.push((self.case_name(lazy), outcome));
        }
        Ok(outcomes)
    }

    fn on_sloth(
        &self,
        arguments: &[String],
        lazy: Lazy,
        interrupts: &Interrupts,
    ) -> Result<Outcome> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["run", "--timeout", "60", "--lazy", lazy.word()]).args(arguments);
        Ok(match play(command, &[ENTER, self.script, LEAVE].concat(), interrupts)? {
            Verdict::Passed => Outcome::Passed,
            Verdict::Failed(why) | Verdict::Skipped(why) => Outcome::Failed(why),
        })
    }

    fn case_name(&self, lazy: Lazy) -> String {
        format!("{} lazy {}", self.name(), lazy.word())
    }
}
