//! Folders on the host. All products are below cargo's target folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The workspace's root and the folder for products.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The root of the workspace.
    pub root: PathBuf,
    /// xtask's folder in the target folder.
    pub work: PathBuf,
}

impl Paths {
    /// The socket of QEMU's monitor.
    pub fn monitor(&self) -> PathBuf {
        self.work.join("monitor")
    }

    /// Finds the folders, and creates xtask's own.
    pub fn find() -> Result<Self> {
        // Cargo sets this at run time; a binary that is started by hand has the path of its build.
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root =
            manifest.parent().map(Path::to_path_buf).context("xtask is not in a workspace")?;
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(folder) => std::path::absolute(folder)?,
            None => root.join("target"),
        };
        let work = target.join("sloth");
        std::fs::create_dir_all(&work)
            .with_context(|| format!("cannot create the folder {}", work.display()))?;
        Ok(Self { root, work })
    }

    /// An unlinked file, which the system removes when its last descriptor is closed.
    pub fn scratch_file(&self) -> Result<std::fs::File> {
        tempfile::tempfile_in(&self.work)
            .with_context(|| format!("cannot create a file in {}", self.work.display()))
    }
}
