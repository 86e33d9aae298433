//! memfs started from tar archives.

mod common;

use common::*;
use foundation::ByteCount;
use fsproto::*;
use fsserver::memfs::{AccessTimes, Memfs};

fn append(
    builder: &mut tar::Builder<Vec<u8>>,
    kind: tar::EntryType,
    name: &str,
    mode: u32,
    data: &[u8],
) {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(1_700_000_000);
    header.set_size(data.len() as u64);
    builder.append_data(&mut header, name, data).unwrap();
}

fn served(archive: Vec<u8>, capacity_pages: u64) -> Result<SharedServer<Memfs<TestClock>>, String> {
    let mut server =
        Memfs::new(capacity_pages * 4096, AccessTimes::Untouched, TestClock::default());
    server.add_archive(archive.leak()).map_err(|error| error.to_string())?;
    Ok(shared(server))
}

#[test]
fn a_tree_as_the_archive_says() {
    let mut builder = tar::Builder::new(Vec::new());
    let program = pattern(1, 3 * 4096 + 500);
    append(&mut builder, tar::EntryType::Directory, "bin/", 0o755, b"");
    append(&mut builder, tar::EntryType::Regular, ".pad", 0o644, &[0; 700]);
    append(&mut builder, tar::EntryType::Regular, "bin/prog", 0o755, &program);
    append(&mut builder, tar::EntryType::Regular, "deep/er/file", 0o600, b"small");
    append(&mut builder, tar::EntryType::Directory, "tmp", 0o1777, b"");
    let long = format!("{}/{}", "x".repeat(120), "y".repeat(130));
    let mut header = tar::Header::new_gnu();
    header.set_size(4);
    header.set_mode(0o644);
    builder.append_data(&mut header, &long, &b"long"[..]).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, "sh", "bin/prog").unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Link);
    header.set_size(0);
    builder.append_link(&mut header, "again", "bin/prog").unwrap();
    let server = served(builder.into_inner().unwrap(), 100).unwrap();
    let mut files = Files::of(&server);
    assert_eq!(files.list(""), ["bin", "deep", "tmp", &"x".repeat(120), "sh", "again"]);
    let attr = files.stat("bin/prog").unwrap();
    assert_eq!(
        (attr.mode, attr.size, attr.links, attr.mtime.0),
        (0o755, ByteCount(program.len() as u64), 2, 1_700_000_000_000_000_000)
    );
    assert_eq!(
        (files.stat("tmp").unwrap().mode, files.stat("sh").unwrap().kind),
        (0o1777, FileKind::Symlink)
    );
    let (handle, _) = files.open("bin/prog", RW).unwrap();
    assert_eq!(files.read_all(handle).unwrap(), program);
    let (small, _) = files.open(&long, OpenFlags::READ).unwrap();
    assert_eq!(files.read_all(small).unwrap(), b"long");
    // Changed pages are copied first; bytes behind the file's end in the archive are never visible.
    files.write(handle, 4096, b"!").unwrap();
    files.truncate(handle, 4 * 4096).unwrap();
    let mut expected = program.clone();
    expected[4096] = b'!';
    expected.resize(4 * 4096, 0);
    assert_eq!(files.read_all(handle).unwrap(), expected);
    assert_eq!(files.store().blocks_free, 100 - 4 - 1 - 1);
}

#[test]
fn a_bad_archive_is_refused_by_name() {
    let good = {
        let mut builder = tar::Builder::new(Vec::new());
        append(&mut builder, tar::EntryType::Regular, "one", 0o644, b"1");
        append(&mut builder, tar::EntryType::Regular, "two", 0o644, &[2; 3000]);
        builder.into_inner().unwrap()
    };
    let error_of = |archive: Vec<u8>| served(archive, 100).map(drop).unwrap_err();
    let mut broken = good.clone();
    broken[1024 + 130] ^= 1;
    assert_eq!(error_of(broken), "two: the header's checksum is wrong");
    assert_eq!(error_of(good[..2000].to_vec()), "two: the archive ends in the middle of it");
    let made = |name: &str, kind| {
        let mut builder = tar::Builder::new(Vec::new());
        append(&mut builder, tar::EntryType::Regular, "one", 0o644, b"1");
        append(&mut builder, kind, name, 0o644, b"");
        builder.into_inner().unwrap()
    };
    assert_eq!(error_of(made("one", tar::EntryType::Regular)), "one: its name is there already");
    assert_eq!(
        error_of(made("one/two", tar::EntryType::Regular)),
        "one/two: a directory on its way is none"
    );
    assert_eq!(error_of(made("fifo", tar::EntryType::Fifo)), "fifo: its kind is unknown");
    assert!(served(good, 0).is_err_and(|error| error == "one: there is no space for it"));
}

#[test]
fn no_archive_makes_it_panic() {
    let mut builder = tar::Builder::new(Vec::new());
    append(&mut builder, tar::EntryType::Directory, "d", 0o755, b"");
    append(&mut builder, tar::EntryType::Regular, "d/one", 0o644, &[1; 600]);
    let good = builder.into_inner().unwrap();
    let mut state = 1_u64;
    for _ in 0..3000 {
        let mut bad = good.clone();
        for _ in 0..3 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let at = (state >> 33) as usize % bad.len();
            bad[at] = (state >> 20) as u8;
            // With a correct checksum the change reaches later checks.
            for block in bad.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
                let sum: u64 = block
                    .iter()
                    .enumerate()
                    .map(|(at, &byte)| u64::from(if (148..156).contains(&at) { 32 } else { byte }))
                    .sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        let _ = served(bad, 100);
    }
    for length in 0..good.len() {
        let _ = served(good[..length].to_vec(), 100);
    }
}
