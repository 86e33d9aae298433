//! Programs that need a terminal: editors, and shells with job control. The same keys must give
//! the same output on Linux and on Sloth's console.

use std::process::Command;

use anyhow::Result;

use super::SETTINGS;
use super::programs::{ForeignFolder, GUEST_BIN};
use crate::cli::Lazy;
use crate::interrupts::Interrupts;
use crate::test::console::{Step, play};
use crate::test::verdict::Verdict;

use Step::{End, See, Type};

/// A script that begins and ends at the prompt of busybox's shell.
pub struct ConsoleCase {
    name: &'static str,
    programs: &'static [&'static str],
    script: &'static [Step],
}

/// The scripts. Awaited text never occurs literally in the typed keys, since those are echoed. Keys
/// that send a signal are typed after the job has reported that it runs.
pub const CASES: &[ConsoleCase] = &[
    ConsoleCase {
        name: "vi",
        programs: &[],
        script: &[
            Type("busybox vi f\r"),
            See("1/1"),
            // Text, an escape, and a word inserted at the start of the line. Keys that follow an
            // escape immediately would be parsed as an escape sequence.
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

/// A job is stopped and continued in the foreground; another is killed in the background.
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

/// On Sloth, starts the foreign shell from the guest's own, with the prompt of the scripts.
const ENTER: &[Step] = &[
    See("# "),
    Type("mkdir /tmp/w; cd /tmp/w; export PATH=/opt/bin:/bin; PS1='% ' busybox sh\r"),
    See("\r\n"),
    See("% "),
];
/// On Sloth, leaves both shells, which ends the machine.
const LEAVE: &[Step] = &[Type("exit\r"), See("# "), Type("exit 0\r"), End];

impl ConsoleCase {
    /// The full name of the case.
    pub fn name(&self) -> String {
        format!("foreign::console::{}", self.name)
    }

    /// Plays the script on Linux, where it must pass as well, and on Sloth with both settings.
    pub fn run(
        &self,
        store: &ForeignFolder,
        interrupts: &Interrupts,
    ) -> Result<Vec<(String, Verdict)>> {
        let bin = store.fresh("bin")?;
        let mut arguments = Vec::new();
        for name in ["busybox"].iter().chain(self.programs) {
            if let Err(why) = store.get(name, &bin) {
                return Ok(SETTINGS
                    .map(|lazy| {
                        (
                            self.case_name(lazy),
                            Verdict::Skipped(format!("{name} is not available: {why}")),
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
        let on_linux: Vec<Step> = [&[See("% ")], self.script, &[Type("exit 0\r"), End]].concat();
        let oracle = play(command, &on_linux, 0, interrupts)?;
        let mut outcomes = Vec::new();
        for lazy in SETTINGS {
            let outcome = match &oracle {
                Verdict::Passed | Verdict::Reported(_) => {
                    self.on_sloth(&arguments, lazy, interrupts)?
                }
                Verdict::Failed(why) | Verdict::Skipped(why) => {
                    Verdict::Failed(format!("on Linux: {why}"))
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
    ) -> Result<Verdict> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["run", "--plain", "--timeout", "60", "--lazy", lazy.word()]).args(arguments);
        play(command, &[ENTER, self.script, LEAVE].concat(), 0, interrupts)
    }

    fn case_name(&self, lazy: Lazy) -> String {
        format!("{} lazy {}", self.name(), lazy.word())
    }
}
