//! `ravelin convert`: the same configuration as native TOML.

use std::io;

use config::Options;

use crate::cli::{Common, ConvertArguments};
use crate::configuration::{count, options, texts};
use crate::terminal::{self, Failure};

/// Prints the configuration on standard output; fails, with every mistake on standard error, when there is
/// an error in it.
pub(crate) fn convert(arguments: &ConvertArguments, common: &Common) -> Result<(), Failure> {
    // What the files name may be on another machine.
    let options = Options { exists: &|_| true, ..options(common) };
    let converted = config::convert(&texts(&arguments.files)?, &options);
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
    terminal::print(io::stdout(), &text);
    Ok(())
}
