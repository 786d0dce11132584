//! Temporary files that have no name.
//!
//! What always holds: nobody else can open such a file, and it is gone with its last descriptor,
//! whatever becomes of the process.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat, unlink};
use rustix::io::Errno;

/// Attempts at a name that nobody has; the names are random, so that even one collision is odd.
const NAMES_TRIED_MAX: u64 = 8;

/// Opens a new file in `directory` for reading and writing, with no rights for others.
///
/// # Errors
/// What the system says of the directory, or of a lack of descriptors or space.
pub(super) fn open(directory: &Path) -> io::Result<File> {
    // With O_EXCL it can never get a name.
    let flags = OFlags::TMPFILE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    match openat(CWD, directory, flags, private()) {
        Ok(fd) => Ok(File::from(fd)),
        // The file system or the kernel knows of no such files.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => open_and_unlink(directory),
        Err(error) => Err(error.into()),
    }
}

/// The same by a name that is taken away at once.
fn open_and_unlink(directory: &Path) -> io::Result<File> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
    let random = RandomState::new();
    let mut result = Err(Errno::EXIST);
    for attempt in 0..NAMES_TRIED_MAX {
        let path = directory.join(format!(".ravelin-{:016x}", random.hash_one(attempt)));
        result = openat(CWD, &path, flags, private());
        match result {
            Ok(_) => {
                unlink(&path)?;
                break;
            }
            Err(Errno::EXIST) => {}
            Err(_) => break,
        }
    }
    Ok(File::from(result?))
}

fn private() -> Mode {
    Mode::RUSR | Mode::WUSR
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    fn has_no_name_and_is_private(open: fn(&Path) -> io::Result<File>) {
        let directory = std::env::temp_dir().join(format!(
            "ravelin-temporary-{}-{:016x}",
            std::process::id(),
            RandomState::new().hash_one(0)
        ));
        std::fs::create_dir(&directory).unwrap();
        let file = open(&directory).unwrap();
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
        let facts = file.metadata().unwrap();
        assert_eq!((facts.nlink(), facts.mode() & 0o777), (0, 0o600));
        file.write_all_at(b"body", 0).unwrap();
        let mut read = [0; 4];
        file.read_exact_at(&mut read, 0).unwrap();
        assert_eq!(&read, b"body");
        std::fs::remove_dir(&directory).unwrap();
    }

    #[test]
    fn a_temporary_file_has_no_name_and_is_private() {
        has_no_name_and_is_private(open);
    }

    #[test]
    fn so_it_is_where_the_file_system_needs_a_name() {
        has_no_name_and_is_private(open_and_unlink);
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        let error = open(Path::new("/nowhere/at/all")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
