//! `docs/walkthroughs.md`: every command as it is printed, in one shell per walk-through, on a real kcp.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::backend::Backend;
use e2e::process::{Process, Spec};
use e2e::{dirs, stack, tools};
use futures::FutureExt as _;

use crate::Test;

/// For all commands of one walk-through: each wait in it has a minute.
const DEADLINE: Duration = Duration::from_mins(5);
/// What the reader is said to have.
const TOOLS: [&str; 4] = ["kubectl", "kubectl-kcp", "kubectl-ws", "kubectl-create-workspace"];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("walkthroughs::three_tier", || walk("Three-tier").boxed()),
        ("walkthroughs::two_tier", || walk("Two-tier").boxed()),
        ("walkthroughs::platform_style", || walk("Platform style").boxed()),
        ("walkthroughs::one_virtual_workspace_url", || walk("One virtual workspace URL").boxed()),
        ("walkthroughs::each_of_the_page_is_walked", || {
            std::future::ready(all_are_walked()).boxed()
        }),
    ]
}

/// The commands of each walk-through of the page.
fn page() -> Result<BTreeMap<String, String>> {
    let path = dirs::project().join("docs/walkthroughs.md");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    let (mut title, mut inside) = (String::new(), false);
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ").filter(|_| !inside) {
            heading.clone_into(&mut title);
            all.insert(title.clone(), String::new());
        } else if line.starts_with("```") {
            ensure!(inside || line == "```sh", "a block that is not sh: {line}");
            inside = !inside;
        } else if inside {
            let script = all.get_mut(&title).context("a command before the first heading")?;
            script.push_str(line);
            script.push('\n');
        }
    }
    Ok(all)
}

fn all_are_walked() -> Result<()> {
    let walked = ["One virtual workspace URL", "Platform style", "Three-tier", "Two-tier"];
    let titles: Vec<String> = page()?.into_keys().collect();
    ensure!(titles == walked, "{titles:?}");
    Ok(())
}

async fn walk(title: &str) -> Result<()> {
    let kcp = stack::kcp().await?;
    let script = page()?.remove(title).with_context(|| format!("no walk-through {title}"))?;
    ensure!(script.contains("backend init"), "{title} has lost its commands");
    let name = stack::unique("walk");
    let dir = dirs::fresh(&name)?;
    let bin = dir.join("bin");
    fs::create_dir(&bin)?;
    for tool in TOOLS {
        symlink(tools::path(tool)?, bin.join(tool))?;
    }
    symlink(Backend::program()?, bin.join("backend"))?;
    // kubectl ws keeps the current workspace in the file.
    let kubeconfig = dir.join("admin.kubeconfig");
    kcp.access("root")?.write(&kubeconfig)?;
    let path = std::env::join_paths(
        [bin]
            .into_iter()
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    )?;
    let mut spec = Spec::new(&name, "/bin/bash".into(), &dir);
    spec.env = vec![
        ("PATH".to_owned(), path),
        ("KUBECONFIG".to_owned(), kubeconfig.into()),
        ("KUBECACHEDIR".to_owned(), dir.join("cache").into()),
        ("HOME".to_owned(), dir.clone().into()),
    ];
    // As a person would: stop at the first command that fails. What is left in the background then goes along.
    let script = format!("trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}");
    let mut shell = Process::start(&spec.args(["-euxo", "pipefail", "-c", &script])).await?;
    let status = match shell.wait(DEADLINE).await {
        Ok(status) => status,
        Err(error) => {
            shell.kill().await?;
            return Err(error);
        }
    };
    if status.success() { Ok(()) } else { Err(shell.fail(format!("{title} ended with {status}"))) }
}
