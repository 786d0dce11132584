//! A site in a temporary directory.

use super::{Answer, Body, FileCache, FileRequest, FileServer, Part, Warning};
use config::model::Files;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Old enough to be settled; in whole seconds.
pub(super) fn long_ago() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777) // Sun, 06 Nov 1994 08:49:37 GMT
}

/// A directory with `www` as the root and room next to it, removed at the end.
pub(super) struct Site {
    base: PathBuf,
}

impl Site {
    pub(super) fn new(name: &str) -> Self {
        let base =
            std::env::temp_dir().join(format!("ravelin-files-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        fs::create_dir_all(base.join("www")).unwrap();
        Self { base }
    }

    pub(super) fn root(&self) -> PathBuf {
        self.base.join("www")
    }

    /// A path below the root; `../x` is next to it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// Writes a file as of [`long_ago`], with the directories it needs.
    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        self.write_as_of(name, content, long_ago());
    }

    pub(super) fn write_as_of(&self, name: &str, content: impl AsRef<[u8]>, time: SystemTime) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    }

    pub(super) fn files(&self) -> Files {
        Files {
            root: self.root(),
            index: vec!["index.html".to_owned(), "index.htm".to_owned()],
            error_pages: BTreeMap::new(),
            spa_fallback: None,
            spa_exclude: Vec::new(),
            follow_symlinks: false,
            cache_control: None,
            etag: true,
            last_modified: true,
        }
    }

    pub(super) fn serve(&self) -> Client {
        Client::new(&self.files())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.base);
    }
}

/// A file server with a cache and a clock.
pub(super) struct Client {
    pub(super) server: FileServer,
    pub(super) cache: FileCache,
    pub(super) now: u64,
    pub(super) warning: Option<Warning>,
}

impl Client {
    pub(super) fn new(files: &Files) -> Self {
        let (server, warning) = FileServer::open(files);
        Self { server, cache: FileCache::new(), now: 0, warning }
    }

    pub(super) fn get(&mut self, path: &str) -> Seen {
        self.ask(FileRequest { path: path.as_bytes(), ..FileRequest::default() })
    }

    pub(super) fn ask(&mut self, request: FileRequest<'_>) -> Seen {
        Seen::from(self.server.answer(&mut self.cache, self.now, &request))
    }
}

/// An answer with its body read.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) status: u16,
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    pub(super) in_memory: bool,
    pub(super) len: u64,
}

impl Seen {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(field, _)| field == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} is there twice");
        value
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl From<Answer> for Seen {
    fn from(answer: Answer) -> Self {
        let text = std::str::from_utf8(&answer.fields).unwrap();
        assert!(text.is_empty() || text.ends_with("\r\n"), "{text:?}");
        let lines = text.split("\r\n").filter(|line| !line.is_empty());
        let fields = lines
            .map(|line| line.split_once(": ").map(|(n, v)| (n.to_owned(), v.to_owned())).unwrap())
            .collect();
        let len = answer.body.len();
        let in_memory = matches!(answer.body, Body::Memory { .. });
        let parts = match answer.body {
            Body::Empty => Vec::new(),
            Body::Memory { bytes, range } => vec![Part::Memory { bytes, range }],
            Body::File { file, start, len } => vec![Part::File { file, start, len }],
            Body::Parts(parts) => parts,
        };
        let body: Vec<u8> = parts.iter().flat_map(octets).collect();
        assert_eq!(body.len() as u64, len);
        Self { status: answer.status, fields, body, in_memory, len }
    }
}

fn octets(part: &Part) -> Vec<u8> {
    match part {
        Part::Memory { bytes, range } => bytes[range.clone()].to_vec(),
        Part::File { file, start, len } => {
            let mut octets = vec![0; usize::try_from(*len).unwrap()];
            file.read_exact_at(&mut octets, *start).unwrap();
            octets
        }
    }
}

/// Renames over, as a deployment does.
pub(super) fn replace(from: &Path, to: &Path) {
    fs::rename(from, to).unwrap();
}
