//! Reading the small files that a configuration names.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// Reads a file of at most `max` bytes, and refuses at once what may never come to an end: a FIFO that nobody
/// writes to would hold up a start or a reload for ever.
///
/// # Errors
/// It cannot be read, is no regular file, or is longer.
pub fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    match file.metadata()?.is_file() {
        true => read_open(file, max),
        false => Err(io::Error::new(ErrorKind::InvalidInput, "it is not a file")),
    }
}

/// Reads what is open to its end, but no more than `max` bytes.
///
/// # Errors
/// It cannot be read, or is longer.
pub fn read_open(file: File, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = file.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(read).is_ok_and(|read| read > max) {
        let (size, unit) = if max < 1 << 20 { (max >> 10, "KiB") } else { (max >> 20, "MiB") };
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("longer than {size} {unit}")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_that_ends_is_read() {
        let directory = std::env::temp_dir().join(format!("ravelin-file-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let refused = |path: &Path| read(path, 4096).unwrap_err().to_string();
        let fifo = directory.join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        for path in [&fifo, &directory, Path::new("/dev/zero"), Path::new("/dev/tty")] {
            let why = refused(path);
            assert!(
                why == "it is not a file" || path.ends_with("tty"),
                "{}: {why}",
                path.display()
            );
        }
        let file = directory.join("file");
        std::fs::write(&file, [b'x'; 4096]).unwrap();
        assert_eq!(read(&file, 4096).unwrap().len(), 4096);
        std::fs::write(&file, [b'x'; 4097]).unwrap();
        assert_eq!(refused(&file), "longer than 4 KiB");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
