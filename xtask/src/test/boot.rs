//! The loader with initrds that it cannot boot: it must log the reason and end the machine.

use std::io::{Seek, Write};
use std::time::Duration;

use anyhow::Result;

use crate::guest::Guest;
use crate::interrupts::Interrupts;
use crate::machine::session::{Outcome, capture};
use crate::machine::task::MachineFiles;
use crate::machine::{Clock, Debugging, Disk, Ending, Hardware, Start};
use crate::paths::Paths;
use crate::test::verdict::Verdict;

/// A refusal takes a fraction of a second.
const LIMIT: Duration = Duration::from_secs(20);

/// An initrd that the loader must refuse.
#[derive(Debug, Clone)]
pub struct BootTest {
    /// The test's full name.
    pub name: &'static str,
    initrd: Vec<u8>,
    says: &'static str,
}

/// The tests, one for each initrd.
pub fn list() -> Vec<BootTest> {
    let test = |name, initrd, says| BootTest { name, initrd, says };
    let garbage = [0xa5; 8192].to_vec();
    let mut half = archive("kernel", &[0; 4096]);
    half.truncate(2048);
    vec![
        test("qemu::boot_refuses_garbage", garbage, "not a ustar archive"),
        test(
            "qemu::boot_refuses_no_kernel",
            archive("init", &[0; 4096]),
            "first member is not `kernel`",
        ),
        test("qemu::boot_refuses_half_a_kernel", half, "in the middle of the kernel"),
        test("qemu::boot_refuses_no_elf", archive("kernel", &[0x7f; 4096]), "not an ELF"),
    ]
}

/// An archive with one member, and a page of zeros after it.
fn archive(name: &str, data: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    // This fails only for long names.
    let _ = header.set_path(name);
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(4096) + 4096, 0);
    bytes
}

impl BootTest {
    /// Boots the initrd.
    pub fn run(&self, paths: &Paths, guest: &Guest, interrupts: &Interrupts) -> Result<Verdict> {
        let mut initrd = paths.scratch_file()?;
        initrd.write_all(&self.initrd)?;
        initrd.rewind()?;
        let hardware = Hardware {
            memory: "48M".to_owned(),
            clock: Clock::Host,
            cpu: Clock::Host.cpu().to_owned(),
            disk: Disk::Scratch,
            debugging: Debugging::default(),
        };
        let files = MachineFiles { initrd, placed: paths.scratch_file()? };
        let seen = capture(guest, &Start::Initrd(files), &hardware, LIMIT, interrupts)?;
        let (outcome, log) = (&seen.outcome, String::from_utf8_lossy(&seen.log));
        let refused =
            *outcome == Outcome::Ended(Ending::LoaderRefused, None) && seen.console.is_empty();
        Ok(Verdict::from_condition(refused && log.contains(self.says), || {
            format!("{outcome:?}, and the log {log:?} does not contain {:?}", self.says)
        }))
    }
}
