//! The binaries of the real servers: from the environment, else from `.cache/tools`, where `scripts/tools` puts them.

use std::env;
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::dirs;

/// The path of a server or CLI by its file name, such as `kube-apiserver`.
///
/// The variable of the same name in capitals (`KUBE_APISERVER`) takes precedence, as in `scripts/tools`.
pub fn path(tool: &str) -> Result<PathBuf> {
    let variable = tool.to_uppercase().replace('-', "_");
    if let Some(own) = env::var_os(&variable).filter(|value| !value.is_empty()) {
        return Ok(PathBuf::from(own));
    }
    let built = dirs::project().join(".cache/tools").join(tool);
    if !built.is_file() {
        bail!("{} is missing: run scripts/tools, or set {variable}", built.display());
    }
    Ok(built)
}
