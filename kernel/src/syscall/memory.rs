//! Memory mappings: mmap(2) and related calls.
//!
//! A private mapping of a file is anonymous memory that the file is read into once. Where the mount
//! has snapshots that read is lazy, so nothing is moved before it is touched, and later changes of
//! the file do not change the mapping. Shared mappings exist of anonymous memory, and of files that
//! change by this kernel alone (`file::mapped`); others give ENODEV, after which programs read the
//! file.

use crate::file::{Caller, Fd, FileType, Io, OpenFile, Status, UserBuffers, mapped};
use crate::mem::account::ceiling_bytes;
use crate::mem::{
    Access, Backing, FaultError, ForkAdvice, Lock, Move, PAGE_BYTES, Placement, Prot, SharedMemory,
    USER_END, UserAddr, UserSlice, swap,
};
use crate::sync::{Interrupt, relax};
use alloc::sync::Arc;
use foundation::{ByteCount, Errno, FileOffset, PageCount};
use linux_raw_sys::general as linux;

const PAGE: u64 = PAGE_BYTES as u64;

/// The flags of mmap(2) that are known to have an effect, or none.
const KNOWN_FLAGS: u32 = linux::MAP_TYPE
    | linux::MAP_FIXED
    | linux::MAP_ANONYMOUS
    | linux::MAP_GROWSDOWN
    | linux::MAP_DENYWRITE
    | linux::MAP_EXECUTABLE
    | linux::MAP_LOCKED
    | linux::MAP_NORESERVE
    | linux::MAP_POPULATE
    | linux::MAP_NONBLOCK
    | linux::MAP_STACK
    | linux::MAP_HUGETLB
    | linux::MAP_32BIT
    | linux::MAP_HUGE_MASK << linux::MAP_HUGE_SHIFT
    | linux::MAP_FIXED_NOREPLACE;

/// Decodes protection bits. `PROT_GROWSDOWN` and `PROT_GROWSUP` are accepted by mprotect only.
fn protection(prot: u32) -> Result<Prot, Errno> {
    let hints = linux::PROT_SEM;
    Prot::from_bits(prot & !hints).ok_or(Errno::EINVAL)
}

fn page_aligned(address: UserAddr) -> Result<UserAddr, Errno> {
    if address.is_page_aligned() { Ok(address) } else { Err(Errno::EINVAL) }
}

/// A length rounded up to whole pages; ENOMEM on overflow.
fn whole_pages(length: ByteCount) -> Result<ByteCount, Errno> {
    length.0.checked_next_multiple_of(PAGE).map(ByteCount).ok_or(Errno::ENOMEM)
}

/// A range of whole pages: EINVAL if it does not start at a page boundary, ENOMEM if it leaves the
/// program's half.
fn pages(address: UserAddr, length: ByteCount) -> Result<UserSlice, Errno> {
    page_aligned(address)?;
    UserSlice::new(address, whole_pages(length)?).map_err(|_| Errno::ENOMEM)
}

/// Implements mmap(2).
pub fn mmap(
    current: &dyn Caller,
    address: UserAddr,
    length: ByteCount,
    prot: u32,
    flags: u32,
    fd: Fd,
    offset: u64,
) -> Result<u64, Errno> {
    let (prot, offset) = (protection(prot)?, FileOffset(offset));
    if length.is_zero() || offset.within_page() != 0 {
        return Err(Errno::EINVAL);
    }
    if whole_pages(length)?.0 > USER_END.0 {
        return Err(Errno::ENOMEM);
    }
    let placement = if flags & linux::MAP_FIXED_NOREPLACE != 0 {
        Placement::FixedNoReplace(page_aligned(address)?)
    } else if flags & linux::MAP_FIXED != 0 {
        Placement::Fixed(page_aligned(address)?)
    } else {
        Placement::Anywhere(address)
    };
    let is_anonymous = flags & linux::MAP_ANONYMOUS != 0;
    let grows = flags & linux::MAP_GROWSDOWN != 0;
    let shared = match flags & linux::MAP_TYPE {
        linux::MAP_SHARED | linux::MAP_SHARED_VALIDATE if grows => return Err(Errno::EINVAL),
        linux::MAP_SHARED => true,
        // Programs ask for new flags so, and do without where they are not known.
        linux::MAP_SHARED_VALIDATE if is_anonymous => return Err(Errno::EINVAL),
        linux::MAP_SHARED_VALIDATE if flags & !KNOWN_FLAGS != 0 => return Err(Errno::EOPNOTSUPP),
        linux::MAP_SHARED_VALIDATE => true,
        linux::MAP_PRIVATE => false,
        _ => return Err(Errno::EINVAL),
    };
    let file = if is_anonymous { None } else { Some(mappable(current, fd)?) };
    let start = match file.filter(|file| !file.object().is_zeros()) {
        Some(file) if shared => share_file(current, &file, placement, length, prot, offset)?,
        Some(file) => map_file(current, &file, placement, length, prot, offset)?,
        None => {
            let memory = || SharedMemory::new(current.account());
            let backing = if shared {
                Backing::Shared { memory: memory(), first: 0 }
            } else {
                Backing::Anonymous
            };
            current.space().map(placement, length, prot, backing, "")?
        }
    };
    if let Err(error) = current.space().secure(UserSlice::new(start, length)?) {
        current.space().unmap(start, length)?;
        return Err(error.into());
    }
    let mapped = UserSlice::new(start, length)?;
    if grows && is_anonymous {
        current.space().let_grow(mapped)?;
    }
    if flags & linux::MAP_LOCKED != 0 && current.space().lock(mapped, Lock::Locked).is_err() {
        current.space().unmap(start, length)?;
        return Err(Errno::EAGAIN);
    }
    // As for MAP_POPULATE.
    let _ = current.space().populate_locked(mapped);
    if flags & linux::MAP_POPULATE != 0 {
        // As on Linux, pages that cannot be populated now are populated, or fail, when they are
        // touched.
        let _ = prepare(current, mapped, Access::Read);
    }
    Ok(start.0)
}

/// The open file of a descriptor, which must be open for reading.
fn mappable(current: &dyn Caller, fd: Fd) -> Result<Arc<OpenFile>, Errno> {
    let file = super::arguments::open_file(current, fd)?;
    file.require_not_path()?;
    file.require(Status::READ).map_err(|_| Errno::EACCES)?;
    Ok(file)
}

/// Makes a shared mapping of a file from `offset` on.
fn share_file(
    current: &dyn Caller,
    file: &Arc<OpenFile>,
    placement: Placement,
    length: ByteCount,
    prot: Prot,
    offset: FileOffset,
) -> Result<UserAddr, Errno> {
    if prot.contains(Prot::WRITE) && file.require(Status::WRITE).is_err() {
        return Err(Errno::EACCES);
    }
    let backing = file.map(current.space(), offset, length)?;
    current.space().map(placement, length, prot, backing, "[shared file]")
}

/// Makes a private mapping of a file from `offset` on. Bytes past the end of the file are zeros.
fn map_file(
    current: &dyn Caller,
    file: &OpenFile,
    placement: Placement,
    length: ByteCount,
    prot: Prot,
    offset: FileOffset,
) -> Result<UserAddr, Errno> {
    let space = current.space();
    mapped::before_read(file.object(), offset, length)?;
    match file.object().take_frames(PageCount(offset.0 / PAGE), length.covering_pages()) {
        Ok(frames) => return space.map_frames(placement, prot, frames),
        Err(Errno::ENODEV) => {}
        Err(error) => return Err(error),
    }
    if file.object().stat()?.file_type != FileType::Regular {
        return Err(Errno::ENODEV);
    }
    let bytes = length;
    let start = space.map(placement, bytes, Prot::READ | Prot::WRITE, Backing::Anonymous, "")?;
    let filled = fill(current, file, UserSlice::new(start, bytes)?, offset).and_then(|filled| {
        space.protect(start, bytes, prot)?;
        // Pages that lie wholly past the end of the file (M3).
        let inside = filled.covering_pages().bytes();
        let behind = start.checked_add(inside).filter(|_| inside < bytes);
        behind.map_or(Ok(start), |behind| {
            space.map(Placement::Fixed(behind), bytes - inside, prot, Backing::Beyond, "")
        })
    });
    match filled {
        Ok(_) => Ok(start),
        Err(error) => {
            space.unmap(start, bytes)?;
            Err(error)
        }
    }
}

/// Reads a file into memory, up to the end of either. Returns how many bytes were read.
fn fill(
    current: &dyn Caller,
    file: &OpenFile,
    to: UserSlice,
    offset: FileOffset,
) -> Result<ByteCount, Errno> {
    let io = Io { space: current.space(), caller: Some(current), nonblocking: false };
    let mut done = ByteCount::ZERO;
    loop {
        let rest = to.skip(done.to_usize());
        let at = offset.checked_add(done).ok_or(Errno::EOVERFLOW)?;
        if rest.is_empty() {
            return Ok(done);
        }
        match file.object().read(&io, &mut UserBuffers::one(rest), at)? {
            ByteCount::ZERO => return Ok(done),
            bytes => done += bytes,
        }
    }
}

/// Implements munmap(2).
pub fn munmap(current: &dyn Caller, address: UserAddr, length: ByteCount) -> Result<u64, Errno> {
    current.space().unmap(page_aligned(address)?, length).map(|()| 0)
}

/// Implements mprotect(2).
pub fn mprotect(
    current: &dyn Caller,
    address: UserAddr,
    length: ByteCount,
    prot: u32,
) -> Result<u64, Errno> {
    let range = pages(address, length)?;
    let prot = protection(prot & !(linux::PROT_GROWSDOWN | linux::PROT_GROWSUP))?;
    current.space().protect(range.addr(), range.bytes(), prot)?;
    let _ = current.space().populate_locked(range);
    Ok(0)
}

/// brk(2). Returns the end of the heap, which is unchanged on failure; never an error.
pub fn brk(current: &dyn Caller, end: UserAddr) -> Result<u64, Errno> {
    Ok(current.space().brk(end).0)
}

/// Implements mremap(2).
pub fn mremap(
    current: &dyn Caller,
    old: UserAddr,
    old_length: ByteCount,
    new_length: ByteCount,
    flags: u32,
    new: UserAddr,
) -> Result<u64, Errno> {
    let known = linux::MREMAP_MAYMOVE | linux::MREMAP_FIXED | linux::MREMAP_DONTUNMAP;
    let may_move = flags & linux::MREMAP_MAYMOVE != 0;
    let stays = flags & linux::MREMAP_DONTUNMAP != 0;
    if flags & !known != 0 || flags != 0 && !may_move || stays && old_length != new_length {
        return Err(Errno::EINVAL);
    }
    let to = match flags & linux::MREMAP_FIXED {
        0 if may_move => Move::IfNeeded,
        0 => Move::Never,
        _ => Move::To(page_aligned(new)?),
    };
    let space = current.space();
    if old_length.is_zero() && !stays && !new_length.is_zero() {
        return space.map_again(page_aligned(old)?, new_length, to).map(|address| address.0);
    }
    let address = if stays {
        space.move_contents(page_aligned(old)?, old_length, to)?
    } else {
        space.remap(page_aligned(old)?, old_length, new_length, to)?
    };
    let _ = space.populate_locked(UserSlice::new(address, new_length)?);
    Ok(address.0)
}

/// madvise(2). Advice without a visible effect is ignored.
pub fn madvise(
    current: &dyn Caller,
    address: UserAddr,
    length: ByteCount,
    advice: u32,
) -> Result<u64, Errno> {
    page_aligned(address)?;
    let range = pages(address, length).map_err(|_| Errno::EINVAL)?;
    let space = current.space();
    match advice {
        linux::MADV_DONTNEED => space.discard(range.addr(), range.bytes())?,
        linux::MADV_POPULATE_READ => return populate(current, range, Access::Read),
        linux::MADV_POPULATE_WRITE => return populate(current, range, Access::Write),
        linux::MADV_DONTFORK => space.advise_fork(range, ForkAdvice::empty(), ForkAdvice::OMIT)?,
        linux::MADV_DOFORK => space.advise_fork(range, ForkAdvice::OMIT, ForkAdvice::empty())?,
        linux::MADV_WIPEONFORK => {
            space.advise_fork(range, ForkAdvice::empty(), ForkAdvice::WIPE)?
        }
        linux::MADV_KEEPONFORK => {
            space.advise_fork(range, ForkAdvice::WIPE, ForkAdvice::empty())?
        }
        linux::MADV_FREE | linux::MADV_COLD | linux::MADV_PAGEOUT => {
            check_mapped(current, range)?;
            space.check_unlocked(range)?;
            // Only anonymous memory can be without use.
            if advice == linux::MADV_FREE && space.maps_file_in(range.touched_pages()) {
                return Err(Errno::EINVAL);
            }
        }
        linux::MADV_NORMAL
        | linux::MADV_RANDOM
        | linux::MADV_SEQUENTIAL
        | linux::MADV_WILLNEED
        | linux::MADV_MERGEABLE
        | linux::MADV_UNMERGEABLE
        | linux::MADV_HUGEPAGE
        | linux::MADV_NOHUGEPAGE
        | linux::MADV_DONTDUMP
        | linux::MADV_DODUMP => check_mapped(current, range)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

fn check_mapped(current: &dyn Caller, range: UserSlice) -> Result<(), Errno> {
    if range.is_empty() {
        Ok(())
    } else {
        current.space().check_mapped(range.addr(), range.bytes())
    }
}

fn populate(current: &dyn Caller, range: UserSlice, access: Access) -> Result<u64, Errno> {
    check_mapped(current, range)?;
    prepare(current, range, access)
}

/// Pages that are made usable before other threads may run, or a kill is noticed.
const STEP_PAGES: usize = 512;

/// Makes the pages of a range usable. ENOMEM, before anything is done, where the machine cannot
/// hold so many pages or their tables; EFAULT for a page that the program may not access. A killed
/// program does not finish.
fn prepare(current: &dyn Caller, range: UserSlice, access: Access) -> Result<u64, Errno> {
    let (slots, _) = swap::stats();
    // What is only read may be the zero page; the tables cannot be swapped out in any case.
    let tables = range.len() / 512;
    let pages = if access == Access::Write { range.len() } else { 0 };
    if tables > ceiling_bytes() || pages > ceiling_bytes() + slots * PAGE_BYTES {
        return Err(Errno::ENOMEM);
    }
    let mut rest = range;
    while !rest.is_empty() {
        let part = rest.take(STEP_PAGES * PAGE_BYTES);
        if current.space().prepare(part, access)? < part.len() {
            return Err(Errno::EFAULT);
        }
        rest = rest.skip(part.len());
        relax(Interrupt::Killable)?;
    }
    Ok(0)
}

/// mincore(2): one byte for each page, 1 if the page is resident.
pub fn mincore(
    current: &dyn Caller,
    address: UserAddr,
    length: ByteCount,
    vector: UserAddr,
) -> Result<u64, Errno> {
    /// Bytes of memory that one step looks at: 4096 pages.
    const CHUNK: usize = PAGE_BYTES * PAGE_BYTES;
    let mut rest = pages(address, length)?;
    let mut out = UserSlice::new(vector, ByteCount(rest.len() as u64 / PAGE))?;
    while !rest.is_empty() {
        let part = rest.take(CHUNK);
        let resident = current.space().residency(part.addr(), part.bytes())?;
        current.space().copy_out_all(out.take(resident.len()), &resident)?;
        (rest, out) = (rest.skip(part.len()), out.skip(resident.len()));
        relax(Interrupt::Killable)?;
    }
    Ok(0)
}

/// msync(2): writes modified pages of the files that are mapped in a range, always synchronously.
pub fn msync(
    current: &dyn Caller,
    address: UserAddr,
    length: ByteCount,
    flags: u32,
) -> Result<u64, Errno> {
    let range = pages(address, length)?;
    let both = linux::MS_SYNC | linux::MS_ASYNC;
    if flags & !(both | linux::MS_INVALIDATE) != 0 || flags & both == both {
        return Err(Errno::EINVAL);
    }
    check_mapped(current, range)?;
    if flags & linux::MS_INVALIDATE != 0 && current.space().check_unlocked(range).is_err() {
        return Err(Errno::EBUSY);
    }
    mapped::synchronise(current.space(), range.touched_pages()).map(|()| 0)
}

/// The pages that a range touches, with errors as in [`pages`]; EINVAL if the length overflows.
fn touched_pages(address: UserAddr, length: ByteCount) -> Result<UserSlice, Errno> {
    let before = ByteCount::of_len(address.offset_in_page());
    pages(address.page().user_start(), length.checked_add(before).ok_or(Errno::EINVAL)?)
}

/// Implements mlock(2).
pub fn mlock(current: &dyn Caller, address: UserAddr, length: ByteCount) -> Result<u64, Errno> {
    lock(current, address, length, Lock::Locked)
}

/// Implements mlock2(2).
pub fn mlock2(
    current: &dyn Caller,
    address: UserAddr,
    length: ByteCount,
    flags: u32,
) -> Result<u64, Errno> {
    match flags {
        0 => lock(current, address, length, Lock::Locked),
        linux::MLOCK_ONFAULT => lock(current, address, length, Lock::OnFault),
        _ => Err(Errno::EINVAL),
    }
}

/// Locks pages and makes them resident, or unlocks them. Root is exempt from `RLIMIT_MEMLOCK`;
/// ENOMEM beyond what the machine has for programs, EAGAIN where the pages cannot be made resident
/// now.
fn lock(
    current: &dyn Caller,
    address: UserAddr,
    length: ByteCount,
    lock: Lock,
) -> Result<u64, Errno> {
    let range = touched_pages(address, length)?;
    if range.is_empty() {
        return Ok(0);
    }
    current.space().lock(range, lock)?;
    match current.space().populate_locked(range) {
        Ok(()) => Ok(0),
        Err(FaultError::OutOfMemory) => Err(Errno::EAGAIN),
        Err(FaultError::Killed) => Err(Errno::EINTR),
        Err(FaultError::Segv | FaultError::Bus | FaultError::Denied) => Err(Errno::ENOMEM),
    }
}

/// Implements munlock(2).
pub fn munlock(current: &dyn Caller, address: UserAddr, length: ByteCount) -> Result<u64, Errno> {
    lock(current, address, length, Lock::Unlocked)
}

/// mlockall(2). As on Linux, pages that cannot be made resident now are when they are touched.
pub fn mlockall(current: &dyn Caller, flags: u32) -> Result<u64, Errno> {
    let (now, future, on_fault) = (linux::MCL_CURRENT, linux::MCL_FUTURE, linux::MCL_ONFAULT);
    if flags & (now | future) == 0 || flags & !(now | future | on_fault) != 0 {
        return Err(Errno::EINVAL);
    }
    let lock = if flags & on_fault == 0 { Lock::Locked } else { Lock::OnFault };
    let current_lock = (flags & now != 0).then_some(lock);
    let future_lock = if flags & future == 0 { Lock::Unlocked } else { lock };
    current.space().lock_all(current_lock, future_lock)?;
    match current.space().populate_all_locked() {
        Err(FaultError::Killed) => Err(Errno::EINTR),
        _ => Ok(0),
    }
}

/// Implements munlockall(2).
pub fn munlockall(current: &dyn Caller) -> Result<u64, Errno> {
    current.space().lock_all(Some(Lock::Unlocked), Lock::Unlocked).map(|()| 0)
}
