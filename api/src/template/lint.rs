//! What Go refuses when it parses a template and the engine does not: unbalanced blocks, unknown functions,
//! templates and variables. Also what would run for ever. All of it is found when the class is loaded, not
//! when a Pod starts.

use std::collections::{BTreeMap, BTreeSet};

use gotmpl::parse::{BranchNode, DefineNode, Expr, ListNode, Node, PipeNode, SmolStr};

use super::{MAIN, TemplateError, sprig};

/// Appended to a template before it is parsed. A stray `end` hides it and an open block swallows it: it must
/// come out last.
pub const SENTINEL: &str = "\u{1}end of template\u{1}";
/// The engine's parser recurses into `else if`, uncounted.
const MAX_CHAIN: usize = 100;
/// Nodes executed by one rendering outside of loops: templates that call each other twice multiply.
const MAX_STEPS: usize = 100_000;

type Checked<T> = Result<T, TemplateError>;

fn syntax<T>(message: impl Into<String>) -> Checked<T> {
    Err(TemplateError::Syntax(message.into()))
}

/// To be called before the engine's parser.
pub fn check_chains(text: &str) -> Checked<()> {
    let continues = |rest: &&str| ["if", "with"].iter().any(|word| rest.trim_start().starts_with(word));
    match text.split("else").skip(1).filter(continues).count() > MAX_CHAIN {
        true => syntax(format!("more than {MAX_CHAIN} \"else if\"")),
        false => Ok(()),
    }
}

/// Checks a template that was parsed with the sentinel; returns its parts by name, without it.
pub fn check(main: ListNode, defines: Vec<DefineNode>) -> Checked<BTreeMap<String, ListNode>> {
    let mut templates = BTreeMap::from([(MAIN.to_owned(), without_sentinel(main)?)]);
    for define in defines {
        if templates.insert(define.name.to_string(), define.body).is_some() {
            return syntax(format!("template {:?} is defined twice", define.name));
        }
    }
    let names = templates.keys().cloned().collect();
    let mut calls = BTreeMap::new();
    for (name, list) in &templates {
        let mut walk = Walk {
            templates: &names,
            variables: vec![SmolStr::new("$")],
            loops: 0,
            calls: Vec::new(),
            nodes: 0,
        };
        walk.list(list)?;
        calls.insert(name.as_str(), (walk.calls, walk.nodes));
    }
    steps(MAIN, &calls, &mut Vec::new(), &mut BTreeMap::new())?;
    Ok(templates)
}

fn without_sentinel(mut main: ListNode) -> Checked<ListNode> {
    if let Some(Node::Text(last)) = main.nodes.last_mut()
        && let Some(text) = last.text.strip_suffix(SENTINEL)
    {
        last.text = text.into();
        return Ok(main);
    }
    syntax("unexpected {{end}} or {{else}}, or a block without {{end}}")
}

/// Nodes that executing a template takes, with all templates that it calls. Refuses recursion.
fn steps<'a>(
    name: &'a str,
    calls: &BTreeMap<&'a str, (Vec<&'a str>, usize)>,
    path: &mut Vec<&'a str>,
    known: &mut BTreeMap<&'a str, usize>,
) -> Checked<usize> {
    if let Some(steps) = known.get(name) {
        return Ok(*steps);
    }
    if path.contains(&name) {
        return syntax(format!("template {name:?} calls itself"));
    }
    path.push(name);
    let (callees, nodes) =
        calls.get(name).map(|(callees, nodes)| (callees.as_slice(), *nodes)).unwrap_or_default();
    let mut total = nodes;
    for callee in callees {
        total = total.saturating_add(steps(callee, calls, path, known)?);
    }
    path.pop();
    if total > MAX_STEPS {
        return syntax(format!("template {name:?} expands to more than {MAX_STEPS} steps"));
    }
    known.insert(name, total);
    Ok(total)
}

struct Walk<'a> {
    templates: &'a BTreeSet<String>,
    /// Declared so far, innermost last.
    variables: Vec<SmolStr>,
    loops: usize,
    calls: Vec<&'a str>,
    nodes: usize,
}

impl<'a> Walk<'a> {
    fn list(&mut self, list: &'a ListNode) -> Checked<()> {
        list.nodes.iter().try_for_each(|node| self.node(node))
    }

    fn node(&mut self, node: &'a Node) -> Checked<()> {
        self.nodes += 1;
        match node {
            Node::List(list) => self.list(list),
            Node::Text(_) | Node::Define(_) => Ok(()),
            Node::Action(action) => self.pipe(&action.pipe),
            Node::If(branch) | Node::With(branch) => self.branch(branch, 0),
            Node::Range(branch) => self.branch(branch, 1),
            Node::Template(call) if !self.templates.contains(call.name.as_str()) => {
                syntax(format!("template {:?} is not defined", call.name))
            }
            Node::Template(call) => {
                self.calls.push(&call.name);
                call.pipe.iter().try_for_each(|pipe| self.pipe(pipe))
            }
            Node::Break(pos) | Node::Continue(pos) if self.loops == 0 => {
                syntax(format!("line {}: break or continue outside of a range", pos.line))
            }
            Node::Break(_) | Node::Continue(_) => Ok(()),
        }
    }

    fn branch(&mut self, branch: &'a BranchNode, loops: usize) -> Checked<()> {
        let outer = self.variables.len();
        self.pipe(&branch.pipe)?;
        self.loops += loops;
        self.list(&branch.body)?;
        self.loops -= loops;
        branch.else_body.iter().try_for_each(|list| self.list(list))?;
        self.variables.truncate(outer);
        Ok(())
    }

    fn pipe(&mut self, pipe: &'a PipeNode) -> Checked<()> {
        for command in &pipe.commands {
            command.args.iter().try_for_each(|arg| self.expression(arg))?;
            check_fail(&command.args)?;
        }
        for name in &pipe.decl {
            match pipe.is_assign {
                true => self.declared(name, pipe.pos.line)?,
                false => self.variables.push(name.clone()),
            }
        }
        Ok(())
    }

    fn expression(&mut self, expression: &'a Expr) -> Checked<()> {
        match expression {
            Expr::Identifier(pos, name) if !sprig::is_known(name) => {
                let reason = sprig::why_left_out(name).map_or_else(String::new, |why| format!(": it {why}"));
                syntax(format!("line {}: function {:?} is not defined{reason}", pos.line, name))
            }
            Expr::Variable(pos, name, _) => self.declared(name, pos.line),
            Expr::Pipe(_, pipe) => self.pipe(pipe),
            Expr::Chain(_, inner, _) => self.expression(inner),
            _ => Ok(()),
        }
    }

    fn declared(&self, name: &SmolStr, line: usize) -> Checked<()> {
        match self.variables.contains(name) {
            true => Ok(()),
            false => syntax(format!("line {line}: undefined variable {:?}", name)),
        }
    }
}

/// The text of `fail` ends in a status or an event: it must be a constant, so that it cannot be a secret.
fn check_fail(args: &[Expr]) -> Checked<()> {
    match args {
        [Expr::Identifier(_, name), Expr::String(..)] if name == "fail" => Ok(()),
        [Expr::Identifier(pos, name), ..] if name == "fail" => {
            syntax(format!("line {}: \"fail\" takes one text in quotes", pos.line))
        }
        _ => Ok(()),
    }
}
