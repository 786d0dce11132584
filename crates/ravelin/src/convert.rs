//! `ravelin convert`: the same configuration as native TOML.

use std::io;

use config::{Code, Options, Severity};

use crate::cli::{Common, ConvertArguments};
use crate::configuration::{count, options, texts};
use crate::terminal::{self, Failure};

/// Prints the configuration on standard output; fails, with every mistake on standard error, when there is
/// an error in it.
pub(crate) fn convert(arguments: &ConvertArguments, common: &Common) -> Result<(), Failure> {
    let files = texts(&arguments.files)?;
    let options = options(common);
    let mut converted = config::convert(&files, &options);
    let mut errors =
        converted.loaded.diagnostics.iter().filter(|found| found.severity == Severity::Error);
    if converted.text.is_none() && errors.all(|error| error.code == Code::MissingFile) {
        // It is for another machine, which has the files.
        converted = config::convert(&files, &Options { exists: &|_| true, ..options });
    }
    let Some(text) = converted.text else {
        let stderr = io::stderr();
        let color = terminal::colored(common.color, &stderr);
        terminal::print(&stderr, &converted.loaded.render(color));
        let errors = count(converted.loaded.errors(), "error");
        return Err(Failure::new(
            format!("the configuration has {errors}, nothing is converted"),
            "",
        ));
    };
    terminal::show(&text)
}
