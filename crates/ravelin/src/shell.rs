//! `ravelin completions` and `ravelin man`: what the definitions of the command line say, for shells and
//! for `man`.

use std::io;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::terminal::{self, Failure};

/// Writes what `shell` needs to complete command lines to standard output.
pub(crate) fn completions(shell: Shell) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ravelin", &mut text);
    terminal::show(&String::from_utf8_lossy(&text))
}

/// Writes the manual page to standard output: that of `ravelin`, then one section for each command.
pub(crate) fn man() -> Result<(), Failure> {
    terminal::show(&String::from_utf8_lossy(&page().map_err(cannot)?))
}

fn cannot(error: io::Error) -> Failure {
    Failure::new(format!("cannot write the manual page: {error}"), "")
}

fn page() -> io::Result<Vec<u8>> {
    let mut command = Cli::command();
    command.build();
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let name = sub.get_name();
        page.extend_from_slice(format!(".SH \"RAVELIN {}\"\n", name.to_uppercase()).as_bytes());
        let about = sub.get_long_about().or(sub.get_about()).map(ToString::to_string);
        page.extend_from_slice(escaped(&about.unwrap_or_default()).as_bytes());
        let man = clap_mangen::Man::new(sub.clone());
        man.render_options_section(&mut page)?;
        man.render_extra_section(&mut page)?;
    }
    Ok(page)
}

/// As roff takes it: no line begins with a control character.
fn escaped(text: &str) -> String {
    let lines = text.lines().map(|line| match line.starts_with(['.', '\'']) {
        true => format!("\\&{line}\n"),
        false => format!("{line}\n"),
    });
    lines.collect::<String>().replace('-', "\\-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_page_has_every_command() {
        let page = String::from_utf8(page().unwrap()).unwrap();
        for sub in Cli::command().get_subcommands() {
            let section = format!(".SH \"RAVELIN {}\"", sub.get_name().to_uppercase());
            assert!(page.contains(&section), "{section}");
        }
    }
}
