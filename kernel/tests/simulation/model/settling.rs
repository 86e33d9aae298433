//! What a failure of the base server leaves open: the files are looked at, and the oracle follows.

use super::{File, Model, Uncertain};
use crate::bytes::overlaid;

impl Model {
    /// A change may have been made in part: checks the bytes `now` of the file, and keeps them.
    pub fn settle(&mut self, uncertain: &Uncertain, now: Vec<u8>) {
        let Uncertain { file, after, written, done, .. } = uncertain;
        let before = &self.files[*file].bytes;
        let allowed = match *written {
            None => now == *before || now == *after,
            Some((offset, length)) => {
                let matching = |index: &usize| now.get(offset + index) == after.get(offset + index);
                let front = (0..length).take_while(matching).count();
                let rest =
                    overlaid(before, offset, after.get(offset..offset + front).unwrap_or_default());
                // The file may have been extended before it was written.
                let extended =
                    now.get(rest.len()..).is_some_and(|more| more.iter().all(|&byte| byte == 0));
                front >= *done && now.starts_with(&rest) && extended && now.len() <= after.len()
            }
        };
        assert!(
            allowed,
            "a change that failed was not made from its start: {} bytes, {} before, {} after",
            now.len(),
            before.len(),
            after.len()
        );
        // What the server changed is what programs see.
        let differs = |&byte: &usize| before.get(byte) != now.get(byte);
        let changed: Vec<usize> = (0..before.len().max(now.len())).filter(differs).collect();
        changed.into_iter().for_each(|byte| self.stores.replaced(*file, byte..byte + 1));
        self.files[*file].bytes = now;
    }

    /// Names may have changed or not; `look` returns the id of the file of each.
    pub fn settle_names(&mut self, names: &[&str], mut look: impl FnMut(&[u8]) -> Option<u64>) {
        for name in names {
            let name = name.as_bytes();
            match look(name) {
                None => drop(self.names.remove(name)),
                Some(id) => {
                    let known = self.files.iter().position(|file| file.id == id);
                    let file = known.unwrap_or(self.files.len());
                    if known.is_none() {
                        self.files.push(File { id, bytes: Vec::new() });
                    }
                    self.names.insert(name.to_vec(), file);
                }
            }
        }
    }
}
