//! Redirections of descriptors, for one command or permanently.

use super::Run;
use crate::prelude::*;
use crate::shell::Shell;
use crate::shell::syntax::{Redirect, RedirectKind};
use sys::abi;

/// The descriptors saved before a redirection: the number, and its copy if it was open.
type Saved = Vec<(Fd, Option<Fd>)>;

/// The lowest number for copies of saved descriptors: above the ten that a redirection can name
/// with one digit.
const SAVED_FD_MIN: usize = 10;

/// What a pipe holds at least without a reader.
const PIPE_BYTES: usize = 4096;

impl Shell {
    /// Runs `body` with descriptors redirected, and restores them.
    pub(super) fn with_redirects(
        &mut self,
        redirects: &[Redirect],
        body: impl FnOnce(&mut Shell) -> Run<()>,
    ) -> Run<()> {
        let mut saved = Saved::new();
        let result = if self.redirect(redirects, Some(&mut saved)) {
            body(self)
        } else {
            self.status = 1;
            Ok(())
        };
        for (fd, copy) in saved.into_iter().rev() {
            match copy {
                Some(copy) => drop((sys::dup2(copy, fd), sys::close(copy))),
                None => drop(sys::close(fd)),
            }
        }
        result
    }

    /// Applies redirections in order. With `saved`, records how to undo them. Reports an error and
    /// returns false if one fails.
    pub(super) fn redirect(
        &mut self,
        redirects: &[Redirect],
        mut saved: Option<&mut Saved>,
    ) -> bool {
        for redirect in redirects {
            let Ok(target) = self.expand_single(&redirect.target) else { return false };
            if let Some(saved) = saved.as_deref_mut() {
                let copy = sys::fcntl(redirect.fd, abi::F_DUPFD_CLOEXEC, SAVED_FD_MIN).ok();
                saved.push((redirect.fd, copy.map(|fd| Fd(fd as i32))));
            }
            if let Err(error) = apply(redirect, &target) {
                let subject: &[u8] =
                    if redirect.kind == RedirectKind::Here { b"here-document" } else { &target };
                eprintln!("{}: {}: {error}", Show(&self.name), Show(subject));
                return false;
            }
        }
        true
    }
}

/// Applies one redirection.
fn apply(redirect: &Redirect, target: &[u8]) -> Result<()> {
    let create = abi::O_WRONLY | abi::O_CREAT;
    let fd = match redirect.kind {
        RedirectKind::Read => sys::open(target, abi::O_RDONLY, 0)?,
        RedirectKind::Write => sys::open(target, create | abi::O_TRUNC, 0o666)?,
        RedirectKind::Append => sys::open(target, create | abi::O_APPEND, 0o666)?,
        RedirectKind::ReadWrite => sys::open(target, abi::O_RDWR | abi::O_CREAT, 0o666)?,
        RedirectKind::Here => here_document(target)?,
        RedirectKind::Duplicate if target == b"-" => {
            let _ = sys::close(redirect.fd);
            return Ok(());
        }
        RedirectKind::Duplicate => {
            let source = crate::opt::number(target).ok_or(Errno::EBADF)?;
            return sys::dup2(source, redirect.fd).map(drop);
        }
    };
    if fd != redirect.fd {
        sys::dup2(fd, redirect.fd)?;
        sys::close(fd)?;
    }
    Ok(())
}

/// A descriptor from which the here-document can be read. A child writes what a pipe may not hold.
fn here_document(text: &[u8]) -> Result<Fd> {
    let [reader, writer] = sys::pipe(0)?;
    if text.len() <= PIPE_BYTES {
        sys::write_all(writer, text)?;
    } else if sys::fork()?.is_none() {
        let _ = sys::close(reader);
        sys::exit(i32::from(sys::write_all(writer, text).is_err()))
    }
    sys::close(writer)?;
    Ok(reader)
}
