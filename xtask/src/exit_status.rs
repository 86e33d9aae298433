//! Exit statuses of xtask that do not come from the guest.
//!
//! A command in the guest may end with any status; these are values that programs rarely use.

/// The kernel panicked.
pub const KERNEL_PANIC: u8 = 240;
/// The guest did not end within `--timeout`.
pub const TIMED_OUT: u8 = 241;
/// QEMU ended in another way, or the guest reported no status for the command.
pub const QEMU_ENDED: u8 = 242;
/// xtask itself failed: set-up, build, a missing file.
pub const XTASK: u8 = 243;

/// The list of statuses in `cargo xtask run --help`.
pub const HELP: &str = "\
Exit status: that of COMMAND in the guest, or one of these:
  240  the kernel panicked
  241  the guest did not end within --timeout
  242  QEMU ended in another way, or the guest reported no status
  243  xtask itself failed (set-up, build, a missing file)
    2  the command line is wrong
In a shell on the console, Ctrl-] always ends QEMU.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_every_status() {
        for status in [KERNEL_PANIC, TIMED_OUT, QEMU_ENDED, XTASK] {
            assert!(HELP.contains(&format!("  {status}  ")));
        }
    }
}
