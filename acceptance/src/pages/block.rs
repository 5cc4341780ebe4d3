//! What stands between the fences of a page.

use anyhow::{Result, bail};

/// One of them: the line of its first fence, what stands behind it, and the lines up to the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    pub line: usize,
    pub language: String,
    pub text: String,
}

const FENCE: &str = "```";

pub fn blocks(page: &str) -> Result<Vec<Block>> {
    let mut found = Vec::new();
    // A block in a list is indented as a whole.
    let mut open: Option<(&str, Block)> = None;
    for (number, line) in (1..).zip(page.lines()) {
        let (indent, fence) = line.split_at(line.len() - line.trim_start().len());
        match (&mut open, fence.strip_prefix(FENCE)) {
            (None, None) => {}
            (None, Some(language)) => {
                let language = language.trim().to_owned();
                open = Some((indent, Block { line: number, language, text: String::new() }));
            }
            (Some((indent, block)), None) => {
                block.text.push_str(line.strip_prefix(*indent).unwrap_or(line.trim_start()));
                block.text.push('\n');
            }
            (Some(_), Some(_)) => found.extend(open.take().map(|(_, block)| block)),
        }
    }
    match open {
        None => Ok(found),
        Some((_, block)) => bail!("the block of line {} has no end", block.line),
    }
}

#[cfg(test)]
mod tests {
    use super::{Block, blocks};

    fn block(line: usize, language: &str, text: &str) -> Block {
        Block { line, language: language.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_block_has_its_first_line_its_language_and_its_text() {
        let page = "# Page\n\n```\nkubectl get pods\n\nkubectl get nodes   # all\n```\n`one` and ```two```, then\n\n```yaml\na:\n  b: 1\n```\n";
        let found = [
            block(3, "", "kubectl get pods\n\nkubectl get nodes   # all\n"),
            block(10, "yaml", "a:\n  b: 1\n"),
        ];
        assert_eq!(blocks(page).ok(), Some(found.into()));
    }

    #[test]
    fn a_block_in_a_list_loses_the_indentation_of_the_list_and_no_more() {
        let page = "* this:\n\n  ```yaml\n  a:\n    b: 1\n\n  ```\n";
        assert_eq!(blocks(page).ok(), Some(vec![block(3, "yaml", "a:\n  b: 1\n\n")]));
    }

    #[test]
    fn a_block_without_an_end_is_told_by_its_line() {
        let error = blocks("one\n```\ntwo\n").map_err(|error| error.to_string());
        assert_eq!(error, Err("the block of line 2 has no end".to_owned()));
    }
}
