//! The message protocol.
