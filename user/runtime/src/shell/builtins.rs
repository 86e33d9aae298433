//! The commands that run inside the shell, because they change it or because a fork would be
//! wasteful.

use super::{Flow, Shell, condition, limits, parse, text};
use crate::opt::number;
use crate::prelude::*;

/// A builtin takes all arguments, its own name first, and returns its status.
pub(super) type Builtin = fn(&mut Shell, &[Vec<u8>]) -> core::result::Result<i32, Flow>;

pub(super) type Run = core::result::Result<i32, Flow>;

/// All builtins but `exec`, which the executor runs itself.
const TABLE: [(&[u8], Builtin); 26] = [
    (b":", |_, _| Ok(0)),
    (b"true", |_, _| Ok(0)),
    (b"false", |_, _| Ok(1)),
    (b".", source),
    (b"[", test),
    (b"test", test),
    (b"break", |shell, args| leave_loop(shell, args, Flow::Break)),
    (b"continue", |shell, args| leave_loop(shell, args, Flow::Continue)),
    (b"cd", cd),
    (b"command", command),
    (b"echo", echo),
    (b"eval", eval),
    (b"exit", |shell, args| Err(Flow::Exit(status_argument(shell, args)))),
    (b"export", export),
    (b"printf", printf),
    (b"pwd", pwd),
    (b"read", read),
    (b"readonly", export),
    (b"return", |shell, args| Err(Flow::Return(status_argument(shell, args)))),
    (b"set", set),
    (b"shift", shift),
    (b"type", kind_of),
    (b"ulimit", limits::ulimit),
    (b"umask", umask),
    (b"unset", unset),
    (b"wait", wait),
];

/// The names of all builtins.
pub fn names() -> impl Iterator<Item = &'static str> {
    let names = TABLE.iter().map(|(name, _)| *name).chain([&b"exec"[..]]);
    names.filter_map(|name| core::str::from_utf8(name).ok())
}

/// The builtin that has this name, if there is one.
pub(super) fn find(name: &[u8]) -> Option<Builtin> {
    TABLE.iter().find(|(known, _)| *known == name).map(|(_, builtin)| *builtin)
}

fn slices(arguments: &[Vec<u8>]) -> Vec<&[u8]> {
    arguments.iter().map(Vec::as_slice).collect()
}

/// Prints an error and returns status 1.
pub(super) fn fail(
    shell: &Shell,
    arguments: &[Vec<u8>],
    subject: &[u8],
    error: impl core::fmt::Display,
) -> i32 {
    let builtin = arguments.first().map_or(&b""[..], Vec::as_slice);
    eprintln!("{}: {}: {}: {error}", Show(&shell.name), Show(builtin), Show(subject));
    1
}

pub(super) fn put(shell: &Shell, arguments: &[Vec<u8>], bytes: &[u8]) -> i32 {
    match sys::write_all(Fd::STDOUT, bytes) {
        Ok(()) => 0,
        Err(error) => fail(shell, arguments, b"write error", error),
    }
}

fn status_argument(shell: &Shell, arguments: &[Vec<u8>]) -> i32 {
    match arguments.get(1) {
        None => shell.status,
        Some(status) => match number::<i32>(status) {
            Some(status) => status & 0xff,
            None => fail(shell, arguments, status, "not a number") + 1,
        },
    }
}

fn leave_loop(shell: &mut Shell, arguments: &[Vec<u8>], flow: fn(u32) -> Flow) -> Run {
    let count = arguments.get(1).map_or(Some(1), |count| number::<u32>(count)).unwrap_or(0);
    if count == 0 {
        return Ok(fail(shell, arguments, b"loops", "not a positive number"));
    }
    if shell.loops == 0 { Ok(0) } else { Err(flow(count.min(shell.loops))) }
}

fn source(shell: &mut Shell, arguments: &[Vec<u8>]) -> Run {
    let Some(path) = arguments.get(1) else {
        return Ok(fail(shell, arguments, b"file", "missing"));
    };
    let candidates = shell.candidates(path);
    let text = candidates.iter().chain([path]).find_map(|path| crate::io::read_file(path).ok());
    match text {
        Some(text) => shell.source(&text),
        None => Err(shell.error(format_args!("{}: cannot be read", Show(path)))),
    }
}

fn eval(shell: &mut Shell, arguments: &[Vec<u8>]) -> Run {
    let text = arguments[1..].join(&b' ');
    shell.status = 0;
    shell.run_commands(&text)?;
    Ok(shell.status)
}

fn test(shell: &mut Shell, arguments: &[Vec<u8>]) -> Run {
    let mut rest = &arguments[1..];
    if arguments[0] == b"[" {
        match rest.split_last() {
            Some((last, before)) if last == b"]" => rest = before,
            _ => return Ok(fail(shell, arguments, b"]", "missing") + 1),
        }
    }
    Ok(match condition::evaluate(&slices(rest)) {
        Ok(value) => i32::from(!value),
        Err(message) => fail(shell, arguments, message.as_bytes(), "not a condition") + 1,
    })
}

fn cd(shell: &mut Shell, arguments: &[Vec<u8>]) -> Run {
    let home = shell.get(b"HOME").unwrap_or(b"/").to_vec();
    let target = match arguments.get(1).map(Vec::as_slice) {
        None => home,
        Some(b"-") => shell.get(b"OLDPWD").unwrap_or(b".").to_vec(),
        Some(path) => path.to_vec(),
    };
    let before = sys::getcwd().unwrap_or_default();
    if let Err(error) = sys::chdir(&target) {
        return Ok(fail(shell, arguments, &target, error));
    }
    let now = sys::getcwd().unwrap_or(target);
    shell.set(b"OLDPWD", &before);
    shell.set(b"PWD", &now);
    if arguments.get(1).is_some_and(|path| path == b"-") {
        return Ok(put(shell, arguments, &[now.as_slice(), b"\n"].concat()));
    }
    Ok(0)
}

fn pwd(shell: &mut Shell, arguments: &[Vec<u8>]) -> Run {
    Ok(match sys::getcwd() {
        Ok(path) => put(shell, arguments, &[path.as_slice(), b"\n"].concat()),
        Err(error) => fail(shell, arguments, b".", error),
    })
}

fn echo(shell: &mut Shell, arguments: &[Vec<u8>]) -> Run {
    Ok(put(shell, arguments, &text::echo(&slices(&arguments[1..]))))
}

fn printf(shell: &mut Shell, arguments: &[Vec<u8>]) -> Run {
    let Some(format) = arguments.get(1) else {
        return Ok(fail(shell, arguments, b"format", "missing") + 1);
    };
    let (text, good) = text::printf(format, &slices(&arguments[2..]));
    Ok(put(shell, arguments, &text).max(i32::from(!good)))
}

fn export(shell: &mut Shell, arguments: &[Vec<u8>]) -> Run {
    let mut status = 0;
    for argument in &arguments[1..] {
        let equals = argument.iter().position(|&byte| byte == b'=');
        let name = &argument[..equals.unwrap_or(argument.len())];
        if name == b"-p" {
            continue;
        }
        if !parse::is_name(name) {
            status = fail(shell, arguments, name, "not a name");
            continue;
        }
        if let Some(equals) = equals {
            shell.set(name, &argument[equals + 1..]);
        }
        if arguments[0] == b"export" {
            shell.export(name);
        }
    }
    if arguments.len() == 1 || arguments[1] == b"-p" {
        let mut list = Vec::new();
        for (name, variable) in shell.variables.iter().filter(|(_, variable)| variable.exported) {
            list.extend(
                [
                    b"export ".as_slice(),
                    name,
                    b"='",
                    variable.value.as_deref().unwrap_or_default(),
                    b"'\n",
                ]
                .concat(),
            );
        }
        status = put(shell, arguments, &list);
    }
    Ok(status)
}

fn unset(shell: &mut Shell, arguments: &[Vec<u8>]) -> Run {
    let functions = arguments.get(1).is_some_and(|flag| flag == b"-f");
    for name in &arguments[1..] {
        if functions {
            shell.functions.remove(name);
        } else {
            shell.variables.remove(name);
        }
    }
    Ok(0)
}

fn set(shell: &mut Shell, arguments: &[Vec<u8>]) -> Run {
    let mut rest = arguments[1..].iter();
    if rest.len() == 0 {
        let mut list = Vec::new();
        for (name, variable) in &shell.variables {
            list.extend(
                [name.as_slice(), b"='", variable.value.as_deref().unwrap_or_default(), b"'\n"]
                    .concat(),
            );
        }
        return Ok(put(shell, arguments, &list));
    }
    while let Some(argument) = rest.as_slice().first() {
        let (sign, letters) = match argument.split_first() {
            Some((&sign @ (b'-' | b'+'), letters)) if !letters.is_empty() => (sign, letters),
            _ => break,
        };
        rest.next();
        if letters == b"-" {
            shell.positional = rest.as_slice().to_vec();
            return Ok(0);
        }
        for letter in letters {
            match letter {
                b'e' => shell.options.exit_on_error = sign == b'-',
                b'u' => shell.options.unset_is_error = sign == b'-',
                b'x' => shell.options.trace = sign == b'-',
                letter => return Ok(fail(shell, arguments, &[sign, *letter], "unknown option") + 1),
            }
        }
    }
    if rest.len() > 0 {
        shell.positional = rest.as_slice().to_vec();
    }
    Ok(0)
}

fn shift(shell: &mut Shell, arguments: &[Vec<u8>]) -> Run {
    let count = arguments.get(1).map_or(Some(1), |count| number::<usize>(count));
    match count {
        Some(count) if count <= shell.positional.len() => {
            shell.positional.drain(..count);
            Ok(0)
        }
        _ => Ok(fail(shell, arguments, b"count", "out of range")),
    }
}

fn umask(shell: &mut Shell, arguments: &[Vec<u8>]) -> Run {
    let Some(mask) = arguments.get(1) else {
        let mask = sys::umask(0).unwrap_or(0);
        let _ = sys::umask(mask);
        return Ok(put(shell, arguments, format!("{mask:04o}\n").as_bytes()));
    };
    match core::str::from_utf8(mask).ok().and_then(|mask| u32::from_str_radix(mask, 8).ok()) {
        Some(mask) => Ok(i32::from(sys::umask(mask & 0o777).is_err())),
        None => Ok(fail(shell, arguments, mask, "not an octal number")),
    }
}

/// `wait`: waits for all children or for the named ones. The status is the last one's.
fn wait(shell: &mut Shell, arguments: &[Vec<u8>]) -> Run {
    if arguments.len() == 1 {
        while let Ok(Some(_)) = sys::wait(-1, 0) {}
        shell.ended.clear();
        return Ok(0);
    }
    let mut status = 0;
    for argument in &arguments[1..] {
        status = match number::<i32>(argument) {
            Some(id) => match shell.ended.remove(&id) {
                Some(status) => status,
                None => sys::wait_for(id).map_or(127, |status| status.shell_status()),
            },
            None => fail(shell, arguments, argument, "not a process id") + 1,
        };
    }
    Ok(status)
}

/// `read NAME…`: reads one line of standard input byte by byte, so that the next reader gets all
/// that follows it.
fn read(shell: &mut Shell, arguments: &[Vec<u8>]) -> Run {
    let raw = arguments.get(1).is_some_and(|flag| flag == b"-r");
    let names = &arguments[if raw { 2 } else { 1 }..];
    let (mut line, mut ended) = (Vec::new(), false);
    let mut escaped = false;
    loop {
        let mut byte = [0];
        if sys::read_full(Fd::STDIN, &mut byte).unwrap_or(0) == 0 {
            ended = true;
            break;
        }
        match byte[0] {
            byte if escaped => {
                escaped = false;
                if byte != b'\n' {
                    line.push(byte);
                }
            }
            b'\\' if !raw => escaped = true,
            b'\n' => break,
            byte => line.push(byte),
        }
    }
    let separators = shell.get(b"IFS").unwrap_or(b" \t\n").to_vec();
    let is_space = |byte: &u8| separators.contains(byte) && byte.is_ascii_whitespace();
    let trim = |text: &[u8]| {
        let start = text.iter().position(|byte| !is_space(byte)).unwrap_or(text.len());
        let end = text.iter().rposition(|byte| !is_space(byte)).map_or(start, |end| end + 1);
        text[start..end].to_vec()
    };
    let mut rest = trim(&line);
    let reply = vec![b"REPLY".to_vec()];
    let names = if names.is_empty() { &reply } else { names };
    for (index, name) in names.iter().enumerate() {
        let last = index + 1 == names.len();
        let end = if last { None } else { rest.iter().position(|byte| separators.contains(byte)) };
        let end = end.unwrap_or(rest.len());
        shell.set(name, &rest[..end]);
        let skip = usize::from(rest.get(end).is_some_and(|byte| !is_space(byte)));
        let mut after = trim(&rest[end + skip..]);
        if skip == 0 && !last && after.first().is_some_and(|byte| separators.contains(byte)) {
            after = trim(&after[1..]);
        }
        rest = after;
    }
    Ok(i32::from(ended))
}

/// `type`: prints how a command name would be resolved.
fn kind_of(shell: &mut Shell, arguments: &[Vec<u8>]) -> Run {
    let mut status = 0;
    for name in &arguments[1..] {
        let text = match locate(shell, name) {
            Some(what) if what == *name => format!("{} is a shell builtin\n", Show(name)),
            Some(what) => format!("{} is {}\n", Show(name), Show(&what)),
            None => {
                status = 127;
                format!("{}: not found\n", Show(name))
            }
        };
        put(shell, arguments, text.as_bytes());
    }
    Ok(status)
}

fn locate(shell: &Shell, name: &[u8]) -> Option<Vec<u8>> {
    if shell.functions.contains_key(name) || find(name).is_some() || name == b"exec" {
        return Some(name.to_vec());
    }
    shell.candidates(name).into_iter().find(|path| sys::access(path, sys::abi::X_OK).is_ok())
}

/// `command -v NAME`, or runs a command without regard to functions.
fn command(shell: &mut Shell, arguments: &[Vec<u8>]) -> Run {
    match arguments.get(1).map(Vec::as_slice) {
        None => Ok(0),
        Some(b"-v") => {
            let found = arguments.get(2).and_then(|name| locate(shell, name));
            Ok(match found {
                Some(what) => put(shell, arguments, &[what.as_slice(), b"\n"].concat()),
                None => 127,
            })
        }
        Some(name) => match find(name) {
            Some(builtin) => builtin(shell, &arguments[1..]),
            None => shell.run_program(&arguments[1..]).map(|()| shell.status),
        },
    }
}
