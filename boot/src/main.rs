//! PVH loader.
fn main() {}
