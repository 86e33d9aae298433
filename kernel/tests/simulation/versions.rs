//! The oracle of versions (F9): what each file held when it had a version that a snapshot names.

use std::collections::HashMap;

use fsproto::{ReadAt, Version};

/// The bytes of files by file and version.
#[derive(Default)]
pub struct Versions(HashMap<(u64, u64), Vec<u8>>);

impl Versions {
    /// Notes that a file has a version. Asserts that it holds what it held when it had it before.
    pub fn note(&mut self, file: u64, version: Version, bytes: &[u8]) {
        let noted = self.0.entry((file, version.0)).or_insert_with(|| bytes.to_vec());
        assert!(noted == bytes, "F9: bytes of file {file} have changed, and its version has not");
    }

    /// Checks bytes that the base returned for a version of a file.
    pub fn check(&self, read: &ReadAt, received: &[u8]) {
        let noted = &self.0[&(read.file.0, read.version.0)];
        let start = read.offset.0 as usize;
        let expected = noted.get(start..start + read.length as usize);
        assert!(expected.is_some(), "F9: {read:?}: bytes beyond the end of that version");
        assert!(expected == Some(received), "F9: {read:?}: other bytes than those of that version");
    }
}
