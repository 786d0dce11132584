//! From paths on the command line to a model: reads the files, finds those of a directory, shows
//! what is wrong.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use config::model::Level;
use config::{Dialect, Loaded, Model, Options};
use control::orders::Orders;
use control::watch_config::{self, Seen, Watch};

use crate::cli::Common;
use crate::terminal::{self, Failure};

/// Longest configuration file read, in bytes: ample for ten thousand sites, and a mistaken
/// `-c /dev/zero` ends.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Where a configuration comes from, to be read again.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    paths: Vec<PathBuf>,
    dialect: Option<Dialect>,
    level: Option<Level>,
    /// The files when they were last read; clones share it.
    seen: Arc<Mutex<Option<Seen>>>,
}

impl Source {
    /// The files at `paths`; none for a configuration that is in no file.
    pub(crate) fn new(paths: &[PathBuf], common: &Common) -> Self {
        let level = common.log_level.map(Level::from);
        let seen = Arc::default();
        Self { paths: paths.to_vec(), dialect: common.dialect, level, seen }
    }

    /// As they were given on the command line.
    pub(crate) fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// The files with their texts, at the start: pipes too.
    pub(crate) fn texts(&self) -> Result<Vec<(PathBuf, Vec<u8>)>, Failure> {
        self.texts_by(read)
    }

    /// The same while something is served. Only of files: whoever reads a pipe waits for its writer, and
    /// nothing else is done meanwhile.
    pub(crate) fn texts_again(&self) -> Result<Vec<(PathBuf, Vec<u8>)>, Failure> {
        self.texts_by(read_file)
    }

    fn texts_by(&self, read: Reader) -> Result<Vec<(PathBuf, Vec<u8>)>, Failure> {
        match self.paths.is_empty() {
            true => Err(Failure::new("this configuration is in no file", "")),
            false => {
                *self.seen() = Some(Seen::now(self.files()));
                texts_by(&self.paths, read)
            }
        }
    }

    /// Reads texts as these files are read.
    pub(crate) fn load<T: AsRef<[u8]>>(&self, files: &[(PathBuf, T)]) -> Loaded {
        let options = Options { dialect: self.dialect, exists: &may_exist, environment: &variable };
        config::load(files, &options)
    }

    /// What the command line says beside the files.
    pub(crate) fn settle(&self, model: &mut Model) {
        if let Some(level) = self.level {
            model.logging.level = level;
        }
    }

    /// Watches the files, if `model` wants that. Call on the control runtime.
    pub(crate) fn watch(&self, model: &Model, orders: &Orders) -> Option<Watch> {
        let is_wanted = model.reload.watch && !self.paths.is_empty();
        is_wanted.then(|| {
            let seen = self.seen().clone().unwrap_or_else(|| Seen::now(self.files()));
            let source = self.clone();
            watch_config::start(Arc::new(move || source.files()), seen, orders.clone())
        })
    }

    /// The files are others than when they were last read.
    pub(crate) fn is_newer(&self) -> bool {
        let now = Seen::now(self.files());
        self.seen().as_ref().is_some_and(|seen| *seen != now)
    }

    /// The files that there are now.
    fn files(&self) -> Vec<PathBuf> {
        let files = |path: &PathBuf| files_at(path).unwrap_or_else(|_| vec![path.clone()]);
        self.paths.iter().flat_map(files).collect()
    }

    fn seen(&self) -> MutexGuard<'_, Option<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the files at `paths` as one configuration.
pub(crate) fn load(paths: &[PathBuf], common: &Common) -> Result<Loaded, Failure> {
    Ok(load_texts(&texts(paths)?, common))
}

/// The files at `paths` with their texts.
pub(crate) fn texts(paths: &[PathBuf]) -> Result<Vec<(PathBuf, Vec<u8>)>, Failure> {
    texts_by(paths, read)
}

fn texts_by(paths: &[PathBuf], read: Reader) -> Result<Vec<(PathBuf, Vec<u8>)>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        for path in files_at(path)? {
            let bytes = read(&path).map_err(|error| unreadable(&path, &error))?;
            files.push((path, bytes));
        }
    }
    Ok(files)
}

/// Reads texts that are not in files, or have been read.
pub(crate) fn load_texts<T: AsRef<[u8]>>(files: &[(PathBuf, T)], common: &Common) -> Loaded {
    config::load(files, &options(common))
}

/// What the command line and the system say beside the files.
pub(crate) fn options(common: &Common) -> Options<'static> {
    Options { dialect: common.dialect, exists: &may_exist, environment: &variable }
}

/// A variable of the environment; one that is no text is as good as none.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Whether there is a file or directory, or may be one where the user who runs this may not look.
fn may_exist(path: &Path) -> bool {
    match path.try_exists() {
        Ok(exists) => exists,
        Err(error) => error.kind() == ErrorKind::PermissionDenied,
    }
}

/// The model to serve, with what the command line says about logging. Findings go to standard
/// error, warnings too.
pub(crate) fn model_to_serve(loaded: Loaded, common: &Common) -> Result<Model, Failure> {
    let stderr = io::stderr();
    terminal::print(&stderr, &loaded.render(terminal::colored(common.color, &stderr)));
    let errors = loaded.errors();
    let Some(mut model) = loaded.model else {
        let what = format!("the configuration has {}, nothing is served", count(errors, "error"));
        return Err(Failure::new(what, ""));
    };
    if let Some(level) = common.log_level {
        model.logging.level = level.into();
    }
    Ok(model)
}

/// "1 error", "2 errors".
pub(crate) fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// How the names of configuration files end.
const EXTENSIONS: &[&str] = &["toml", "yaml", "yml"];

/// A file stands for itself, a directory for its configuration files in order of their names.
fn files_at(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path).map_err(|error| unreadable(path, &error))?;
    let mut files = Vec::new();
    for entry in entries {
        let file = entry.map_err(|error| unreadable(path, &error))?.path();
        let hidden = file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let known = |extension| EXTENSIONS.iter().any(|known| extension == *known);
        if file.extension().is_some_and(known) && !hidden && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        let what = format!("the directory {} has no *.toml or *.yaml file", path.display());
        return Err(Failure::new(what, "name a configuration file, or put one there"));
    }
    Ok(files)
}

/// How the content of a path is had.
type Reader = fn(&Path) -> io::Result<Vec<u8>>;

fn read(path: &Path) -> io::Result<Vec<u8>> {
    net::file::read_open(File::open(path)?, FILE_BYTES_MAX)
}

/// Reads what is a file, and refuses at once what may never come to an end.
pub(crate) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    net::file::read(path, FILE_BYTES_MAX)
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let what = format!("cannot read {}: {error}", path.display());
    let advice = match error.kind() {
        ErrorKind::NotFound if path == Path::new("ravelin.toml") => {
            "name a configuration with `-c FILE`, or try `ravelin demo`, which needs none"
        }
        ErrorKind::PermissionDenied => "let the user that runs Ravelin read it",
        _ => "",
    };
    Failure::new(what, advice)
}
