//! The demo's index page, in a directory of its own for as long as the demo runs.

use std::fs::{self, DirBuilder};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const INDEX: &str = include_str!("../../assets/index.html");

/// A private temporary directory with the page; removed when this is dropped.
pub(crate) struct Directory(PathBuf);

impl Directory {
    /// Makes the directory and writes the page.
    pub(crate) fn create() -> io::Result<Self> {
        let random = RandomState::new().build_hasher().finish();
        let name = format!("ravelin-demo-{}-{random:016x}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // Fails if it is there already: nobody else's directory is used, or removed at the end.
        DirBuilder::new().mode(0o700).create(&path)?;
        let directory = Self(path);
        fs::write(directory.0.join("index.html"), INDEX)?;
        Ok(directory)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _left_for_the_system_to_clean = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_private_and_gone_at_the_end() {
        use std::os::unix::fs::PermissionsExt;
        let directory = Directory::create().unwrap();
        let path = directory.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(fs::read_to_string(path.join("index.html")).unwrap().contains("<!doctype html>"));
        drop(directory);
        assert!(!path.exists());
    }
}
