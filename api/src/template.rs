//! Go text/template with sprig, as classes write it: file contents of the CSI driver, paths and headers of
//! probes. A class's templates are parsed when the class is loaded (unknown functions, variables and
//! unbalanced blocks are found then) and rendered per volume or probe: missing values are errors, the output
//! is capped, nothing can run without end.
//!
//! `lint`: what the engine's parser lets pass. `paths`: what fields of null are. `prepare`: marks what must
//! have a value. `sprig`: the functions.

mod lint;
mod paths;
mod prepare;
mod sprig;
mod value;

use std::fmt::{self, Write};

use gotmpl::parse::Parser;
use thiserror::Error;

/// Bytes of one template, and of what it may render.
pub const MAX_TEXT: usize = 256 * 1024;
pub const MAX_OUTPUT: usize = 1024 * 1024;
/// Iterations of all loops of one rendering together.
const MAX_ITERATIONS: u64 = 10_000;
/// The engine's name for the text outside of every `define`.
const MAIN: &str = "(main)";

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TemplateError {
    #[error("template is longer than {MAX_TEXT} bytes")]
    TooLong,
    /// Found when the class is loaded.
    #[error("template does not parse: {0}")]
    Syntax(String),
    #[error("template renders more than {MAX_OUTPUT} bytes")]
    TooMuchOutput,
    /// Found when it is rendered. The text never quotes a value: it may be a secret.
    #[error("template cannot be rendered: {0}")]
    Failed(String),
}

/// A parsed template. Cheap to render from several threads at once.
pub struct Template {
    engine: gotmpl::Template,
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("templates", &self.engine.templates()).finish()
    }
}

impl Template {
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        if text.len() > MAX_TEXT {
            return Err(TemplateError::TooLong);
        }
        let syntax = |error: gotmpl::TemplateError| TemplateError::Syntax(error.to_string());
        lint::check_chains(text)?;
        let sentinel = format!("{text}{}", lint::SENTINEL);
        let (main, defines) = Parser::new(&sentinel, "{{", "}}").and_then(Parser::parse).map_err(syntax)?;
        let mut templates = lint::check(main, defines)?;
        templates.values_mut().for_each(paths::make_strict);
        let empty = gotmpl::Template::new(MAIN).funcs(sprig::functions()).max_range_iters(MAX_ITERATIONS);
        let add = |engine: gotmpl::Template, (name, list)| {
            engine.add_parse_tree(name, prepare::prepare(list, text))
        };
        Ok(Template { engine: templates.iter().map(|(name, list)| (name.as_str(), list)).fold(empty, add) })
    }

    /// Renders over an object: its fields are the template's top-level variables.
    pub fn render(&self, data: &serde_json::Value) -> Result<String, TemplateError> {
        let mut output = Capped(String::new());
        self.engine.execute_template_fmt(&mut output, MAIN, &value::from_json(data)).map_err(failure)?;
        Ok(output.0)
    }
}

struct Capped(String);

impl Write for Capped {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > MAX_OUTPUT {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

fn failure(error: gotmpl::TemplateError) -> TemplateError {
    match error {
        gotmpl::TemplateError::Write => TemplateError::TooMuchOutput,
        gotmpl::TemplateError::Exec(message) => TemplateError::Failed(message),
        gotmpl::TemplateError::RangeIterLimit => {
            TemplateError::Failed(format!("more than {MAX_ITERATIONS} loop iterations"))
        }
        other => TemplateError::Failed(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
