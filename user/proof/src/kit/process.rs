//! Child processes, and their synchronisation.

use super::{Named, Outcome};
use crate::{check, check_eq, ok};
use user::alloc::borrow::ToOwned;

use user::prelude::*;
use user::sys::{WaitStatus, abi};

/// A child process that runs a part of a test. Killed on drop unless it was waited for.
pub struct Child {
    /// The process id.
    pub pid: i32,
    what: String,
    /// The status of one that has ended.
    ended: Option<WaitStatus>,
}

impl Child {
    /// Forks. The child ends with status 0 if the body succeeds; else it prints the failure and
    /// ends with 1.
    pub fn start(what: &str, body: impl FnOnce() -> Outcome) -> Outcome<Self> {
        let Some(pid) = sys::fork().named("fork")? else {
            let failed = body().inspect_err(|failure| eprintln!("{what}: {failure}")).is_err();
            sys::exit(failed.into());
        };
        Ok(Self { pid, what: what.to_owned(), ended: None })
    }

    /// Waits until it has ended.
    pub fn status(mut self) -> Outcome<WaitStatus> {
        let status = match self.ended {
            Some(status) => status,
            None => sys::wait_for(self.pid).named("wait4")?,
        };
        self.ended = Some(status);
        Ok(status)
    }

    /// Whether it has ended. Does not wait.
    pub fn has_ended(&mut self) -> Outcome<bool> {
        if self.ended.is_none() {
            let found = sys::wait(self.pid, abi::WNOHANG).named("wait4")?;
            self.ended = found.map(|(_, status)| status);
        }
        Ok(self.ended.is_some())
    }

    /// Waits until it has ended. Fails unless it succeeded.
    pub fn join(self) -> Outcome {
        let what = self.what.clone();
        let status = self.status()?;
        check!(
            status.exit_code() == Some(0),
            "process `{what}` failed ({})",
            status.shell_status()
        );
        Ok(())
    }

    /// Kills it with SIGKILL and waits. Fails if it has ended otherwise.
    pub fn kill(self) -> Outcome {
        sys::kill(self.pid, abi::SIGKILL as i32).named("kill")?;
        let status = self.status()?;
        check_eq!(status.signal(), Some(abi::SIGKILL as i32), "signal that ended the process");
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.ended.is_none() {
            let _: sys::Result<i32> = sys::kill(self.pid, abi::SIGKILL as i32);
            let _: sys::Result<WaitStatus> = sys::wait_for(self.pid);
        }
    }
}

/// The signal that ends a process which runs `body`; `None` if the process ends by itself.
pub fn signal_of(body: impl FnOnce()) -> Outcome<Option<i32>> {
    let child = Child::start("a process for a signal", || {
        body();
        Ok(())
    })?;
    Ok(child.status()?.signal())
}

/// A semaphore between processes, initially 0.
pub struct Gate([Fd; 2]);

impl Gate {
    /// A gate that nobody may pass yet.
    pub fn new() -> Outcome<Self> {
        sys::pipe(0).map(Self).named("pipe")
    }

    /// Lets one process pass.
    pub fn open(&self) -> Outcome {
        sys::write_all(self.0[1], b"!").named("gate")
    }

    /// Waits until it may pass.
    pub fn pass(&self) -> Outcome {
        let mut token = [0];
        let count = sys::read(self.0[0], &mut token).named("gate")?;
        check_eq!(count, 1, "tokens at the gate");
        Ok(())
    }

    /// The descriptor that becomes readable when a process may pass.
    pub fn descriptor(&self) -> Fd {
        self.0[0]
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        for fd in self.0 {
            let _: sys::Result<()> = sys::close(fd);
        }
    }
}

/// Runs `body` in a child, which exits with the status that it returns.
pub fn child(body: impl FnOnce() -> i32) -> Outcome<i32> {
    match ok!(sys::fork()) {
        Some(child) => Ok(child),
        None => sys::exit(body()),
    }
}

/// Runs checks in a child. If one fails, the child prints the failure and exits with 1.
pub fn checking_child(body: impl FnOnce() -> Outcome) -> Outcome<i32> {
    child(|| match body() {
        Ok(()) => 0,
        Err(message) => {
            eprintln!("in a child: {message}");
            1
        }
    })
}

/// Waits for a child. Fails unless its status is 0.
pub fn expect_success(child: i32) -> Outcome {
    check_eq!(ok!(sys::wait_for(child)).exit_code(), Some(0));
    Ok(())
}

/// Runs `body` in a child and waits for it.
pub fn in_child(body: impl FnOnce() -> i32) -> Outcome<WaitStatus> {
    let child = child(body)?;
    Ok(ok!(sys::wait_for(child)))
}
