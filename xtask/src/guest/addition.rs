//! `--add HOST[:GUEST]`: a file or folder of the host that is copied into the guest.
//!
//! Without GUEST, the path as typed must name the same file in the guest, whose commands start in
//! `/root`. So a relative path is taken relative to `/root`; an absolute path is kept.

use std::path::{Component, Path, PathBuf};

use anyhow::{Result, bail};

/// The folder in which commands start in the guest.
const HOME: &str = "root";

/// A file or folder to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addition {
    /// The file or folder on the host.
    pub host: PathBuf,
    /// Its path in the guest, without the leading slash.
    pub guest: String,
}

impl Addition {
    /// A file or folder at a path in the guest.
    pub fn new(host: PathBuf, guest: &str) -> Self {
        Self { host, guest: guest.to_owned() }
    }

    /// Parses an argument of `--add`. If a file has the whole argument as its name, colons are part
    /// of the name.
    pub fn parse(argument: &str) -> Result<Self> {
        let (host, guest) = match argument.rsplit_once(':') {
            Some((host, guest)) if !Path::new(argument).exists() => (host, Some(guest)),
            _ => (argument, None),
        };
        if host.is_empty() || guest.is_some_and(str::is_empty) {
            bail!("--add {argument}: expected HOST or HOST:GUEST");
        }
        if let Err(error) = std::fs::metadata(host) {
            bail!("--add {argument}: cannot read {host}: {error}");
        }
        let Some(guest) = guest_path(guest.unwrap_or(host)) else {
            bail!(
                "--add {argument}: the path in the guest contains `..`; name another: {host}:GUEST"
            );
        };
        Ok(Self { host: PathBuf::from(host), guest })
    }
}

/// The path from the guest's root that `typed` names in `/root`; `None` if it contains `..`.
fn guest_path(typed: &str) -> Option<String> {
    let mut parts = Vec::new();
    if !typed.starts_with('/') {
        parts.push(HOME);
    }
    for component in Path::new(typed).components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_the_same_file_in_the_guest() {
        assert_eq!(guest_path("./a/b.txt").as_deref(), Some("root/a/b.txt"));
        assert_eq!(guest_path("a//b").as_deref(), Some("root/a/b"));
        assert_eq!(guest_path("/usr/bin/x").as_deref(), Some("usr/bin/x"));
        assert_eq!(guest_path(".").as_deref(), Some("root"));
        assert_eq!(guest_path("/").as_deref(), Some(""));
        assert_eq!(guest_path("../x"), None);
        assert_eq!(guest_path("/a/../x"), None);
    }

    #[test]
    fn a_missing_file_and_a_missing_half_are_errors() {
        let missing = Addition::parse("/no/such/file").unwrap_err().to_string();
        assert!(missing.contains("/no/such/file"), "{missing}");
        assert!(Addition::parse(":x").is_err());
        assert!(Addition::parse("Cargo.toml:").is_err());
        assert!(Addition::parse("").is_err());
    }

    #[test]
    fn the_guest_path_can_be_given() {
        let addition = Addition::parse("Cargo.toml:/etc/motd").unwrap();
        assert_eq!(
            addition,
            Addition { host: PathBuf::from("Cargo.toml"), guest: "etc/motd".to_owned() }
        );
        assert_eq!(Addition::parse("Cargo.toml:x/../y").map_err(|_| ()), Err(()));
        assert_eq!(Addition::parse("../xtask/Cargo.toml").map_err(|_| ()), Err(()));
    }
}
