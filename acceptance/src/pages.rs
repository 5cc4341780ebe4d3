//! The pages of `docs/` as a reader follows them: `block` finds what stands between fences, `steps` says what is
//! done with each, this file does it, and `output` compares what is seen with what is shown.
//!
//! A block without a language is typed into a shell, block after block of a page into the same one. `text` is
//! what the block before it prints. `yaml` must be taken by the API server, which stores nothing. In commands
//! `<…>` stands for a value that a page's [`Page`] gives, in `text` for anything. For every block that is to be
//! treated otherwise there is a [`Case`].

mod block;
mod output;
mod steps;

use std::ffi::OsString;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use anyhow::{Context, Result, bail, ensure};
use connectors_testenv::tool;
use tokio::process::Command;

pub use block::Block;
pub use steps::{Case, How, Page};

use block::blocks;
use output::difference;
use steps::{Step, steps};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// In seconds: a page of which a command waits for ever ends as well.
const LONGEST: &str = "240";

/// The blocks of a page, by its path in the repository.
pub fn read(page: &str) -> Result<Vec<Block>> {
    let path = Path::new(FOLDER).join(page);
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {page}"))?;
    blocks(&text).with_context(|| page.to_owned())
}

/// The one block of a page that begins so.
pub fn block(page: &str, begins: &str) -> Result<Block> {
    let mut found = read(page)?.into_iter().filter(|block| block.text.starts_with(begins));
    let block = found.next().with_context(|| format!("no block of {page} begins with {begins:?}"))?;
    ensure!(found.next().is_none(), "two blocks of {page} begin with {begins:?}");
    Ok(block)
}

/// Does all that a page says, and compares what is seen with what it shows.
pub async fn follow(page: &Page, env: &[(&str, OsString)]) -> Result<()> {
    let steps = steps(page, &read(page.path)?)?;
    let mut script = page.before.to_owned();
    for Step { line, script: typed, .. } in &steps {
        script.push_str(&format!("\nprintf '\\n{MARK}{line}\\n'\n{typed}"));
    }
    let Typed { printed, said, ended } = typed(&script, env).await?;
    let seen = parts(&printed);
    if let Some(status) = ended {
        let (line, seen) = seen.last().copied().unwrap_or(("0", ""));
        bail!("{}:{line}: {status}: {said}\n{seen}", page.path);
    }
    for step in steps {
        let part = seen.iter().find(|(line, _)| *line == step.line.to_string());
        let (_, found) = part.with_context(|| format!("{}:{} was not reached", page.path, step.line))?;
        if let Some(difference) = step.shown.and_then(|shown| difference(&shown, found)) {
            bail!("{}:{}: {difference}", page.path, step.line);
        }
    }
    Ok(())
}

/// Types commands into a shell at the root of the repository: all that they say.
pub async fn shell(commands: &str, env: &[(&str, OsString)]) -> Result<String> {
    let Typed { printed, said, ended } = typed(commands, env).await?;
    match ended {
        None => Ok(format!("{printed}{said}")),
        Some(status) => bail!("{commands}\n{status}: {said}\n{printed}"),
    }
}

/// Before what each block prints.
const MARK: &str = "@@ ";

fn parts(seen: &str) -> Vec<(&str, &str)> {
    seen.split(&format!("\n{MARK}")).skip(1).filter_map(|part| part.split_once('\n')).collect()
}

/// What came of it, on the usual output and on that for errors. It ended well, or so.
struct Typed {
    printed: String,
    said: String,
    ended: Option<ExitStatus>,
}

async fn typed(commands: &str, env: &[(&str, OsString)]) -> Result<Typed> {
    let scratch = tempfile::tempdir()?;
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", LONGEST, "bash", "-euo", "pipefail", "-c", commands]).current_dir(FOLDER);
    command.env("SCRATCH", scratch.path()).env("KUBECACHEDIR", scratch.path().join("kubectl"));
    command.env("PATH", path().await?).envs(env.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.context("start bash by timeout (of coreutils)")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let ended = (!output.status.success()).then_some(output.status);
    Ok(Typed { printed: text(&output.stdout), said: text(&output.stderr).trim().to_owned(), ended })
}

/// Where kubectl and helm are, before the machine's own.
async fn path() -> Result<OsString> {
    let tools = tokio::task::spawn_blocking(|| Ok::<_, anyhow::Error>([tool("kubectl")?, tool("helm")?]));
    let tools = tools.await??;
    let folders = tools.iter().filter_map(|tool| tool.parent()).map(Path::to_owned);
    let own = std::env::var_os("PATH").unwrap_or_default();
    Ok(std::env::join_paths(folders.chain(std::env::split_paths(&own)))?)
}
