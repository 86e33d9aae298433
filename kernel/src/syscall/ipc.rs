//! Pipes, and what file servers do with their sockets.

use super::arguments::{buffers, install, open_file, store, vectors};
use super::io::with_signal;
use crate::file::socket::{Endpoint, Socket};
use crate::file::{
    Caller, Fd, FileObject, Io, OnExec, OpenFile, Status, UserBuffers, downcast_ref, pipe,
};
use crate::mem::{UserAddr, UserSlice};
use alloc::sync::Arc;
use foundation::{ByteCount, Errno, PageCount};
use linux_raw_sys::general as linux;

/// Implements pipe(2).
pub fn pipe(current: &dyn Caller, descriptors: UserAddr) -> Result<u64, Errno> {
    pipe2(current, descriptors, 0)
}

/// Implements pipe2(2).
pub fn pipe2(current: &dyn Caller, descriptors: UserAddr, flags: u32) -> Result<u64, Errno> {
    if flags & !(linux::O_CLOEXEC | linux::O_NONBLOCK | linux::O_DIRECT) != 0 {
        return Err(Errno::EINVAL);
    }
    let (read, write) = pipe::pipe();
    let options = Options { on_exec: on_exec(flags), status: nonblocking(flags) };
    install_pair(current, descriptors, (read, Status::READ), (write, Status::WRITE), options)
}

/// The status flag of `O_NONBLOCK`.
pub(super) fn nonblocking(flags: u32) -> Status {
    if flags & linux::O_NONBLOCK != 0 { Status::NONBLOCKING } else { Status::empty() }
}

/// What `O_CLOEXEC` says.
pub(super) fn on_exec(flags: u32) -> OnExec {
    OnExec::close_if(flags & linux::O_CLOEXEC != 0)
}

/// Options of both new descriptors.
#[derive(Clone, Copy)]
pub(super) struct Options {
    pub on_exec: OnExec,
    pub status: Status,
}

/// An object and how it is open.
pub(super) type End = (Arc<dyn FileObject>, Status);

/// Installs two descriptors and stores their numbers, or installs none.
pub(super) fn install_pair(
    current: &dyn Caller,
    address: UserAddr,
    one: End,
    other: End,
    options: Options,
) -> Result<u64, Errno> {
    let open = |(object, status): End| {
        OpenFile::nameless(object, status | options.status, current.account())
    };
    let (one, other) = (open(one)?, open(other)?);
    let first = install(current, one, options.on_exec)?;
    let second = match install(current, other, options.on_exec) {
        Ok(second) => second,
        Err(error) => {
            remove(current, first);
            return Err(error);
        }
    };
    let numbers = first | second << 32;
    store(current, address, &numbers.to_le_bytes()).inspect_err(|_| {
        remove(current, first);
        remove(current, second);
    })
}

/// Closes a descriptor that was just opened.
pub(super) fn remove(current: &dyn Caller, fd: u64) {
    let taken = current.files().lock().remove(Fd(fd as i32));
    drop(taken);
}

/// The flags of [`exchange`]: `from` or `to` is the address of a vector with so many entries.
const FROM_VECTOR: u32 = 1;
const TO_VECTOR: u32 = 2;
/// `from` is the address of a header of the file protocol, and `from_count` that of the whole pages
/// that follow it in the packet. Their number is in the upper bits of the flags.
const FROM_PAGES: u32 = 4;
const PAGES_SHIFT: u32 = 8;
const PACKET_HEADER_BYTES: usize = fsproto::HEADER_BYTES;

/// Sends a packet and receives the next one: what a file server does for each request. Returns the
/// length of what was received.
///
/// Not one of Linux's calls, so only processes that are marked as servers see it (F8): ENOSYS for
/// others. EINPROGRESS where the packet was sent and receiving failed; the caller then receives by
/// another call. Every other error means that nothing was sent.
pub fn exchange(
    current: &dyn Caller,
    fd: Fd,
    from: UserAddr,
    from_count: u64,
    to: UserAddr,
    to_count: u64,
    flags: u32,
) -> Result<u64, Errno> {
    if !current.is_server() {
        return Err(Errno::ENOSYS);
    }
    if !is_known(flags) {
        return Err(Errno::EINVAL);
    }
    let file = open_file(current, fd)?;
    file.require(Status::READ | Status::WRITE)?;
    let socket = downcast_ref::<Socket>(file.object()).ok_or(Errno::ENOTSOCK)?;
    let endpoint = socket.endpoint().ok_or(Errno::ENOTSOCK)?;
    let io = file.io(current);
    // Both places are checked before anything is sent.
    let mut to = if flags & TO_VECTOR != 0 {
        vectors(current, to, to_count)?
    } else {
        buffers(to, ByteCount(to_count))?
    };
    let is_small = flags & (FROM_VECTOR | FROM_PAGES) == 0;
    if !is_small || !endpoint.try_hand_over(&io, UserSlice::new(from, ByteCount(from_count))?) {
        send_packet(current, endpoint, &io, (from, from_count), flags)?;
    }
    match endpoint.receive(&io, &mut to) {
        Ok(received) => Ok(received.copied.0),
        Err(_) => Err(Errno::EINPROGRESS),
    }
}

/// Sends the packet of [`exchange`] that is not handed over as it is.
#[inline(never)]
fn send_packet(
    current: &dyn Caller,
    endpoint: &Endpoint,
    io: &Io<'_>,
    (from, count): (UserAddr, u64),
    flags: u32,
) -> Result<(), Errno> {
    let mut from = if flags & FROM_PAGES != 0 {
        let header = UserSlice::new(from, ByteCount::of_len(PACKET_HEADER_BYTES))?;
        let payload = UserSlice::new(UserAddr(count), page_count(flags).bytes())?;
        if endpoint.try_hand_pages(io, header, &[payload]) {
            return Ok(());
        }
        let mut from = UserBuffers::one(header);
        from.push(payload)?;
        from
    } else if flags & FROM_VECTOR != 0 {
        let from = vectors(current, from, count)?;
        if let [header, pages @ ..] = from.slices()
            && !pages.is_empty()
            && endpoint.try_hand_pages(io, *header, pages)
        {
            return Ok(());
        }
        from
    } else {
        buffers(from, ByteCount(count))?
    };
    with_signal(current, endpoint.transmit(io, &mut from, None, None)).map(drop)
}

/// The number of pages in the flags of [`exchange`].
fn page_count(flags: u32) -> PageCount {
    PageCount(u64::from(flags >> PAGES_SHIFT))
}

/// Whether the flags of [`exchange`] have a meaning.
fn is_known(flags: u32) -> bool {
    let kinds = flags & !(u32::MAX << PAGES_SHIFT);
    let has_pages = !page_count(flags).is_zero();
    match kinds & !TO_VECTOR {
        0 | FROM_VECTOR => !has_pages,
        FROM_PAGES => has_pages,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::host::HostProcess;
    use crate::mem::{self, Backing, Placement, Prot, Space};
    use crate::syscall::arguments::load;
    use crate::syscall::message::recvfrom;
    use crate::syscall::socket::{PACKET, socketpair};
    use core::sync::atomic::Ordering;

    const BASE: u64 = 0x10_0000;
    const PAGE: u64 = 4096;

    /// A process with four pages of memory and the two ends of a pair.
    fn connected() -> HostProcess {
        mem::host::init();
        let space = Space::new().unwrap();
        let (place, prot) = (Placement::Fixed(UserAddr(BASE)), Prot::READ | Prot::WRITE);
        space.map(place, ByteCount(4 * PAGE), prot, Backing::Anonymous, "").unwrap();
        let process = HostProcess::new(space);
        let both = (1, PACKET | linux::O_NONBLOCK);
        socketpair(&process, both.0, both.1, 0, UserAddr(BASE)).unwrap();
        process
    }

    fn put(process: &HostProcess, at: u64, bytes: &[u8]) -> UserAddr {
        let address = UserAddr(BASE + at);
        store(process, address, bytes).unwrap();
        address
    }

    fn bytes<const N: usize>(process: &HostProcess, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        load(process, UserAddr(BASE + at), &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn f8_only_a_server_can_exchange() {
        let process = connected();
        let (from, to) = (put(&process, PAGE, b"request"), UserAddr(BASE + 2 * PAGE));
        let exchange = |fd, flags| exchange(&process, Fd(fd), from, 7, to, 100, flags);
        assert_eq!(exchange(0, 0), Err(Errno::ENOSYS));
        process.is_server.store(true, Ordering::Relaxed);
        for flags in [8, FROM_PAGES, FROM_PAGES | FROM_VECTOR | 256, 256] {
            assert_eq!(exchange(0, flags), Err(Errno::EINVAL));
        }
        assert_eq!(exchange(9, 0), Err(Errno::EBADF));
        // Sent, but there is nothing to receive.
        assert_eq!(exchange(0, 0), Err(Errno::EINPROGRESS));
        assert_eq!(exchange(1, 0), Ok(7));
        assert_eq!(bytes(&process, 2 * PAGE), *b"request");
    }

    #[test]
    fn a_packet_by_vectors_is_answered_once() {
        let process = connected();
        process.is_server.store(true, Ordering::Relaxed);
        let words = |entries: [u64; 4]| entries.map(u64::to_le_bytes).concat();
        put(&process, PAGE, b"header, payload");
        let from = put(&process, 64, &words([BASE + PAGE, 6, BASE + PAGE + 8, 7]));
        let to = put(&process, 128, &words([BASE + 2 * PAGE, 3, BASE + 3 * PAGE, 100]));
        let one = |fd| exchange(&process, Fd(fd), from, 2, to, 2, FROM_VECTOR | TO_VECTOR);
        assert_eq!((one(0), one(1)), (Err(Errno::EINPROGRESS), Ok(13)));
        assert_eq!(bytes(&process, 2 * PAGE), *b"hea");
        assert_eq!(bytes(&process, 3 * PAGE), *b"derpayload");
        // A bad address of what is sent: nothing is sent, and the answer stays where it is.
        let nowhere = UserAddr(BASE + 99 * PAGE);
        let bad = exchange(&process, Fd(0), nowhere, 8, UserAddr(BASE + 3 * PAGE), 100, 0);
        assert_eq!(bad, Err(Errno::EFAULT));
        // A bad address of what is received: sent, and the answer stays.
        assert_eq!(
            exchange(&process, Fd(0), UserAddr(BASE + PAGE), 6, nowhere, 100, 0),
            Err(Errno::EINPROGRESS)
        );
        let received = |fd, at| {
            let none = UserAddr(0);
            recvfrom(&process, Fd(fd), UserAddr(BASE + at), ByteCount(100), 0, none, none)
        };
        assert_eq!((received(0, 3 * PAGE), received(0, 3 * PAGE)), (Ok(13), Err(Errno::EAGAIN)));
        assert_eq!((received(1, 3 * PAGE), received(1, 3 * PAGE)), (Ok(6), Err(Errno::EAGAIN)));
        // A packet with a payload of whole pages.
        let pages = FROM_PAGES | 1 << PAGES_SHIFT | TO_VECTOR;
        let header = UserAddr(BASE + 3 * PAGE);
        let sent = exchange(&process, Fd(0), header, BASE + PAGE, to, 2, pages);
        assert_eq!(sent, Err(Errno::EINPROGRESS));
        let buffer = UserAddr(BASE + 2 * PAGE);
        let length = recvfrom(&process, Fd(1), buffer, ByteCount(200), 0, UserAddr(0), UserAddr(0));
        assert_eq!(length, Ok(200));
        let received: [u8; 200] = bytes(&process, 2 * PAGE);
        assert_eq!(
            received[..PACKET_HEADER_BYTES],
            bytes::<PACKET_HEADER_BYTES>(&process, 3 * PAGE)
        );
        assert_eq!(&received[PACKET_HEADER_BYTES..][..15], b"header, payload");
    }
}
