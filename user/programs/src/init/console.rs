//! The console of a machine with a screen: the program `/sbin/console` at the master of a
//! pseudo-terminal.

use crate::session::start_helper;
use user::prelude::*;
use user::sys::abi;

/// The program.
const PROGRAM: &[u8] = b"/sbin/console";
/// The screen.
const SCREEN: &[u8] = b"/dev/fb0";

/// Starts the console. Returns the path of the shell's terminal; `None` where the serial line is
/// the only console.
pub fn start() -> Option<Vec<u8>> {
    if [SCREEN, PROGRAM].iter().any(|path| sys::access(path, 0).is_err()) {
        return None;
    }
    match run() {
        Ok(terminal) => Some(terminal),
        Err(error) => {
            complain("init", PROGRAM, error);
            None
        }
    }
}

fn run() -> Result<Vec<u8>> {
    let master = sys::open_pty()?;
    let started = sys::pty_path(master).and_then(|terminal| {
        start_helper(PROGRAM, || {
            // Its own session, so that no key of the terminal reaches it as a signal.
            sys::setsid()?;
            sys::fcntl(master, abi::F_SETFD, 0)?;
            let number = format!("{master}");
            Err(sys::execve(PROGRAM, &[b"console", number.as_bytes()], &[]))
        })
        .map(|()| terminal)
    });
    let _ = sys::close(master);
    started
}
