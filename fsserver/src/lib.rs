//! File servers.
