//! System information, limits, identities, and calls that C libraries make at their start.

use crate::arch::{clock, messages, power, segments};
use crate::file::IoCaller;
use crate::mem::{self, USER_END, UserAddr, failure, fallible};
use crate::task::{Current, all_processes};
use alloc::format;
use alloc::vec::Vec;
use foundation::{Errno, FAIL_CLAIM};

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
    let fields = [
        "Linux",
        "sloth",
        "6.1.0-sloth",
        concat!("Sloth ", env!("CARGO_PKG_VERSION")),
        "x86_64",
        "(none)",
    ];
    let mut bytes = [0; FIELD_BYTES * 6];
    for (chunk, field) in bytes.chunks_exact_mut(FIELD_BYTES).zip(fields) {
        for (to, from) in chunk.iter_mut().zip(field.bytes()) {
            *to = from;
        }
    }
    current.write(buffer, &bytes)?;
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

/// capget(2): all capabilities.
pub fn capget(current: &Current, header: UserAddr, data: UserAddr) -> Result<u64, Errno> {
    const VERSION: u32 = 0x2008_0522;
    if u32::from_le_bytes(current.read(header)?) != VERSION {
        current.write(header, &VERSION.to_le_bytes())?;
        return if data.is_null() { Ok(0) } else { Err(Errno::EINVAL) };
    }
    if !data.is_null() {
        let all = [0xff; 8];
        current.write(
            data,
            &[all, [0; 8], [0; 8]]
                .concat()
                .iter()
                .copied()
                .take(24)
                .collect::<alloc::vec::Vec<u8>>(),
        )?;
    }
    Ok(0)
}

/// prctl(2): process names, and the mark of servers (F8).
pub fn prctl(
    current: &Current,
    option: i32,
    second: u64,
    third: u64,
    fourth: u64,
    _fifth: u64,
) -> Result<u64, Errno> {
    const SET_NAME: i32 = 15;
    const GET_NAME: i32 = 16;
    const SET_IO_FLUSHER: i32 = 57;
    const GET_IO_FLUSHER: i32 = 58;
    const NAME_BYTES: usize = 16;
    let process = current.process();
    match option {
        SET_NAME => {
            let mut name =
                current.space().read_string(UserAddr(second), NAME_BYTES)?.unwrap_or_default();
            if name.is_empty() {
                // A longer name is truncated.
                name = current
                    .read::<NAME_BYTES>(UserAddr(second))?
                    .iter()
                    .copied()
                    .take_while(|&byte| byte != 0)
                    .collect();
            }
            name.truncate(NAME_BYTES - 1);
            process.identity.lock().name = name;
            Ok(0)
        }
        GET_NAME => {
            let mut bytes = [0; NAME_BYTES];
            for (to, from) in bytes.iter_mut().zip(process.identity.lock().name.iter()) {
                *to = *from;
            }
            current.write(UserAddr(second), &bytes)?;
            Ok(0)
        }
        SET_IO_FLUSHER if second == 1 => super::mark::set(current, third, fourth),
        // The mark of a server cannot be removed (F8).
        SET_IO_FLUSHER if second == 0 && !process.is_server() => Ok(0),
        SET_IO_FLUSHER if second == 0 => Err(Errno::EPERM),
        GET_IO_FLUSHER => Ok(process.is_server().into()),
        // In kernels for tests only. The result is small: a call makes few claims.
        FAIL_CLAIM => {
            failure::arm(second as usize).map(|claims| claims as u64).ok_or(Errno::EINVAL)
        }
        _ => Err(Errno::EINVAL),
    }
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
