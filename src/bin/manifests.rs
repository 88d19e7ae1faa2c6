//! Writes `manifests/` and `kcp/` from the wire types, or checks that they are up to date.
//!
//! `cargo run --bin manifests [-- --check] [DIR]`. With `CONTRACT_DIR` set, `--check` also compares
//! the CRDs with the reference ones there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use kube_bind_backend::manifests::{self, compare};

/// Write the generated manifests, or check them
#[derive(Parser)]
struct Args {
    /// Change nothing; fail if a file differs from what would be written
    #[arg(long)]
    check: bool,
    /// Root of the repository
    #[arg(default_value = ".")]
    directory: PathBuf,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(complaints) if complaints.is_empty() => ExitCode::SUCCESS,
        Ok(complaints) => {
            for complaint in complaints {
                eprintln!("{complaint}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            let mut source = error.source();
            while let Some(cause) = source {
                eprintln!("  because: {cause}");
                source = cause.source();
            }
            ExitCode::FAILURE
        }
    }
}

/// Writes or checks; returns what is wrong, one line each.
fn run(args: &Args) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let files = manifests::files()?;
    if !args.check {
        write(&args.directory, &files)?;
        return Ok(Vec::new());
    }
    let mut complaints = manifests::out_of_date(&args.directory, &files)?;
    if !complaints.is_empty() {
        complaints.push("Run `cargo run --bin manifests` and commit the result.".to_owned());
    }
    match std::env::var_os("CONTRACT_DIR") {
        Some(contract) => complaints.extend(compare::with_reference(Path::new(&contract))?),
        None => println!("CONTRACT_DIR is not set: the comparison with the reference is skipped."),
    }
    Ok(complaints)
}

fn write(root: &Path, files: &BTreeMap<PathBuf, String>) -> std::io::Result<()> {
    for path in manifests::stale(root, files)? {
        std::fs::remove_file(root.join(path))?;
    }
    for (path, text) in files {
        let path = root.join(path);
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        std::fs::write(path, text)?;
    }
    Ok(())
}
