//! Rows that involve no file: system calls, pipes, faults, processes.

use crate::Row;
use crate::meter::{self, Meter, Sample};
use core::sync::atomic::{AtomicU32, Ordering};
use proof::thread::Thread;
use user::pages::{PAGE_BYTES, Pages};
use user::prelude::*;
use user::sys::abi;

pub const ROWS: &[Row] = &[
    ("null", null),
    ("pipe.rtt", pipe_round_trip),
    ("fault.anon", fault_anonymous),
    ("fault.cow.copy", fault_cow_copy),
    ("fault.cow.sole", fault_cow_sole),
    ("fork", fork),
    ("fork.64m", fork_64m),
    ("exec", exec),
    ("wait.400", wait_beside_children),
    ("threads.100", threads),
];

/// Pages over which the cost of a fault is averaged.
const PAGES: usize = 400;

fn null(meter: &Meter) -> Result<()> {
    meter.average(1000, || {
        // SAFETY: touches no memory.
        sys::check(unsafe { sys::syscall(abi::__NR_getppid, [0; 6]) }).map(drop)
    })
}

fn pipe_round_trip(meter: &Meter) -> Result<()> {
    let ([there, to_child], [back, to_parent]) = (sys::pipe(0)?, sys::pipe(0)?);
    let Some(child) = sys::fork()? else {
        let _ = (sys::close(to_child), sys::close(back));
        let mut byte = [0];
        while sys::read(there, &mut byte) == Ok(1) && sys::write(to_parent, &byte) == Ok(1) {}
        sys::exit(0)
    };
    let mut byte = [0];
    meter.average(500, || {
        sys::write(to_child, &byte)?;
        sys::read(back, &mut byte).map(drop)
    })?;
    for fd in [there, to_child, back, to_parent] {
        sys::close(fd)?;
    }
    sys::wait_for(child).map(drop)
}

/// Stores once to each page.
fn store_to_each(pages: &mut Pages) -> Result<Sample> {
    meter::sample(|| {
        for page in 0..PAGES {
            // SAFETY: within the mapping, which is borrowed for writing.
            unsafe { pages.as_mut_ptr().add(page * PAGE_BYTES).write_volatile(1) };
        }
        Ok(())
    })
}

fn fault_anonymous(meter: &Meter) -> Result<()> {
    // A first round allocates page tables and whatever else remains.
    store_to_each(&mut Pages::new(PAGES * PAGE_BYTES)?)?;
    meter.tell(&store_to_each(&mut Pages::new(PAGES * PAGE_BYTES)?)?, PAGES as u64);
    Ok(())
}

/// Stores to pages shared with a child: the child's stores copy, the parent's then find no sharer.
fn copy_on_write(copy: &Meter, sole: &Meter) -> Result<()> {
    let mut pages = Pages::new(PAGES * PAGE_BYTES)?;
    store_to_each(&mut pages)?;
    let Some(child) = sys::fork()? else {
        let stored = store_to_each(&mut pages);
        sys::exit(match stored {
            Ok(sample) => {
                copy.tell(&sample, PAGES as u64);
                0
            }
            Err(_) => 1,
        })
    };
    if sys::wait_for(child)?.exit_code() != Some(0) {
        return Err(Errno::EIO);
    }
    sole.tell(&store_to_each(&mut pages)?, PAGES as u64);
    Ok(())
}

fn fault_cow_copy(meter: &Meter) -> Result<()> {
    copy_on_write(meter, &Meter::SILENT)
}

fn fault_cow_sole(meter: &Meter) -> Result<()> {
    copy_on_write(&Meter::SILENT, meter)
}

fn fork_and_wait() -> Result<()> {
    match sys::fork()? {
        None => sys::exit(0),
        Some(child) => sys::wait_for(child).map(drop),
    }
}

fn fork(meter: &Meter) -> Result<()> {
    meter.average(20, fork_and_wait)
}

fn fork_64m(meter: &Meter) -> Result<()> {
    let mut pages = Pages::new(64 << 20)?;
    for page in pages.chunks_mut(PAGE_BYTES) {
        page[0] = 1;
    }
    meter.average(10, fork_and_wait)
}

/// fork and wait beside 400 children that live on.
fn wait_beside_children(meter: &Meter) -> Result<()> {
    const CHILDREN: usize = 400;
    let [reader, writer] = sys::pipe(0)?;
    for _ in 0..CHILDREN {
        if sys::fork()?.is_none() {
            let _ = sys::close(writer);
            // Until the parent closes the pipe.
            let _ = sys::read(reader, &mut [0]);
            sys::exit(0)
        }
    }
    meter.average(20, || match sys::fork()? {
        None => sys::exit(0),
        // As a shell waits: for any child.
        Some(_) => sys::wait(-1, 0).map(drop),
    })?;
    sys::close(writer)?;
    sys::close(reader)?;
    (0..CHILDREN).try_for_each(|_| sys::wait(-1, 0).map(drop))
}

/// Threads that have begun to run.
static STARTED: AtomicU32 = AtomicU32::new(0);

extern "C" fn count_start(_: usize) {
    STARTED.fetch_add(1, Ordering::Relaxed);
}

/// From the first of 100 threads until all have run, while their maker computes.
fn threads(meter: &Meter) -> Result<()> {
    const THREADS: u32 = 100;
    let round = || {
        STARTED.store(0, Ordering::Relaxed);
        let mut threads = Vec::new();
        let sample = meter::sample(|| {
            threads = (0..THREADS).map(|_| Thread::start(count_start, 0)).collect();
            while STARTED.load(Ordering::Relaxed) < THREADS && threads.iter().all(|one| one.is_ok())
            {
                core::hint::spin_loop();
            }
            Ok(())
        })?;
        threads.into_iter().try_for_each(|one| one.map(Thread::join)).map_err(|_| Errno::EAGAIN)?;
        Ok(sample)
    };
    round()?;
    meter.tell(&round()?, 1);
    Ok(())
}

fn exec(meter: &Meter) -> Result<()> {
    meter.average(20, || match sys::fork()? {
        None => {
            let _ = sys::execve(b"/bin/true", &[b"true"], &[]);
            sys::exit(1)
        }
        Some(child) => match sys::wait_for(child)?.exit_code() {
            Some(0) => Ok(()),
            _ => Err(Errno::ENOENT),
        },
    })
}
