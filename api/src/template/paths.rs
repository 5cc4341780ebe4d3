//! Paths of fields. The engine takes a field of null for one of a missing value; Go calls it an error. Each
//! path of several fields becomes a call of a function that tells them apart.

use std::sync::Arc;

use gotmpl::parse::{BranchNode, CommandNode, Expr, ListNode, Node, PipeNode, Pos, SmolStr};

use super::sprig::WALK;

pub fn make_strict(list: &mut ListNode) {
    list.nodes.iter_mut().for_each(node);
}

fn node(node: &mut Node) {
    match node {
        Node::Action(action) => pipe(&mut action.pipe),
        Node::If(branch) | Node::With(branch) | Node::Range(branch) => branches(branch),
        Node::List(list) => make_strict(list),
        Node::Template(call) => call.pipe.iter_mut().for_each(pipe),
        Node::Text(_) | Node::Define(_) | Node::Break(_) | Node::Continue(_) => {}
    }
}

fn branches(branch: &mut BranchNode) {
    pipe(&mut branch.pipe);
    make_strict(&mut branch.body);
    branch.else_body.iter_mut().for_each(make_strict);
}

fn pipe(pipe: &mut PipeNode) {
    for command in &mut pipe.commands {
        command.args.iter_mut().for_each(expression);
    }
}

fn expression(expression: &mut Expr) {
    let strict = match expression {
        Expr::Pipe(_, inner) => return pipe(inner),
        Expr::Chain(_, inner, _) if matches!(**inner, Expr::Identifier(..)) => return,
        Expr::Chain(pos, inner, fields) => {
            self::expression(inner);
            walk(*pos, (**inner).clone(), fields)
        }
        Expr::Field(pos, fields) => walk(*pos, Expr::Dot(*pos), fields),
        Expr::Variable(pos, name, fields) => {
            walk(*pos, Expr::Variable(*pos, name.clone(), Vec::new()), fields)
        }
        _ => None,
    };
    if let Some(strict) = strict {
        *expression = strict;
    }
}

/// Nothing for a single field: whatever it is asked of, the engine does as Go.
fn walk(pos: Pos, from: Expr, fields: &[SmolStr]) -> Option<Expr> {
    if fields.len() < 2 {
        return None;
    }
    let names = fields.iter().map(|name| Expr::String(pos, Arc::from(name.as_str())));
    let args = [Expr::Identifier(pos, SmolStr::new(WALK)), from].into_iter().chain(names).collect();
    let commands = vec![CommandNode { pos, args }];
    Some(Expr::Pipe(pos, PipeNode { pos, decl: Vec::new(), commands, is_assign: false }))
}
