//! Names, compared with the host's file system: the same random calls must give the same results
//! and errors, and leave the same tree.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path as HostPath, PathBuf};

use common::wrapped::Tower;
use common::*;
use foundation::Errno;
use fsproto::*;
use fsserver::Connection;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// A directory of the host, removed when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sloth-tree-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn random(state: &mut u64, below: usize) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 11) as usize % below
}

fn some_path(state: &mut u64) -> String {
    let depth = random(state, 4) + 1;
    (0..depth).map(|_| NAMES[random(state, NAMES.len())]).collect::<Vec<_>>().join("/")
}

fn host(outcome: io::Result<()>) -> Result<(), Errno> {
    outcome.map_err(|error| Errno(error.raw_os_error().unwrap() as u16))
}

/// Maps paths to type, links and length (not of directories).
type Tree = BTreeMap<String, (FileKind, u64, u64)>;

fn host_tree(folder: &HostPath, prefix: &str, tree: &mut Tree) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        let meta = entry.metadata().unwrap();
        assert!(!meta.file_type().is_fifo());
        if meta.is_dir() {
            host_tree(&entry.path(), &format!("{path}/"), tree);
            // Not every host file system counts a directory's links.
            tree.insert(path, (FileKind::Directory, 0, 0));
        } else {
            tree.insert(path, (FileKind::Regular, meta.nlink(), meta.len()));
        }
    }
}

fn our_tree<C: Connection>(files: &mut Files<C>, at: &str, tree: &mut Tree) -> u32 {
    let mut folders = 0;
    for name in files.list(at) {
        let path = if at.is_empty() { name } else { format!("{at}/{name}") };
        let attr = files.stat(&path).unwrap();
        if attr.kind == FileKind::Directory {
            folders += 1;
            let inner = our_tree(files, &path, tree);
            assert_eq!(attr.links, inner + 2, "links of {path}");
            tree.insert(path, (FileKind::Directory, 0, 0));
        } else {
            tree.insert(path, (attr.kind, attr.links.into(), attr.size.0));
        }
    }
    folders
}

fn step<C: Connection>(
    state: &mut u64,
    files: &mut Files<C>,
    folder: &HostPath,
) -> (String, Result<(), Errno>, Result<(), Errno>) {
    let (path, other) = (some_path(state), some_path(state));
    let (there, other_there) = (folder.join(&path), folder.join(&other));
    match random(state, 8) {
        0 | 1 => {
            (format!("mkdir {path}"), files.make_dir(&path).map(drop), host(fs::create_dir(&there)))
        }
        2 => {
            let ours = files
                .open(&path, CREATE | OpenFlags::EXCLUSIVE)
                .and_then(|(handle, _)| files.close(handle));
            (format!("create {path}"), ours, host(fs::File::create_new(&there).map(drop)))
        }
        3 => {
            let ours = files.open(&path, CREATE | OpenFlags::TRUNCATE).and_then(|(handle, _)| {
                files.write(handle, 0, path.as_bytes())?;
                files.close(handle)
            });
            (format!("write {path}"), ours, host(fs::write(&there, &path)))
        }
        4 => (
            format!("rename {path} {other}"),
            files.rename(&path, &other).map(drop),
            host(fs::rename(&there, &other_there)),
        ),
        5 => {
            (format!("unlink {path}"), files.remove(&path).map(drop), host(fs::remove_file(&there)))
        }
        6 => (
            format!("rmdir {path}"),
            files.remove_dir(&path).map(drop),
            host(fs::remove_dir(&there)),
        ),
        _ => {
            let ours = files.open(&path, OpenFlags::READ).and_then(|(handle, _)| {
                let linked = files.link(handle, &other).map(drop);
                files.close(handle)?;
                linked
            });
            (format!("link {path} {other}"), ours, host(fs::hard_link(&there, &other_there)))
        }
    }
}

fn run<C: Connection>(name: &str, files: &mut Files<C>) {
    let folder = Folder::new(name);
    let mut state = 0x1234_5678_9ABC_DEF1;
    for _ in 0..4000 {
        let (what, ours, theirs) = step(&mut state, files, &folder.0);
        assert_eq!(ours, theirs, "{what}: ours, and the host's");
        if random(&mut state, 20) == 0 {
            let (mut our, mut their) = (Tree::new(), Tree::new());
            let folders = our_tree(files, "", &mut our);
            assert_eq!(files.stat("").unwrap().links, folders + 2);
            host_tree(&folder.0, "", &mut their);
            assert_eq!(our, their);
        }
    }
}

#[test]
fn memfs_does_what_the_host_does() {
    let server = memfs(1000);
    run("memfs", &mut Files::of(&server));
}

#[test]
fn the_wrapper_does_so_on_a_base_that_lets_removed_files_go() {
    let mut tower = Tower::without(Features::OPEN_UNLINKED, 1000);
    // A hidden file exists all the time, and is never visible.
    let (handle, _) = tower.files.open("kept", CREATE).unwrap();
    tower.files.remove("kept").unwrap();
    run("lesser", &mut tower.files);
    tower.files.close(handle).unwrap();
    assert_eq!(tower.figures(), Default::default());
}

#[test]
fn the_wrapper_does_what_the_host_does() {
    let mut tower = Tower::new(1000);
    run("snapfs", &mut tower.files);
    assert_eq!(tower.figures(), Default::default());
}
