//! Job control: sessions and their terminals, access to a terminal, its signals, and hang-ups.

use crate::terminals::{SLAVE, expect, pty};
use core::sync::atomic::{AtomicU32, Ordering};
use proof::guest_test;
use proof::kit::{Outcome, checking_child, child, expect_success, raw};
use user::prelude::*;
use user::sys::ioctl;
use user::sys::{WaitStatus, Window, abi};

/// Runs checks in a child that leads a session at a new pseudo-terminal. Returns the master and the
/// child.
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

/// A child in its own process group, which exits with the result of `body`. Parent and child both
/// set the group, since either may run first. The keys' signals have their default effect, even if
/// whoever started the tests ignores them.
fn job(body: impl FnOnce() -> i32) -> Outcome<i32> {
    let job = child(|| {
        let _ = sys::setpgid(0, 0);
        for signal in [abi::SIGINT, abi::SIGQUIT, abi::SIGTSTP] {
            let _ = sys::signal_default(signal as i32);
        }
        body()
    })?;
    let _ = sys::setpgid(job, job);
    Ok(job)
}

/// A process that ignores SIGTTOU may set the foreground group even from the background.
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
    let [_master, other] = pty()?;
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
        // A leader without a terminal that opens one without O_NOCTTY gets it as controlling
        // terminal.
        let terminal = ok!(sys::open(&path, abi::O_RDWR, 0));
        let copy = ok!(tty());
        check_eq!(
            (sys::foreground(copy), sys::ioctl_number(terminal, ioctl::TIOCGSID)),
            (Ok(own), Ok(own))
        );
        // A session has at most one.
        check_eq!(sys::set_controlling_terminal(terminal), Ok(()));
        check_eq!(sys::set_controlling_terminal(other), Err(Errno::EPERM));
        check_eq!(sys::foreground(other), Err(Errno::ENOTTY));
        // The foreground group must exist and belong to the same session.
        let elsewhere = ok!(raw(abi::__NR_getpgid, &[sys::getppid() as usize])) as i32;
        check_eq!(sys::set_foreground(terminal, elsewhere), Err(Errno::EPERM));
        check_eq!(sys::set_foreground(terminal, i32::MAX), Err(Errno::ESRCH));
        // A new session has none, and cannot take one of another session.
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
        // Giving it up signals the foreground group; then it is taken again.
        ok!(sys::signal_ignore(abi::SIGHUP as i32));
        check_eq!(sys::ioctl(terminal, ioctl::TIOCNOTTY, 0), Ok(0));
        check_eq!(tty(), Err(Errno::ENXIO));
        check_eq!(sys::ioctl(terminal, ioctl::TIOCNOTTY, 0), Err(Errno::ENOTTY));
        ok!(sys::set_controlling_terminal(terminal));
        check!(tty().is_ok());
        Ok(())
    })?;
    expect_success(leader)?;
    // The master sees neither a foreground group nor a session any more.
    check_eq!(sys::ioctl_number(master, ioctl::TIOCGPGRP), Ok(0));
    check_eq!(sys::ioctl_number(master, ioctl::TIOCGSID), Err(Errno::ENOTTY));
    Ok(())
}

#[guest_test]
fn job_keys() -> Outcome {
    // The echo of a key follows its signal and may discard what was written in between: the next
    // job waits for it.
    let [shown, tell] = ok!(sys::pipe(0));
    let (master, leader) = session(|terminal| {
        for (signal, stops) in [(abi::SIGINT, false), (abi::SIGQUIT, false), (abi::SIGTSTP, true)] {
            let job = job(|| {
                // It is in the foreground, however far its parent has got.
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
        // Writing does not stop a background process.
        let writer = job(|| i32::from(sys::write_all(terminal, b"from behind\n").is_err()))?;
        check_eq!(news(writer)?.exit_code(), Some(0));
        // A process that ignores the signal gets an error.
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
        // With TOSTOP, writing stops it, too.
        settings.c_lflag |= abi::TOSTOP;
        ok!(sys::set_terminal_settings(terminal, &settings));
        let writer = job(|| i32::from(sys::write(terminal, b"x").is_err()))?;
        check_eq!(news(writer)?.stopped(), Some(abi::SIGTTOU as i32));
        let ignoring = job(|| {
            let _ = sys::signal_ignore(abi::SIGTTOU as i32);
            i32::from(sys::write(terminal, b"x").is_err())
        })?;
        check_eq!(news(ignoring)?.exit_code(), Some(0));
        // In the foreground each of them completes.
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

/// An orphaned group is not stopped by its terminal. A stopped group that becomes orphaned gets
/// SIGHUP and SIGCONT.
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
        // The guardian ends here: its orphans get the hang-up, continue, and end, and so does the
        // pipe.
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
    // By default SIGHUP ends the leader, and thereby the foreground group.
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
    // A process that ignores it reads an end of file and has no controlling terminal any more.
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
    // The exit of a leader hangs up the foreground group and frees the terminal for another
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

/// A new size signals the foreground group; the same size again does not.
#[guest_test]
fn job_window() -> Outcome {
    let blocked = 1u64 << (abi::SIGWINCH - 1);
    let (size, other) = (Window { rows: 24, columns: 80 }, Window { rows: 25, columns: 80 });
    let [reader, writer] = ok!(sys::pipe(0));
    let (master, leader) = session(|terminal| {
        ok!(sys::signal_mask(blocked));
        ok!(sys::signal_handle(abi::SIGWINCH as i32, count_size, 0));
        for (signals, wanted) in [(1, size), (1, size), (2, other)] {
            ok!(sys::write_all(terminal, b"ready\n"));
            check_eq!(sys::read(reader, &mut [0]), Ok(1));
            ok!(sys::signal_mask(0));
            ok!(sys::signal_mask(blocked));
            check_eq!((SIZES.load(Ordering::SeqCst), sys::window(terminal)), (signals, Ok(wanted)));
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
