//! Rewrites a checked template before it is executed: a printed value must exist, and functions that change a
//! map do change it.

use std::sync::Arc;

use gotmpl::parse::{ActionNode, BranchNode, CommandNode, Expr, ListNode, Node, PipeNode, SmolStr};

use super::sprig::PRESENT;

/// Functions of sprig that change their first argument. Values are immutable here, so the variable is
/// assigned anew.
const IN_PLACE: [&str; 6] = ["set", "unset", "merge", "mergeOverwrite", "mustMerge", "mustMergeOverwrite"];
/// Length of an action's text in an error.
const MAX_QUOTE: usize = 80;

pub fn prepare(list: &ListNode, source: &str) -> ListNode {
    let nodes = list.nodes.iter().flat_map(|node| prepare_node(node, source)).collect();
    ListNode { pos: list.pos, nodes }
}

fn prepare_node(node: &Node, source: &str) -> Vec<Node> {
    match node {
        Node::Action(action) => match assignment(&action.pipe) {
            Some((assign, read)) => vec![Node::Action(assign), Node::Action(demand_value(&read, source))],
            None => vec![Node::Action(demand_value(action, source))],
        },
        Node::If(branch) => vec![Node::If(prepare_branch(branch, source))],
        Node::Range(branch) => vec![Node::Range(prepare_branch(branch, source))],
        Node::With(branch) => vec![Node::With(prepare_branch(branch, source))],
        Node::List(list) => vec![Node::List(prepare(list, source))],
        other => vec![other.clone()],
    }
}

fn prepare_branch(branch: &BranchNode, source: &str) -> BranchNode {
    BranchNode {
        pos: branch.pos,
        pipe: branch.pipe.clone(),
        body: prepare(&branch.body, source),
        else_body: branch.else_body.as_ref().map(|list| prepare(list, source)),
    }
}

/// Splits `$x := set $map "k" "v"` into `$map = set $map "k" "v"` and `$x := $map`.
fn assignment(pipe: &PipeNode) -> Option<(ActionNode, ActionNode)> {
    let [command] = pipe.commands.as_slice() else { return None };
    let [Expr::Identifier(_, function), Expr::Variable(pos, name, fields), ..] = command.args.as_slice()
    else {
        return None;
    };
    if !IN_PLACE.contains(&function.as_str()) || !fields.is_empty() || pipe.decl.contains(name) {
        return None;
    }
    let assign = PipeNode {
        pos: pipe.pos,
        decl: vec![name.clone()],
        commands: pipe.commands.clone(),
        is_assign: true,
    };
    let variable = CommandNode { pos: *pos, args: vec![Expr::Variable(*pos, name.clone(), Vec::new())] };
    let read = PipeNode { commands: vec![variable], ..pipe.clone() };
    Some((ActionNode { pos: pipe.pos, pipe: assign }, ActionNode { pos: pipe.pos, pipe: read }))
}

/// Pipes what an action prints through a function that refuses nil and knows the action's text.
fn demand_value(action: &ActionNode, source: &str) -> ActionNode {
    let mut action = action.clone();
    if action.pipe.decl.is_empty() {
        let pos = action.pipe.pos;
        let place = format!("line {}: {}", pos.line, quote(source, pos.offset));
        let args = vec![Expr::Identifier(pos, SmolStr::new(PRESENT)), Expr::String(pos, Arc::from(place))];
        action.pipe.commands.push(CommandNode { pos, args });
    }
    action
}

fn quote(source: &str, offset: usize) -> String {
    let rest = source.get(offset..).unwrap_or_default();
    let action = rest.split("}}").next().unwrap_or_default().trim_end_matches('-').trim();
    action.chars().take(MAX_QUOTE).collect()
}
