//! The initrd: one ustar archive with the kernel first, followed by the root file system.
//!
//! The loader removes the kernel and the padding after it. The rest starts on a page boundary and
//! is the ramdisk. In it, the data of every file of at least a page starts on a page boundary as
//! well, by padding entries named `.pad`, so that the guest can use the pages in place.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufWriter, Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use tar::{EntryType, Header};

use crate::guest::addition::Addition;
use crate::guest::placing::PlacedFiles;
use crate::guest::userland::{self, Userland};
use crate::guest::{Guest, TOOLS};
use crate::say;

/// Size of a tar block in bytes.
const BLOCK_BYTES: u64 = 512;
/// Size of the guest's page in bytes.
const PAGE_BYTES: u64 = 4096;
/// Files from this size on are announced when they are copied to the disk.
const SAID_BYTES: u64 = 8 << 20;
/// The type of files whose data is on the disk: `foundation::archive::PLACED`.
const PLACED: u8 = b'P';
/// The name of padding entries, which the guest ignores.
const PADDING: &str = ".pad";
/// Folders that always exist.
const FOLDERS: [&str; 10] =
    ["bin", "dev", "etc", "mnt", "proc", "root", "run", "sbin", "sys", "tmp"];
/// Small files that programs expect: users and groups.
const TEXTS: [(&str, &str); 2] =
    [("etc/group", "root:x:0:\n"), ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")];
/// The program that the kernel starts.
const INIT: &str = "init";

/// A file or folder in the ramdisk.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Folder,
    Host {
        file: PathBuf,
        is_executable: bool,
    },
    Text(Vec<u8>),
    /// A file whose data is on the guest's disk, as this list says.
    Placed {
        list: Vec<u8>,
        is_executable: bool,
    },
    /// Another name of a file, which is a path in the ramdisk.
    Link(String),
}

/// The root file system, by path without the leading slash.
#[derive(Debug, Default)]
pub struct Ramdisk {
    nodes: BTreeMap<String, Node>,
}

impl Ramdisk {
    /// A root file system with the guest's programs and empty folders.
    pub fn new(guest: &Guest) -> Result<Self> {
        let mut ramdisk = Self::default();
        for folder in FOLDERS {
            ramdisk.put(folder, Node::Folder)?;
        }
        for (path, text) in TEXTS {
            ramdisk.add_text(path, text.into())?;
        }
        for (name, file) in &guest.programs {
            let folder = if name == INIT { "sbin" } else { "bin" };
            ramdisk.put(
                &format!("{folder}/{name}"),
                Node::Host { file: file.clone(), is_executable: true },
            )?;
        }
        for name in &guest.tools {
            ramdisk.put(&format!("bin/{name}"), Node::Link(format!("bin/{TOOLS}")))?;
        }
        Ok(ramdisk)
    }

    /// Leaves out a program. What is not there is no error.
    pub fn leave_out(&mut self, program: &str) {
        self.nodes.remove(&format!("bin/{program}"));
    }

    /// Adds the distribution's programs, and a link for each applet that is no tool of the guest.
    pub fn add_userland(&mut self, userland: &Userland) -> Result<()> {
        for (path, text) in userland::TEXTS {
            self.add_text(path, text.into())?;
        }
        userland.additions.iter().try_for_each(|addition| self.add(addition))?;
        for name in &userland.applets {
            let path = format!("bin/{name}");
            if !self.nodes.contains_key(&path) {
                self.put(&path, Node::Link(userland::BUSYBOX.to_owned()))?;
            }
        }
        Ok(())
    }

    /// Adds the console of machines with a screen.
    pub fn add_console(&mut self, guest: &Guest) -> Result<()> {
        self.put("sbin/console", Node::Host { file: guest.console.clone(), is_executable: true })
    }

    /// Adds a file with the given contents.
    pub fn add_text(&mut self, guest_path: &str, text: Vec<u8>) -> Result<()> {
        self.put(guest_path, Node::Text(text))
    }

    /// Adds a file or a folder of the host; an existing file is replaced. In a folder, a link that
    /// leads nowhere is left out, with a warning.
    pub fn add(&mut self, addition: &Addition) -> Result<()> {
        let host = &addition.host;
        for entry in walkdir::WalkDir::new(host).follow_links(true).sort_by_file_name() {
            let entry = match entry {
                Err(error) if error.path().is_some_and(is_dangling) => {
                    say!("left out: {error}");
                    continue;
                }
                entry => entry.with_context(|| format!("cannot add {}", host.display()))?,
            };
            let inside = entry.path().strip_prefix(host)?;
            let guest = Path::new(&addition.guest).join(inside);
            let guest = guest.to_str().with_context(|| {
                format!("{} has a name that is not UTF-8", entry.path().display())
            })?;
            let data = entry.metadata()?;
            let node = if data.is_dir() {
                Node::Folder
            } else if data.is_file() {
                let is_executable = data.permissions().mode() & 0o111 != 0;
                Node::Host { file: entry.path().to_path_buf(), is_executable }
            } else {
                bail!("cannot add {}: neither a file nor a folder", entry.path().display());
            };
            self.put(guest.trim_end_matches('/'), node)?;
        }
        Ok(())
    }

    /// Copies the host's files of at least `large_bytes` to the guest's disk. The ramdisk only
    /// lists their pages.
    pub fn place(&mut self, large_bytes: u64, disk: &mut PlacedFiles) -> Result<()> {
        for node in self.nodes.values_mut() {
            let Node::Host { file: path, is_executable } = &*node else { continue };
            let file =
                fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            let size = file.metadata()?.len();
            if size < large_bytes {
                continue;
            }
            if size >= SAID_BYTES {
                say!("copying {} ({} MiB) to the guest's disk", path.display(), size >> 20);
            }
            let list = disk.add(&file).with_context(|| format!("cannot add {}", path.display()))?;
            *node = Node::Placed { list, is_executable: *is_executable };
        }
        Ok(())
    }

    /// Bytes of the host's files and of texts.
    pub fn data_bytes(&self) -> Result<u64> {
        let mut sum = 0;
        for node in self.nodes.values() {
            sum += match node {
                Node::Host { file, .. } => fs::metadata(file)
                    .with_context(|| format!("cannot read {}", file.display()))?
                    .len(),
                Node::Text(text) | Node::Placed { list: text, .. } => text.len() as u64,
                Node::Folder | Node::Link(_) => 0,
            };
        }
        Ok(sum)
    }

    /// Inserts a node and the folders above it.
    fn put(&mut self, path: &str, node: Node) -> Result<()> {
        if path.is_empty() {
            ensure!(node == Node::Folder, "a file cannot replace the root folder");
            return Ok(());
        }
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.put(parent, Node::Folder)?;
        }
        match self.nodes.get(path) {
            Some(old) if (*old == Node::Folder) != (node == Node::Folder) => {
                bail!("/{path} would be both a file and a folder in the guest")
            }
            _ => self.nodes.insert(path.to_owned(), node),
        };
        Ok(())
    }

    /// Writes the initrd: `kernel`, then the root file system.
    pub fn write_initrd(&self, kernel: &Path, target: &fs::File) -> Result<()> {
        let mut archive =
            Archive { out: BufWriter::with_capacity(1 << 20, target), offset_bytes: 0 };
        archive.host_file("kernel", kernel, 0o755)?;
        archive.pad_to(0)?;
        self.write(archive)
    }

    /// Writes the root file system alone.
    pub fn write_alone(&self, target: &fs::File) -> Result<()> {
        self.write(Archive { out: BufWriter::with_capacity(1 << 20, target), offset_bytes: 0 })
    }

    fn write(&self, mut archive: Archive<'_>) -> Result<()> {
        // A link follows its target.
        let (links, others): (Vec<_>, Vec<_>) =
            self.nodes.iter().partition(|(_, node)| matches!(node, Node::Link(_)));
        for (path, node) in others.into_iter().chain(links) {
            match node {
                Node::Link(target) => archive.link(path, target)?,
                Node::Folder => archive.folder(path)?,
                Node::Host { file, is_executable } => {
                    archive.host_file(path, file, if *is_executable { 0o755 } else { 0o644 })?;
                }
                Node::Text(text) => {
                    archive.file(path, text.len() as u64, 0o644, &mut text.as_slice())?
                }
                Node::Placed { list, is_executable } => {
                    let mode = if *is_executable { 0o755 } else { 0o644 };
                    archive.header(path, EntryType::new(PLACED), mode, list.len() as u64)?;
                    archive.raw(list)?;
                    archive.zeros_to_block()?;
                }
            }
        }
        archive.finish()
    }
}

/// Whether a path is a symbolic link without a target.
fn is_dangling(path: &Path) -> bool {
    path.is_symlink() && !path.exists()
}

/// An archive that is being written. Its offset is a multiple of the block size.
struct Archive<'a> {
    out: BufWriter<&'a fs::File>,
    offset_bytes: u64,
}

impl Archive<'_> {
    fn header(&mut self, path: &str, kind: EntryType, mode: u32, size_bytes: u64) -> Result<()> {
        self.raw(Self::entry(path, kind, mode, size_bytes)?.as_bytes())
    }

    /// The header of an entry, with its checksum.
    fn entry(path: &str, kind: EntryType, mode: u32, size_bytes: u64) -> Result<Header> {
        let mut header = Header::new_ustar();
        header
            .set_path(path)
            .with_context(|| format!("the name /{path} is too long for the ramdisk"))?;
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size_bytes);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        Ok(header)
    }

    fn link(&mut self, path: &str, target: &str) -> Result<()> {
        let mut header = Self::entry(path, EntryType::Link, 0o755, 0)?;
        header
            .set_link_name(target)
            .with_context(|| format!("/{path} cannot link to /{target}"))?;
        header.set_cksum();
        self.raw(header.as_bytes())
    }

    fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).context("cannot write the ramdisk")?;
        self.offset_bytes += bytes.len() as u64;
        Ok(())
    }

    fn zeros_to_block(&mut self) -> Result<()> {
        let missing = self.offset_bytes.next_multiple_of(BLOCK_BYTES) - self.offset_bytes;
        self.raw(&[0; BLOCK_BYTES as usize][..missing as usize])
    }

    fn folder(&mut self, path: &str) -> Result<()> {
        self.header(&format!("{path}/"), EntryType::Directory, 0o755, 0)
    }

    fn host_file(&mut self, path: &str, host: &Path, mode: u32) -> Result<()> {
        let mut file =
            fs::File::open(host).with_context(|| format!("cannot read {}", host.display()))?;
        let size_bytes = file.metadata()?.len();
        self.file(path, size_bytes, mode, &mut file)
            .with_context(|| format!("cannot add {}", host.display()))
    }

    fn file(&mut self, path: &str, size_bytes: u64, mode: u32, data: &mut dyn Read) -> Result<()> {
        if size_bytes >= PAGE_BYTES && self.offset_bytes > 0 {
            self.pad_to(PAGE_BYTES - BLOCK_BYTES)?;
        }
        self.header(path, EntryType::Regular, mode, size_bytes)?;
        let copied = std::io::copy(&mut data.take(size_bytes), &mut self.out)?;
        ensure!(copied == size_bytes, "the file shrank while it was read");
        self.offset_bytes += copied;
        self.zeros_to_block()
    }

    /// Writes padding, if needed, so that the archive ends at `remainder` modulo the page size.
    fn pad_to(&mut self, remainder: u64) -> Result<()> {
        let missing = (PAGE_BYTES + remainder - self.offset_bytes % PAGE_BYTES) % PAGE_BYTES;
        if missing == 0 {
            return Ok(());
        }
        let size_bytes = missing - BLOCK_BYTES;
        self.header(PADDING, EntryType::Regular, 0o644, size_bytes)?;
        self.raw(&[0; PAGE_BYTES as usize][..size_bytes as usize])
    }

    fn finish(mut self) -> Result<()> {
        self.raw(&[0; 2 * BLOCK_BYTES as usize])?;
        let file = self
            .out
            .into_inner()
            .map_err(|error| error.into_error())
            .context("cannot write the ramdisk")?;
        (&mut &*file).rewind().context("cannot rewind the ramdisk")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::symlink;

    fn archive_of(files: &[(&str, usize)]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let kernel = folder.path().join("kernel");
        fs::write(&kernel, vec![1; 5000]).unwrap();
        let mut ramdisk = Ramdisk::default();
        for &(path, size) in files {
            ramdisk.add_text(path, vec![b'x'; size]).unwrap();
        }
        let mut target = tempfile::tempfile().unwrap();
        ramdisk.write_initrd(&kernel, &target).unwrap();
        let mut bytes = Vec::new();
        target.read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn large_files_and_the_ramdisk_start_on_page_boundaries() {
        let bytes =
            archive_of(&[("a", 1), ("b/c", 4095), ("b/d", 4096), ("e", 100_000), ("f", 4096)]);
        let mut seen = Vec::new();
        for (index, entry) in tar::Archive::new(bytes.as_slice()).entries().unwrap().enumerate() {
            let entry = entry.unwrap();
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            if index > 0 && name != PADDING && entry.size() >= PAGE_BYTES {
                assert_eq!(entry.raw_file_position() % PAGE_BYTES, 0, "{name}");
            }
            if name == "a" {
                assert_eq!(
                    entry.raw_header_position() % PAGE_BYTES,
                    0,
                    "the ramdisk's first entry"
                );
            }
            if name != PADDING {
                seen.push(name);
            }
        }
        assert_eq!(seen, ["kernel", "a", "b/", "b/c", "b/d", "e", "f"]);
    }

    #[test]
    fn a_folder_is_added_with_contents_and_executable_bits() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        fs::File::create(folder.path().join("sub/plain")).unwrap().write_all(b"hello").unwrap();
        let script = folder.path().join("script");
        fs::write(&script, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
        symlink("no/such/file", folder.path().join("dangling")).unwrap();
        symlink("script", folder.path().join("link")).unwrap();
        let mut ramdisk = Ramdisk::default();
        ramdisk
            .add(&Addition { host: folder.path().to_path_buf(), guest: "mnt/x".to_owned() })
            .unwrap();
        assert!(!ramdisk.nodes.contains_key("mnt/x/dangling"));
        assert!(matches!(ramdisk.nodes["mnt/x/link"], Node::Host { is_executable: true, .. }));
        assert_eq!(ramdisk.data_bytes().unwrap(), 5 + 2 * 10);
        assert!(matches!(ramdisk.nodes["mnt/x/script"], Node::Host { is_executable: true, .. }));
        assert!(matches!(
            ramdisk.nodes["mnt/x/sub/plain"],
            Node::Host { is_executable: false, .. }
        ));
        assert_eq!(ramdisk.nodes["mnt"], Node::Folder);
    }

    #[test]
    fn a_path_is_not_both_a_file_and_a_folder() {
        let mut ramdisk = Ramdisk::default();
        ramdisk.add_text("a", Vec::new()).unwrap();
        assert!(ramdisk.add_text("a/b", Vec::new()).is_err());
        assert!(ramdisk.add_text("", Vec::new()).is_err());
    }
}
