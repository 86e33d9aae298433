//! Paths in payloads, checked once when they are decoded.

use crate::{MAX_NAME, MAX_PATH};
use foundation::Errno;

/// A path as requests contain it: components separated by `/`, each a valid name (not `.`, not
/// `..`, not empty), without leading or trailing `/`. The empty path is the directory where the
/// path starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path<'a>(&'a [u8]);

/// A component of a [`Path`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Component<'a> {
    /// Name of the component.
    pub name: &'a [u8],
    /// Length of the path up to and including this component, in bytes.
    pub end: usize,
    /// Whether it is the last component.
    pub is_last: bool,
}

impl<'a> Path<'a> {
    /// Checks a path. ENAMETOOLONG if a name or the path is too long, EINVAL if it is malformed.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Errno> {
        if bytes.len() > MAX_PATH {
            return Err(Errno::ENAMETOOLONG);
        }
        let path = Self(bytes);
        for component in path.components() {
            if component.name.len() > MAX_NAME {
                return Err(Errno::ENAMETOOLONG);
            }
            if !crate::dirent::valid_name(component.name) {
                return Err(Errno::EINVAL);
            }
        }
        Ok(path)
    }

    /// The components in order; none if the path is empty.
    pub fn components(self) -> impl Iterator<Item = Component<'a>> {
        let total = self.0.len();
        let mut begin = 0;
        self.0.split(|&byte| byte == b'/').filter(move |_| total > 0).map(move |name| {
            let end = begin + name.len();
            begin = end + 1;
            Component { name, end, is_last: end == total }
        })
    }

    /// The path as bytes.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_know_their_end() {
        let path = Path::new(b"usr/bin/sh").unwrap();
        let mut components = path.components();
        assert_eq!(components.next(), Some(Component { name: b"usr", end: 3, is_last: false }));
        assert_eq!(components.next(), Some(Component { name: b"bin", end: 7, is_last: false }));
        assert_eq!(components.next(), Some(Component { name: b"sh", end: 10, is_last: true }));
        assert_eq!(components.next(), None);
        assert_eq!(Path::new(b"").unwrap().components().count(), 0);
    }

    #[test]
    fn malformed_paths_are_refused() {
        for bad in [&b"/a"[..], b"a/", b"a//b", b"..", b"a/../b", b".", b"a\0b"] {
            assert_eq!(Path::new(bad), Err(Errno::EINVAL), "{bad:?}");
        }
        assert_eq!(Path::new(&[b'a'; MAX_NAME + 1]), Err(Errno::ENAMETOOLONG));
        assert!(Path::new(&[b'a'; MAX_NAME]).is_ok());
        let mut long = [b'a'; MAX_PATH + 1];
        long.iter_mut().step_by(2).for_each(|byte| *byte = b'/');
        assert_eq!(Path::new(&long), Err(Errno::ENAMETOOLONG));
        assert!(Path::new(&long[1..MAX_PATH - 1]).is_ok());
    }
}
