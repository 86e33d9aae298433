//! Where the holes of a server's file are, for lseek(2).

use foundation::{ByteCount, Errno, FileOffset};
use fsproto::{Features, Hole, ListHoles, decode_holes};

use super::server_file::ServerFile;
use crate::file::Wanted;

/// The first byte of the wanted kind from `from` on, in a file of `size` bytes; `None` where there
/// is none. Asks for at most [`MAX_HOLES`](fsproto::MAX_HOLES) holes at a time. EIO for a list that
/// makes no sense.
pub fn find(
    file: &ServerFile,
    from: FileOffset,
    size: ByteCount,
    wanted: Wanted,
) -> Result<Option<FileOffset>, Errno> {
    if !file.mount.features().contains(Features::SPARSE) {
        return Ok((wanted == Wanted::Data).then_some(from));
    }
    let mut at = from.0;
    while at < size.0 {
        let request = ListHoles { handle: file.handle, offset: at, length: ByteCount(size.0 - at) };
        let (reply, payload) = file.mount.session().call(&request, &[])?;
        if reply.holes_end <= at || reply.holes_end > size.0 {
            return Err(Errno::EIO);
        }
        let list = payload.to_vec()?;
        let holes = decode_holes(&list, at..reply.holes_end).map_err(|_| Errno::EIO)?;
        if let Some(found) = first(holes, at..reply.holes_end, wanted) {
            return Ok(Some(FileOffset(found)));
        }
        at = reply.holes_end;
    }
    Ok(None)
}

/// The first byte of the wanted kind in a range with these holes, which are in order.
fn first(
    mut holes: impl Iterator<Item = Hole>,
    range: core::ops::Range<u64>,
    wanted: Wanted,
) -> Option<u64> {
    if wanted == Wanted::Hole {
        return holes.find(|hole| !hole.length.is_zero()).map(|hole| hole.offset);
    }
    let mut at = range.start;
    for hole in holes {
        if hole.offset > at {
            break;
        }
        at = hole.offset.saturating_add(hole.length.0);
    }
    (at < range.end).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_and_data_are_found() {
        let hole = |offset, length| Hole { offset, length: ByteCount(length) };
        let holes = [hole(10, 5), hole(15, 5), hole(30, 10)];
        let find = |range, wanted| first(holes.into_iter(), range, wanted);
        assert_eq!(find(0..40, Wanted::Hole), Some(10));
        assert_eq!(find(0..40, Wanted::Data), Some(0));
        assert_eq!(find(10..40, Wanted::Data), Some(20));
        assert_eq!(first([hole(30, 10)].into_iter(), 30..40, Wanted::Data), None);
        assert_eq!(first([].into_iter(), 3..40, Wanted::Hole), None);
        assert_eq!(first([hole(30, 0)].into_iter(), 30..40, Wanted::Hole), None);
        assert_eq!(first([].into_iter(), 3..40, Wanted::Data), Some(3));
    }
}
