//! Where tests are.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// What test files' names end with.
pub const SUFFIX: &str = "_test.lua";

/// The test files under a folder, by their paths; a file is itself.
pub fn find(path: &Path) -> io::Result<Vec<PathBuf>> {
    if fs::metadata(path)?.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    look(path, &mut found)?;
    found.sort();
    Ok(found)
}

/// Links to folders are not followed: they may lead in circles.
fn look(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            look(&path, found)?;
        } else if entry.file_name().to_string_lossy().ends_with(SUFFIX) {
            found.push(path.strip_prefix(".").unwrap_or(&path).to_owned());
        }
    }
    Ok(())
}
