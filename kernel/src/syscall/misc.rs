//! System information, limits, identities, and calls that C libraries make at their start.

use super::arguments::half;
use crate::arch::{clock, messages, power, segments};
use crate::mem::{self, USER_END, UserAddr, fallible};
use crate::task::{Current, all_processes, find_thread, host_name};
use alloc::format;
use alloc::vec::Vec;
use foundation::{ByteCount, Errno};

/// syslog(2): reads the kernel's log. `SYSLOG_ACTION_READ_ALL` copies the newest messages that fit;
/// clearing and console levels have no effect.
pub fn syslog(current: &Current, action: u32, buffer: UserAddr, len: u32) -> Result<u64, Errno> {
    const READ_ALL: u32 = 3;
    const SIZE_BUFFER: u32 = 10;
    match action {
        0 | 1 | 5..=9 => Ok(0),
        SIZE_BUFFER => Ok(SYSLOG_BYTES as u64),
        READ_ALL => {
            let mut text = Vec::new();
            let first = messages::at(0);
            let next = |message: &messages::Message| messages::at(message.next);
            for message in core::iter::successors(first, next) {
                let (seconds, us) = (message.time_us / 1_000_000, message.time_us % 1_000_000);
                let head = format!("<{}>[{seconds:5}.{us:06}] ", messages::PRIORITY);
                fallible::reserve(&mut text, head.len() + message.text().len() + 1)?;
                text.extend_from_slice(head.as_bytes());
                text.extend_from_slice(message.text());
                text.push(b'\n');
            }
            // Whole lines, the newest.
            let from = text.len().saturating_sub(len as usize);
            let at = match from {
                0 => 0,
                from => text
                    .iter()
                    .skip(from - 1)
                    .position(|&byte| byte == b'\n')
                    .map_or(text.len(), |at| from + at),
            };
            let text = text.get(at..).unwrap_or_default();
            current.write(buffer, text)?;
            Ok(text.len() as u64)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Size of a buffer that all messages fit into: those that are kept, with what is put before each.
const SYSLOG_BYTES: usize = 128 << 10;

/// rseq(2): ENOSYS, as on a Linux without restartable sequences. Every C library asks, and does
/// without them.
pub fn without_restartable_sequences(_: &Current) -> Result<u64, Errno> {
    Err(Errno::ENOSYS)
}

/// getuid(2) and related calls: always root.
pub fn zero(_: &Current) -> Result<u64, Errno> {
    Ok(0)
}

/// setuid(2) and related calls: root is the only identity.
pub fn set_id(_: &Current, id: u32) -> Result<u64, Errno> {
    if id == 0 { Ok(0) } else { Err(Errno::EPERM) }
}

/// setreuid(2) and setregid(2): an id of -1 is unchanged.
pub fn set_two_ids(_: &Current, real: u32, effective: u32) -> Result<u64, Errno> {
    set_ids([real, effective, 0])
}

/// setresuid(2) and setresgid(2), with a saved id.
pub fn set_three_ids(_: &Current, real: u32, effective: u32, saved: u32) -> Result<u64, Errno> {
    set_ids([real, effective, saved])
}

fn set_ids(ids: [u32; 3]) -> Result<u64, Errno> {
    if ids.iter().all(|&id| id == 0 || id == u32::MAX) { Ok(0) } else { Err(Errno::EPERM) }
}

/// getresuid(2) and getresgid(2): always root.
pub fn three_ids(
    current: &Current,
    real: UserAddr,
    effective: UserAddr,
    saved: UserAddr,
) -> Result<u64, Errno> {
    [real, effective, saved]
        .into_iter()
        .try_for_each(|address| current.write(address, &0u32.to_le_bytes()))
        .map(|()| 0)
}

/// setgroups(2): only an empty list is accepted.
pub fn setgroups(_: &Current, count: i32, _list: u64) -> Result<u64, Errno> {
    if count == 0 { Ok(0) } else { Err(Errno::EPERM) }
}

/// getgroups(2): always an empty list.
pub fn getgroups(_: &Current, count: i32, _list: u64) -> Result<u64, Errno> {
    if count < 0 { Err(Errno::EINVAL) } else { Ok(0) }
}

/// Implements uname(2).
pub fn uname(current: &Current, buffer: UserAddr) -> Result<u64, Errno> {
    const FIELD_BYTES: usize = 65;
    // C libraries refuse to run on a kernel version that is too old.
    let (host, domain) = (host_name::HOST.get(), host_name::DOMAIN.get());
    let fields: [&[u8]; 6] = [
        b"Linux",
        host.bytes(),
        b"6.1.0-sloth",
        concat!("Sloth ", env!("CARGO_PKG_VERSION")).as_bytes(),
        b"x86_64",
        domain.bytes(),
    ];
    let mut bytes = [0; FIELD_BYTES * 6];
    for (chunk, field) in bytes.chunks_exact_mut(FIELD_BYTES).zip(fields) {
        for (to, from) in chunk.iter_mut().zip(field) {
            *to = *from;
        }
    }
    current.write(buffer, &bytes)?;
    Ok(0)
}

/// Implements sethostname(2).
pub fn sethostname(current: &Current, name: UserAddr, length: i32) -> Result<u64, Errno> {
    set_name(current, &host_name::HOST, name, length)
}

/// Implements setdomainname(2).
pub fn setdomainname(current: &Current, name: UserAddr, length: i32) -> Result<u64, Errno> {
    set_name(current, &host_name::DOMAIN, name, length)
}

fn set_name(
    current: &Current,
    name: &host_name::SharedName,
    from: UserAddr,
    length: i32,
) -> Result<u64, Errno> {
    let mut bytes = [0; host_name::MAX_BYTES];
    let length = usize::try_from(length).map_err(|_| Errno::EINVAL)?;
    let bytes = bytes.get_mut(..length).ok_or(Errno::EINVAL)?;
    current.read_into(from, bytes)?;
    name.set(bytes);
    Ok(0)
}

/// sysinfo(2): memory, uptime and number of processes.
pub fn sysinfo(current: &Current, info: UserAddr) -> Result<u64, Errno> {
    const FRAME_BYTES: u64 = mem::PAGE_BYTES as u64;
    let frames = mem::frame::stats();
    let mut bytes = [0; 112];
    let mut put = |at: usize, value: &[u8]| {
        for (to, &from) in bytes.iter_mut().skip(at).zip(value) {
            *to = from;
        }
    };
    put(0, &(clock::now_ns() / 1_000_000_000).to_le_bytes());
    put(32, &(frames.total as u64 * FRAME_BYTES).to_le_bytes());
    put(40, &(frames.free as u64 * FRAME_BYTES).to_le_bytes());
    let (slots, slots_free) = mem::swap::stats();
    put(64, &(slots as u64 * FRAME_BYTES).to_le_bytes());
    put(72, &(slots_free as u64 * FRAME_BYTES).to_le_bytes());
    put(80, &(all_processes().count() as u16).to_le_bytes());
    put(104, &1u32.to_le_bytes());
    current.write(info, &bytes)?;
    Ok(0)
}

/// The word of a version of the structures of capabilities, and how many of them there are.
fn capability_structures(current: &Current, header: UserAddr) -> Result<Option<usize>, Errno> {
    const VERSION_1: u32 = 0x1998_0330;
    const VERSION_2: u32 = 0x2007_1026;
    const VERSION_3: u32 = 0x2008_0522;
    match u32::from_le_bytes(current.read(header)?) {
        VERSION_1 => Ok(Some(1)),
        VERSION_2 | VERSION_3 => Ok(Some(2)),
        _ => {
            current.write(header, &VERSION_3.to_le_bytes())?;
            Ok(None)
        }
    }
}

/// The process number in a header of capabilities.
fn capability_owner(current: &Current, header: UserAddr) -> Result<i32, Errno> {
    let at = header.checked_add(ByteCount(4)).ok_or(Errno::EFAULT)?;
    Ok(i32::from_le_bytes(current.read(at)?))
}

/// All capabilities that there are: effective, permitted and inheritable ones, in two structures.
const CAPABILITIES: [u32; 6] = [u32::MAX, u32::MAX, 0, 0x1ff, 0x1ff, 0];

/// capget(2): all capabilities.
pub fn capget(current: &Current, header: UserAddr, data: UserAddr) -> Result<u64, Errno> {
    let Some(count) = capability_structures(current, header)? else {
        return if data.is_null() { Ok(0) } else { Err(Errno::EINVAL) };
    };
    match u32::try_from(capability_owner(current, header)?).map_err(|_| Errno::EINVAL)? {
        0 => {}
        tid => drop(find_thread(tid).ok_or(Errno::ESRCH)?),
    }
    if !data.is_null() {
        let mut bytes = [0; 24];
        for (chunk, word) in bytes.chunks_exact_mut(4).zip(CAPABILITIES) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        current.write(data, bytes.get(..12 * count).unwrap_or_default())?;
    }
    Ok(0)
}

/// capset(2): the capabilities that a process has, which are all. It cannot drop any (EPERM).
pub fn capset(current: &Current, header: UserAddr, data: UserAddr) -> Result<u64, Errno> {
    let count = capability_structures(current, header)?.ok_or(Errno::EINVAL)?;
    let owner = capability_owner(current, header)?;
    if owner != 0 && owner.cast_unsigned() != current.thread.tid {
        return Err(Errno::EPERM);
    }
    let mut bytes = [0; 24];
    let present = bytes.get_mut(..12 * count).unwrap_or_default();
    current.read_into(data, present)?;
    let mut words = bytes.chunks_exact(4).zip(CAPABILITIES).take(3 * count);
    // Bits of capabilities that do not exist do not count.
    let is_all = |(chunk, all): (&[u8], u32)| half(chunk, 0) & all == all;
    if words.all(is_all) { Ok(0) } else { Err(Errno::EPERM) }
}

/// setfsuid(2) and setfsgid(2): always root. Returns the old identity.
pub fn set_file_id(_: &Current, _id: u32) -> Result<u64, Errno> {
    Ok(0)
}

/// arch_prctl(2): FS and GS bases.
pub fn arch_prctl(current: &Current, code: u32, address: UserAddr) -> Result<u64, Errno> {
    const SET_GS: u32 = 0x1001;
    const SET_FS: u32 = 0x1002;
    const GET_FS: u32 = 0x1003;
    const GET_GS: u32 = 0x1004;
    match code {
        SET_FS | SET_GS if address >= USER_END => Err(Errno::EPERM),
        SET_FS => {
            segments::set_fs_base(address.0);
            Ok(0)
        }
        SET_GS => {
            segments::set_gs_base(address.0);
            Ok(0)
        }
        GET_FS => current.write(address, &segments::fs_base().to_le_bytes()).map(|()| 0),
        GET_GS => current.write(address, &segments::gs_base().to_le_bytes()).map(|()| 0),
        _ => Err(Errno::EINVAL),
    }
}

/// reboot(2): powers off or resets the machine.
pub fn reboot(
    _: &Current,
    magic: u32,
    magic2: u32,
    command: u32,
    _argument: u64,
) -> Result<u64, Errno> {
    const MAGIC: u32 = 0xfee1_dead;
    const MAGICS2: [u32; 4] = [672_274_793, 85_072_278, 369_367_448, 537_993_216];
    const POWER_OFF: u32 = 0x4321_fedc;
    const HALT: u32 = 0xcdef_0123;
    const RESTART: u32 = 0x0123_4567;
    const CTRL_ALT_DEL_ON: u32 = 0x89ab_cdef;
    const CTRL_ALT_DEL_OFF: u32 = 0;
    if magic != MAGIC || !MAGICS2.contains(&magic2) {
        return Err(Errno::EINVAL);
    }
    match command {
        POWER_OFF | HALT => power::off(),
        RESTART => power::reset(),
        CTRL_ALT_DEL_ON | CTRL_ALT_DEL_OFF => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}
