//! Directory entries in the payload of a [`ReadDir`](crate::ReadDir) reply.

use crate::codec::{Field, Reader, Writer};
use crate::{FileId, FileKind, MAX_NAME, Malformed};

/// A directory entry. Encoded as id, next, kind, length of the name (u16), name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// Identifies the file.
    pub id: FileId,
    /// Cookie to continue behind this entry. Never 0; stays valid when entries are added or
    /// removed.
    pub next: u64,
    /// File type.
    pub kind: FileKind,
    /// 1 to [`MAX_NAME`] bytes without `/` and NUL. Never `.` or `..`, which the client adds.
    pub name: &'a [u8],
}

/// Whether bytes are a valid name of a directory entry.
pub fn valid_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME
        && name != b"."
        && name != b".."
        && !name.iter().any(|&byte| byte == b'/' || byte == 0)
}

impl DirEntry<'_> {
    /// Appends the entry to a payload. Fails without writing anything if it does not fit.
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

/// Iterator over the entries of a payload. If the payload is malformed it yields one error and
/// ends.
#[derive(Clone, Debug)]
pub struct DirEntries<'a>(Option<Reader<'a>>);

impl<'a> DirEntries<'a> {
    /// The entries of a reply's payload.
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
