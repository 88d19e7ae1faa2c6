//! The command line: pflag-compatible flags of the v0.8.1 backend (contract flags.md) to a
//! validated [`Config`].
//!
//! `args` holds the flags as typed on the command line, `validate` turns them into a [`Config`] in
//! the order of contract flags.md 3, `values` parses single values, and `front` does all that for the
//! flags of the HTTP API. Nothing here talks to a cluster; files with CAs and keys are read, and
//! `--kubeconfig` is looked for.

mod args;
mod claims;
mod config;
mod front;
mod validate;
mod values;

use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{ArgMatches, FromArgMatches};
use thiserror::Error;

use crate::cli::args::Cli;
pub use crate::cli::config::{Command, Config, Format, InitConfig};
use crate::cli::front::Environment;
pub use crate::cli::front::{
    Audit, FrontConfig, FrontError, IssuerConfig, OidcConfig, RedisConfig, Secret,
};
pub use crate::cli::validate::ConfigError;
pub use crate::cli::values::{ProviderKind, SchemaSource, ValueError, WorkspacePath};

/// What both commands that look can print.
const JSON: (&str, Format) = ("json", Format::Json);

/// Why a command line was refused.
#[derive(Debug, Error)]
pub enum Error {
    /// Unknown flag, missing value, or a request for the help or version text.
    #[error("{0}")]
    Usage(#[from] clap::Error),
    /// A flag that is known but carries a value that cannot work.
    #[error("{0}")]
    Invalid(#[from] ConfigError),
    /// The same for `backend doctor`, whose exit code 1 says that it found something.
    #[error("{0}")]
    Unseen(#[source] ConfigError),
}

/// Parses the command line of this process.
///
/// Ends the process itself where there is nothing to run: exit code 0 after help and version, 2
/// after a usage error, 1 with one line `error: ...` after a wrong value, 2 where `doctor` cannot look for that.
#[must_use]
pub fn parse() -> Command {
    match parse_from(std::env::args_os(), Environment::of_process()) {
        Ok(command) => command,
        Err(Error::Usage(usage)) => usage.exit(),
        Err(Error::Invalid(invalid)) => {
            eprintln!("error: {invalid}");
            std::process::exit(1);
        }
        Err(Error::Unseen(invalid)) => {
            eprintln!("error: {invalid}");
            std::process::exit(2);
        }
    }
}

/// Parses `arguments`, the first of which is the name of the program.
fn parse_from<I, T>(arguments: I, environment: Environment) -> Result<Command, Error>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let matches = args::command().try_get_matches_from(arguments)?;
    let parsed = Cli::from_arg_matches(&matches)?;
    Ok(match parsed.command {
        Some(args::Subcommand::Init(init)) => {
            let of_init = matches.subcommand_matches("init").unwrap_or(&matches);
            let http_api = args::front_names().iter().any(|flag| is_given(of_init, flag));
            Command::Init(validate::init_config(init, lasting(of_init), http_api)?)
        }
        Some(args::Subcommand::Doctor(doctor)) => {
            let formats = [("text", Format::Text), JSON];
            let format = validate::format(&doctor.output, &formats, "text and json");
            let format = format.map_err(Error::Unseen)?;
            let config = validate::look_config(doctor.run).map_err(Error::Unseen)?;
            Command::Doctor(Box::new(config), format)
        }
        Some(args::Subcommand::Workspaces(workspaces)) => {
            let formats = [("table", Format::Text), JSON, ("yaml", Format::Yaml)];
            let format = validate::format(&workspaces.output, &formats, "table, json and yaml")?;
            Command::Workspaces(Box::new(validate::look_config(workspaces.run)?), format)
        }
        None => {
            let ignored = given(&matches, parsed.run.server.frontend_disabled);
            let config = validate::run_config(&parsed.run, environment, &ignored)?;
            Command::Run(Box::new(config))
        }
    })
}

/// The flags on the command line that the backend has to be started with, too, as name and value.
fn lasting(matches: &ArgMatches) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (id, flag) in args::lasting_names() {
        if is_given(matches, &flag) {
            let values = matches.get_raw(&id).into_iter().flatten();
            all.extend(values.map(|value| (flag.clone(), value.to_string_lossy().into_owned())));
        }
    }
    all
}

/// The flags on the command line that have no effect, as `--name`.
fn given(matches: &ArgMatches, frontend_disabled: bool) -> Vec<String> {
    let front = if frontend_disabled { args::front_names() } else { Vec::new() };
    let names = front.into_iter().chain(args::ignored_names().map(str::to_owned));
    names.filter(|name| is_given(matches, name)).map(|name| format!("--{name}")).collect()
}

/// Whether a flag of this name is on the command line.
fn is_given(matches: &ArgMatches, name: &str) -> bool {
    // Of ours clap knows the id as the name of the field.
    [name.to_owned(), name.replace('-', "_")].iter().any(|id| {
        matches!(matches.try_contains_id(id), Ok(true))
            && matches.value_source(id) == Some(ValueSource::CommandLine)
    })
}

#[cfg(test)]
mod tests;
