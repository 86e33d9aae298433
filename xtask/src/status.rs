//! Exit statuses of xtask that are not the guest's own.
//!
//! A command in the guest may end with any status; these lie where shells and programs hardly go.

/// The kernel panicked.
pub const KERNEL_PANIC: u8 = 240;
/// The guest did not end within `--timeout`.
pub const TIMED_OUT: u8 = 241;
/// QEMU ended in any other way, or the guest without a status for the command.
pub const QEMU_ENDED: u8 = 242;
/// xtask itself could not do its work: set-up, building, a file that is missing.
pub const XTASK: u8 = 243;

/// The same for `--help`.
pub const HELP: &str = "\
Exit status: that of COMMAND in the guest. Besides:
  240  the kernel panicked
  241  the guest did not end within --timeout
  242  QEMU ended otherwise, or the guest gave no status
  243  xtask could not do its work (set-up, build, a missing file)
    2  the command line is wrong
In a shell on the console, Ctrl-] ends QEMU whatever the guest does.";

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
