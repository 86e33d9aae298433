//! What tests share: checks, raw calls, children.

use user::prelude::*;
use user::sys::WaitStatus;

/// Nothing, or what was wrong.
pub type Outcome<T = ()> = core::result::Result<T, String>;

/// Fails unless the condition holds.
macro_rules! check {
    ($condition:expr) => {
        if !$condition {
            return Err(format!("{}:{}: not so: {}", file!(), line!(), stringify!($condition)));
        }
    };
}

/// Fails unless both are equal.
macro_rules! check_eq {
    ($found:expr, $expected:expr) => {
        match (&$found, &$expected) {
            (found, expected) => {
                if *found != *expected {
                    let text = stringify!($found);
                    return Err(format!(
                        "{}:{}: {text} is {found:?}, not {expected:?}",
                        file!(),
                        line!()
                    ));
                }
            }
        }
    };
}

/// The value of a call that has to succeed.
macro_rules! ok {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(error) => {
                return Err(format!("{}:{}: {}: {error:?}", file!(), line!(), stringify!($result)))
            }
        }
    };
}

/// A system call as it is, with any arguments.
pub fn raw(number: u32, arguments: &[usize]) -> Result<usize> {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    // SAFETY: tests pass pointers to their own buffers, or nonsense that the kernel has to refuse.
    sys::check(unsafe { sys::syscall(number, all) })
}

/// Runs `body` in a child, which exits with what it returns.
pub fn child(body: impl FnOnce() -> i32) -> Outcome<i32> {
    match ok!(sys::fork()) {
        Some(child) => Ok(child),
        None => sys::exit(body()),
    }
}

/// Runs checks in a child, which complains and exits with 1 where one fails.
pub fn checking_child(body: impl FnOnce() -> Outcome) -> Outcome<i32> {
    child(|| match body() {
        Ok(()) => 0,
        Err(message) => {
            eprintln!("in a child: {message}");
            1
        }
    })
}

/// Waits for a child that has to exit with 0.
pub fn expect_success(child: i32) -> Outcome {
    check_eq!(ok!(sys::wait_for(child)).exit_code(), Some(0));
    Ok(())
}

/// What of `events` poll(2) finds for a descriptor at once, and what it always tells.
pub fn polled(fd: Fd, events: u32) -> Outcome<u32> {
    poll_for(fd, events, 0)
}

/// Waits until poll(2) finds one of `events`.
pub fn wait_until(fd: Fd, events: u32) -> Outcome<u32> {
    poll_for(fd, events, usize::MAX)
}

fn poll_for(fd: Fd, events: u32, timeout: usize) -> Outcome<u32> {
    let mut entry = sys::abi::pollfd { fd, events: events as i16, revents: 0 };
    ok!(raw(sys::abi::__NR_poll, &[&raw mut entry as usize, 1, timeout]));
    Ok(entry.revents as u16 as u32)
}

/// Runs `body` in a child and waits for it.
pub fn in_child(body: impl FnOnce() -> i32) -> Outcome<WaitStatus> {
    let child = child(body)?;
    Ok(ok!(sys::wait_for(child)))
}

/// A file with this content, opened to read and write, its offset at 0.
pub fn file(name: &[u8], content: &[u8]) -> Outcome<Fd> {
    let fd = ok!(sys::open(name, sys::abi::O_RDWR | sys::abi::O_CREAT | sys::abi::O_TRUNC, 0o644));
    ok!(sys::write_all(fd, content));
    ok!(sys::lseek(fd, 0, sys::abi::SEEK_SET));
    Ok(fd)
}

/// What a file holds.
pub fn content(name: &[u8]) -> Outcome<Vec<u8>> {
    Ok(ok!(user::io::read_file(name)))
}

/// Removes a directory with all that is in it.
pub fn remove_tree(path: &[u8]) {
    // A link goes itself, and never what it leads to.
    if sys::unlink(path).is_ok() {
        return;
    }
    for name in user::fs::list(path).unwrap_or_default() {
        remove_tree(&user::fs::join(path, &name));
    }
    let _ = sys::rmdir(path);
}
