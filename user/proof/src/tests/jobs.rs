//! Job control: sessions and their terminals, who may use one, whom it signals, and what becomes of
//! jobs when it is gone.

use crate::terminals::{SLAVE, expect, pair};
use core::sync::atomic::{AtomicU32, Ordering};
use proof::guest_test;
use proof::kit::{Outcome, checking_child, child, expect_success, raw};
use user::prelude::*;
use user::sys::ioctl;
use user::sys::{WaitStatus, Window, abi};

/// Runs checks in a child that leads a session whose terminal is a new pair's. Gives the master and
/// the child.
fn session(body: impl FnOnce(Fd) -> Outcome) -> Outcome<(Fd, i32)> {
    let master = ok!(sys::open_pty());
    let path = ok!(sys::pty_path(master));
    let leader = checking_child(|| {
        ok!(sys::close(master));
        ok!(sys::setsid());
        let terminal = ok!(sys::open(&path, abi::O_RDWR, 0));
        body(terminal)
    })?;
    Ok((master, leader))
}

/// A child in a process group of its own, which exits with what `body` returns. Both sides set the
/// group, whoever comes first.
fn job(body: impl FnOnce() -> i32) -> Outcome<i32> {
    let job = child(|| {
        let _ = sys::setpgid(0, 0);
        body()
    })?;
    let _ = sys::setpgid(job, job);
    Ok(job)
}

/// A leader may put itself or another into the foreground from anywhere once it ignores the stop
/// that this would mean.
fn put_in_foreground(terminal: Fd, group: i32) -> Outcome {
    ok!(sys::signal_ignore(abi::SIGTTOU as i32));
    ok!(sys::set_foreground(terminal, group));
    Ok(())
}

/// How a child was stopped or ended.
fn news(child: i32) -> Outcome<WaitStatus> {
    match ok!(sys::wait(child, abi::WUNTRACED)) {
        Some((_, status)) => Ok(status),
        None => Err("nothing to tell".into()),
    }
}

fn wait_forever() -> ! {
    loop {
        let _ = raw(abi::__NR_pause, &[]);
    }
}

#[guest_test]
fn job_controlling_terminal() -> Outcome {
    let [_master, other] = pair()?;
    let master = ok!(sys::open_pty());
    let path = ok!(sys::pty_path(master));
    let leader = checking_child(|| {
        let own = ok!(sys::setsid());
        let tty = || sys::open(b"/dev/tty", abi::O_RDWR, 0);
        check_eq!(tty(), Err(Errno::ENXIO));
        let terminal = ok!(sys::open(&path, SLAVE, 0));
        check_eq!(tty(), Err(Errno::ENXIO));
        check_eq!(sys::foreground(terminal), Err(Errno::ENOTTY));
        ok!(sys::close(terminal));
        // Opened without O_NOCTTY by a leader that has none, it becomes its own.
        let terminal = ok!(sys::open(&path, abi::O_RDWR, 0));
        let copy = ok!(tty());
        check_eq!(
            (sys::foreground(copy), sys::ioctl_number(terminal, ioctl::TIOCGSID)),
            (Ok(own), Ok(own))
        );
        // One is enough.
        check_eq!(sys::set_controlling_terminal(terminal), Ok(()));
        check_eq!(sys::set_controlling_terminal(other), Err(Errno::EPERM));
        check_eq!(sys::foreground(other), Err(Errno::ENOTTY));
        // No group of another session can be in the foreground, nor one that does not exist.
        let elsewhere = ok!(raw(abi::__NR_getpgid, &[sys::getppid() as usize])) as i32;
        check_eq!(sys::set_foreground(terminal, elsewhere), Err(Errno::EPERM));
        check_eq!(sys::set_foreground(terminal, i32::MAX), Err(Errno::ESRCH));
        // A session that begins has none, and cannot have one that is another's.
        expect_success(checking_child(|| {
            ok!(sys::setsid());
            check_eq!(tty(), Err(Errno::ENXIO));
            let again = ok!(sys::open(&path, abi::O_RDWR, 0));
            check_eq!(sys::foreground(again), Err(Errno::ENOTTY));
            check_eq!(sys::set_controlling_terminal(again), Err(Errno::EPERM));
            ok!(sys::set_controlling_terminal(other));
            check_eq!(sys::foreground(other), Ok(sys::getpid()));
            Ok(())
        })?)?;
        // Given up, with what that means for the group in the foreground, and taken again.
        ok!(sys::signal_ignore(abi::SIGHUP as i32));
        check_eq!(sys::ioctl(terminal, ioctl::TIOCNOTTY, 0), Ok(0));
        check_eq!(tty(), Err(Errno::ENXIO));
        check_eq!(sys::ioctl(terminal, ioctl::TIOCNOTTY, 0), Err(Errno::ENOTTY));
        ok!(sys::set_controlling_terminal(terminal));
        check!(tty().is_ok());
        Ok(())
    })?;
    expect_success(leader)?;
    // From the master's side: nobody is in the foreground any more, and there is no session.
    check_eq!(sys::ioctl_number(master, ioctl::TIOCGPGRP), Ok(0));
    check_eq!(sys::ioctl_number(master, ioctl::TIOCGSID), Err(Errno::ENOTTY));
    Ok(())
}

#[guest_test]
fn job_keys() -> Outcome {
    // What the key shows comes after its signal, and may take along what was written in between:
    // the next job waits for it.
    let [shown, tell] = ok!(sys::pipe(0));
    let (master, leader) = session(|terminal| {
        for (signal, stops) in [(abi::SIGINT, false), (abi::SIGQUIT, false), (abi::SIGTSTP, true)] {
            let job = job(|| {
                // In the foreground, whatever its parent has done so far.
                let _ = (
                    sys::signal_ignore(abi::SIGTTOU as i32),
                    sys::set_foreground(terminal, sys::getpid()),
                );
                let _ = sys::write_all(terminal, b"ready\n");
                wait_forever()
            })?;
            let status = news(job)?;
            if stops {
                check_eq!(status.stopped(), Some(signal as i32));
                ok!(sys::kill(job, abi::SIGKILL as i32));
                check_eq!(ok!(sys::wait_for(job)).signal(), Some(abi::SIGKILL as i32));
            } else {
                check_eq!(status.signal(), Some(signal as i32));
            }
            check_eq!(sys::read(shown, &mut [0]), Ok(1));
        }
        // The leader itself was in the background all the time.
        put_in_foreground(terminal, sys::getpid())?;
        ok!(sys::write_all(terminal, b"bye\n"));
        Ok(())
    })?;
    for (key, echo) in [(b"\x03", b"^C"), (b"\x1c", b"^\\"), (b"\x1a", b"^Z")] {
        expect(master, b"ready\r\n")?;
        ok!(sys::write_all(master, key));
        expect(master, echo)?;
        ok!(sys::write_all(tell, b"k"));
    }
    expect(master, b"bye\r\n")?;
    expect_success(leader)
}

#[guest_test]
fn job_background() -> Outcome {
    let (master, leader) = session(|terminal| {
        let mut line = [0; 16];
        let reader = job(|| match sys::read(terminal, &mut line) {
            Ok(count) if line[..count] == *b"typed\n" => 7,
            _ => 1,
        })?;
        check_eq!(news(reader)?.stopped(), Some(abi::SIGTTIN as i32));
        // What it writes does not stop it.
        let writer = job(|| i32::from(sys::write_all(terminal, b"from behind\n").is_err()))?;
        check_eq!(news(writer)?.exit_code(), Some(0));
        // Who does not want to be stopped gets an error.
        let stubborn = job(|| {
            let _ = sys::signal_ignore(abi::SIGTTIN as i32);
            i32::from(sys::read(terminal, &mut [0]) != Err(Errno::EIO))
        })?;
        check_eq!(news(stubborn)?.exit_code(), Some(0));
        put_in_foreground(terminal, reader)?;
        ok!(sys::kill(-reader, abi::SIGCONT as i32));
        check_eq!(news(reader)?.exit_code(), Some(7));
        Ok(())
    })?;
    expect(master, b"from behind\r\n")?;
    ok!(sys::write_all(master, b"typed\n"));
    expect_success(leader)
}

#[guest_test]
fn job_background_changes() -> Outcome {
    let (_master, leader) = session(|terminal| {
        let mut settings = ok!(sys::terminal_settings(terminal));
        let changer = job(|| i32::from(sys::set_terminal_settings(terminal, &settings).is_err()))?;
        check_eq!(news(changer)?.stopped(), Some(abi::SIGTTOU as i32));
        let usurper = job(|| i32::from(sys::set_foreground(terminal, sys::getpid()).is_err()))?;
        check_eq!(news(usurper)?.stopped(), Some(abi::SIGTTOU as i32));
        // With TOSTOP, writing is a change too.
        settings.c_lflag |= abi::TOSTOP;
        ok!(sys::set_terminal_settings(terminal, &settings));
        let writer = job(|| i32::from(sys::write(terminal, b"x").is_err()))?;
        check_eq!(news(writer)?.stopped(), Some(abi::SIGTTOU as i32));
        let ignoring = job(|| {
            let _ = sys::signal_ignore(abi::SIGTTOU as i32);
            i32::from(sys::write(terminal, b"x").is_err())
        })?;
        check_eq!(news(ignoring)?.exit_code(), Some(0));
        // In the foreground each of them can do what it came for.
        for stopped in [changer, usurper, writer] {
            put_in_foreground(terminal, stopped)?;
            ok!(sys::kill(stopped, abi::SIGCONT as i32));
            check_eq!(news(stopped)?.exit_code(), Some(0));
        }
        Ok(())
    })?;
    expect_success(leader)
}

extern "C" fn leave(signal: i32) {
    sys::exit(signal)
}

/// A group that nobody could let go on is not stopped by its terminal, and one that becomes such
/// while it is stopped is hung up.
#[guest_test]
fn job_orphans() -> Outcome {
    let [reader, writer] = ok!(sys::pipe(0));
    let (_master, leader) = session(|terminal| {
        let middle = child(|| {
            let stopped = job(|| {
                let _ = sys::signal_handle(abi::SIGHUP as i32, leave, 0);
                let _ = sys::kill(sys::getpid(), abi::SIGSTOP as i32);
                wait_forever()
            });
            match stopped.and_then(news) {
                Ok(status) if status.stopped() == Some(abi::SIGSTOP as i32) => 0,
                _ => 1,
            }
        })?;
        // Its guardian ends here: what it left behind is told of the hang-up, goes on, and ends; so
        // the pipe does.
        check_eq!(ok!(sys::wait_for(middle)).exit_code(), Some(0));
        let middle = job(|| {
            let parent = sys::getpid();
            let orphan = child(|| {
                while sys::getppid() == parent {
                    let _ = sys::sched_yield();
                }
                let answer = sys::read(terminal, &mut [0]);
                let _ = sys::write(writer, if answer == Err(Errno::EIO) { b"y" } else { b"n" });
                0
            });
            i32::from(orphan.is_err())
        })?;
        check_eq!(ok!(sys::wait_for(middle)).exit_code(), Some(0));
        let mut answer = [0];
        check_eq!(sys::read(reader, &mut answer), Ok(1));
        check_eq!(&answer, b"y");
        Ok(())
    })?;
    ok!(sys::close(writer));
    expect_success(leader)?;
    check_eq!(sys::read(reader, &mut [0]), Ok(0));
    Ok(())
}

#[guest_test]
fn job_hangup() -> Outcome {
    // By default it ends the leader, and with that the group in the foreground.
    let [reader, writer] = ok!(sys::pipe(0));
    let (master, leader) = session(|terminal| {
        let job = job(|| {
            let _ = (
                sys::signal_ignore(abi::SIGTTOU as i32),
                sys::set_foreground(terminal, sys::getpid()),
            );
            let _ = sys::write_all(terminal, b"ready\n");
            wait_forever()
        })?;
        ok!(sys::wait_for(job));
        wait_forever()
    })?;
    ok!(sys::close(writer));
    expect(master, b"ready\r\n")?;
    ok!(sys::close(master));
    check_eq!(ok!(sys::wait_for(leader)).signal(), Some(abi::SIGHUP as i32));
    check_eq!(sys::read(reader, &mut [0]), Ok(0));
    // Who ignores it finds the terminal at its end, and has none any more.
    let (master, leader) = session(|terminal| {
        ok!(sys::signal_ignore(abi::SIGHUP as i32));
        ok!(sys::write_all(terminal, b"ready\n"));
        let ended = sys::read(terminal, &mut [0]);
        check!(ended == Ok(0) || ended == Err(Errno::EIO));
        check_eq!(sys::read(terminal, &mut [0]), Ok(0));
        check_eq!(sys::write(terminal, b"x"), Err(Errno::EIO));
        check_eq!(sys::foreground(terminal), Err(Errno::EIO));
        check_eq!(sys::open(b"/dev/tty", abi::O_RDWR, 0), Err(Errno::ENXIO));
        Ok(())
    })?;
    expect(master, b"ready\r\n")?;
    ok!(sys::close(master));
    expect_success(leader)?;
    // A leader's own end hangs up who is in the foreground, and frees the terminal for another
    // session.
    let [reader, writer] = ok!(sys::pipe(0));
    let (master, leader) = session(|terminal| {
        let _ = job(|| {
            let _ = (
                sys::signal_ignore(abi::SIGTTOU as i32),
                sys::set_foreground(terminal, sys::getpid()),
            );
            let _ = sys::write_all(terminal, b"ready\n");
            wait_forever()
        })?;
        let mut key = [0];
        check_eq!(sys::read(reader, &mut key), Ok(1));
        Ok(())
    })?;
    expect(master, b"ready\r\n")?;
    ok!(sys::write_all(writer, b"k"));
    ok!(sys::close(writer));
    expect_success(leader)?;
    check_eq!(sys::read(reader, &mut [0]), Ok(0));
    let path = ok!(sys::pty_path(master));
    expect_success(checking_child(|| {
        ok!(sys::setsid());
        check_eq!(sys::foreground(ok!(sys::open(&path, abi::O_RDWR, 0))), Ok(sys::getpid()));
        Ok(())
    })?)
}

static SIZES: AtomicU32 = AtomicU32::new(0);

extern "C" fn count_size(_: i32) {
    SIZES.fetch_add(1, Ordering::SeqCst);
}

/// A new size is told to the foreground; the same one again is not.
#[guest_test]
fn job_window() -> Outcome {
    let blocked = 1u64 << (abi::SIGWINCH - 1);
    let (size, other) = (Window { rows: 24, columns: 80 }, Window { rows: 25, columns: 80 });
    let [reader, writer] = ok!(sys::pipe(0));
    let (master, leader) = session(|terminal| {
        ok!(sys::signal_mask(blocked));
        ok!(sys::signal_handle(abi::SIGWINCH as i32, count_size, 0));
        for (told, wanted) in [(1, size), (1, size), (2, other)] {
            ok!(sys::write_all(terminal, b"ready\n"));
            check_eq!(sys::read(reader, &mut [0]), Ok(1));
            ok!(sys::signal_mask(0));
            ok!(sys::signal_mask(blocked));
            check_eq!((SIZES.load(Ordering::SeqCst), sys::window(terminal)), (told, Ok(wanted)));
        }
        Ok(())
    })?;
    for wanted in [size, size, other] {
        expect(master, b"ready\r\n")?;
        ok!(sys::set_window(master, wanted));
        ok!(sys::write_all(writer, b"k"));
    }
    expect_success(leader)
}
