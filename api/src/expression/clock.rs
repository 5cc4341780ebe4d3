//! The engine cannot be stopped from outside, so loops stop themselves: each of their turns asks for the time, and
//! fails when there is none left. What has no loops ends soon: expressions are short, and bodies bounded.

use std::iter;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use cel::IdedExpr;
use cel::common::ast::operators::{ADD, CONDITIONAL};
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue};
use cel::common::types::CelBool;
use cel::common::value::CowVal;
use cel::context::VariableResolver;

/// A variable that no text can name, and that is there as long as there is time.
const IN_TIME: &str = "@in_time";

pub struct Clock {
    end: Instant,
    has_ended: AtomicBool,
}

impl Clock {
    pub fn until(end: Instant) -> Clock {
        Clock { end, has_ended: AtomicBool::new(false) }
    }

    /// Whether a loop was ended.
    pub fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }
}

impl VariableResolver for Clock {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        if variable != IN_TIME {
            return None;
        }
        if Instant::now() >= self.end {
            self.has_ended.store(true, Ordering::Relaxed);
            return None;
        }
        Some(CowVal::Borrowed(&CelBool::TRUE))
    }
}

/// The expression, with a question for the time in each of its loops.
pub fn timed(mut expression: IdedExpr) -> IdedExpr {
    put_into_loops(&mut expression);
    expression
}

fn put_into_loops(expression: &mut IdedExpr) {
    parts(&mut expression.expr).into_iter().for_each(put_into_loops);
    if let Expr::Comprehension(comprehension) = &mut expression.expr {
        put_before(place(comprehension));
    }
}

/// In a loop's condition, from which nothing holds an error back. Where that is a plain `true`, in front of what a turn adds:
/// the engine knows by this form the loops that append (`map`, `filter`), and would copy the list in each turn otherwise.
fn place(comprehension: &mut ComprehensionExpr) -> &mut IdedExpr {
    let ComprehensionExpr { loop_cond, loop_step, .. } = comprehension;
    let (Expr::Literal(_), Expr::Call(step)) = (&loop_cond.expr, &mut loop_step.expr) else {
        return loop_cond;
    };
    let added = match step.func_name.as_str() {
        CONDITIONAL => step.args.first_mut(),
        ADD => match step.args.last_mut().map(|last| &mut last.expr) {
            Some(Expr::List(list)) => list.elements.first_mut(),
            _ => None,
        },
        _ => None,
    };
    added.unwrap_or(loop_cond)
}

/// `@in_time ? place : null`, which is `place` or an error.
fn put_before(place: &mut IdedExpr) {
    let inner = std::mem::take(place);
    let of = |expr: Expr| IdedExpr { id: inner.id, expr };
    let (in_time, never) = (of(Expr::Ident(IN_TIME.to_owned())), of(Expr::Literal(LiteralValue::Null)));
    place.id = inner.id;
    let args = vec![in_time, inner, never];
    place.expr = Expr::Call(CallExpr { func_name: CONDITIONAL.to_owned(), target: None, args });
}

pub(super) fn parts(expression: &mut Expr) -> Vec<&mut IdedExpr> {
    match expression {
        Expr::Call(call) => call.target.as_deref_mut().into_iter().chain(&mut call.args).collect(),
        Expr::Comprehension(comprehension) => {
            let ComprehensionExpr { iter_range, accu_init, loop_cond, loop_step, result, .. } =
                &mut **comprehension;
            vec![iter_range, accu_init, loop_cond, loop_step, result]
        }
        Expr::List(list) => list.elements.iter_mut().collect(),
        Expr::Map(map) => map.entries.iter_mut().flat_map(|entry| entry_parts(&mut entry.expr)).collect(),
        Expr::Struct(object) => {
            object.entries.iter_mut().flat_map(|entry| entry_parts(&mut entry.expr)).collect()
        }
        Expr::Select(select) => vec![&mut select.operand],
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
    }
}

pub(super) fn entry_parts(entry: &mut EntryExpr) -> impl Iterator<Item = &mut IdedExpr> {
    let (key, value) = match entry {
        EntryExpr::StructField(field) => (None, &mut field.value),
        EntryExpr::MapEntry(entry) => (Some(&mut entry.key), &mut entry.value),
    };
    key.into_iter().chain(iter::once(value))
}
