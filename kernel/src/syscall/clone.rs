//! New processes and threads: fork(2), vfork(2), clone(2), clone3(2).

use super::arguments::word;
use crate::mem::{PAGE_BYTES, USER_END, UserAddr, UserSlice};
use crate::task::Current;
use crate::task::fork::{self, CloneFlags, Request};
use crate::task::signal::Signal;
use foundation::{ByteCount, Errno};

/// Implements fork(2).
pub fn fork(current: &Current) -> Result<u64, Errno> {
    fork::clone(current, &Request::fork()).map(u64::from)
}

/// vfork(2): the child uses the caller's memory until it calls exec or ends, and the caller waits.
pub fn vfork(current: &Current) -> Result<u64, Errno> {
    fork::clone(current, &Request::vfork()).map(u64::from)
}

/// Implements clone(2).
pub fn clone(
    current: &Current,
    flags: u64,
    stack: UserAddr,
    parent_tid: UserAddr,
    child_tid: UserAddr,
    tls: UserAddr,
) -> Result<u64, Errno> {
    // The descriptor and the number would be written to one place.
    let both = CloneFlags::PIDFD | CloneFlags::PARENT_SET_TID;
    let request = Request::decode(flags)?;
    if request.flags.contains(both) {
        return Err(Errno::EINVAL);
    }
    let request = Request { stack, parent_tid, child_tid, tls, pidfd: parent_tid, ..request };
    fork::clone(current, &request).map(u64::from)
}

/// Size of the first version of a `struct clone_args`, in bytes.
const FIRST_BYTES: usize = 64;
/// Size of the version that is known: 11 words.
const KNOWN_BYTES: usize = 88;

/// clone3(2). E2BIG where the structure has words that are not known and not 0. Numbers of new
/// processes cannot be chosen (EPERM), and there are no control groups (EINVAL).
pub fn clone3(current: &Current, arguments: UserAddr, bytes: usize) -> Result<u64, Errno> {
    let request = decode(&read(current, arguments, bytes)?)?;
    fork::clone(current, &request).map(u64::from)
}

fn read(current: &Current, arguments: UserAddr, bytes: usize) -> Result<[u8; KNOWN_BYTES], Errno> {
    if bytes < FIRST_BYTES {
        return Err(Errno::EINVAL);
    }
    if bytes > PAGE_BYTES {
        return Err(Errno::E2BIG);
    }
    let mut known = [0; KNOWN_BYTES];
    let present = known.get_mut(..bytes.min(KNOWN_BYTES)).unwrap_or_default();
    current.read_into(arguments, present)?;
    for at in KNOWN_BYTES..bytes {
        let address = arguments.checked_add(ByteCount::of_len(at)).ok_or(Errno::EFAULT)?;
        if current.read::<1>(address)? != [0] {
            return Err(Errno::E2BIG);
        }
    }
    Ok(known)
}

fn decode(bytes: &[u8; KNOWN_BYTES]) -> Result<Request, Errno> {
    const SIGNALS: u64 = 0xff;
    let argument = |index: usize| word(bytes, 8 * index);
    let [flags, pidfd, child_tid, parent_tid, exit_signal] = [0, 1, 2, 3, 4].map(argument);
    let [stack, stack_bytes, tls, numbers, number_count] = [5, 6, 7, 8, 9].map(argument);
    let is_legacy = flags & (SIGNALS | CloneFlags::DETACHED.bits()) != 0;
    let signal = u8::try_from(exit_signal).map(Signal).map_err(|_| Errno::EINVAL)?;
    if is_legacy || (numbers == 0) != (number_count == 0) {
        return Err(Errno::EINVAL);
    }
    let request = Request::checked(flags, signal)?;
    if signal != Signal::NONE && request.flags.intersects(CloneFlags::THREAD | CloneFlags::PARENT) {
        return Err(Errno::EINVAL);
    }
    if number_count != 0 {
        return Err(Errno::EPERM);
    }
    if (stack == 0) != (stack_bytes == 0) {
        return Err(Errno::EINVAL);
    }
    let stack =
        UserSlice::new(UserAddr(stack), ByteCount(stack_bytes)).map_err(|_| Errno::EINVAL)?;
    debug_assert!(stack.end() <= USER_END);
    Ok(Request {
        stack: stack.end(),
        parent_tid: UserAddr(parent_tid),
        child_tid: UserAddr(child_tid),
        tls: UserAddr(tls),
        pidfd: UserAddr(pidfd),
        ..request
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(words: [u64; 11]) -> Result<Request, Errno> {
        let mut bytes = [0; KNOWN_BYTES];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        decode(&bytes)
    }

    #[test]
    fn clone3_accepts_a_thread_of_glibc_and_refuses_invalid_requests() {
        let thread = [0x3d_0f00, 0, 5, 6, 0, 0x1000, 0x2000, 7, 0, 0, 0];
        let request = decoded(thread).expect("as glibc makes it");
        assert_eq!((request.stack, request.tls), (UserAddr(0x3000), UserAddr(7)));
        let invalid = [
            (0, 0x11),
            (0, 1 << 40),
            (4, 17),
            (4, 256),
            (5, 0),
            (6, 0),
            (6, u64::MAX),
            (8, 0x1000),
            (9, 1),
        ];
        for (at, value) in invalid {
            let mut words = thread;
            words[at] = value;
            assert_eq!(decoded(words).err(), Some(Errno::EINVAL), "{at} {value}");
        }
        let mut chosen = [0; 11];
        (chosen[4], chosen[8], chosen[9]) = (17, 0x1000, 1);
        assert_eq!(decoded(chosen).err(), Some(Errno::EPERM));
    }
}
