//! Pseudo-terminals: names, lines and bytes, settings, readiness. Access and signals are in `jobs`.

use proof::guest_test;
use proof::kit::{Outcome, checking_child, expect_success, polled, raw, wait_until};
use user::alloc::string::ToString;
use user::prelude::*;
use user::sys::ioctl;
use user::sys::{Window, abi};

const IN: u32 = abi::POLLIN;
const OUT: u32 = abi::POLLOUT;
const HUP: u32 = abi::POLLHUP;
const ERR: u32 = abi::POLLERR;

/// The flags for a terminal that must not become the controlling one.
pub const SLAVE: u32 = abi::O_RDWR | abi::O_NOCTTY;

/// A pseudo-terminal: the master and the slave, both open.
pub fn pty() -> Outcome<[Fd; 2]> {
    let master = ok!(sys::open_pty());
    let path = ok!(sys::pty_path(master));
    Ok([master, ok!(sys::open(&path, SLAVE, 0))])
}

/// Fails unless exactly these bytes are read next.
pub fn expect(fd: Fd, wanted: &[u8]) -> Outcome {
    let mut found = vec![0; wanted.len()];
    let count = ok!(sys::read_full(fd, &mut found));
    check_eq!(found[..count].escape_ascii().to_string(), wanted.escape_ascii().to_string());
    Ok(())
}

/// Fails unless one read with space to spare returns exactly this.
fn expect_read(fd: Fd, wanted: &[u8]) -> Outcome {
    let mut found = [0; 256];
    let count = ok!(sys::read(fd, &mut found));
    check_eq!(found[..count].escape_ascii().to_string(), wanted.escape_ascii().to_string());
    Ok(())
}

/// Sets raw mode: a read waits for `bytes` bytes or `tenths` of a second.
fn without_lines(fd: Fd, bytes: u8, tenths: u8) -> Outcome {
    let mut settings = ok!(sys::terminal_settings(fd));
    settings.c_iflag = 0;
    settings.c_oflag = 0;
    settings.c_lflag = 0;
    settings.c_cc[abi::VMIN as usize] = bytes;
    settings.c_cc[abi::VTIME as usize] = tenths;
    ok!(sys::set_terminal_settings(fd, &settings));
    Ok(())
}

#[guest_test]
fn pty_names() -> Outcome {
    let master = ok!(sys::open(b"/dev/ptmx", SLAVE, 0));
    let path = ok!(sys::pty_path(master));
    // The slave is locked until the master unlocks it.
    check_eq!(sys::ioctl_number(master, ioctl::TIOCGPTLCK), Ok(1));
    check_eq!(sys::open(&path, SLAVE, 0), Err(Errno::EIO));
    check_eq!(sys::ioctl(master, ioctl::TIOCGPTPEER, SLAVE as usize), Err(Errno::EIO));
    let unlocked = 0i32;
    ok!(raw(
        abi::__NR_ioctl,
        &[master.argument(), ioctl::TIOCSPTLCK as usize, &raw const unlocked as usize]
    ));
    check_eq!(sys::ioctl_number(master, ioctl::TIOCGPTLCK), Ok(0));
    let slave = ok!(sys::open(&path, SLAVE, 0));
    let peer =
        Fd(ok!(sys::ioctl(master, ioctl::TIOCGPTPEER, (SLAVE | abi::O_CLOEXEC) as usize)) as i32);
    check_eq!(sys::fcntl(peer, abi::F_GETFD, 0), Ok(1));
    check_eq!(sys::ioctl(slave, ioctl::TIOCGPTPEER, SLAVE as usize), Err(Errno::EIO));
    check_eq!(sys::write(peer, b"by its master\n"), Ok(14));
    expect(master, b"by its master\r\n")?;
    // As ttyname(3) finds a terminal's name.
    let number = ok!(sys::ioctl_number(master, ioctl::TIOCGPTN)) as u64;
    let (open, named) = (ok!(sys::fstat(slave)), ok!(sys::stat(&path)));
    check_eq!(
        (open.st_dev, open.st_ino, open.st_rdev),
        (named.st_dev, named.st_ino, named.st_rdev)
    );
    check_eq!((named.st_rdev, named.st_mode & abi::S_IFMT), (136 << 8 | number, abi::S_IFCHR));
    check_eq!(ok!(sys::fstat(master)).st_rdev, 5 << 8 | 2);
    check_eq!(sys::readlink(format!("/proc/self/fd/{slave}").as_bytes()), Ok(path.clone()));
    let name = format!("{number}").into_bytes();
    check!(ok!(user::fs::list(b"/dev/pts")).contains(&name));
    // The name disappears with the master, the terminal does not.
    ok!(sys::close(master));
    check_eq!(sys::stat(&path).err(), Some(Errno::ENOENT));
    check!(!ok!(user::fs::list(b"/dev/pts")).contains(&name));
    check!(ok!(sys::open_pty()) > Fd::STDIN);
    check_eq!(sys::open(b"/dev/pts/x", SLAVE, 0), Err(Errno::ENOENT));
    check_eq!(sys::open(b"/dev/pts", abi::O_RDWR, 0), Err(Errno::EISDIR));
    Ok(())
}

#[guest_test]
fn pty_lines() -> Outcome {
    let [master, slave] = pty()?;
    ok!(sys::write_all(master, b"ls\rmore\n"));
    expect(master, b"ls\r\nmore\r\n")?;
    expect_read(slave, b"ls\n")?;
    expect_read(slave, b"more\n")?;
    // A line in parts.
    ok!(sys::write_all(master, b"line\n"));
    let mut two = [0; 2];
    check_eq!(sys::read(slave, &mut two), Ok(2));
    expect_read(slave, b"ne\n")?;
    expect(master, b"line\r\n")?;
    // Erase, kill, literal.
    ok!(sys::write_all(master, b"ab\x7fc\x15x\x16\x03y\n"));
    expect_read(slave, b"x\x03y\n")?;
    expect(master, b"ab\x08 \x08c\x08 \x08\x08 \x08x^\x08^Cy\r\n")?;
    // An end-of-file character completes a line without adding a byte; alone, it makes the read
    // return 0.
    ok!(sys::write_all(master, b"part\x04\x04after\n"));
    expect_read(slave, b"part")?;
    expect_read(slave, b"")?;
    expect_read(slave, b"after\n")?;
    expect(master, b"partafter\r\n")?;
    // Output of a program.
    check_eq!(sys::write(slave, b"x\ny\n"), Ok(4));
    expect(master, b"x\r\ny\r\n")?;
    // Without echo nothing is shown.
    let mut settings = ok!(sys::terminal_settings(slave));
    settings.c_lflag &= !abi::ECHO;
    ok!(sys::set_terminal_settings(slave, &settings));
    ok!(sys::write_all(master, b"secret\n"));
    expect_read(slave, b"secret\n")?;
    check_eq!(sys::write(slave, b"."), Ok(1));
    expect(master, b".")
}

#[guest_test]
fn pty_bytes() -> Outcome {
    let [master, slave] = pty()?;
    without_lines(slave, 1, 0)?;
    ok!(sys::write_all(master, b"\x03\r\x7f\x04"));
    wait_until(slave, IN)?;
    check_eq!(sys::ioctl_number(slave, ioctl::FIONREAD), Ok(4));
    expect(slave, b"\x03\r\x7f\x04")?;
    check_eq!(sys::write(slave, b"a\nb"), Ok(3));
    expect(master, b"a\nb")?;
    // Three bytes or none; with a smaller buffer, as many as it holds.
    without_lines(slave, 3, 0)?;
    ok!(sys::write_all(master, b"ab"));
    check_eq!(polled(slave, IN)?, 0);
    expect(slave, b"ab")?;
    let third = checking_child(|| {
        ok!(sys::write_all(master, b"a"));
        ok!(sys::write_all(master, b"b"));
        ok!(sys::write_all(master, b"c"));
        Ok(())
    })?;
    expect_read(slave, b"abc")?;
    expect_success(third)?;
    // A non-blocking read returns what is there, or EAGAIN; with VMIN 0 it may return 0.
    ok!(sys::fcntl(slave, abi::F_SETFL, (abi::O_RDWR | abi::O_NONBLOCK) as usize));
    check_eq!(sys::read(slave, &mut [0]), Err(Errno::EAGAIN));
    without_lines(slave, 1, 0)?;
    ok!(sys::write_all(master, b"ab"));
    wait_until(slave, IN)?;
    without_lines(slave, 3, 0)?;
    expect_read(slave, b"ab")?;
    without_lines(slave, 0, 0)?;
    check_eq!(sys::read(slave, &mut [0]), Ok(0));
    ok!(sys::fcntl(slave, abi::F_SETFL, abi::O_RDWR as usize));
    check_eq!(sys::read(slave, &mut [0]), Ok(0));
    Ok(())
}

/// Without measuring time: input that arrives in time is read, and missing input does not block a
/// read.
#[guest_test]
fn pty_time_limits() -> Outcome {
    const LONG: u8 = 255;
    let [master, slave] = pty()?;
    without_lines(slave, 0, 1)?;
    check_eq!(sys::read(slave, &mut [0]), Ok(0));
    ok!(sys::write_all(master, b"ab"));
    expect_read(slave, b"ab")?;
    without_lines(slave, 0, LONG)?;
    ok!(sys::write_all(master, b"cd"));
    expect_read(slave, b"cd")?;
    // With VMIN above 0 the timer starts at the first byte: a read with one byte returns without
    // the others.
    without_lines(slave, 3, 1)?;
    ok!(sys::write_all(master, b"e"));
    expect_read(slave, b"e")?;
    without_lines(slave, 2, LONG)?;
    let second = checking_child(|| {
        ok!(sys::write_all(master, b"f"));
        ok!(sys::write_all(master, b"g"));
        Ok(())
    })?;
    expect_read(slave, b"fg")?;
    expect_success(second)?;
    without_lines(slave, 3, LONG)?;
    ok!(sys::write_all(master, b"h"));
    let mut one = [0];
    check_eq!(sys::read(slave, &mut one), Ok(1));
    // One byte makes it readable.
    ok!(sys::write_all(master, b"i"));
    check_eq!(wait_until(slave, IN)?, IN);
    Ok(())
}

#[guest_test]
fn pty_settings() -> Outcome {
    let [master, slave] = pty()?;
    let settings = ok!(sys::terminal_settings(slave));
    check_eq!(settings.c_iflag, abi::ICRNL | abi::IXON);
    check_eq!(settings.c_oflag, abi::OPOST | abi::ONLCR);
    check_eq!(settings.c_cflag, abi::B38400 | abi::CS8 | abi::CREAD);
    check_eq!(settings.c_cc[abi::VMIN as usize], 1);
    // Both ends report the same.
    let mut raw_settings = settings;
    raw_settings.c_lflag = 0;
    ok!(sys::set_terminal_settings(master, &raw_settings));
    check_eq!(ok!(sys::terminal_settings(slave)).c_lflag, 0);
    ok!(sys::write_all(master, b"part"));
    expect(slave, b"part")?;
    // TCSETSF discards earlier input.
    ok!(sys::write_all(master, b"gone"));
    wait_until(slave, IN)?;
    check_eq!(sys::ioctl(slave, ioctl::TCFLSH, abi::TCIFLUSH as usize), Ok(0));
    check_eq!(sys::ioctl_number(slave, ioctl::FIONREAD), Ok(0));
    check_eq!(sys::ioctl(slave, ioctl::TCFLSH, 3), Err(Errno::EINVAL));
    // Bytes typed in raw mode become a line when canonical mode is switched on.
    ok!(sys::write_all(master, b"unfinished"));
    wait_until(slave, IN)?;
    ok!(sys::set_terminal_settings(slave, &settings));
    expect_read(slave, b"unfinished")?;
    check_eq!(
        sys::terminal_settings(ok!(sys::open(b"/dev/null", abi::O_RDWR, 0))).err(),
        Some(Errno::ENOTTY)
    );
    Ok(())
}

#[guest_test]
fn pty_window() -> Outcome {
    let [master, slave] = pty()?;
    check_eq!(sys::window(slave), Ok(Window { rows: 0, columns: 0 }));
    let (wide, narrow) = (Window { rows: 24, columns: 132 }, Window { rows: 50, columns: 80 });
    ok!(sys::set_window(master, wide));
    check_eq!(sys::window(slave), Ok(wide));
    ok!(sys::set_window(slave, narrow));
    check_eq!(sys::window(master), Ok(narrow));
    Ok(())
}

/// ^S stops output, ^Q resumes it, and neither is input.
#[guest_test]
fn pty_flow() -> Outcome {
    let [master, slave] = pty()?;
    ok!(sys::fcntl(slave, abi::F_SETFL, (abi::O_RDWR | abi::O_NONBLOCK) as usize));
    check_eq!(sys::write(slave, b"1"), Ok(1));
    ok!(sys::write_all(master, b"\x13line\n"));
    // The arrival of the line shows that the earlier bytes were processed.
    wait_until(slave, IN)?;
    check_eq!(sys::write(slave, b"2"), Err(Errno::EAGAIN));
    expect_read(slave, b"line\n")?;
    ok!(sys::write_all(master, b"\x11again\n"));
    wait_until(slave, IN)?;
    expect_read(slave, b"again\n")?;
    check_eq!(sys::write(slave, b"3"), Ok(1));
    check_eq!(sys::ioctl(slave, ioctl::TCXONC, abi::TCOOFF as usize), Ok(0));
    check_eq!(sys::write(slave, b"4"), Err(Errno::EAGAIN));
    check_eq!(sys::ioctl(slave, ioctl::TCXONC, abi::TCOON as usize), Ok(0));
    check_eq!(sys::write(slave, b"5"), Ok(1));
    Ok(())
}

#[guest_test]
fn pty_readiness() -> Outcome {
    let master = ok!(sys::open_pty());
    // Before the first open of the slave, the master is not at an end.
    check_eq!(polled(master, IN | OUT)?, OUT);
    ok!(sys::fcntl(master, abi::F_SETFL, (abi::O_RDWR | abi::O_NONBLOCK) as usize));
    check_eq!(sys::read(master, &mut [0]), Err(Errno::EAGAIN));
    let path = ok!(sys::pty_path(master));
    let slave = ok!(sys::open(&path, SLAVE, 0));
    check_eq!(polled(slave, IN | OUT)?, OUT);
    ok!(sys::write_all(master, b"half"));
    check_eq!(polled(slave, IN)?, 0);
    ok!(sys::write_all(master, b" a line\n"));
    check_eq!(wait_until(slave, IN)?, IN);
    ok!(sys::fcntl(master, abi::F_SETFL, abi::O_RDWR as usize));
    expect(master, b"half a line\r\n")?;
    check_eq!(sys::write(slave, b"last"), Ok(4));
    ok!(sys::close(slave));
    check_eq!(polled(master, IN | OUT)?, IN | OUT | HUP);
    expect(master, b"last")?;
    check_eq!(polled(master, IN)?, HUP);
    check_eq!(sys::read(master, &mut [0]), Err(Errno::EIO));
    // The next open ends that state, and the line is still there.
    let slave = ok!(sys::open(&path, SLAVE, 0));
    check_eq!(polled(master, IN)?, 0);
    expect_read(slave, b"half a line\n")?;
    // Without its master, a slave is at its end.
    ok!(sys::close(master));
    check_eq!(polled(slave, IN | OUT)?, IN | OUT | HUP | ERR);
    check_eq!(sys::read(slave, &mut [0]), Ok(0));
    check_eq!(sys::write(slave, b"x"), Err(Errno::EIO));
    check_eq!(sys::terminal_settings(slave).err(), Some(Errno::EIO));
    // A separate pipe shows that a wait at a master ends with the last close of the slave.
    let [master, slave] = pty()?;
    let reader = checking_child(|| {
        ok!(sys::close(slave));
        check_eq!(sys::read(master, &mut [0]), Err(Errno::EIO));
        Ok(())
    })?;
    ok!(sys::close(slave));
    expect_success(reader)
}

/// A writer blocks while the other end does not read, and nothing is lost.
#[guest_test]
fn pty_space() -> Outcome {
    const BYTES: usize = 200_000;
    let pattern = |at: usize| (at % 251) as u8;
    let all: Vec<u8> = (0..BYTES).map(pattern).collect();
    for from_master in [true, false] {
        let [master, slave] = pty()?;
        without_lines(slave, 1, 0)?;
        let (writer, reader) = if from_master { (master, slave) } else { (slave, master) };
        ok!(sys::fcntl(writer, abi::F_SETFL, (abi::O_RDWR | abi::O_NONBLOCK) as usize));
        let mut written = 0;
        // Not asked a second time: Linux moves bytes on meanwhile.
        let refusal = loop {
            match sys::write(writer, &all[written..]) {
                Ok(count) => written += count,
                Err(error) => break error,
            }
        };
        check_eq!(refusal, Errno::EAGAIN);
        check!(written > 1000 && written < BYTES);
        ok!(sys::fcntl(writer, abi::F_SETFL, abi::O_RDWR as usize));
        let child = checking_child(|| {
            ok!(sys::write_all(writer, &all[written..]));
            Ok(())
        })?;
        let mut found = vec![0; BYTES];
        check_eq!(sys::read_full(reader, &mut found), Ok(BYTES));
        check!(found == all);
        expect_success(child)?;
    }
    Ok(())
}
