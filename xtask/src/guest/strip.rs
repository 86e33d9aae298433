//! Strips guest programs: removes the sections and symbols that only debuggers read.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use object::build::elf::{Builder, SectionData};

/// Strips `program` into `copy`, unless `copy` is newer.
pub fn cached(program: &Path, copy: &Path) -> Result<PathBuf> {
    let changed = |path: &Path| fs::metadata(path).and_then(|data| data.modified());
    let is_fresh = match (changed(program), changed(copy)) {
        (Ok(program), Ok(copy)) => program < copy,
        _ => false,
    };
    if !is_fresh {
        let bytes =
            fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
        let stripped =
            strip(&bytes).with_context(|| format!("cannot strip {}", program.display()))?;
        // Renamed into place, so that a parallel run finds either the old copy or the new one.
        let folder = copy.parent().context("a copy without a folder")?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        std::io::Write::write_all(&mut file, &stripped)?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o755))?;
        file.persist(copy)?;
    }
    Ok(copy.to_path_buf())
}

/// Keeps the loaded sections and their names, of which the loader reads one.
fn strip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut program = Builder::read(bytes)?;
    for section in &mut program.sections {
        section.delete = !section.is_alloc() && !matches!(section.data, SectionData::SectionString);
    }
    for symbol in &mut program.symbols {
        symbol.delete = true;
    }
    program.delete_orphans();
    program.set_section_sizes();
    let mut stripped = Vec::new();
    program.write(&mut stripped)?;
    Ok(stripped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_an_error() {
        assert!(strip(b"").is_err());
        assert!(strip(&[0x7f; 200]).is_err());
    }
}
