//! The kernel's binary: from the loader's boot information to PID 1.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod boot;

#[cfg(not(target_os = "none"))]
fn main() {
    println!("This is Sloth's kernel. It runs in QEMU: see `cargo xtask run`.");
}
