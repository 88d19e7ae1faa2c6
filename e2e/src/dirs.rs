//! Where things are: the project, and the files of one test run.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::{fs, io};

/// Runs whose files are kept under `target/e2e` beside the present one.
const KEPT_RUNS: usize = 3;

static RUN: OnceLock<PathBuf> = OnceLock::new();
/// Two that make it at once would remove the same old runs.
static MAKING: Mutex<()> = Mutex::new(());
static KEEP: AtomicBool = AtomicBool::new(false);

/// The root of the project.
#[must_use]
pub fn project() -> &'static Path {
    let e2e = Path::new(env!("CARGO_MANIFEST_DIR"));
    e2e.parent().unwrap_or(e2e)
}

/// The folder of this run, `target/e2e/<time>-<pid>`: a log file per process, data folders, kubeconfigs.
///
/// It is made by the first call, which also removes the folders of older runs but the last few.
pub fn run() -> io::Result<&'static Path> {
    let _turn = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(run) = RUN.get() {
        return Ok(run);
    }
    let all = project().join("target/e2e");
    fs::create_dir_all(&all)?;
    prune(&all)?;
    let now = jiff::Zoned::now().strftime("%Y%m%d-%H%M%S").to_string();
    let run = all.join(format!("{now}-{}", std::process::id()));
    fs::create_dir_all(&run)?;
    Ok(RUN.get_or_init(|| run))
}

/// A new folder under [`run`].
pub fn fresh(name: &str) -> io::Result<PathBuf> {
    let dir = run()?.join(name);
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// Keep the files of this run, because something failed or was cut short.
pub fn keep() {
    KEEP.store(true, Ordering::Relaxed);
}

/// Removes the files of this run unless [`keep`] was called; says where they are if it was.
pub fn finish() {
    let Some(run) = RUN.get() else { return };
    if KEEP.load(Ordering::Relaxed) {
        eprintln!("e2e: logs and data of this run are in {}", run.display());
    } else if let Err(error) = fs::remove_dir_all(run) {
        eprintln!("e2e: could not remove {}: {error}", run.display());
    }
}

fn prune(all: &Path) -> io::Result<()> {
    let mut runs: Vec<PathBuf> =
        fs::read_dir(all)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    runs.sort();
    let old = runs.len().saturating_sub(KEPT_RUNS);
    for run in runs.into_iter().take(old).filter(|run| !in_use(run)) {
        fs::remove_dir_all(run)?;
    }
    Ok(())
}

/// Whether the test process that made this folder still runs. Its name ends in that process's id.
fn in_use(run: &Path) -> bool {
    let pid =
        run.file_name().and_then(|name| name.to_str()).and_then(|name| name.rsplit('-').next());
    pid.is_some_and(|pid| Path::new("/proc").join(pid).exists())
}
