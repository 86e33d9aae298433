//! X: permissions, handles, and servers that send false replies or die.

use crate::scripted::{Action, Reply, Script, Server, USUAL, content, honest};
use alloc::boxed::Box;
use foundation::ByteCount;
use foundation::mutant::Mutant;
use fsproto::{HEADER_BYTES, Handle, Op, Snapshotted, Tag};
use proof::guest_test;
use proof::kit::{
    Buffer, Child, File, Named, Outcome, PAGE, UNTOUCHED, pattern, read_lazily, within,
};
use proof::lazy::{self, Meter};
use proof::{check, check_eq, os};
use user::prelude::*;
use user::sys::abi;

const P: u64 = PAGE as u64;

/// The access time advances at the read, not at page-in.
#[guest_test(mutants: &[Mutant::TimesAtPageIn])]
fn x6_times() -> Outcome {
    const OLD_S: i64 = 1_000_000;
    let file = File::make("file", 1, 64 * P)?;
    let buffer = Buffer::new(64 * PAGE)?;
    let make_old = || {
        let time = abi::__kernel_timespec { tv_sec: OLD_S, tv_nsec: 0 };
        sys::utimens(file.path.as_bytes(), Some([time, time])).named("utimens")
    };
    let accessed = || -> Outcome<i64> { Ok(sys::fstat(file.fd).named("fstat")?.st_atime as i64) };
    make_old()?;
    read_lazily(&file, &buffer, 0, 64 * PAGE, 0)?;
    // A Linux mount may not keep access times.
    if lazy::present() {
        check!(accessed()? > OLD_S, "the read did not move the access time");
    }
    make_old()?;
    let meter = Meter::start()?;
    buffer.check(0, 64 * PAGE, pattern(1, 0))?;
    check_eq!(accessed()?, OLD_S, "the access time when pages have come");
    meter.expect("pages_fetched", 64)
}

/// Permissions are checked at read(2); what was read stays valid after they are revoked.
#[guest_test(mutants: &[Mutant::RightsAtPageIn])]
fn x1_permissions_at_read() -> Outcome {
    let file = File::make("file", 1, 16 * P)?;
    let meter = Meter::start()?;
    let writer = sys::open(file.path.as_bytes(), abi::O_WRONLY, 0).named("open")?;
    let buffer = Buffer::filled(16 * PAGE, UNTOUCHED)?;
    check_eq!(
        os::read(writer, buffer.at(0), 16 * PAGE),
        Err(Errno::EBADF),
        "read of what is open for writing"
    );
    buffer.check(0, 16 * PAGE, UNTOUCHED)?;
    meter.expect_system("snapshots_made", 0)?;
    read_lazily(&file, &buffer, 0, 16 * PAGE, 0)?;
    sys::chmod(file.path.as_bytes(), 0).named("chmod")?;
    sys::chown(file.path.as_bytes(), 77, 77).named("chown")?;
    buffer.check(0, 8 * PAGE, pattern(1, 0))?;
    sys::pwrite(writer, &[0; 16 * PAGE], FileOffset::ZERO).named("pwrite")?;
    sys::close(writer).named("close")?;
    buffer.check(8 * PAGE, 8 * PAGE, pattern(1, 8 * P))
}

/// The process that mounted a server can no longer send to it; only the kernel names snapshots.
#[guest_test(mutants: &[Mutant::OpenCarrier])]
fn x2_handles_are_the_kernels() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let (server, fd) = Server::start("x2", USUAL, honest())?;
    os::mount(fd, &server.path).named("mount")?;
    let file = server.open(0)?;
    let buffer = Buffer::new(16 * PAGE)?;
    check_eq!(os::pread(file, buffer.at(0), 16 * PAGE, 0).named("pread")?, 16 * PAGE, "bytes read");
    // A forged request of the kernel: close every handle that may be open.
    let before = server.wire.messages_in();
    for handle in 1..20 {
        let request =
            fsproto::Operation::request(&fsproto::Close { handle: Handle(handle) }, Tag(9000), 0);
        let sent = os::write(fd, request.as_ptr() as usize, HEADER_BYTES);
        check!(sent.is_err(), "a program's message was taken: {sent:?}");
    }
    check_eq!(server.wire.messages_in(), before, "messages that reached the server");
    check!(os::mount(fd, "/mnt").is_err(), "the same descriptor was mounted twice");
    sys::close(fd).named("close")?;
    buffer.check(0, 16 * PAGE, content(0, 0, 0))?;
    sys::close(file).named("close")
}

/// A change that makes a reply false.
type Lie = fn(&mut Reply, Tag);

fn snapshot_lie(reply: &mut Reply, tag: Tag, change: fn(&mut Snapshotted)) {
    let Ok((_, mut reader)) = fsproto::Header::decode(&reply.header) else { return };
    let Ok(mut fields) = <Snapshotted as fsproto::Field>::get(&mut reader) else { return };
    change(&mut fields);
    reply.set::<fsproto::Snapshot>(tag, &fields);
}

fn hole_lie(reply: &mut Reply, tag: Tag, holes: &[(u64, u64)]) {
    for &(offset, length) in holes {
        reply
            .payload
            .extend_from_slice(&fsproto::Hole { offset, length: ByteCount(length) }.to_bytes());
    }
    let count = holes.len() as u32;
    let Ok((_, mut reader)) = fsproto::Header::decode(&reply.header) else { return };
    let Ok(mut fields) = <Snapshotted as fsproto::Field>::get(&mut reader) else { return };
    fields.holes = count;
    reply.set::<fsproto::Snapshot>(tag, &fields);
}

/// False replies to Snapshot.
const SNAPSHOT_LIES: &[(&str, Lie)] = &[
    ("more than was asked for", |reply, tag| {
        snapshot_lie(reply, tag, |fields| fields.length += ByteCount(1))
    }),
    ("far more", |reply, tag| {
        snapshot_lie(reply, tag, |fields| fields.length = ByteCount(u64::MAX))
    }),
    ("no length, but a handle", |reply, tag| {
        snapshot_lie(reply, tag, |fields| fields.length = ByteCount(0))
    }),
    ("a length that the fragments do not fit", |reply, tag| {
        snapshot_lie(reply, tag, |fields| fields.length -= ByteCount(100))
    }),
    ("a leading fragment too long", |reply, tag| {
        snapshot_lie(reply, tag, |fields| fields.leading_bytes += 8)
    }),
    ("a huge leading fragment", |reply, tag| {
        snapshot_lie(reply, tag, |fields| fields.leading_bytes = u32::MAX)
    }),
    ("a huge tail fragment", |reply, tag| {
        snapshot_lie(reply, tag, |fields| fields.trailing_bytes = u32::MAX)
    }),
    ("fragments exchanged", |reply, tag| {
        snapshot_lie(reply, tag, |fields| {
            core::mem::swap(&mut fields.leading_bytes, &mut fields.trailing_bytes)
        });
    }),
    ("holes that are not there", |reply, tag| snapshot_lie(reply, tag, |fields| fields.holes = 3)),
    ("millions of holes", |reply, tag| snapshot_lie(reply, tag, |fields| fields.holes = u32::MAX)),
    ("a hole that overflows", |reply, tag| hole_lie(reply, tag, &[(u64::MAX - 4095, 8192)])),
    ("a hole past the end", |reply, tag| hole_lie(reply, tag, &[(0, 1 << 40)])),
    ("holes out of order", |reply, tag| hole_lie(reply, tag, &[(8 * P, 2 * P), (P, P)])),
    ("overlapping holes", |reply, tag| hole_lie(reply, tag, &[(P, 5 * P), (2 * P, 5 * P)])),
    ("half a payload", |reply, _| reply.payload.truncate(reply.payload.len() / 2)),
    ("no payload", |reply, _| reply.payload.clear()),
    ("more payload than its header says", |reply, _| reply.payload.extend_from_slice(&[7; 5000])),
    ("an error that is none", |reply, _| {
        reply.header[12..14].copy_from_slice(&9999u16.to_le_bytes())
    }),
    ("another operation", |reply, _| {
        reply.header[8..10].copy_from_slice(&(Op::Open as u16).to_le_bytes())
    }),
    ("an unknown operation", |reply, _| {
        reply.header[8..10].copy_from_slice(&7777u16.to_le_bytes())
    }),
    ("no reply at all but a request", |reply, _| {
        reply.header[10..12].copy_from_slice(&0u16.to_le_bytes())
    }),
    ("unknown flags", |reply, _| reply.header[10..12].copy_from_slice(&0xffffu16.to_le_bytes())),
];

/// False replies to Read.
const READ_LIES: &[(&str, Lie)] = &[
    ("fewer bytes", |reply, tag| {
        reply.payload.truncate(100);
        reply.set::<fsproto::Read>(tag, &fsproto::Nothing {});
    }),
    ("no bytes", |reply, tag| {
        reply.payload.clear();
        reply.set::<fsproto::Read>(tag, &fsproto::Nothing {});
    }),
    ("more bytes", |reply, tag| {
        reply.payload.extend_from_slice(&[7; 5000]);
        reply.set::<fsproto::Read>(tag, &fsproto::Nothing {});
    }),
    ("more bytes than its header says", |reply, _| reply.payload.push(1)),
    ("fewer bytes than its header says", |reply, _| reply.payload.truncate(8)),
    ("another operation", |reply, _| {
        reply.header[8..10].copy_from_slice(&(Op::Close as u16).to_le_bytes())
    }),
];

/// Whether the kernel cannot recognise the reply as one to its request. Then the reader waits, and
/// can be killed.
fn is_no_reply(lie: &str) -> bool {
    ["no reply at all but a request", "unknown flags", "an error that is none"].contains(&lie)
}

/// Reads 20 pages of file 0 and touches all of them: the right bytes, an error, or a signal.
fn reader_of(server: &Server) -> Outcome<Child> {
    Child::start("reader", || {
        let fd = server.open(0)?;
        let buffer = Buffer::filled(22 * PAGE, UNTOUCHED)?;
        match os::pread(fd, buffer.at(60), 20 * PAGE, 500) {
            Ok(count) => {
                check!(count <= 20 * PAGE, "{count} bytes read");
                within("bytes", buffer.check(60, count, content(0, 0, 500)))?;
                within("past n", buffer.check(60 + count, 22 * PAGE - 60 - count, UNTOUCHED))?;
            }
            Err(error) => check_eq!(error, Errno::EIO, "error of the read"),
        }
        buffer.check(0, 60, UNTOUCHED)
    })
}

/// How a reader of a bad server may end: successfully, or by SIGBUS.
fn check_end(what: &str, child: Child) -> Outcome {
    let status = child.status()?;
    let fine = status.exit_code() == Some(0) || status.signal() == Some(abi::SIGBUS as i32);
    check!(fine, "reader, {what}: ended with {}", status.shell_status());
    Ok(())
}

/// The rest of the system works as before.
fn check_system(what: &str, meter: &Meter) -> Outcome {
    within(what, meter.expect_system("snapshots_live", 0))?;
    let file = File::make("file", 1, 8 * P)?;
    let buffer = Buffer::new(8 * PAGE)?;
    read_lazily(&file, &buffer, 0, 8 * PAGE, 0)?;
    within(what, buffer.check(0, 8 * PAGE, pattern(1, 0)))
}

/// False replies about a snapshot or its bytes cause errors, never wrong bytes, and the mount still
/// works.
#[guest_test(mutants: &[Mutant::BelieveServer])]
fn x5_lies() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let meter = Meter::start()?;
    for (op, lies) in [(Op::Snapshot, SNAPSHOT_LIES), (Op::Read, READ_LIES)] {
        for &(what, lie) in lies {
            let script: Script = Box::new(move |_, asked, reply| {
                if asked.op == op {
                    lie(reply, asked.tag);
                }
                if asked.op == op && is_no_reply(what) { Action::Hold } else { Action::Send }
            });
            let server = Server::mount("x5", USUAL, script)?;
            let child = reader_of(&server)?;
            if is_no_reply(what) {
                // The reply is held back so that the test can see it; after its release the reader
                // still waits.
                server.wait_held()?;
                server.release()?;
                sys::stat(server.file(1).as_bytes()).named("stat")?;
                within(what, child.kill())?;
            } else {
                check_end(what, child)?;
            }
            sys::stat(server.file(1).as_bytes()).named(what)?;
            drop(server);
            check_system(what, &meter)?;
        }
    }
    Ok(())
}

/// Duplicated, late and unsolicited replies do no harm.
#[guest_test]
fn x5_twice_late_unasked() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let meter = Meter::start()?;
    let twice: Script = Box::new(|_, _, _| Action::Twice);
    let server = Server::mount("x5", USUAL, twice)?;
    for _ in 0..5 {
        reader_of(&server)?.join()?;
    }
    drop(server);
    check_system("every reply twice", &meter)?;

    let wrong_tag: Script = Box::new(|_, asked, reply| {
        if asked.op == Op::Snapshot && asked.nth == 1 {
            reply.header[4..8].copy_from_slice(&(asked.tag.0 ^ 0x5555).to_le_bytes());
            return Action::Hold;
        }
        Action::Send
    });
    let server = Server::mount("x5", USUAL, wrong_tag)?;
    let waiting = reader_of(&server)?;
    server.wait_held()?;
    server.release()?;
    reader_of(&server)?.join()?;
    waiting.kill()?;
    reader_of(&server)?.join()?;
    drop(server);
    check_system("a reply to nobody", &meter)
}

/// Random messages between honest ones do no harm.
#[guest_test]
fn x5_garbage() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let meter = Meter::start()?;
    for seed in 1..6u64 {
        let script: Script = Box::new(move |_, asked, reply| {
            let mut random = proof::random::Random::new(seed * 1000 + asked.nth);
            if matches!(asked.op, Op::Snapshot | Op::Read | Op::GetAttr) && random.below(2) == 0 {
                let sent = reply.header;
                // Tag and direction stay, so that the kernel decodes the rest.
                for _ in 0..1 + random.below(6) {
                    let at = random.below(HEADER_BYTES as u64) as usize;
                    if !(4..14).contains(&at) {
                        reply.header[at] = random.below(256) as u8;
                    }
                }
                // A header that does not decode is no reply (`is_no_reply`): its reader would wait.
                if fsproto::Header::decode(&reply.header).is_err() {
                    reply.header[..16].copy_from_slice(&sent[..16]);
                }
                if random.below(4) == 0 {
                    reply.fail(asked.op, asked.tag, Errno(1 + random.below(4000) as u16));
                }
            }
            Action::Send
        });
        let server = Server::mount("x5", USUAL, script)?;
        for _ in 0..10 {
            // A random header can say that the file is shorter, which the kernel must believe. So
            // the test only checks that the kernel survives.
            let child = Child::start("reader of garbage", || {
                let fd = server.open(0)?;
                let buffer = Buffer::new(22 * PAGE)?;
                if let Ok(count) = os::pread(fd, buffer.at(60), 20 * PAGE, 500) {
                    check!(count <= 20 * PAGE, "{count} bytes read");
                }
                for page in 0..22 {
                    buffer.load(page * PAGE);
                }
                Ok(())
            })?;
            check_end("garbage", child)?;
        }
        drop(server);
        check_system("garbage", &meter)?;
    }
    Ok(())
}

/// If the server exits during a request, the caller gets EIO or SIGBUS, resident pages stay valid,
/// and the mount can be unmounted.
#[guest_test]
fn x5_server_dies() -> Outcome {
    if !lazy::present() {
        return Ok(());
    }
    let _knob = lazy::fault_around(1)?;
    let meter = Meter::start()?;
    for op in [Op::Open, Op::Snapshot, Op::Read, Op::Close, Op::Stat] {
        let what = format!("server that dies of {op:?}");
        let script: Script =
            Box::new(
                move |_, asked, _| {
                    if asked.op == op && asked.nth == 3 { Action::Die } else { Action::Send }
                },
            );
        let server = Server::mount("x5", USUAL, script)?;
        let buffer = Buffer::new(20 * PAGE)?;
        let mut last = Ok(0);
        for round in 0..6 {
            let Ok(fd) = sys::open(server.file(0).as_bytes(), abi::O_RDONLY, 0) else { continue };
            last = os::pread(fd, buffer.at(0), 20 * PAGE, 0);
            let _: sys::Result<()> = sys::close(fd);
            let _: sys::Result<sys::Stat> = sys::stat(server.file(1).as_bytes());
            let child = Child::start("toucher", || {
                buffer.load(round * PAGE);
                Ok(())
            })?;
            check_end(&what, child)?;
        }
        check!(last != Ok(0), "{what}: a read gave 0 bytes");
        check_eq!(os::open(&server.file(0)), Err(Errno::EIO), "open after the end of a {what}");
        check_eq!(
            sys::stat(server.file(0).as_bytes()).map(drop),
            Err(Errno::EIO),
            "stat after the end of a {what}"
        );
        drop(buffer);
        drop(server);
        check_system(&what, &meter)?;
    }
    // Resident pages stay valid.
    let script: Script =
        Box::new(
            |_, asked, _| {
                if asked.op == Op::Open && asked.nth == 2 { Action::Die } else { Action::Send }
            },
        );
    let server = Server::mount("x5", USUAL, script)?;
    let fd = server.open(0)?;
    let buffer = Buffer::new(8 * PAGE)?;
    check_eq!(os::pread(fd, buffer.at(0), 8 * PAGE, 0).named("pread")?, 8 * PAGE, "bytes read");
    buffer.check(0, 4 * PAGE, content(0, 0, 0))?;
    check_eq!(os::open(&server.file(1)), Err(Errno::EIO), "open that a server dies of");
    buffer.check(0, 4 * PAGE, content(0, 0, 0))?;
    check_eq!(
        os::pread(fd, buffer.at(6 * PAGE), PAGE, 0),
        Err(Errno::EIO),
        "read of a server that is gone"
    );
    sys::close(fd).named("close")
}

/// System calls with hostile arguments around a lazy buffer return Linux's errors and lose nothing.
#[guest_test]
fn x5_hostile_arguments() -> Outcome {
    const PAGES: usize = 32;
    let file = File::make("file", 1, PAGES as u64 * P)?;
    let buffer = Buffer::new(PAGES * PAGE)?;
    read_lazily(&file, &buffer, 0, PAGES * PAGE, 0)?;
    file.overwrite(2, 0, PAGES as u64 * P)?;
    let (addr, kernel) = (buffer.at(0), 0xffff_8000_0000_0000);
    let (einval, efault, enomem) = (Err(Errno::EINVAL), Err(Errno::EFAULT), Err(Errno::ENOMEM));
    let huge = usize::MAX / PAGE * PAGE;
    let calls: &[(&str, u32, &[usize], sys::Result<usize>)] = &[
        ("munmap unaligned", abi::__NR_munmap, &[addr + 1, PAGE], einval),
        ("munmap nothing", abi::__NR_munmap, &[addr, 0], einval),
        ("munmap overflowing", abi::__NR_munmap, &[addr, huge], einval),
        ("munmap kernel", abi::__NR_munmap, &[kernel, PAGE], einval),
        ("mprotect unaligned", abi::__NR_mprotect, &[addr + 8, PAGE, 1], einval),
        ("mprotect overflowing", abi::__NR_mprotect, &[addr, huge, 1], enomem),
        ("mprotect kernel", abi::__NR_mprotect, &[kernel, PAGE, 1], enomem),
        ("mremap unaligned", abi::__NR_mremap, &[addr + 1, PAGE, PAGE, 1], einval),
        ("mremap to nothing", abi::__NR_mremap, &[addr, PAGE, 0, 1], einval),
        (
            "mremap onto itself",
            abi::__NR_mremap,
            &[addr, 4 * PAGE, 4 * PAGE, 3, addr + PAGE],
            einval,
        ),
        ("mremap kernel", abi::__NR_mremap, &[kernel, PAGE, PAGE, 1], efault),
        ("read to kernel", abi::__NR_pread64, &[file.fd.argument(), kernel, 4 * PAGE, 0], efault),
        ("read overflowing", abi::__NR_pread64, &[file.fd.argument(), addr, huge, 0], efault),
        (
            "read at a negative offset",
            abi::__NR_pread64,
            &[file.fd.argument(), addr, PAGE, usize::MAX],
            einval,
        ),
        ("readv of too many parts", abi::__NR_readv, &[file.fd.argument(), addr, 1025], einval),
        ("readv of a kernel vector", abi::__NR_readv, &[file.fd.argument(), kernel, 2], efault),
        ("read of a closed descriptor", abi::__NR_read, &[999, addr, 4 * PAGE], Err(Errno::EBADF)),
        ("write from kernel", abi::__NR_pwrite64, &[file.fd.argument(), kernel, 100, 0], efault),
        ("write overflowing", abi::__NR_pwrite64, &[file.fd.argument(), addr, huge, 0], efault),
    ];
    let meter = Meter::start()?;
    for &(what, number, arguments, expected) in calls {
        check_eq!(os::raw(number, arguments), expected, "{what}");
    }
    meter.expect_system("fetches", 0)?;
    meter.expect_system("snapshots_live", 0)?;
    within("the buffer", buffer.check(0, PAGES * PAGE, pattern(1, 0)))
}
