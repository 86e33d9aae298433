//! A shell that must answer in time.
//!
//! Time for which the CPU waits does not count. A clock that counts instructions leaps to the next
//! timeout while nothing runs, so a disk that takes a millisecond of the host's time can seem to
//! take seconds.

use core::arch::x86_64::_rdtsc;
use proof::kit::Outcome;
use user::prelude::*;
use user::sys::abi;

/// Ticks of the time-stamp counter within which the shell must answer, without those for which the
/// CPU waits.
const LIMIT_TICKS: u64 = 1_000_000_000;
/// How long one poll(2) waits for an answer, in milliseconds. Afterwards the limit is looked at.
const POLL_MS: usize = 100;
/// Ticks in the unit of `/proc/uptime`, if a tick is an instruction.
const TICKS_PER_HUNDREDTH: u64 = 10_000_000;
/// Space for a line of digits.
const LINE_BYTES: usize = 32;

/// The time-stamp counter.
pub fn ticks() -> u64 {
    // SAFETY: every processor that this kernel runs on has it, and it changes nothing.
    unsafe { _rdtsc() }
}

/// A shell at the other ends of two pipes.
pub struct Shell {
    pub pid: i32,
    commands: Fd,
    answers: Fd,
    uptime: Fd,
    asked: u64,
    /// Ticks of the slowest answer.
    pub slowest_ticks: u64,
}

impl Shell {
    pub fn start() -> Outcome<Self> {
        let [input, commands] = ok!(sys::pipe(abi::O_CLOEXEC));
        let uptime = ok!(sys::open(b"/proc/uptime", abi::O_RDONLY | abi::O_CLOEXEC, 0));
        let [answers, output] = ok!(sys::pipe(abi::O_CLOEXEC));
        let Some(pid) = ok!(sys::fork()) else {
            let _ = (sys::dup2(input, Fd::STDIN), sys::dup2(output, Fd::STDOUT));
            let error = sys::execve(b"/bin/sh", &[b"sh"], &[b"PATH=/bin"]);
            sys::exit(complain("storm", b"/bin/sh", error));
        };
        let _ = (sys::close(input), sys::close(output));
        Ok(Self { pid, commands, answers, uptime, asked: 0, slowest_ticks: 0 })
    }

    /// Closes the ends that only the process that asks may have.
    pub fn close(&self) {
        let _ = (sys::close(self.commands), sys::close(self.answers), sys::close(self.uptime));
    }

    /// Lets the shell echo a number, and waits for it. Allocates nothing.
    pub fn ask(&mut self) -> Outcome {
        self.asked += 1;
        let (start, start_idle) = (ticks(), self.idle_ticks());
        let took = |idle: u64| (ticks() - start).saturating_sub(idle.saturating_sub(start_idle));
        let mut line = [0; LINE_BYTES];
        let digits = decimal(self.asked, &mut line);
        ok!(sys::write_all(self.commands, b"echo "));
        ok!(sys::write_all(self.commands, digits));
        let mut answer = [0; LINE_BYTES];
        let mut count = 0;
        while !answer[..count].ends_with(b"\n") {
            let mut entry =
                abi::pollfd { fd: self.answers.0, events: abi::POLLIN as i16, revents: 0 };
            let ready = ok!(proof::os::raw(abi::__NR_poll, &[&raw mut entry as usize, 1, POLL_MS]));
            let took = took(self.idle_ticks());
            check!(took <= LIMIT_TICKS, "the shell did not answer within {took} ticks");
            if ready != 0 {
                let more = ok!(sys::read(self.answers, &mut answer[count..]));
                check!(more != 0, "the shell has ended");
                count += more;
            }
        }
        self.slowest_ticks = self.slowest_ticks.max(took(self.idle_ticks()));
        check_eq!(&answer[..count], digits, "the shell's answer");
        Ok(())
    }

    /// Ticks for which the CPU has waited so far; 0 where no memory is left to find that out.
    fn idle_ticks(&self) -> u64 {
        let mut line = [0; LINE_BYTES];
        let count = sys::pread(self.uptime, &mut line, FileOffset::ZERO).unwrap_or(0);
        let idle = line[..count].trim_ascii_end().rsplit(|&byte| byte == b' ').next();
        let digits = idle.into_iter().flatten().filter(|byte| byte.is_ascii_digit());
        digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')) * TICKS_PER_HUNDREDTH
    }

    /// Ends the shell. It must end by itself, with 0.
    pub fn end(self) -> Outcome {
        self.close();
        check_eq!(ok!(sys::wait_for(self.pid)).exit_code(), Some(0), "the shell's status");
        Ok(())
    }
}

/// A number and a line feed, in the last bytes of `line`.
fn decimal(mut number: u64, line: &mut [u8; LINE_BYTES]) -> &[u8] {
    let mut at = LINE_BYTES - 1;
    line[at] = b'\n';
    while number != 0 {
        at -= 1;
        line[at] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    &line[at..]
}
