//! `--add` of files that are larger than the machine's memory.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::exit_status::XTASK;
use crate::guest::Guest;
use crate::guest::addition::Addition;
use crate::interrupts::Interrupts;
use crate::paths::Paths;
use crate::test::qemu::{Expected, QemuTest};
use crate::test::verdict::Verdict;

/// The test's full name.
pub const NAME: &str = "qemu::added_files_are_larger_than_memory";

/// Bytes of the large file: data in the middle and at the end, and holes.
const LARGE_BYTES: u64 = 10 << 30;
const MIDDLE: &[u8] = b"in the middle\n";
const END: &[u8] = b"at the end\n";
/// A file without holes, and the parts that it consists of, which are small enough for the ramdisk.
const PARTS: u64 = 12;
const PART_BYTES: u64 = 1 << 20;

/// Both files are read, changed, copied, and removed.
const WORK: &str = "cat parts/* | cmp - dense && echo same
    dd if=large bs=4096 skip=1310720 count=1 | head -c 14
    dd if=large bs=1M skip=10239 | tail -c 11
    echo on | dd of=large bs=4096 seek=1310720 conv=notrunc
    cp large copy; rm large
    dd if=copy bs=4096 skip=1310720 count=1 | head -c 14
    echo new | dd of=dense bs=1 seek=4094 conv=notrunc
    dd if=dense bs=4096 count=2 | cmp - parts/00
    ls -l copy | grep -c 10737418240; rm dense copy; ls";

/// Runs the test.
pub fn run(paths: &Paths, guest: &Guest, interrupts: &Interrupts) -> Result<Verdict> {
    let folder = tempfile::tempdir_in(&paths.work)?;
    make_files(folder.path())?;
    let refused = refusal(&folder.path().join("large"))?;
    if !refused.contains("do not fit into a machine of 128M") {
        return Ok(Verdict::Failed(format!("without a disk: {refused}")));
    }
    let expected = format!(
        "same {}{}on\n the middle\n - parts/00 differ: char 4095, line 256 1 parts",
        String::from_utf8_lossy(MIDDLE),
        String::from_utf8_lossy(END)
    );
    let mut test = QemuTest::new("added", WORK, Expected::Words(expected));
    test.additions = vec![Addition::new(folder.path().to_path_buf(), "root")];
    test.run(paths, guest, interrupts)
}

fn make_files(folder: &Path) -> Result<()> {
    let large = fs::File::create(folder.join("large"))?;
    large.set_len(LARGE_BYTES)?;
    large.write_all_at(MIDDLE, LARGE_BYTES / 2)?;
    large.write_all_at(END, LARGE_BYTES - END.len() as u64)?;
    let dense: String = (0..PARTS * PART_BYTES / 16).map(|line| format!("{line:015}\n")).collect();
    fs::write(folder.join("dense"), &dense)?;
    fs::create_dir(folder.join("parts"))?;
    for (number, part) in dense.as_bytes().chunks(PART_BYTES as usize).enumerate() {
        fs::write(folder.join(format!("parts/{number:02}")), part)?;
    }
    Ok(())
}

/// What xtask says if there is no disk for a large file.
fn refusal(large: &Path) -> Result<String> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["run", "--no-disk", "--add"]).arg(large).args(["--", "true"]);
    let output = command.stdin(Stdio::null()).output()?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let is_refused = output.status.code() == Some(XTASK.into());
    Ok(if is_refused { errors } else { format!("{}: {errors}", output.status) })
}
