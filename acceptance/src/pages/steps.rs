//! What is done with each block of a page, and why a block is left out.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};

use super::Block;
use super::output::Shown;

/// A page, and what a test must know of it beside what it says.
pub struct Page {
    pub path: &'static str,
    /// What is typed for a `<…>` of its commands.
    pub values: &'static [(&'static str, &'static str)],
    /// Shell lines for what the page takes for granted. `$SCRATCH` is a folder of its own.
    pub before: &'static str,
    pub cases: &'static [Case],
}

/// How the block that begins so is treated.
pub struct Case(pub &'static str, pub How);

pub enum How {
    /// After these shell lines.
    After(&'static str),
    /// Typed into this other shell, such as one in a Pod.
    Inside(&'static str),
    /// Without this line: the test says where that is run.
    Without(&'static str),
    /// Applied for good, then these shell lines.
    Applied(&'static str),
    /// A part of a manifest: applied for good in place of the line `FRAGMENT` of this one, then the shell lines.
    Within(&'static str, &'static str),
    /// A file, whose name is the first word of the comment in its first line: written into `$SCRATCH`, then these shell lines there.
    File(&'static str),
    /// Lines of what this command prints.
    Among(&'static str),
    /// Not at all, for this reason.
    Not(&'static str),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub line: usize,
    pub script: String,
    pub shown: Option<Shown>,
}

pub(super) fn steps(page: &Page, blocks: &[Block]) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    let mut treated = BTreeSet::new();
    let mut left_out = true;
    for block in blocks {
        let case = case(page, block)?;
        if let Some(Case(begins, _)) = case {
            ensure!(treated.insert(*begins), "two blocks of {} begin with {begins:?}", page.path);
        }
        let how = case.map(|Case(_, how)| how);
        if block.language == "text" && how.is_none() {
            let before = steps.last_mut().filter(|step| !left_out && step.shown.is_none());
            let before =
                before.with_context(|| format!("{}:{}: what prints this?", page.path, block.line))?;
            before.shown = Some(Shown::All(block.text.clone()));
            continue;
        }
        let step = step(page, block, how).with_context(|| format!("{}:{}", page.path, block.line))?;
        left_out = step.is_none();
        steps.extend(step);
    }
    for Case(begins, _) in page.cases {
        ensure!(treated.contains(begins), "no block of {} begins with {begins:?}", page.path);
    }
    Ok(steps)
}

fn case<'a>(page: &'a Page, block: &Block) -> Result<Option<&'a Case>> {
    let mut found = page.cases.iter().filter(|Case(begins, _)| block.text.trim_start().starts_with(begins));
    let case = found.next();
    ensure!(found.next().is_none(), "two cases for {}:{}", page.path, block.line);
    Ok(case)
}

/// None: nothing is done.
fn step(page: &Page, block: &Block, how: Option<&How>) -> Result<Option<Step>> {
    let text = &block.text;
    let script = match (how, block.language.as_str()) {
        (Some(How::Not(reason)), _) => {
            ensure!(!reason.is_empty(), "it is left out without a reason");
            return Ok(None);
        }
        (Some(How::Among(command)), _) => {
            let (script, shown) = (format!("{command}\n"), Some(Shown::Among(text.clone())));
            return Ok(Some(Step { line: block.line, script, shown }));
        }
        (Some(How::After(first)), "") => format!("{first}\n{}", commands(page, text)?),
        (Some(How::Inside(shell)), "") => format!("{shell} <<'{END}'\n{}{END}\n", commands(page, text)?),
        (Some(How::Without(line)), "") => {
            ensure!(text.lines().any(|own| own == *line), "it lacks the line {line:?}");
            let others: Vec<&str> = text.lines().filter(|own| own != line).collect();
            commands(page, &format!("{}\n", others.join("\n")))?
        }
        (Some(How::Applied(then)), "yaml") => apply(APPLY, text, then),
        (Some(How::Within(manifest, then)), "yaml") => apply(APPLY, &put_into(manifest, text)?, then),
        (Some(How::File(then)), "yaml") => file(text, then)?,
        (None, "") => commands(page, text)?,
        (None, "yaml") => apply(DRY_RUN, text, ""),
        (None, language) => bail!("nothing is known of {language:?}: it needs a case"),
        (Some(_), language) => bail!("its case is none for {language:?}"),
    };
    Ok(Some(Step { line: block.line, script, shown: None }))
}

const DRY_RUN: &str = "kubectl apply --server-side --force-conflicts --validate=strict --dry-run=server -f -";
const APPLY: &str = "kubectl apply --server-side --force-conflicts --validate=strict -f -";

/// With all values filled in.
fn commands(page: &Page, text: &str) -> Result<String> {
    let filled = page.values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
    match placeholder(&filled) {
        None => Ok(filled),
        Some(left) => bail!("nothing is known of {left}: it needs a value"),
    }
}

/// `<…>` on one line: a redirection has a blank behind its `<`.
fn placeholder(text: &str) -> Option<&str> {
    text.lines().find_map(|line| {
        let starts = line.match_indices('<').map(|(start, _)| &line[start..]);
        let mut named =
            starts.filter(|rest| rest[1..].starts_with(|first: char| first.is_alphabetic() || first == '…'));
        named.find_map(|rest| rest.find('>').map(|end| &rest[..=end]))
    })
}

fn apply(command: &str, text: &str, then: &str) -> String {
    format!("{command} <<'{END}'\n{text}{END}\n{then}\n")
}

/// Ends a text in a script.
const END: &str = "END_OF_BLOCK";

fn put_into(manifest: &str, text: &str) -> Result<String> {
    let place = manifest.lines().find(|line| line.trim() == "FRAGMENT").context("its case lacks FRAGMENT")?;
    let indent = place.trim_end_matches("FRAGMENT");
    let own = text.lines().filter(|line| !line.is_empty()).map(|line| line.len() - line.trim_start().len());
    let own = own.min().unwrap_or_default();
    let lines: Vec<String> =
        text.lines().map(|line| format!("{indent}{}", line.get(own..).unwrap_or_default())).collect();
    Ok(format!("{}\n", manifest.replacen(place, &lines.join("\n"), 1).trim_end()))
}

fn file(text: &str, then: &str) -> Result<String> {
    let first = text.lines().next().and_then(|first| first.strip_prefix("# "));
    let name = first.and_then(|first| first.split(' ').next()).context("its first line tells no name")?;
    Ok(format!("cat >\"$SCRATCH/{name}\" <<'{END}'\n{text}{END}\n(cd \"$SCRATCH\"\n{then}\n)\n"))
}

#[cfg(test)]
mod tests {
    use super::super::blocks;
    use super::{Case, How, Page, Shown, Step, placeholder, put_into, steps};

    const PAGE: &str = "```\nkubectl get pods -n <namespace>\n```\n```text\nNAME\n```\n```yaml\na: 1\n```\n```toml\nb = 2\n```\n";
    const TOML: Case = Case("b = 2", How::Not("no manifest"));

    fn of(
        values: &'static [(&'static str, &'static str)],
        cases: &'static [Case],
    ) -> Result<Vec<Step>, String> {
        let page = Page { path: "page.md", values, before: "", cases };
        blocks(PAGE).and_then(|blocks| steps(&page, &blocks)).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn commands_are_run_with_values_text_is_compared_and_yaml_is_tried() {
        let found = of(&[("<namespace>", "demo")], &[TOML]);
        let yaml = "kubectl apply --server-side --force-conflicts --validate=strict --dry-run=server -f - <<'END_OF_BLOCK'\na: 1\nEND_OF_BLOCK\n\n";
        let all = Some(Shown::All("NAME\n".to_owned()));
        let steps = vec![
            Step { line: 1, script: "kubectl get pods -n demo\n".to_owned(), shown: all },
            Step { line: 7, script: yaml.to_owned(), shown: None },
        ];
        assert_eq!(found, Ok(steps));
    }

    #[test]
    fn a_block_that_nothing_is_done_with_is_an_error_and_so_is_a_case_without_a_block() {
        let known: &[(&str, &str)] = &[("<namespace>", "demo")];
        let cases: [(_, &'static [Case], &str); 7] = [
            (known, &[], "page.md:10: nothing is known of \"toml\": it needs a case"),
            (&[], &[TOML], "page.md:1: nothing is known of <namespace>: it needs a value"),
            (known, &[TOML, Case("c", How::Not("gone"))], "no block of page.md begins with \"c\""),
            (known, &[TOML, Case("kubectl", How::Not("elsewhere"))], "page.md:4: what prints this?"),
            (known, &[TOML, Case("b", How::Not("no manifest"))], "two cases for page.md:10"),
            (known, &[Case("b = 2", How::Not(""))], "page.md:10: it is left out without a reason"),
            (known, &[TOML, Case("kubectl", How::Without("ls"))], "page.md:1: it lacks the line \"ls\""),
        ];
        for (values, cases, error) in cases {
            assert_eq!(of(values, cases), Err(error.to_owned()));
        }
    }

    #[test]
    fn a_redirection_is_no_placeholder() {
        let cases = [
            ("envsubst < file | kubectl apply -f - > log", None),
            ("get pod <the Pod's name> -n x", Some("<the Pod's name>")),
            ("export A=<目标集群>", Some("<目标集群>")),
        ];
        for (text, found) in cases {
            assert_eq!(placeholder(text), found, "{text}");
        }
    }

    #[test]
    fn a_file_has_the_name_that_its_first_line_begins_with() {
        let script = super::file("# a.yaml of b\nc: 1\n", "ls");
        let expected = "cat >\"$SCRATCH/a.yaml\" <<'END_OF_BLOCK'\n# a.yaml of b\nc: 1\nEND_OF_BLOCK\n(cd \"$SCRATCH\"\nls\n)\n";
        assert_eq!(script.ok().as_deref(), Some(expected));
        assert!(super::file("a: 1\n", "ls").is_err());
    }

    #[test]
    fn a_part_of_a_manifest_gets_the_indentation_of_its_place() {
        let found = put_into("a:\n    FRAGMENT\nb: 1", "      c:\n        d: 2\n");
        assert_eq!(found.ok().as_deref(), Some("a:\n    c:\n      d: 2\nb: 1\n"));
    }
}
