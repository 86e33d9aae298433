//! Real input: the guest's tools must print the same hashes and counts of files as the host's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::cli::Lazy;
use crate::guest::addition::Addition;
use crate::paths::Paths;
use crate::setup::QEMU;
use crate::test::qemu::{Expected, QemuTest};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Sizes of the random files in bytes: around a page, and large.
const SIZES: [usize; 7] = [0, 1, 4095, 4096, 4097, MIB + 1, 40 * MIB];
/// Files up to this size in bytes are also hashed on a small machine.
const SMALL_BYTES: usize = MIB + 1;
/// Memory of the small machine.
const SMALL_MEMORY: &str = "48M";
/// Time limit; hashing 40 MiB is slow on an emulated CPU.
const LIMIT: Duration = Duration::from_secs(180);

/// Commands, by the tests' names, that must print the same as on the host. They run in the folder
/// with the texts.
const SAME_AS_HOST: [(&str, &str); 7] = [
    ("grep_count", "grep -c name text"),
    ("grep_count_inverted", "grep -c -v version text"),
    ("grep_count_pattern", "grep -c '^name = \"[a-f]' text"),
    ("wc", "wc text"),
    ("wc_lines", "wc -l text"),
    ("cmp_same", "cmp text copy"),
    ("cmp_different", "cmp text changed; true"),
];

/// The tests; creates the files that they need.
pub fn list(paths: &Paths) -> Result<Vec<QemuTest>> {
    let folder = paths.work.join("inputs");
    fs::create_dir_all(&folder)?;
    let mut tests = Vec::new();
    for size in SIZES {
        let file = folder.join(format!("random-{size}"));
        keep(&file, size, || random(size))?;
        tests.extend(hash_tests(&format!("random_{size}"), &file, size)?);
    }
    if let Some(qemu) = program_file(QEMU) {
        tests.extend(hash_tests("qemu_binary", &qemu, usize::MAX)?);
    }
    tests.extend(text_tests(paths, &folder)?);
    Ok(tests)
}

/// Writes `file` unless it exists with the given size.
fn keep(file: &Path, size: usize, contents: impl FnOnce() -> Vec<u8>) -> Result<()> {
    if fs::metadata(file).is_ok_and(|data| data.len() == size as u64) {
        return Ok(());
    }
    fs::write(file, contents()).with_context(|| format!("cannot write {}", file.display()))
}

/// `size` bytes, the same in every run (splitmix64 with the size as its seed).
fn random(size: usize) -> Vec<u8> {
    let mut state = size as u64;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// `sha256sum` of one file, lazily and eagerly, and on a small machine.
fn hash_tests(name: &str, file: &Path, size: usize) -> Result<Vec<QemuTest>> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let mut tests = Vec::new();
    for lazy in [Lazy::On, Lazy::Off] {
        for memory in ["128M", SMALL_MEMORY] {
            if memory == SMALL_MEMORY && size > SMALL_BYTES {
                continue;
            }
            let name = format!("input_sha256_{name}_lazy_{}_{memory}", lazy.word());
            let expected = Expected::Output(format!("{hash}  file\n").into_bytes());
            let mut test = QemuTest::new(&name, "sha256sum file", expected);
            test.memory = memory.to_owned();
            test.lazy = lazy;
            test.limit = LIMIT;
            test.additions =
                vec![Addition { host: file.to_path_buf(), guest: "root/file".to_owned() }];
            tests.push(test);
        }
    }
    Ok(tests)
}

/// Counts and comparisons of real text: Cargo.lock, a copy, and a copy with one letter changed near
/// its end.
fn text_tests(paths: &Paths, folder: &Path) -> Result<Vec<QemuTest>> {
    let text = fs::read(paths.root.join("Cargo.lock")).context("cannot read Cargo.lock")?;
    let mut changed = text.clone();
    if let Some(byte) = changed.iter_mut().rev().nth(100) {
        *byte ^= 0x20;
    }
    for (name, contents) in [("text", &text), ("copy", &text), ("changed", &changed)] {
        fs::write(folder.join(name), contents)?;
    }
    let mut tests = Vec::new();
    for (name, command) in SAME_AS_HOST {
        for lazy in [Lazy::On, Lazy::Off] {
            let expected = Expected::Words(on_host(folder, command)?);
            let mut test =
                QemuTest::new(&format!("input_{name}_lazy_{}", lazy.word()), command, expected);
            test.lazy = lazy;
            test.additions = ["text", "copy", "changed"]
                .map(|name| Addition { host: folder.join(name), guest: format!("root/{name}") })
                .to_vec();
            tests.push(test);
        }
    }
    Ok(tests)
}

/// The output of the host's own tools.
fn on_host(folder: &Path, command: &str) -> Result<String> {
    let output = Command::new("sh")
        .args(["-c", command])
        .current_dir(folder)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .context("cannot start sh")?;
    ensure!(output.status.success(), "`{command}` fails on the host");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The file of a program in PATH.
fn program_file(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}
