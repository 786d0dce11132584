//! The `ravelin` binary: command line, signals, process life.
//!
//! - [`cli`]: what may be written on the command line
//! - [`configuration`]: reading configuration files and showing what is wrong with them
//! - [`run`], [`check`], [`explain`], [`convert`], [`demo`]: one module a command
//! - [`expectations`], [`lint`]: what a configuration says of itself, and what may be said of it
//! - [`operate`]: commands that ask a running Ravelin, by [`client`]
//! - [`schema`], [`shell`]: what editors, shells and `man` want to know
//! - [`service`]: everything that runs while Ravelin serves, from log writers to workers
//! - [`announce`]: what the log says at the start and at the end
//! - [`signals`]: when it ends, and how
//! - [`upgrade`], [`systemd`], [`privileges`]: what comes before and after it, and as whom it runs
//!
//! Exit status: 0 done, 1 the configuration or the operation failed, 2 wrong usage.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use net::allocator::Allocator;

mod announce;
mod check;
mod cli;
mod client;
mod configuration;
mod convert;
mod demo;
mod expectations;
mod explain;
mod health;
mod lint;
mod operate;
mod privileges;
mod run;
mod schema;
mod secure;
mod service;
mod shell;
mod signals;
mod systemd;
mod terminal;
mod upgrade;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    // Wrong usage ends in here, with status 2.
    let cli = Cli::parse();
    let done = match &cli.command {
        Command::Run(arguments) => run::run(arguments, &cli.common),
        Command::Check(arguments) => check::check(arguments, &cli.common),
        Command::Explain(arguments) => explain::explain(arguments, &cli.common),
        Command::Convert(arguments) => convert::convert(arguments, &cli.common),
        Command::Demo(arguments) => demo::demo(arguments, &cli.common),
        Command::Operate(command) => operate::operate(command, &cli.common),
        Command::Schema => schema::schema(),
        Command::Completions { shell } => shell::completions(*shell),
        Command::Man => shell::man(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            terminal::tell(&failure, cli.common.color);
            ExitCode::FAILURE
        }
    }
}
