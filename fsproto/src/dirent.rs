//! Directory entries in the payload of a [`ReadDir`](crate::ReadDir) reply.

use crate::codec::{Field, Reader, Writer};
use crate::{FileId, FileKind, MAX_NAME, Malformed};

/// One entry. On the wire: id, next, kind, name length (u16), name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// The file.
    pub id: FileId,
    /// The cookie to go on after this entry. Never 0; stays valid while entries come and go.
    pub next: u64,
    /// What it is.
    pub kind: FileKind,
    /// 1 to [`MAX_NAME`] bytes, with no `/` and no NUL; never `.` or `..`, which the client adds.
    pub name: &'a [u8],
}

/// Whether bytes can be a name in a directory.
pub fn valid_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME
        && name != b"."
        && name != b".."
        && !name.iter().any(|&byte| byte == b'/' || byte == 0)
}

impl DirEntry<'_> {
    /// Appends the entry, or fails without a change where it does not fit.
    pub fn encode(&self, writer: &mut Writer<'_>) -> Result<(), Malformed> {
        const FIXED: usize = 8 + 8 + 2 + 2;
        let mut entry = [0; FIXED + MAX_NAME];
        let mut inner = Writer::new(&mut entry);
        self.id.put(&mut inner)?;
        self.next.put(&mut inner)?;
        self.kind.put(&mut inner)?;
        (self.name.len() as u16).put(&mut inner)?;
        inner.put(self.name)?;
        let used = inner.used();
        writer.put(&entry[..used])
    }
}

/// The entries of a payload; the iterator yields one error and ends where the payload is malformed.
#[derive(Clone, Debug)]
pub struct DirEntries<'a>(Option<Reader<'a>>);

impl<'a> DirEntries<'a> {
    /// Reads entries from a reply's payload.
    pub fn new(payload: &'a [u8]) -> Self {
        Self(Some(Reader::new(payload)))
    }

    fn entry(reader: &mut Reader<'a>) -> Result<DirEntry<'a>, Malformed> {
        let (id, next, kind) = (FileId::get(reader)?, u64::get(reader)?, FileKind::get(reader)?);
        let length = u16::get(reader)?;
        let name = reader.take(length.into())?;
        if !valid_name(name) || next == 0 {
            return Err(Malformed);
        }
        Ok(DirEntry { id, next, kind, name })
    }
}

impl<'a> Iterator for DirEntries<'a> {
    type Item = Result<DirEntry<'a>, Malformed>;
    fn next(&mut self) -> Option<Self::Item> {
        let reader = self.0.as_mut()?;
        if reader.remaining() == 0 {
            return None;
        }
        let entry = Self::entry(reader);
        if entry.is_err() {
            self.0 = None;
        }
        Some(entry)
    }
}
