//! The command line: pflag-compatible flags of the v0.8.1 backend (contract flags.md) to a
//! validated [`Config`].
//!
//! `args` holds the flags as typed on the command line, `validate` turns them into a [`Config`] in
//! the order of contract flags.md 3, `values` parses single values. Nothing here talks to a
//! cluster; the only files touched are `--external-ca-file` (read) and `--kubeconfig` (looked for).

mod args;
mod config;
mod validate;
mod values;

use std::ffi::OsString;

use clap::{ArgMatches, FromArgMatches};
use thiserror::Error;

use crate::cli::args::Cli;
pub use crate::cli::config::{Command, Config, InitConfig};
pub use crate::cli::validate::ConfigError;
pub use crate::cli::values::{ProviderKind, SchemaSource, ValueError, WorkspacePath};

/// Why a command line was refused.
#[derive(Debug, Error)]
pub enum Error {
    /// Unknown flag, missing value, or a request for the help or version text.
    #[error("{0}")]
    Usage(#[from] clap::Error),
    /// A flag that is known but carries a value that cannot work.
    #[error("{0}")]
    Invalid(#[from] ConfigError),
}

/// Parses the command line of this process.
///
/// Ends the process itself where there is nothing to run: exit code 0 after help and version, 2
/// after a usage error, 1 with one line `error: ...` after a wrong value.
#[must_use]
pub fn parse() -> Command {
    match parse_from(std::env::args_os()) {
        Ok(command) => command,
        Err(Error::Usage(usage)) => usage.exit(),
        Err(Error::Invalid(invalid)) => {
            eprintln!("error: {invalid}");
            std::process::exit(1);
        }
    }
}

/// Parses `arguments`, the first of which is the name of the program.
pub fn parse_from<I, T>(arguments: I) -> Result<Command, Error>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let matches = args::command().try_get_matches_from(arguments)?;
    let parsed = Cli::from_arg_matches(&matches)?;
    Ok(match parsed.command {
        Some(args::Subcommand::Init(init)) => Command::Init(validate::init_config(&init)?),
        None => Command::Run(Box::new(validate::run_config(&parsed.run, &given(&matches))?)),
    })
}

/// The flags on the command line that this version accepts without using them, as `--name`.
fn given(matches: &ArgMatches) -> Vec<String> {
    args::ignored_names()
        .filter(|name| matches.contains_id(name))
        .map(|name| format!("--{name}"))
        .collect()
}

#[cfg(test)]
mod tests;
