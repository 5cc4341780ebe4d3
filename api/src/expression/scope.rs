//! Which names an expression uses, found when it is compiled: a misspelt variable must not wait for the first
//! probe.

use cel::IdedExpr;
use cel::common::ast::{ComprehensionExpr, EntryExpr, Expr};

/// Loops within loops: each one more multiplies the time by the length of a list that the target sends.
const MAX_LOOPS: usize = 2;

#[derive(Debug, PartialEq, Eq)]
pub enum Problem {
    Unknown(String),
    TooManyLoops,
}

/// Checks an expression in which `variables` are known.
pub fn check<'a>(
    expression: &'a IdedExpr,
    variables: &mut Vec<&'a str>,
    loops: usize,
) -> Result<(), Problem> {
    match &expression.expr {
        Expr::Ident(name) if name.starts_with('@') || variables.contains(&name.as_str()) => Ok(()),
        Expr::Ident(name) => Err(Problem::Unknown(name.clone())),
        Expr::Comprehension(comprehension) => check_loop(comprehension, variables, loops + 1),
        other => parts(other).into_iter().try_for_each(|part| check(part, variables, loops)),
    }
}

fn check_loop<'a>(
    comprehension: &'a ComprehensionExpr,
    variables: &mut Vec<&'a str>,
    loops: usize,
) -> Result<(), Problem> {
    if loops > MAX_LOOPS {
        return Err(Problem::TooManyLoops);
    }
    check(&comprehension.iter_range, variables, loops - 1)?;
    check(&comprehension.accu_init, variables, loops - 1)?;
    let outer = variables.len();
    variables.extend([comprehension.iter_var.as_str(), comprehension.accu_var.as_str()]);
    variables.extend(comprehension.iter_var2.as_deref());
    for part in [&comprehension.loop_cond, &comprehension.loop_step, &comprehension.result] {
        check(part, variables, loops)?;
    }
    variables.truncate(outer);
    Ok(())
}

fn parts(expression: &Expr) -> Vec<&IdedExpr> {
    match expression {
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|entry| entry_parts(&entry.expr)).collect(),
        Expr::Struct(object) => object.entries.iter().flat_map(|entry| entry_parts(&entry.expr)).collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) | Expr::Comprehension(_) => Vec::new(),
    }
}

fn entry_parts(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}
