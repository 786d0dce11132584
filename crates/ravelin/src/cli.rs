//! What may be written on the command line. Help texts are made from this, so they say everything a
//! user has to know.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ColorChoice, Parser, Subcommand, ValueEnum};
use config::Dialect;
use config::model::Level;

use crate::explain::ExplainArguments;

use crate::operate::Operate;

/// A reverse proxy that runs the configuration you already have
#[derive(Debug, Parser)]
#[command(
    name = "ravelin",
    version,
    about,
    long_about = "A reverse proxy that runs the configuration you already have.\n\n\
                  Ravelin stands in front of web applications: it takes requests, finds the site \
                  and route they belong to, and answers them from files or passes them on to one \
                  of several upstreams, WebSockets included.",
    after_help = TOP_EXAMPLES,
    after_long_help = TOP_EXAMPLES,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const TOP_EXAMPLES: &str = "\
Examples:
  ravelin demo                      look at a working Ravelin, without a configuration
  ravelin check ravelin.toml        find every mistake in a configuration
  ravelin convert config.yaml       write the configuration of another system as Ravelin's own
  ravelin run -c ravelin.toml       serve it

Exit status: 0 done, 1 the configuration or the operation failed, 2 wrong usage.";

/// Flags that every command takes.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Language of the configuration files
    ///
    /// Without this flag it is found by each file's name (*.toml, *.yaml, *.yml) and content.
    #[arg(long, global = true, value_name = "NAME", value_parser = dialects())]
    pub(crate) dialect: Option<Dialect>,

    /// Least severe line in the error log, instead of what the configuration says
    #[arg(long, global = true, value_name = "LEVEL", value_enum)]
    pub(crate) log_level: Option<LogLevel>,

    /// When to use terminal colours
    #[arg(long, global = true, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    pub(crate) color: ColorChoice,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve a configuration
    #[command(
        long_about = "Serves a configuration until it is told to stop.\n\n\
                      Access-log lines go to standard output and messages to standard error \
                      unless the configuration names files.",
        after_help = RUN_NOTES,
        after_long_help = RUN_NOTES
    )]
    Run(RunArguments),

    /// Read a configuration and report every mistake with its place
    #[command(
        long_about = "Reads configuration files as `run` would and reports every mistake at once, \
                      each with file, line, column and what to write instead. Nothing is started.",
        after_help = CHECK_NOTES,
        after_long_help = CHECK_NOTES
    )]
    Check(CheckArguments),

    /// Say what would become of a request, and why
    #[command(
        long_about = "Says which site and route a request would come to and why the others would not have \
                      it, what guards would say, where it would go and with which limits, each with \
                      the place where that is written. Nothing is sent anywhere.\n\n\
                      With --live a running Ravelin is asked, which knows how its upstreams fare and what \
                      is left of rate limits.",
        after_help = EXPLAIN_NOTES,
        after_long_help = EXPLAIN_NOTES
    )]
    Explain(ExplainArguments),

    /// Write a configuration as native TOML
    #[command(
        long_about = "Reads configuration files as `run` would and writes the same configuration as \
                      native TOML to standard output. Where a line means something else than in \
                      the system it is written for, or nothing, a comment says so and names it. \
                      Comments of the files themselves are not taken over; secrets are.",
        after_help = CONVERT_NOTES,
        after_long_help = CONVERT_NOTES
    )]
    Convert(ConvertArguments),

    /// Serve an example: files, a balanced API and a WebSocket echo
    #[command(
        long_about = "Serves an example without any configuration: an index page from static \
                      files, /api/ balanced over two small origins that say who they are, and /ws \
                      echoing WebSocket messages. All of it is inside this process and gone when \
                      it ends.",
        after_help = DEMO_NOTES,
        after_long_help = DEMO_NOTES
    )]
    Demo(DemoArguments),

    #[command(flatten)]
    Operate(Operate),

    /// Write a JSON schema of native TOML, for editors
    #[command(after_help = SCHEMA_NOTES, after_long_help = SCHEMA_NOTES)]
    Schema,

    /// Write what a shell needs to complete command lines
    #[command(after_help = COMPLETIONS_NOTES, after_long_help = COMPLETIONS_NOTES)]
    Completions {
        /// For which shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },

    /// Write the manual page
    #[command(after_help = MAN_NOTES, after_long_help = MAN_NOTES)]
    Man,
}

const SCHEMA_NOTES: &str = "\
Examples:
  ravelin schema > ravelin.schema.json
  #:schema ./ravelin.schema.json           as first line of ravelin.toml, for Taplo and others";

const COMPLETIONS_NOTES: &str = "\
Examples:
  ravelin completions bash > /usr/share/bash-completion/completions/ravelin
  ravelin completions zsh > ~/.zfunc/_ravelin
  ravelin completions fish > ~/.config/fish/completions/ravelin.fish";

const MAN_NOTES: &str = "\
Examples:
  ravelin man | man -l -
  ravelin man > /usr/share/man/man1/ravelin.1";

const RUN_NOTES: &str = "\
Signals:
  SIGTERM, SIGINT (Ctrl-C)   stop listening, finish what is under way (at most 30 s), end;
                             a second one does not wait
  SIGQUIT                    end at once
  SIGHUP                     read the configuration again
  SIGUSR1                    open the log files anew, after a rotation

Examples:
  ravelin run                              serve ./ravelin.toml
  ravelin run -c site.toml -c other.toml   serve the sites of both files
  ravelin run -c config.yaml               serve what PyServe or Easegress would
  ravelin run -c /etc/ravelin              serve every *.toml and *.yaml of a directory";

const CHECK_NOTES: &str = "\
Examples:
  ravelin check ravelin.toml
  ravelin check /etc/ravelin               every *.toml and *.yaml of a directory, as one
  ravelin check site.toml --format json    one JSON object a line, for tools
  ravelin check --strict ravelin.toml      with the rules of the linter, before a deployment

Requests in `[[tests]]` are looked at, too: nothing is sent anywhere.

Exit status: 0 no error (there may be warnings), 1 errors, with --strict also warnings and what rules
say, 2 wrong usage.";

const EXPLAIN_NOTES: &str = "\
Examples:
  ravelin explain ravelin.toml https://example.com/api/x
  ravelin explain ravelin.toml POST http://example.com/login -H 'Content-Type: text/plain'
  ravelin explain --live https://example.com/api/x          as it would go now
  ravelin explain --live https://example.com/ --client 192.0.2.7 --format json

Exit status: 0 explained, 1 the configuration has errors or nobody answers, 2 wrong usage.";

const CONVERT_NOTES: &str = "\
Examples:
  ravelin convert config.yaml > ravelin.toml
  ravelin convert server.yaml pipelines.yaml     objects of Easegress in several files
  ravelin convert --dialect pyserve conf         a file whose name and content do not say what it is

Exit status: 0 converted, 1 the configuration has errors, 2 wrong usage.";

const DEMO_NOTES: &str = "\
Examples:
  ravelin demo
  ravelin demo --port 9000
  ravelin demo --listen 0.0.0.0:8080       also for other machines
  ravelin demo --show-config               print the configuration it would run, and end";

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// A configuration file, or a directory whose *.toml, *.yaml and *.yml files are taken in order of
    /// their names; may be given several times
    #[arg(short, long = "config", value_name = "FILE|DIR", default_value = "ravelin.toml")]
    pub(crate) config: Vec<PathBuf>,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// Configuration files, or directories whose *.toml, *.yaml and *.yml files are taken; read as one
    /// configuration
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,

    /// Say also what one may think better of, by the linter's rules, and fail if there is anything, be it a
    /// warning
    #[arg(long)]
    pub(crate) strict: bool,

    /// How to report
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Human)]
    pub(crate) format: Format,
}

/// Arguments of `convert`.
#[derive(Debug, Args)]
pub(crate) struct ConvertArguments {
    /// Configuration files, or directories whose *.toml, *.yaml and *.yml files are taken; read as one
    /// configuration
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArguments {
    /// Port to serve at, on 127.0.0.1; 0 for a free one
    #[arg(short, long, value_name = "PORT", default_value_t = 8080)]
    pub(crate) port: u16,

    /// Address and port to serve at
    #[arg(short, long, value_name = "ADDRESS:PORT", conflicts_with = "port")]
    pub(crate) listen: Option<SocketAddr>,

    /// Print the configuration instead of serving it
    #[arg(long)]
    pub(crate) show_config: bool,
}

/// How `check` reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Text with the source lines
    Human,
    /// One JSON object a line
    Json,
}

/// Severities, as the command line writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    /// Requests fail or the process cannot go on
    Error,
    /// Something needs an operator's eye
    Warn,
    /// Normal life
    Info,
    /// For those who look for a fault
    Debug,
}

impl From<LogLevel> for Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::Error,
            LogLevel::Warn => Self::Warn,
            LogLevel::Info => Self::Info,
            LogLevel::Debug => Self::Debug,
        }
    }
}

/// The dialects by name, whichever there are.
fn dialects() -> impl TypedValueParser<Value = Dialect> {
    let names = Dialect::ALL.iter().map(|(name, _)| *name);
    PossibleValuesParser::new(names).try_map(|chosen| {
        let named = Dialect::ALL.iter().find(|(name, _)| *name == chosen);
        named.map(|(_, dialect)| *dialect).ok_or("no such dialect")
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_default_configuration_gives_way_to_named_ones() {
        let configs = |line: &str| match Cli::parse_from(line.split(' ')).command {
            Command::Run(arguments) => arguments.config,
            other => panic!("{other:?}"),
        };
        assert_eq!(configs("ravelin run"), [PathBuf::from("ravelin.toml")]);
        assert_eq!(configs("ravelin run -c a -c b"), [PathBuf::from("a"), PathBuf::from("b")]);
    }

    #[test]
    fn common_flags_may_stand_before_and_after_the_command() {
        for line in ["ravelin --log-level warn run", "ravelin run --log-level warn"] {
            let cli = Cli::parse_from(line.split(' '));
            assert_eq!(cli.common.log_level, Some(LogLevel::Warn));
        }
        let cli = Cli::parse_from("ravelin check x --dialect native".split(' '));
        assert_eq!(cli.common.dialect, Some(Dialect::Native));
    }

    #[test]
    fn wrong_usage_is_refused() {
        for line in [
            "ravelin",
            "ravelin fly",
            "ravelin check",
            "ravelin convert",
            "ravelin run --dialect klingon",
            "ravelin demo --port 70000",
            "ravelin demo --port 1 --listen 127.0.0.1:1",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
