//! Time alone bounds no memory: a loop may copy a body in each of its turns, and a chain of them double it each time. What is
//! copied are the parts of sums, lists and maps, so each of them is weighed before.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cel::common::ast::operators::ADD;
use cel::common::ast::{CallExpr, Expr, LiteralValue};
use cel::common::types::{CelBytes, CelList, CelMap, CelString};
use cel::common::value::{CowVal, Val};
use cel::{ExecutionError, FunctionContext, IdedExpr};

use super::clock::{entry_parts, parts};

/// Of all parts of one evaluation. Many times what the longest body takes, and little for a gateway.
const MOST: usize = 16 << 20;
/// Of any value, beside its text.
const VALUE: usize = 48;

/// A function that no text can name: it returns what it is given, as long as there is room.
pub const WEIGH: &str = "@weigh";

#[derive(Clone, Default)]
pub struct Scales(Arc<AtomicUsize>);

impl Scales {
    pub fn are_full(&self) -> bool {
        self.0.load(Ordering::Relaxed) > MOST
    }

    pub fn weigh<'c, 'v>(
        &self,
        call: &mut FunctionContext<'c, 'v>,
    ) -> Result<CowVal<'c, 'v>, ExecutionError> {
        let value = call.args.pop().ok_or_else(|| call.error("nothing to weigh"))?;
        let bytes = weight(value.as_ref());
        match self.0.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= MOST {
            true => Ok(value),
            false => Err(call.error("too heavy")),
        }
    }
}

fn weight(value: &dyn Val) -> usize {
    let inside = if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        text.inner().len()
    } else if let Some(bytes) = value.downcast_ref::<CelBytes<'_>>() {
        bytes.inner().len()
    } else if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        list.inner().iter().map(|item| weight(item.as_ref())).sum()
    } else if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
        map.inner().iter().map(|(key, value)| weight(key.inner()) + weight(value.as_ref())).sum()
    } else {
        0
    };
    VALUE + inside
}

/// The expression, with scales under all that is copied.
pub fn weighed(mut expression: IdedExpr) -> IdedExpr {
    put_under(&mut expression);
    expression
}

fn put_under(expression: &mut IdedExpr) {
    parts(&mut expression.expr).into_iter().for_each(put_under);
    let copied: Vec<&mut IdedExpr> = match &mut expression.expr {
        Expr::Call(call) if call.func_name == ADD => call.args.iter_mut().collect(),
        Expr::List(list) => list.elements.iter_mut().collect(),
        Expr::Map(map) => map.entries.iter_mut().flat_map(|entry| entry_parts(&mut entry.expr)).collect(),
        _ => Vec::new(),
    };
    copied.into_iter().filter(|part| may_be_heavy(&part.expr)).for_each(weigh);
}

/// The parts of a sum within a sum, and of a list, are weighed already; and what a loop has collected so far, which has a name
/// that no text can have. The engine knows its loops by that form.
fn may_be_heavy(part: &Expr) -> bool {
    match part {
        Expr::Ident(name) => !name.starts_with('@'),
        Expr::Literal(literal) => matches!(literal, LiteralValue::String(_) | LiteralValue::Bytes(_)),
        Expr::Call(call) => call.func_name != ADD,
        Expr::List(_) | Expr::Map(_) => false,
        _ => true,
    }
}

fn weigh(part: &mut IdedExpr) {
    let inner = std::mem::take(part);
    part.id = inner.id;
    part.expr = Expr::Call(CallExpr { func_name: WEIGH.to_owned(), target: None, args: vec![inner] });
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use crate::expression::{Expression, ExpressionError, MAX_BODY, Response};

    /// Of a list as long as a body may have it.
    fn evaluate(text: &str) -> Result<bool, ExpressionError> {
        let body = format!("[{}0]", "1,".repeat(MAX_BODY / 2 - 2));
        let headers = [("content-type".to_owned(), "application/json".to_owned())];
        let response = Response { status: 200, headers: &headers, body: body.as_bytes() };
        Expression::compile(text)?.evaluate(&response, Instant::now() + Duration::from_secs(10))
    }

    /// Each of these would take gigabytes, in little time.
    #[test]
    fn what_would_copy_a_response_without_end_is_given_up() {
        let chained = |turn: &str| format!("[response.bodyString]{}.size() > 0", turn.repeat(30));
        let turns = [".map(a, a + a)", ".map(a, [a, a])", ".map(a, {'1': a, '2': a})", ".map(a, [a] + [a])"];
        let texts = turns.into_iter().map(chained).chain([
            "response.body.map(a, response.bodyString).size() > 0".to_owned(),
            "response.body.all(a, (response.bodyString + response.bodyString).size() > 0) || true".to_owned(),
            format!("response.body.map(a, '{}').size() > 0", "x".repeat(1900)),
        ]);
        for text in texts {
            assert_eq!(evaluate(&text), Err(ExpressionError::OutOfRoom), "{text}");
        }
        for text in [
            "(response.bodyString + response.bodyString).size() > 1000 && response.body.map(a, a + 1).size() > 0",
            "response.body.map(a, [a, a]).map(l, l + l).size() > 0",
        ] {
            assert_eq!(evaluate(text), Ok(true), "{text}");
        }
    }
}
