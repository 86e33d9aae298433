//! Path resolution, over trees in memory.

use super::*;
use crate::file::namespace::{MountPoint, Namespace, split};
use alloc::collections::BTreeMap;
use fsproto::{OpenFlags, RenameFlags};

#[derive(Clone, PartialEq, Eq, Debug)]
enum Node {
    Directory,
    File(u64),
    Link(Vec<u8>),
}

/// A tree of names, by path. As on a server, walks stop at links that have to be followed.
struct Tree {
    nodes: spin::Mutex<BTreeMap<Vec<u8>, Node>>,
    walks: AtomicU32,
}

struct Object(Node);

impl FileObject for Object {
    fn stat(&self) -> Result<Stat, Errno> {
        let (file_type, inode) = match self.0 {
            Node::Directory => (FileType::Directory, 0),
            Node::File(inode) => (FileType::Regular, inode),
            Node::Link(_) => (FileType::Symlink, 0),
        };
        Ok(Stat { file_type, inode, ..Stat::default() })
    }
    fn read_link(&self) -> Result<Vec<u8>, Errno> {
        if let Node::Link(target) = &self.0 { Ok(target.clone()) } else { Err(Errno::EINVAL) }
    }
}

impl Tree {
    fn new(nodes: &[(&str, Node)]) -> Arc<Self> {
        let nodes = nodes.iter().map(|(path, node)| (path.as_bytes().to_vec(), node.clone()));
        Arc::new(Self { nodes: spin::Mutex::new(nodes.collect()), walks: AtomicU32::new(0) })
    }

    /// The node, or the first link on the way. `follow_last` includes a link as last component.
    fn walk(&self, path: &[u8], follow_last: bool) -> Result<Walk<Option<Node>>, Errno> {
        self.walks.fetch_add(1, Ordering::Relaxed);
        if path.is_empty() {
            return Ok(Walk::Done(Some(Node::Directory)));
        }
        let nodes = self.nodes.lock();
        let ends: Vec<usize> =
            (1..=path.len()).filter(|&end| end == path.len() || path[end] == b'/').collect();
        for end in ends {
            let last = end == path.len();
            match nodes.get(&path[..end]) {
                Some(Node::Link(target)) if !last || follow_last => {
                    return Ok(Walk::Link { which: 0, walked: end, target: target.clone() });
                }
                node if last => return Ok(Walk::Done(node.cloned())),
                Some(Node::Directory) => {}
                Some(_) => return Err(Errno::ENOTDIR),
                None => return Err(Errno::ENOENT),
            }
        }
        Err(Errno::EIO)
    }
}

macro_rules! reach {
    ($walk:expr) => {
        match $walk? {
            Walk::Done(node) => node,
            Walk::Link { which, walked, target } => return Ok(Walk::Link { which, walked, target }),
        }
    };
}

impl FileSystem for Tree {
    fn type_name(&self) -> &'static str {
        "tree"
    }
    fn open(&self, path: &[u8], how: OpenHow) -> Result<Walk<Arc<dyn FileObject>>, Errno> {
        let node = reach!(self.walk(path, !how.flags.contains(OpenFlags::NO_FOLLOW)));
        let node = match node {
            Some(Node::File(_)) if how.flags.contains(OpenFlags::DIRECTORY) => {
                return Err(Errno::ENOTDIR);
            }
            Some(node) => node,
            None if how.flags.contains(OpenFlags::CREATE) => {
                self.nodes.lock().insert(path.to_vec(), Node::File(99));
                Node::File(99)
            }
            None => return Err(Errno::ENOENT),
        };
        Ok(Walk::Done(Arc::new(Object(node))))
    }
    fn stat(&self, path: &[u8], flags: OpenFlags) -> Result<Walk<Stat>, Errno> {
        let node =
            reach!(self.walk(path, !flags.contains(OpenFlags::NO_FOLLOW))).ok_or(Errno::ENOENT)?;
        if flags.contains(OpenFlags::DIRECTORY) && node != Node::Directory {
            return Err(Errno::ENOTDIR);
        }
        Object(node).stat().map(Walk::Done)
    }
    fn make_dir(&self, path: &[u8], _: u16) -> Result<Walk<()>, Errno> {
        if reach!(self.walk(path, false)).is_some() {
            return Err(Errno::EEXIST);
        }
        self.nodes.lock().insert(path.to_vec(), Node::Directory);
        Ok(Walk::Done(()))
    }
    fn remove(&self, path: &[u8], _: OpenFlags) -> Result<Walk<()>, Errno> {
        reach!(self.walk(path, false)).ok_or(Errno::ENOENT)?;
        self.nodes.lock().remove(path);
        Ok(Walk::Done(()))
    }
    fn rename(&self, old: &[u8], new: &[u8], _: RenameFlags) -> Result<Walk<()>, Errno> {
        let node = reach!(self.walk(old, false)).ok_or(Errno::ENOENT)?;
        match self.walk(new, false)? {
            Walk::Done(_) => {}
            Walk::Link { walked, target, .. } => {
                return Ok(Walk::Link { which: 1, walked, target });
            }
        }
        let mut nodes = self.nodes.lock();
        nodes.remove(old);
        nodes.insert(new.to_vec(), node);
        Ok(Walk::Done(()))
    }
    fn figures(&self) -> Result<FileSystemFigures, Errno> {
        Ok(FileSystemFigures::default())
    }
}

fn link(target: &str) -> Node {
    Node::Link(target.as_bytes().to_vec())
}

fn mounted(trees: &[(&str, &Arc<Tree>)]) -> Namespace {
    let namespace = Namespace::new();
    for (path, tree) in trees {
        let filesystem: Arc<dyn FileSystem> = (*tree).clone();
        namespace
            .mount(MountPoint { path: path.as_bytes().to_vec(), source: vec![], filesystem })
            .unwrap();
    }
    namespace
}

fn world() -> (Namespace, Arc<Tree>, Arc<Tree>) {
    let root = Tree::new(&[
        ("a", Node::Directory),
        ("a/b", Node::Directory),
        ("a/b/file", Node::File(1)),
        ("a/up", link("../top")),
        ("top", Node::File(2)),
        ("mnt", Node::Directory),
        ("mnt/hidden", Node::File(3)),
        ("abs", link("/a/b")),
        ("to_mnt", link("mnt/x")),
        ("loop", link("loop2")),
        ("loop2", link("loop")),
        ("dangling", link("nothing/at/all")),
        ("slash", link("a/b/")),
    ]);
    let inner = Tree::new(&[
        ("x", Node::Directory),
        ("x/y", Node::File(10)),
        ("out", link("../top")),
        ("abs", link("/a/b/file")),
    ]);
    (mounted(&[("/", &root), ("/mnt", &inner)]), root, inner)
}

/// The inode and the canonical path that a path leads to.
fn find(namespace: &Namespace, base: &str, path: &str) -> Result<(u64, String), Errno> {
    let (stat, place) = namespace.stat(base.as_bytes(), path.as_bytes(), OpenFlags::empty())?;
    Ok((stat.inode, String::from_utf8(place.path).unwrap()))
}

#[test]
fn paths_are_resolved() {
    let (namespace, ..) = world();
    let cases = [
        ("/", "a/b/file", 1, "/a/b/file"),
        ("/a", "b/../../top", 2, "/top"),
        ("/a/b", "./.././b//file", 1, "/a/b/file"),
        ("/", "abs/file", 1, "/a/b/file"),
        ("/", "a/up", 2, "/top"),
        ("/", "to_mnt/y", 10, "/mnt/x/y"),
        ("/", "/mnt/x/y", 10, "/mnt/x/y"),
        ("/mnt/x", "../../top", 2, "/top"),
        ("/mnt", "out", 2, "/top"),
        ("/", "mnt/abs", 1, "/a/b/file"),
        ("/a", "../../../../top", 2, "/top"),
        ("/", "slash/file", 1, "/a/b/file"),
        ("/", "abs/..", 0, "/a"),
        ("/", "to_mnt/..", 0, "/mnt"),
    ];
    for (base, path, inode, canonical) in cases {
        assert_eq!(
            find(&namespace, base, path),
            Ok((inode, canonical.to_string())),
            "{path} from {base}"
        );
    }
}

#[test]
fn unresolvable_paths_return_their_errors() {
    let (namespace, ..) = world();
    let long = "x/".repeat(3000);
    let name = "n".repeat(256);
    let cases = [
        ("", Errno::ENOENT),
        ("nothing", Errno::ENOENT),
        ("nothing/..", Errno::ENOENT),
        ("top/..", Errno::ENOTDIR),
        ("top/", Errno::ENOTDIR),
        ("top/.", Errno::ENOTDIR),
        ("top/x", Errno::ENOTDIR),
        ("loop", Errno::ELOOP),
        ("loop/x", Errno::ELOOP),
        ("dangling", Errno::ENOENT),
        ("mnt/hidden", Errno::ENOENT),
        (&long, Errno::ENAMETOOLONG),
        (&name, Errno::ENAMETOOLONG),
    ];
    for (path, error) in cases {
        assert_eq!(find(&namespace, "/", path), Err(error), "{path}");
    }
    assert_eq!(find(&Namespace::new(), "/", "/"), Err(Errno::ENOENT));
}

#[test]
fn a_whole_path_is_one_walk() {
    let (namespace, root, _) = world();
    find(&namespace, "/", "a/b/file").unwrap();
    assert_eq!(root.walks.load(Ordering::Relaxed), 1);
}

#[test]
fn a_link_as_last_component_is_followed_unless_no_follow() {
    let (namespace, ..) = world();
    let (stat, _) = namespace.stat(b"/", b"abs", OpenFlags::NO_FOLLOW).unwrap();
    assert_eq!(stat.file_type, FileType::Symlink);
    let (stat, _) = namespace.stat(b"/", b"abs/", OpenFlags::NO_FOLLOW).unwrap();
    assert_eq!(stat.file_type, FileType::Directory);
    let (object, _) = namespace
        .open(b"/", b"dangling", OpenHow { flags: OpenFlags::NO_FOLLOW, mode: 0 })
        .unwrap();
    assert_eq!(object.read_link(), Ok(b"nothing/at/all".to_vec()));
}

#[test]
fn creating_through_a_link_creates_at_its_target() {
    let (namespace, root, _) = world();
    root.nodes.lock().insert(b"new".to_vec(), link("a/fresh"));
    let how = OpenHow { flags: OpenFlags::WRITE | OpenFlags::CREATE, mode: 0 };
    let (_, place) = namespace.open(b"/", b"new", how).unwrap();
    assert_eq!(place.path, b"/a/fresh");
    assert_eq!(namespace.open(b"/", b"other/", how).err(), Some(Errno::EISDIR));
}

#[test]
fn names_that_cannot_be_created_or_removed() {
    let (namespace, ..) = world();
    assert_eq!(namespace.make_dir(b"/", b"a/.", 0), Err(Errno::EEXIST));
    assert_eq!(namespace.make_dir(b"/", b"/", 0), Err(Errno::EEXIST));
    assert_eq!(namespace.make_dir(b"/", b"nothing/..", 0), Err(Errno::ENOENT));
    assert_eq!(namespace.make_dir(b"/", b"fresh/", 0), Ok(()));
    assert_eq!(namespace.remove_dir(b"/", b"a/."), Err(Errno::EINVAL));
    assert_eq!(namespace.remove_dir(b"/", b"a/b/.."), Err(Errno::ENOTEMPTY));
    assert_eq!(namespace.remove_dir(b"/", b"mnt"), Err(Errno::EBUSY));
    assert_eq!(namespace.remove_dir(b"/", b"/"), Err(Errno::EBUSY));
    assert_eq!(namespace.unlink(b"/", b"a/"), Err(Errno::EISDIR));
    assert_eq!(namespace.unlink(b"/", b"top/"), Err(Errno::ENOTDIR));
    assert_eq!(namespace.unlink(b"/", b"."), Err(Errno::EISDIR));
    assert_eq!(namespace.unlink(b"/", b""), Err(Errno::ENOENT));
    assert_eq!(namespace.make_symlink(b"/", b"fresh2/", b"x"), Err(Errno::ENOENT));
}

#[test]
fn renames_follow_links_and_stay_in_one_file_system() {
    let (namespace, root, _) = world();
    let rename = |old: &str, new: &str| {
        namespace.rename((b"/", old.as_bytes()), (b"/a", new.as_bytes()), RenameFlags::empty())
    };
    assert_eq!(rename("abs/file", "../abs/moved"), Ok(()));
    assert_eq!(root.nodes.lock().get(&b"a/b/moved"[..]), Some(&Node::File(1)));
    assert_eq!(rename("top", "/mnt/top"), Err(Errno::EXDEV));
    assert_eq!(
        rename("mnt", "elsewhere"),
        Err(Errno::EXDEV),
        "a mount point is another file system's root"
    );
    assert_eq!(rename("a/..", "x"), Err(Errno::EBUSY));
    assert_eq!(rename("top/", "x"), Err(Errno::ENOTDIR));
    assert_eq!(rename("", "x"), Err(Errno::ENOENT));
    assert_eq!(rename("loop/x", "x"), Err(Errno::ELOOP));
}

#[test]
fn the_last_mount_hides_others_until_it_is_removed() {
    let (namespace, ..) = world();
    let over = Tree::new(&[("only", Node::File(77))]);
    namespace
        .mount(MountPoint { path: b"/mnt".to_vec(), source: vec![], filesystem: over })
        .unwrap();
    assert_eq!(find(&namespace, "/", "mnt/only"), Ok((77, "/mnt/only".into())));
    assert_eq!(find(&namespace, "/", "mnt/x/y"), Err(Errno::ENOENT));
    namespace.unmount(b"/mnt").unwrap();
    assert_eq!(find(&namespace, "/", "mnt/x/y"), Ok((10, "/mnt/x/y".into())));
    assert!(namespace.unmount(b"/a").is_err());
    assert_eq!(namespace.unmount(b"/").err(), Some(Errno::EBUSY), "the first mount stays");
}

/// X5: a server's replies about the path are validated.
#[test]
fn x5_nonsense_about_links_is_an_error() {
    struct Liar(usize);
    impl FileSystem for Liar {
        fn type_name(&self) -> &'static str {
            "liar"
        }
        fn open(&self, _: &[u8], _: OpenHow) -> Result<Walk<Arc<dyn FileObject>>, Errno> {
            Ok(Walk::Link { which: 7, walked: self.0, target: b"x".to_vec() })
        }
        fn stat(&self, _: &[u8], _: OpenFlags) -> Result<Walk<Stat>, Errno> {
            Ok(Walk::Link { which: 7, walked: self.0, target: b"x".to_vec() })
        }
        fn rename(&self, _: &[u8], _: &[u8], _: RenameFlags) -> Result<Walk<()>, Errno> {
            Ok(Walk::Link { which: 7, walked: self.0, target: b"x".to_vec() })
        }
        fn figures(&self) -> Result<FileSystemFigures, Errno> {
            Err(Errno::EIO)
        }
    }
    for walked in [0, 1, 2, 3, 4, 100, usize::MAX] {
        let namespace = Namespace::new();
        namespace
            .mount(MountPoint {
                path: b"/".to_vec(),
                source: vec![],
                filesystem: Arc::new(Liar(walked)),
            })
            .unwrap();
        assert!(
            matches!(
                find(&namespace, "/", "abc/def"),
                Err(Errno::EIO | Errno::ELOOP | Errno::ENAMETOOLONG)
            ),
            "{walked}"
        );
        assert_eq!(
            namespace.rename((b"/", b"a/b"), (b"/", b"c/d"), RenameFlags::empty()),
            Err(Errno::EIO)
        );
    }
}

#[test]
fn canonical_paths_are_joined_and_split() {
    assert_eq!(
        (split(b"/a/b"), split(b"/a"), split(b"/")),
        (Some((&b"/a"[..], &b"b"[..])), Some((&b"/"[..], &b"a"[..])), None)
    );
}

#[test]
fn q4_mounts_are_bounded() {
    let namespace = Namespace::new();
    let mount = || {
        let filesystem = Tree::new(&[]);
        namespace.mount(MountPoint { path: b"/".to_vec(), source: vec![], filesystem })
    };
    assert_eq!(
        (0..1000).find_map(|count| mount().err().map(|error| (count, error))),
        Some((256, Errno::ENOSPC))
    );
    assert_eq!(namespace.mounts().len(), 256);
    namespace.unmount(b"/").unwrap();
    assert_eq!((mount(), mount()), (Ok(()), Err(Errno::ENOSPC)));
}
