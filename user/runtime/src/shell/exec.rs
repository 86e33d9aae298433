//! Execution of syntax trees: lists, pipelines, compound commands, programs.

mod redirect;

use super::interactive::{self, Place};
use super::pattern;
use super::syntax::{AndOr, Command, Compound, Connector, List, Pipeline, Redirect, Word};
use super::{Flow, Shell, builtins};
use crate::prelude::*;
use alloc::rc::Rc;
use sys::abi;

type Run<T> = core::result::Result<T, Flow>;

/// The maximum nesting of functions and sourced files, which bounds the use of the stack.
const MAX_CALLS: u32 = 200;

impl Shell {
    pub(super) fn run_list(&mut self, list: &List) -> Run<()> {
        list.iter().try_for_each(|item| {
            if item.background { self.run_background(item) } else { self.run_and_or(item) }
        })
    }

    /// Runs a list whose status is only tested, so that `set -e` does not apply to it.
    fn run_tested(&mut self, list: &List) -> Run<bool> {
        self.tested += 1;
        let result = self.run_list(list);
        self.tested -= 1;
        result.map(|()| self.status == 0)
    }

    fn run_and_or(&mut self, item: &AndOr) -> Run<()> {
        let mut next = Some(&item.first);
        let mut rest = item.rest.iter();
        loop {
            let last = rest.len() == 0;
            if let Some(pipeline) = next {
                self.run_pipeline(pipeline, last)?;
            }
            let Some((connector, pipeline)) = rest.next() else { return Ok(()) };
            let wanted = (*connector == Connector::And) == (self.status == 0);
            next = wanted.then_some(pipeline);
        }
    }

    fn run_pipeline(&mut self, pipeline: &Pipeline, last: bool) -> Run<()> {
        if interactive::take_interrupt() {
            return Err(Flow::Error(128 + abi::SIGINT as i32));
        }
        let tested = u32::from(pipeline.negated || !last);
        self.tested += tested;
        let result = match pipeline.commands.as_slice() {
            [command] => self.run_command(command),
            commands => self.run_piped(commands),
        };
        self.tested -= tested;
        result?;
        if pipeline.negated {
            self.status = i32::from(self.status == 0);
        } else if self.status != 0 && last && self.options.exit_on_error && self.tested == 0 {
            return Err(Flow::Exit(self.status));
        }
        Ok(())
    }

    /// Forks a child that runs `body` in `place`. Returns its id to the parent.
    fn spawn(&mut self, place: Place, body: impl FnOnce(&mut Shell) -> i32) -> Run<i32> {
        match sys::fork() {
            Ok(Some(child)) => {
                interactive::place_child(self.interactive, child, place);
                Ok(child)
            }
            Ok(None) => {
                interactive::place_child(self.interactive, 0, place);
                self.enter_subshell();
                sys::exit(body(self))
            }
            Err(error) => Err(self.error(format_args!("cannot fork: {error}"))),
        }
    }

    /// The exit status of a subshell, from how its commands ended.
    fn run_in_child(&mut self, command: &Command) -> i32 {
        self.ends_with_command = matches!(command, Command::Simple { .. });
        match self.run_command(command) {
            Ok(()) | Err(Flow::Break(_) | Flow::Continue(_)) => self.status,
            Err(Flow::Exit(status) | Flow::Return(status) | Flow::Error(status)) => status,
        }
    }

    fn run_piped(&mut self, commands: &[Command]) -> Run<()> {
        let mut children = Vec::new();
        let mut group = 0;
        let mut input: Option<Fd> = None;
        for (index, command) in commands.iter().enumerate() {
            let last = index + 1 == commands.len();
            let pipe = if last { None } else { Some(self.pipe()?) };
            let child = self.spawn(Place::Foreground { group }, |shell| {
                if let Some(input) = input {
                    let _ = (sys::dup2(input, Fd::STDIN), sys::close(input));
                }
                if let Some([reader, writer]) = pipe {
                    let _ = (sys::dup2(writer, Fd::STDOUT), sys::close(writer), sys::close(reader));
                }
                shell.run_in_child(command)
            })?;
            if group == 0 {
                group = child;
            }
            if let Some(input) = input {
                let _ = sys::close(input);
            }
            input = pipe.map(|[reader, writer]| {
                let _ = sys::close(writer);
                reader
            });
            children.push(child);
        }
        for child in children {
            self.wait_foreground(child);
        }
        Ok(())
    }

    fn pipe(&self) -> Run<[Fd; 2]> {
        sys::pipe(0).map_err(|error| self.error(format_args!("cannot make a pipe: {error}")))
    }

    fn wait_foreground(&mut self, child: i32) {
        let status = sys::wait_for(child);
        self.status = status.map_or(127, |status| status.shell_status());
        interactive::take_terminal(self.interactive);
        if let Ok(status) = status {
            interactive::report_signal(self.interactive, status);
        }
    }

    fn run_background(&mut self, item: &AndOr) -> Run<()> {
        let interactive = self.interactive;
        let child = self.spawn(Place::Background, |shell| {
            if !interactive {
                // Without job control, background jobs must neither read the script's input nor end
                // by its Ctrl-C.
                let _ = (
                    sys::signal_ignore(abi::SIGINT as i32),
                    sys::signal_ignore(abi::SIGQUIT as i32),
                );
                if let Ok(null) = sys::open(b"/dev/null", abi::O_RDONLY, 0) {
                    let _ = (sys::dup2(null, Fd::STDIN), sys::close(null));
                }
            }
            if let ([], false, [Command::Simple { .. }]) =
                (&item.rest[..], item.first.negated, &item.first.commands[..])
            {
                shell.ends_with_command = true;
            }
            match shell.run_and_or(item) {
                Err(Flow::Exit(status) | Flow::Return(status) | Flow::Error(status)) => status,
                _ => shell.status,
            }
        })?;
        self.last_background = Some(child);
        self.status = 0;
        if self.interactive {
            eprintln!("[{child}]");
        }
        Ok(())
    }

    fn run_command(&mut self, command: &Command) -> Run<()> {
        match command {
            Command::Simple { assignments, words, redirects } => {
                self.run_simple(assignments, words, redirects)
            }
            Command::Function { name, body } => {
                self.functions.insert(name.clone(), Rc::clone(body));
                self.status = 0;
                Ok(())
            }
            Command::Compound { body: Compound::Subshell(list), redirects } => {
                let child = self.spawn(Place::Foreground { group: 0 }, |shell| {
                    if !shell.redirect(redirects, None) {
                        return 1;
                    }
                    match shell.run_list(list) {
                        Err(Flow::Exit(status) | Flow::Return(status) | Flow::Error(status)) => {
                            status
                        }
                        _ => shell.status,
                    }
                })?;
                self.wait_foreground(child);
                Ok(())
            }
            Command::Compound { body, redirects } => {
                self.with_redirects(redirects, |shell| shell.run_compound(body))
            }
        }
    }

    fn run_compound(&mut self, body: &Compound) -> Run<()> {
        match body {
            Compound::Group(list) | Compound::Subshell(list) => self.run_list(list),
            Compound::If { arms, otherwise } => {
                for (condition, body) in arms {
                    if self.run_tested(condition)? {
                        return self.run_list(body);
                    }
                }
                self.status = 0;
                self.run_list(otherwise)
            }
            Compound::Loop { until, condition, body } => {
                let mut status = 0;
                while self.run_tested(condition)? != *until {
                    let goes_on = self.run_body(body)?;
                    status = self.status;
                    if !goes_on {
                        break;
                    }
                }
                self.status = status;
                Ok(())
            }
            Compound::For { name, words, body } => {
                let values = match words {
                    Some(words) => self.expand_words(words)?,
                    None => self.positional.clone(),
                };
                self.status = 0;
                for value in values {
                    self.set(name, &value);
                    if !self.run_body(body)? {
                        break;
                    }
                }
                Ok(())
            }
            Compound::Case { word, arms } => {
                let value = self.expand_single(word)?;
                self.status = 0;
                for (patterns, body) in arms {
                    for pattern in patterns {
                        if pattern::matches(&self.expand_pattern(pattern)?, &value) {
                            return self.run_list(body);
                        }
                    }
                }
                Ok(())
            }
        }
    }

    /// Runs a loop's body once. Returns whether the loop continues.
    fn run_body(&mut self, body: &List) -> Run<bool> {
        self.loops += 1;
        let result = self.run_list(body);
        self.loops -= 1;
        match result {
            Ok(()) | Err(Flow::Continue(1)) => Ok(true),
            Err(Flow::Break(1)) => Ok(false),
            Err(Flow::Break(loops)) => Err(Flow::Break(loops - 1)),
            Err(Flow::Continue(loops)) => Err(Flow::Continue(loops - 1)),
            Err(flow) => Err(flow),
        }
    }

    fn run_simple(
        &mut self,
        assignments: &[(Vec<u8>, Word)],
        words: &[Word],
        redirects: &[Redirect],
    ) -> Run<()> {
        self.substituted = false;
        let in_place = core::mem::take(&mut self.ends_with_command);
        let arguments = self.expand_words(words)?;
        let mut values = Vec::new();
        for (name, word) in assignments {
            let value = self.expand_single(word)?;
            if arguments.is_empty() {
                self.set(name, &value);
            } else {
                values.push((name.clone(), value));
            }
        }
        if self.options.trace {
            eprintln!("+ {}", Show(&arguments.join(&b' ')));
        }
        let Some(name) = arguments.first() else {
            if !self.substituted {
                self.status = 0;
            }
            return self.with_redirects(redirects, |_| Ok(()));
        };
        if let Some(body) = self.functions.get(name).cloned() {
            return self.with_variables(values, |shell| {
                shell.with_redirects(redirects, |shell| shell.call(&body, &arguments[1..]))
            });
        }
        if name == b"exec" {
            return self.run_exec(&arguments[1..], redirects);
        }
        match builtins::find(name) {
            Some(builtin) => self.with_variables(values, |shell| {
                shell.with_redirects(redirects, |shell| {
                    shell.status = builtin(shell, &arguments)?;
                    Ok(())
                })
            }),
            None => {
                let become_program = |shell: &mut Shell| {
                    for (name, value) in values {
                        shell.set(&name, &value);
                        shell.export(&name);
                    }
                    if shell.redirect(redirects, None) { shell.exec_program(&arguments) } else { 1 }
                };
                if in_place {
                    return Err(Flow::Exit(become_program(self)));
                }
                let child = self.spawn(Place::Foreground { group: 0 }, become_program)?;
                self.wait_foreground(child);
                Ok(())
            }
        }
    }

    /// Runs a program in a child, even if a function or builtin has its name.
    pub(super) fn run_program(&mut self, arguments: &[Vec<u8>]) -> Run<()> {
        let child =
            self.spawn(Place::Foreground { group: 0 }, |shell| shell.exec_program(arguments))?;
        self.wait_foreground(child);
        Ok(())
    }

    /// The `exec` builtin: makes redirections permanent and replaces the shell by a program.
    fn run_exec(&mut self, arguments: &[Vec<u8>], redirects: &[Redirect]) -> Run<()> {
        if !self.redirect(redirects, None) {
            return Err(Flow::Error(1));
        }
        self.status = 0;
        if arguments.is_empty() {
            return Ok(());
        }
        interactive::restore_signals();
        Err(Flow::Exit(self.exec_program(arguments)))
    }

    /// Runs `body` with variables set, and restores them afterwards.
    fn with_variables(
        &mut self,
        values: Vec<(Vec<u8>, Vec<u8>)>,
        body: impl FnOnce(&mut Shell) -> Run<()>,
    ) -> Run<()> {
        let mut before = Vec::new();
        for (name, value) in values {
            before.push((name.clone(), self.variables.get(&name).cloned()));
            self.set(&name, &value);
            self.export(&name);
        }
        let result = body(self);
        for (name, variable) in before.into_iter().rev() {
            match variable {
                Some(variable) => drop(self.variables.insert(name, variable)),
                None => drop(self.variables.remove(&name)),
            }
        }
        result
    }

    /// Marks a variable for export to the environment.
    pub(super) fn export(&mut self, name: &[u8]) {
        self.variables.entry(name.to_vec()).or_default().exported = true;
    }

    fn call(&mut self, body: &Command, arguments: &[Vec<u8>]) -> Run<()> {
        if self.calls >= MAX_CALLS {
            return Err(self.error(format_args!("functions call each other too deeply")));
        }
        let positional = core::mem::replace(&mut self.positional, arguments.to_vec());
        let loops = core::mem::take(&mut self.loops);
        self.calls += 1;
        let result = self.run_command(body);
        self.calls -= 1;
        self.loops = loops;
        self.positional = positional;
        match result {
            Err(Flow::Return(status)) => {
                self.status = status;
                Ok(())
            }
            result => result,
        }
    }

    /// Runs the commands of a file in this shell, as `.` does.
    pub(super) fn source(&mut self, text: &[u8]) -> Run<i32> {
        if self.calls >= MAX_CALLS {
            return Err(self.error(format_args!("files call each other too deeply")));
        }
        self.calls += 1;
        let result = self.run_commands(text);
        self.calls -= 1;
        match result {
            Ok(()) => Ok(self.status),
            Err(Flow::Return(status)) => Ok(status),
            Err(flow) => Err(flow),
        }
    }

    /// Replaces this process by a program. Returns the exit status only on failure.
    pub(super) fn exec_program(&mut self, arguments: &[Vec<u8>]) -> i32 {
        let Some(name) = arguments.first() else { return 0 };
        let mut failure = Errno::ENOENT;
        for path in self.candidates(name) {
            let error = self.exec_path(&path, arguments);
            if error != Errno::ENOENT && error != Errno::ENOTDIR {
                failure = error;
                break;
            }
        }
        let not_found = failure == Errno::ENOENT && !name.contains(&b'/');
        if not_found {
            eprintln!("{}: {}: not found", Show(&self.name), Show(name));
        } else {
            eprintln!("{}: {}: {failure}", Show(&self.name), Show(name));
        }
        if failure == Errno::ENOENT { 127 } else { 126 }
    }

    /// The paths to try for a command name.
    pub(super) fn candidates(&self, name: &[u8]) -> Vec<Vec<u8>> {
        if name.contains(&b'/') {
            return vec![name.to_vec()];
        }
        let path = self.get(b"PATH").unwrap_or_default();
        path.split(|&byte| byte == b':').map(|directory| crate::fs::join(directory, name)).collect()
    }

    fn exec_path(&mut self, path: &[u8], arguments: &[Vec<u8>]) -> Errno {
        let environment: Vec<Vec<u8>> = self
            .variables
            .iter()
            .filter(|(_, variable)| variable.exported)
            .filter_map(|(name, variable)| {
                Some([name, b"=".as_slice(), variable.value.as_ref()?].concat())
            })
            .collect();
        let environment: Vec<&[u8]> = environment.iter().map(Vec::as_slice).collect();
        let slices: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
        let error = sys::execve(path, &slices, &environment);
        if error != Errno::ENOEXEC {
            return error;
        }
        // Not a binary: a script. A kernel that knows `#!` handles those with such a line itself.
        let text = match crate::io::read_file(path) {
            Ok(text) => text,
            Err(error) => return error,
        };
        if let Some(line) = text.strip_prefix(b"#!") {
            let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii();
            let mut words: Vec<&[u8]> =
                line.splitn(2, u8::is_ascii_whitespace).map(<[u8]>::trim_ascii).collect();
            if words[0] != b"/bin/sh" && !words[0].is_empty() {
                let interpreter = words[0];
                words.push(path);
                words.extend(&slices[1..]);
                return sys::execve(interpreter, &words, &environment);
            }
        }
        let mut shell = Shell { name: path.to_vec(), ..Shell::new(path) };
        shell.variables.clone_from(&self.variables);
        shell.variables.retain(|_, variable| variable.exported);
        shell.set(b"IFS", b" \t\n");
        shell.set_positional(&slices[1..]);
        sys::exit(shell.run_text(&text))
    }
}
