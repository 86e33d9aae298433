//! Negotiation of a session's version and features: both sides' parts.
//!
//! The client sends [`hello`], the server answers what [`grant`] returns, and the client checks the
//! answer with [`agree`].

use foundation::Errno;

use crate::{Features, FileId, Hello, VERSION, Welcome};

/// The client's first request: this crate's version, and the features that the client can use.
pub const fn hello(usable: Features) -> Hello {
    Hello { version: VERSION, features: usable }
}

/// The server's answer: the lower of both versions, and the usable ones of the features offered.
/// EPROTO where the client names no version. The server adds its limit of open files.
pub fn grant(request: &Hello, offered: Features, root: FileId) -> Result<Welcome, Errno> {
    if request.version == 0 {
        return Err(Errno::EPROTO);
    }
    let version = request.version.min(VERSION);
    Ok(Welcome { version, features: offered & request.features, root, files: 0 })
}

/// Checks the server's answer to [`hello`]`(usable)` and returns the session's features. EPROTO
/// where the server speaks another version, or grants a feature that was not requested.
pub fn agree(usable: Features, welcome: &Welcome) -> Result<Features, Errno> {
    if welcome.version != VERSION || !usable.contains(welcome.features) {
        return Err(Errno::EPROTO);
    }
    Ok(welcome.features)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x5_only_requested_features_are_granted() {
        let usable = Features::SNAPSHOT | Features::SPARSE;
        let offered = Features::SNAPSHOT | Features::CLONE;
        let welcome = grant(&hello(usable), offered, FileId(1)).unwrap();
        assert_eq!(agree(usable, &welcome), Ok(Features::SNAPSHOT));
        assert_eq!(agree(Features::empty(), &welcome), Err(Errno::EPROTO));
        let other = Welcome { version: VERSION + 1, ..welcome };
        assert_eq!(agree(usable, &other), Err(Errno::EPROTO));
        let no_version = Hello { version: 0, features: usable };
        assert_eq!(grant(&no_version, offered, FileId(1)), Err(Errno::EPROTO));
    }
}
