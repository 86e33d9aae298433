//! `ps`: lists the processes, from `/proc`.

use user::prelude::*;

pub fn run(_: &Args) -> i32 {
    let names = match user::fs::list(b"/proc") {
        Ok(names) => names,
        Err(error) => return complain("ps", b"/proc", error),
    };
    let mut ids: Vec<u32> = names.iter().filter_map(|name| user::opt::number(name)).collect();
    ids.sort_unstable();
    let mut out = Out::standard();
    out.put(b"  PID  PPID S    VSZ    RSS COMMAND\n");
    for id in ids {
        // A process may end after it was listed.
        if let Some(line) = describe(id) {
            out.put(&line);
        }
    }
    out.finish("ps", 0)
}

/// The line for one process, or `None` if it has ended.
fn describe(id: u32) -> Option<Vec<u8>> {
    let stat = user::io::read_file(format!("/proc/{id}/stat").as_bytes()).ok()?;
    // The name is in parentheses and may contain parentheses: the last one closes it.
    let open = stat.iter().position(|byte| *byte == b'(')?;
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    let fields: Vec<&[u8]> =
        stat.get(close + 2..)?.split(|byte| byte.is_ascii_whitespace()).collect();
    let field = |index: usize| fields.get(index).copied().unwrap_or(b"?");
    let kib =
        |index: usize, unit: u64| user::opt::number::<u64>(field(index)).unwrap_or(0) * unit / 1024;
    let mut command =
        user::io::read_file(format!("/proc/{id}/cmdline").as_bytes()).unwrap_or_default();
    while command.last() == Some(&0) {
        command.pop();
    }
    let name = &stat[open + 1..close];
    let program = command.split(|byte| *byte == 0).next().unwrap_or_default();
    if command.is_empty() {
        command = [b"[", name, b"]"].concat();
    } else if !user::fs::base_name(program).starts_with(name) {
        // The process has set another name than its file's, as the servers do.
        command = [b"{", name, b"} ", &command].concat();
    }
    for byte in &mut command {
        if *byte < b' ' {
            *byte = b' ';
        }
    }
    let head = format!(
        "{id:5} {:>5} {} {:6} {:6} ",
        Show(field(1)),
        Show(field(0)),
        kib(20, 1),
        kib(21, 4096)
    );
    Some([head.as_bytes(), &command, b"\n"].concat())
}
