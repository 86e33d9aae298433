//! `ulimit [-HS] [-a | -cdeflnrstuv [LIMIT]]`: resource limits of the shell, which its children
//! inherit.

use super::Shell;
use super::builtins::{Run, fail, put};
use crate::opt::number;
use crate::prelude::*;
use crate::sys::abi;

/// The value for no limit.
const UNLIMITED: u64 = u64::MAX;

/// A limit as `ulimit` shows it.
struct Resource {
    letter: u8,
    number: u32,
    /// Bytes or other units of one unit of the command.
    unit: u64,
    what: &'static str,
}

const fn resource(letter: u8, number: u32, unit: u64, what: &'static str) -> Resource {
    Resource { letter, number, unit, what }
}

/// In the order of `ulimit -a`. Units are those of other shells.
const RESOURCES: [Resource; 12] = [
    resource(b't', abi::RLIMIT_CPU, 1, "cpu time (seconds)"),
    resource(b'f', abi::RLIMIT_FSIZE, 512, "file size (blocks)"),
    resource(b'd', abi::RLIMIT_DATA, 1024, "data seg size (kbytes)"),
    resource(b's', abi::RLIMIT_STACK, 1024, "stack size (kbytes)"),
    resource(b'c', abi::RLIMIT_CORE, 512, "core file size (blocks)"),
    resource(b'l', abi::RLIMIT_MEMLOCK, 1024, "locked memory (kbytes)"),
    resource(b'u', abi::RLIMIT_NPROC, 1, "processes"),
    resource(b'n', abi::RLIMIT_NOFILE, 1, "file descriptors"),
    resource(b'v', abi::RLIMIT_AS, 1024, "address space (kbytes)"),
    resource(b'i', abi::RLIMIT_SIGPENDING, 1, "pending signals"),
    resource(b'e', abi::RLIMIT_NICE, 1, "scheduling priority"),
    resource(b'r', abi::RLIMIT_RTPRIO, 1, "real-time priority"),
];

/// What the arguments ask for.
struct Request<'a> {
    soft: bool,
    hard: bool,
    all: bool,
    resource: &'static Resource,
    value: Option<&'a [u8]>,
}

/// The builtin.
pub(super) fn ulimit(shell: &mut Shell, arguments: &[Vec<u8>]) -> Run {
    let request = match parse(arguments) {
        Ok(request) => request,
        Err(wrong) => return Ok(fail(shell, arguments, wrong, "invalid option") + 1),
    };
    let Some(value) = request.value else { return Ok(show(shell, arguments, &request)) };
    let Ok([soft, hard]) = sys::limit(request.resource.number) else {
        return Ok(fail(shell, arguments, value, "no such limit"));
    };
    let wanted = match value {
        b"unlimited" => Some(UNLIMITED),
        b"soft" => Some(soft),
        b"hard" => Some(hard),
        value => number::<u64>(value).and_then(|value| value.checked_mul(request.resource.unit)),
    };
    let Some(wanted) = wanted else {
        return Ok(fail(shell, arguments, value, "not a number"));
    };
    let soft = if request.soft { wanted } else { soft };
    let hard = if request.hard { wanted } else { hard };
    Ok(match sys::set_limit(request.resource.number, [soft, hard]) {
        Ok(()) => 0,
        Err(error) => fail(shell, arguments, value, error),
    })
}

/// The error is the argument that is wrong.
fn parse(arguments: &[Vec<u8>]) -> core::result::Result<Request<'_>, &[u8]> {
    let file_size = &RESOURCES[1];
    let (mut soft, mut hard, mut all, mut resource) = (false, false, false, file_size);
    let mut rest = arguments[1..].iter();
    let mut value = None;
    for argument in rest.by_ref() {
        let Some(letters) = argument.strip_prefix(b"-").filter(|letters| !letters.is_empty())
        else {
            value = Some(argument.as_slice());
            break;
        };
        for letter in letters {
            match letter {
                b'S' => soft = true,
                b'H' => hard = true,
                b'a' => all = true,
                letter => {
                    resource = RESOURCES
                        .iter()
                        .find(|resource| resource.letter == *letter)
                        .ok_or(argument.as_slice())?;
                }
            }
        }
    }
    if let Some(extra) = rest.next() {
        return Err(extra);
    }
    if !soft && !hard {
        // Without a choice both are set, and the soft one is shown.
        (soft, hard) = (true, value.is_some());
    }
    Ok(Request { soft, hard, all, resource, value })
}

fn show(shell: &Shell, arguments: &[Vec<u8>], request: &Request<'_>) -> i32 {
    let shown = |resource: &Resource| {
        let [soft, hard] = sys::limit(resource.number).unwrap_or([UNLIMITED; 2]);
        match if request.soft { soft } else { hard } {
            UNLIMITED => String::from("unlimited"),
            value => format!("{}", value / resource.unit),
        }
    };
    let text = if request.all {
        let line = |resource: &Resource| {
            let Resource { letter, what, .. } = resource;
            format!("-{}: {what:<26}{}\n", char::from(*letter), shown(resource))
        };
        RESOURCES.iter().map(line).collect()
    } else {
        format!("{}\n", shown(request.resource))
    };
    put(shell, arguments, text.as_bytes())
}
