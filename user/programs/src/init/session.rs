//! The shell's surroundings (descriptors, terminal, environment), and the power-off.

use crate::config::{Config, Input};
use crate::console;
use crate::input;
use crate::swap::{PATIENCE, Swap};
use crate::window;
use user::prelude::*;
use user::sys::abi;

/// The environment of all programs.
const ENVIRONMENT: [&[u8]; 4] =
    [b"PATH=/bin:/sbin", b"HOME=/root", b"USER=root", b"PS1=sloth:\\w# "];

/// What a person sees first.
const BANNER: &str = concat!(
    "Sloth ",
    env!("CARGO_PKG_VERSION"),
    ": read(2) maps a snapshot of the file, and fetches a page when it is touched.\n",
    "`help` lists the commands and says what to try; `demo` runs the experiment.\n",
    "`exit`, `poweroff` or Ctrl-] leaves the machine, and its files with it.\n",
);

/// The shell for commands and for input from the host, and on the console without another.
const SHELL: &[u8] = b"/bin/sh";

/// The shell's first working directory.
const HOME: &[u8] = b"/root";

/// Redirects standard error to the second serial line, if there is one.
pub fn redirect_errors() {
    if let Ok(fd) = open_raw(b"/dev/ttyS1") {
        let _ = (sys::dup2(fd, Fd::STDERR), sys::close(fd));
    }
}

/// Opens a serial line and sets it to raw mode.
pub fn open_raw(path: &[u8]) -> Result<Fd> {
    let fd = sys::open(path, abi::O_RDWR | abi::O_NOCTTY, 0)?;
    if let Ok(mut settings) = sys::terminal_settings(fd) {
        settings.c_oflag &= !abi::OPOST;
        (settings.c_iflag, settings.c_lflag) = (0, 0);
        let _ = sys::set_terminal_settings(fd, &settings);
    }
    Ok(fd)
}

/// Starts a process of init's own that does `work`, and complains if that fails.
pub fn start_helper(what: &[u8], work: impl FnOnce() -> Result<()>) -> Result<()> {
    match sys::fork()? {
        None => sys::exit(match work() {
            Ok(()) => 0,
            Err(error) => complain("init", what, error),
        }),
        Some(_) => Ok(()),
    }
}

/// Runs the command or the interactive shell until it ends, and meanwhile keeps swap going. Returns
/// the shell's exit status.
pub fn run(config: &Config, mut swap: Option<Swap>) -> i32 {
    let input = match config.input {
        Input::Host => match input::start() {
            Ok(input) => Some(input),
            Err(error) => return complain("init", b"standard input", error),
        },
        Input::Terminal | Input::None => None,
    };
    let screen = match config.input {
        Input::Terminal => console::start(),
        Input::Host | Input::None => None,
    };
    let shell = match sys::fork() {
        Ok(None) => sys::exit(become_shell(config, input, screen)),
        Ok(Some(child)) => child,
        Err(error) => return complain("init", b"the shell", error),
    };
    if let Some(input) = input {
        let _ = sys::close(input);
    }
    loop {
        let awaited = swap.as_mut().filter(|swap| swap.is_awaited());
        let options = if awaited.is_some() { abi::WNOHANG } else { 0 };
        match (sys::wait(-1, options), awaited) {
            (Ok(Some((child, status))), _) if child == shell => return status.shell_status(),
            (Ok(Some((child, _))), _) => swap.iter_mut().for_each(|swap| swap.reaped(child)),
            (Ok(None), Some(swap)) => {
                let _ = sys::sleep(PATIENCE);
                swap.start_again();
            }
            (Ok(None) | Err(_), _) => return complain("init", b"the shell", Errno::ECHILD),
        }
    }
}

/// Runs in the child. Returns only if the shell could not be started.
fn become_shell(config: &Config, input: Option<Fd>, screen: Option<Vec<u8>>) -> i32 {
    let _ = sys::setsid();
    let _ = sys::chdir(HOME);
    let descriptors = match config.input {
        Input::Terminal => terminal_descriptors(screen),
        Input::Host | Input::None => command_descriptors(input),
    };
    if let Err(error) = descriptors {
        return complain("init", b"the shell's terminal", error);
    }
    let terminal = [b"TERM=", config.terminal.as_deref().unwrap_or(b"vt100")].concat();
    let mut environment: Vec<&[u8]> = ENVIRONMENT.to_vec();
    environment.push(&terminal);
    if let (Some(shell), None, Input::Terminal) = (&config.shell, &config.command, config.input) {
        // A name that begins with a dash makes it a login shell.
        let name = shell.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let error = sys::execve(shell, &[&[b"-", name].concat()], &environment);
        complain("init", shell, error);
    }
    let mut arguments: Vec<&[u8]> = vec![b"sh"];
    if let Some(command) = &config.command {
        arguments.extend([b"-c", command.as_slice()]);
    }
    let error = sys::execve(SHELL, &arguments, &environment);
    complain("init", SHELL, error);
    127
}

/// Opens descriptors for a command: `input`, if any; output and errors are raw lines of their own.
fn command_descriptors(input: Option<Fd>) -> Result<()> {
    let input = match input {
        Some(input) => input,
        None => sys::open(b"/dev/null", abi::O_RDONLY, 0)?,
    };
    sys::dup2(input, Fd::STDIN)?;
    let output = open_raw(b"/dev/ttyS0")?;
    sys::dup2(output, Fd::STDOUT)?;
    for fd in [input, output] {
        if fd > Fd::STDERR {
            sys::close(fd)?;
        }
    }
    Ok(())
}

/// Opens descriptors 0 to 2 on the terminal of the screen, or else on the console, and makes it the
/// controlling terminal.
fn terminal_descriptors(screen: Option<Vec<u8>>) -> Result<()> {
    let console = sys::open(screen.as_deref().unwrap_or(b"/dev/console"), abi::O_RDWR, 0)?;
    for fd in 0..3 {
        sys::dup2(console, Fd(fd))?;
    }
    if console > Fd::STDERR {
        sys::close(console)?;
    }
    sys::set_controlling_terminal(Fd::STDIN)?;
    sys::write_all(Fd::STDOUT, BANNER.as_bytes())?;
    // A screen has its own size.
    if screen.is_none()
        && let Err(error) = window::start()
    {
        complain("init", b"the console's size", error);
    }
    control("terminal");
    Ok(())
}

/// Sends a line to `cargo xtask run`: `exit N` is the shell's status; `terminal` allows keys;
/// `credit N` allows N bytes of input ([`input`]).
pub fn control(line: &str) {
    if let Ok(fd) = open_raw(b"/dev/ttyS2") {
        let _ = (sys::write_all(fd, format!("{line}\n").as_bytes()), sys::close(fd));
    }
}

/// Reports the status and powers the machine off.
pub fn power_off(status: i32) -> ! {
    sys::sync();
    control(&format!("exit {status}"));
    loop {
        complain("init", b"powering off", sys::power_off());
        let _ = sys::sleep(core::time::Duration::from_secs(1));
    }
}
