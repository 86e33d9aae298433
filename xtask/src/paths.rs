//! Where things lie on the host. All that is made goes below cargo's target folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The workspace's root and the folder for products.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The workspace's root.
    pub root: PathBuf,
    /// Our own folder in it.
    pub work: PathBuf,
}

impl Paths {
    /// Finds them, and makes our own folder.
    pub fn find() -> Result<Self> {
        // Cargo tells it at run time; a binary started by hand knows where it was built.
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest
            .parent()
            .map(Path::to_path_buf)
            .context("xtask does not lie in a workspace")?;
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(folder) => std::path::absolute(folder)?,
            None => root.join("target"),
        };
        let work = target.join("sloth");
        std::fs::create_dir_all(&work)
            .with_context(|| format!("cannot make the folder {}", work.display()))?;
        Ok(Self { root, work })
    }

    /// A file that no one else sees and that is gone with the last descriptor.
    pub fn scratch_file(&self) -> Result<std::fs::File> {
        tempfile::tempfile_in(&self.work)
            .with_context(|| format!("cannot make a file in {}", self.work.display()))
    }
}
