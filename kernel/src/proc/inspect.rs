//! Answers for a debugger.
//!
//! gdb stores what it wants to know in [`QUESTION`] and [`ARGUMENT`], has QEMU raise the
//! non-maskable interrupt, and waits at a breakpoint in [`tell`] for the lines of the answer; an
//! empty one ends it. The kernel answers itself, because only it knows how its tables are walked.
//! The interrupt may come anywhere in the kernel. So nothing is allocated, and while a spin lock is
//! held, which only the debugger's kernel notes, its name is the whole answer.

use super::lines::pids;
use crate::file::{ProcessView, downcast_ref, namespace, socket::Socket, tasks};
use crate::mem::{Backing, PageRange, Prot, Region, Space};
use crate::sync;
use core::fmt::{self, Write};
use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};
use foundation::counter::{Counter, GLOBAL};

/// What the debugger asks, as a byte: `r`egions, `s`napshots, message `q`ueues or `l`ocks. 0 is no
/// question.
pub static QUESTION: AtomicU64 = AtomicU64::new(0);
/// The number of the process whose regions are asked for.
pub static ARGUMENT: AtomicU64 = AtomicU64::new(0);

/// Answers the debugger's question; `false` where it asked none.
pub fn answer() -> bool {
    let question = QUESTION.swap(0, Ordering::Relaxed) as u8;
    if question == 0 {
        return false;
    }
    if question == b'l' {
        locks();
    } else if let Some(name) = sync::spin_lock_held() {
        line(format_args!("the spin lock {name} is held here: continue a little, and ask again"));
    } else {
        match question {
            b'r' => regions(ARGUMENT.load(Ordering::Relaxed) as u32),
            b's' => snapshots(),
            b'q' => queues(),
            _ => line(format_args!("no such question")),
        }
    }
    tell(core::ptr::null(), 0);
    true
}

/// Where gdb reads a line of text.
#[inline(never)]
extern "C" fn tell(text: *const u8, bytes: usize) {
    black_box((text, bytes));
}

/// The longest line.
const LINE_BYTES: usize = 160;

/// A line of text; what does not fit is left out.
struct Line {
    text: [u8; LINE_BYTES],
    bytes: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let space = self.text.iter_mut().skip(self.bytes);
        self.bytes += space.zip(text.bytes()).map(|(to, from)| *to = from).count();
        Ok(())
    }
}

fn line(text: fmt::Arguments<'_>) {
    let mut line = Line { text: [0; LINE_BYTES], bytes: 0 };
    let _ = line.write_fmt(text);
    tell(line.text.as_ptr(), line.bytes);
}

fn locks() {
    let mut any = false;
    sync::each_held(&mut |name, address, thread| {
        any = true;
        match thread {
            Some(thread) => line(format_args!("{name} at {address:#x}, thread {}", thread.0)),
            None => line(format_args!("{name} at {address:#x}, the interrupted code")),
        }
    });
    if !any {
        line(format_args!("no lock is held"));
    }
}

fn views() -> impl Iterator<Item = ProcessView> {
    pids().filter_map(|pid| tasks()?.process(pid))
}

fn regions(pid: u32) {
    let Some(view) = tasks().and_then(|tasks| tasks.process(pid)) else {
        return line(format_args!("there is no process {pid}"));
    };
    let Some(space) = &view.space else {
        return line(format_args!("process {pid} has no memory any more"));
    };
    let stats = space.stats();
    line(format_args!(
        "process {pid} {}: {} pages, {} resident, {} backed by snapshots, {} swapped out",
        view.name.escape_ascii(),
        stats.size.0,
        stats.resident.0,
        stats.lazy.0,
        stats.swapped.0
    ));
    space.each_region(&mut |range, region| line(format_args!("{}", Shown(range, region))));
}

/// A region's line.
struct Shown<'a>(PageRange, &'a Region);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(range, region) = self;
        let letter = |of: Prot, letter: char| if region.prot.contains(of) { letter } else { '-' };
        let letters =
            [letter(Prot::READ, 'r'), letter(Prot::WRITE, 'w'), letter(Prot::EXECUTE, 'x')];
        let (start, end) = (range.start.user_start().0, range.end.user_start().0);
        write!(to, "{start:08x}-{end:08x} {}{}{} ", letters[0], letters[1], letters[2])?;
        match &region.backing {
            Backing::Anonymous => write!(to, "anonymous")?,
            Backing::Shared { first, .. } => write!(to, "shared, from page {first}")?,
            Backing::File { first, .. } => write!(to, "mapped file, from page {first}")?,
            Backing::Beyond => write!(to, "past the end of its file")?,
            Backing::Snapshot { snapshot, offset } => write!(
                to,
                "snapshot {} from {:#x}, {} of {} pages",
                snapshot.id, offset.0, region.associated.0, region.pages.0
            )?,
        }
        write!(to, " {}", region.label)
    }
}

fn snapshots() {
    line(format_args!("{} snapshots live; in regions:", GLOBAL.get(Counter::SnapshotsLive)));
    for view in views() {
        if let Some(space) = &view.space {
            snapshots_of(view.pid, space);
        }
    }
}

fn snapshots_of(pid: u32, space: &Space) {
    let mut last = None;
    space.each_region(&mut |_, region| {
        let Backing::Snapshot { snapshot, .. } = &region.backing else { return };
        // The parts of a buffer are side by side.
        if last.replace(snapshot.id) != Some(snapshot.id) {
            line(format_args!(
                "process {pid}: snapshot {}, handle {:#x}, {} bytes of {:?}",
                snapshot.id, snapshot.handle.0, snapshot.len.0, snapshot.source
            ));
        }
    });
}

/// What servers have not answered, and what nobody has received.
fn queues() {
    for mount in namespace::root().mounts() {
        let requests = mount.filesystem.known_figures().requests;
        line(format_args!("{}: {requests} requests in flight", mount.path.escape_ascii()));
    }
    for view in views() {
        let Some(files) = &view.files else { continue };
        let files = files.lock();
        for (fd, descriptor) in files.iter() {
            let socket = downcast_ref::<Socket>(descriptor.file.object());
            let Some(end) = socket.and_then(Socket::endpoint) else { continue };
            let (messages, bytes) = end.queued();
            line(format_args!(
                "process {} {}, descriptor {}: {messages} messages queued, {bytes} bytes",
                view.pid,
                view.name.escape_ascii(),
                fd.0
            ));
        }
    }
}
