//! CEL over a probe's response: compiled when the class is loaded, evaluated by the gateway after each probe.
//! The body comes from the target: it is bounded, so are the time and the memory that it takes, and neither it nor a header ever
//! shows up in an error.

mod clock;
mod scope;
mod weight;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use cel::common::value::CowVal;
use cel::objects::{Key, Map};
use cel::{Context, ExecutionError, FunctionContext, IdedExpr, Program, Value};
use thiserror::Error;

use self::clock::Clock;
use self::weight::{Scales, WEIGH};

/// Bytes of an expression, brackets open at once, bytes of a body.
pub const MAX_TEXT: usize = 2048;
const MAX_NESTING: usize = 32;
pub const MAX_BODY: usize = 64 * 1024;

const VARIABLE: &str = "response";
const JSON: &str = "application/json";

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ExpressionError {
    #[error("expression is longer than {MAX_TEXT} bytes or nested deeper than {MAX_NESTING} brackets")]
    TooLong,
    #[error("expression does not parse: {0}")]
    Syntax(String),
    #[error("expression names {0:?}: only \"response\" is known")]
    UnknownVariable(String),
    #[error("expression has more than two loops within each other")]
    TooManyLoops,
    #[error("response body is longer than {MAX_BODY} bytes")]
    BodyTooLong,
    #[error("expression cannot be evaluated on this response: {0}")]
    Failed(&'static str),
    #[error("expression does not come out as true or false")]
    NotBool,
    #[error("expression takes too long on this response")]
    OutOfTime,
    #[error("expression makes too much of this response")]
    OutOfRoom,
}

/// A target's answer as an expression sees it: `response.statusCode`, `.headers`, `.bodyString`, `.body`.
pub struct Response<'a> {
    pub status: u16,
    /// In any case; repeats are kept in order.
    pub headers: &'a [(String, String)],
    pub body: &'a [u8],
}

/// A compiled expression, whose loops ask for the time, and which weighs what it copies.
pub struct Expression {
    timed: IdedExpr,
}

type Weigh = Box<
    dyn for<'c, 'v> Fn(&mut FunctionContext<'c, 'v>) -> Result<CowVal<'c, 'v>, ExecutionError> + Send + Sync,
>;

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expression").finish_non_exhaustive()
    }
}

impl Expression {
    pub fn compile(text: &str) -> Result<Expression, ExpressionError> {
        if text.len() > MAX_TEXT || nesting(text) > MAX_NESTING {
            return Err(ExpressionError::TooLong);
        }
        let program = Program::compile(text)
            .map_err(|errors| ExpressionError::Syntax(first_line(&errors.to_string())))?;
        match scope::check(program.expression(), &mut vec![VARIABLE], 0) {
            Ok(()) => Ok(Expression { timed: clock::timed(weight::weighed(program.expression().clone())) }),
            Err(scope::Problem::Unknown(name)) => Err(ExpressionError::UnknownVariable(name)),
            Err(scope::Problem::TooManyLoops) => Err(ExpressionError::TooManyLoops),
        }
    }

    /// Whether the response is a success. Loops end at `deadline`.
    pub fn evaluate(&self, response: &Response<'_>, deadline: Instant) -> Result<bool, ExpressionError> {
        if response.body.len() > MAX_BODY {
            return Err(ExpressionError::BodyTooLong);
        }
        let (clock, scales) = (Clock::until(deadline), Scales::default());
        let mut context = Context::default();
        let own = scales.clone();
        let weigh: Weigh = Box::new(move |call| own.weigh(call));
        context.add_function(WEIGH, weigh).map_err(|_| ExpressionError::Failed("it cannot be weighed"))?;
        context.set_variable_resolver(&clock);
        context.add_variable_from_value(VARIABLE, variable(response));
        let outcome = Value::resolve(&self.timed, &context);
        match outcome {
            // First: an operator may have taken the end of a loop for one of its operands' errors.
            _ if clock.has_ended() => Err(ExpressionError::OutOfTime),
            _ if scales.are_full() => Err(ExpressionError::OutOfRoom),
            Ok(Value::Bool(success)) => Ok(success),
            Ok(_) => Err(ExpressionError::NotBool),
            Err(error) => Err(ExpressionError::Failed(kind(&error))),
        }
    }
}

/// Deepest nesting of brackets; those in string literals count too.
fn nesting(text: &str) -> usize {
    let mut open = 0usize;
    let depths = text.bytes().map(|byte| {
        match byte {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        open
    });
    depths.max().unwrap_or(0)
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// What went wrong, without the values that the engine's own text quotes.
fn kind(error: &ExecutionError) -> &'static str {
    match error {
        ExecutionError::NoSuchKey(_) => "a field is missing",
        ExecutionError::UndeclaredReference(_) => "a function or variable is unknown",
        ExecutionError::IndexOutOfBounds(_) => "a list is too short",
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "division by zero",
        ExecutionError::Overflow(..) => "a number overflows",
        ExecutionError::FunctionError { .. } => "a function failed",
        _ => "the types do not fit",
    }
}

fn variable(response: &Response<'_>) -> Value {
    let text = String::from_utf8_lossy(response.body);
    map([
        ("statusCode".into(), Value::Int(response.status.into())),
        ("headers".into(), headers(response.headers)),
        ("body".into(), body(response, &text)),
        ("bodyString".into(), string(&text)),
    ])
}

/// Every header under its canonical and its lower-case name: published examples use both.
fn headers(headers: &[(String, String)]) -> Value {
    let mut lists: HashMap<String, Vec<Value>> = HashMap::new();
    for (name, value) in headers {
        let (canonical, lower) = (canonical(name), name.to_ascii_lowercase());
        if canonical != lower {
            lists.entry(canonical).or_default().push(string(value));
        }
        lists.entry(lower).or_default().push(string(value));
    }
    map(lists.into_iter().map(|(name, values)| (name, Value::List(Arc::new(values)))))
}

/// `content-type` → `Content-Type`, as Go does.
fn canonical(name: &str) -> String {
    let part = |part: &str| {
        part.get(..1).unwrap_or_default().to_ascii_uppercase() + part.get(1..).unwrap_or_default()
    };
    name.to_ascii_lowercase().split('-').map(part).collect::<Vec<_>>().join("-")
}

/// Parsed if it is declared as JSON and is; else the text, so that `response.body.contains(…)` works.
fn body(response: &Response<'_>, text: &str) -> Value {
    let is_json =
        |value: &str| value.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case(JSON));
    let declared = response
        .headers
        .iter()
        .any(|(name, value)| name.eq_ignore_ascii_case("content-type") && is_json(value));
    let parsed = if declared { serde_json::from_slice(response.body).ok() } else { None };
    parsed.map_or_else(|| string(text), from_json)
}

/// Integers as i64: as the engine's own conversion makes them, 200 would not add to 1.
fn from_json(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(flag) => Value::Bool(flag),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(integer) => Value::Int(integer),
            None => Value::Float(number.as_f64().unwrap_or_default()),
        },
        serde_json::Value::String(text) => string(&text),
        serde_json::Value::Array(items) => Value::List(Arc::new(items.into_iter().map(from_json).collect())),
        serde_json::Value::Object(fields) => {
            map(fields.into_iter().map(|(key, value)| (key, from_json(value))))
        }
    }
}

fn string(text: &str) -> Value {
    Value::String(Arc::new(text.to_owned()))
}

fn map(fields: impl IntoIterator<Item = (String, Value)>) -> Value {
    let key = |name: String| Key::String(Arc::new(name));
    Value::Map(Map { map: Arc::new(fields.into_iter().map(|(name, value)| (key(name), value)).collect()) })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn evaluate(text: &str, body: &str) -> Result<bool, ExpressionError> {
        let headers = [
            ("content-TYPE", "application/json; charset=utf-8"),
            ("Set-Cookie", "a=1"),
            ("set-cookie", "b=2"),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let response = Response { status: 200, headers: &headers, body: body.as_bytes() };
        Expression::compile(text)?.evaluate(&response, soon())
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn documented_expressions_judge_a_response() {
        let body = r#"{"status":"UP","valid":true,"uptime":61,"load":0.5,"errors":[],"nested":{"a":[1,2]},"big":18446744073709551615}"#;
        for (text, expected) in [
            ("response.statusCode == 200 && response.body.status == 'UP'", true),
            ("response.statusCode == 200 && response.body.valid == true", true),
            ("response.statusCode + 1 == 201", true),
            ("response.statusCode >= 200 && response.statusCode < 300", true),
            ("response.body.uptime > 60 && response.body.errors.size() == 0", true),
            ("response.body.uptime + 1 == 62", true),
            ("response.body.load < 1.0", true),
            ("response.body.load < 1", true),
            ("response.body.nested.a[1] == 2", true),
            ("response.body.nested.a.exists(x, x == 2)", true),
            ("response.headers['content-type'][0].startsWith('application/json')", true),
            ("response.headers['Content-Type'][0].startsWith('application/json')", true),
            (
                "response.headers['Set-Cookie'].size() == 2 && response.headers['set-cookie'][1] == 'b=2'",
                true,
            ),
            ("response.bodyString.contains('UP') && !response.bodyString.contains('error ')", true),
            ("has(response.body.status) && !has(response.body.nope)", true),
            ("response.bodyString.matches('\"status\":\"(UP|OK)\"')", true),
            ("response.statusCode in [201, 204]", false),
            ("response.body.status == 'DOWN'", false),
        ] {
            assert_eq!(evaluate(text, body), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_body_that_is_no_json_is_text() {
        for body in ["success", "{broken"] {
            assert_eq!(
                evaluate("response.body.contains('s') || response.body == '{broken'", body),
                Ok(true),
                "{body}"
            );
        }
        let plain = Response { status: 200, headers: &[], body: b"{\"a\":1}\xff" };
        let expression = Expression::compile("response.body.startsWith('{') && response.headers.size() == 0")
            .expect("valid");
        assert_eq!(expression.evaluate(&plain, soon()), Ok(true));
    }

    #[test]
    fn mistakes_are_found_when_the_class_is_loaded() {
        for text in ["", "response.statusCode ==", "response.(", "'open"] {
            assert!(matches!(Expression::compile(text), Err(ExpressionError::Syntax(_))), "{text}");
        }
        let loops = "[1].all(a, [1].all(b, [1].all(c, true)))";
        assert_eq!(Expression::compile(loops).expect_err(loops), ExpressionError::TooManyLoops);
        for (text, name) in [
            ("response.body.all(x, y)", "y"),
            ("statusCode == 200", "statusCode"),
            ("bodyJSON.status == 'UP'", "bodyJSON"),
        ] {
            let error = Expression::compile(text).expect_err(text);
            assert_eq!(error, ExpressionError::UnknownVariable(name.into()), "{text}");
        }
    }

    #[test]
    fn a_failing_evaluation_says_why_and_quotes_nothing() {
        let body = r#"{"secret":"S3CRET","list":["S3CRET"]}"#;
        for (text, error) in [
            ("response.body.nope == 'x'", ExpressionError::Failed("a field is missing")),
            ("response.body.list[3] == 'x'", ExpressionError::Failed("a list is too short")),
            ("response.body.secret + 1 == 2", ExpressionError::Failed("the types do not fit")),
            ("response.body.secret", ExpressionError::NotBool),
            ("response.statusCode / 0 == 1", ExpressionError::Failed("division by zero")),
        ] {
            assert_eq!(evaluate(text, body), Err(error.clone()), "{text}");
            assert!(!error.to_string().contains("S3CRET"));
        }
    }

    #[test]
    fn inputs_are_bounded() {
        let long = format!("response.statusCode == 200{}", " ".repeat(MAX_TEXT));
        let deep = format!("{}true{}", "(".repeat(MAX_NESTING + 1), ")".repeat(MAX_NESTING + 1));
        for text in [long, deep] {
            assert_eq!(Expression::compile(&text).expect_err("bounded"), ExpressionError::TooLong);
        }
        assert_eq!(evaluate("true", &"x".repeat(MAX_BODY + 1)), Err(ExpressionError::BodyTooLong));
        assert_eq!(evaluate("true", &"x".repeat(MAX_BODY)), Ok(true));
    }

    #[test]
    fn the_longest_expressions_fit_on_a_small_stack() {
        let parens = format!("{}true{}", "(".repeat(MAX_NESTING), ")".repeat(MAX_NESTING));
        let fields = format!("response{}", ".a".repeat(1000));
        let sums = format!("{}1 == 1", "1+".repeat(1000));
        let choices = format!("{}true", "true?true:".repeat(200));
        for text in [parens, "!".repeat(2000) + "true", fields, sums, choices, "-".repeat(2000) + "1 == 1"] {
            if let Ok(expression) = Expression::compile(&text) {
                let nothing = Response { status: 200, headers: &[], body: b"" };
                let outcome = expression.evaluate(&nothing, soon());
                assert!(outcome != Err(ExpressionError::NotBool), "{}", &text[..20]);
            }
        }
    }
    /// The target chooses how long the lists are that a class loops over.
    #[test]
    fn loops_end_when_their_time_is_over_whatever_they_are_made_of() {
        let body = format!("[{}0]", "1,".repeat(MAX_BODY / 2 - 2));
        for text in [
            "response.body.all(a, response.body.all(b, a < 2))",
            "response.body.exists(a, response.body.exists(b, a > 2))",
            "response.body.exists_one(a, response.body.exists_one(b, a > 2))",
            "response.body.map(a, response.body.map(b, b)).size() > 0",
            "response.body.map(a, a < 2, response.body.map(b, b)).size() > 0",
            "response.body.filter(a, response.body.filter(b, b > 2).size() > 0).size() > 0",
            "[response.body].all(l, l.all(a, !(2 in l)))",
            "response.body.all(a, response.body.all(b, a < 2)) || true",
            "true || response.body.all(a, response.body.all(b, a < 2))",
        ] {
            let begun = Instant::now();
            let headers = [("content-type".to_owned(), JSON.to_owned())];
            let response = Response { status: 200, headers: &headers, body: body.as_bytes() };
            let expression = Expression::compile(text).unwrap();
            let outcome = expression.evaluate(&response, begun + Duration::from_millis(100));
            let expected =
                if text.starts_with("true ||") { Ok(true) } else { Err(ExpressionError::OutOfTime) };
            // Lists of lists may take too much room before.
            let is_full = text.contains(".map(") && outcome == Err(ExpressionError::OutOfRoom);
            assert!(outcome == expected || is_full, "{text}: {outcome:?}");
            assert!(begun.elapsed() < Duration::from_secs(2), "{text} took {:?}", begun.elapsed());
        }
    }

    #[test]
    fn loops_that_ask_for_the_time_come_out_as_before() {
        let body = r#"{"list":[3,1,2],"none":[]}"#;
        for (text, expected) in [
            ("response.body.list.all(a, a > 0) && !response.body.list.all(a, a > 1)", true),
            ("response.body.none.all(a, a > 1) && !response.body.none.exists(a, a > 1)", true),
            ("response.body.list.exists(a, a == 2) && !response.body.list.exists(a, a == 4)", true),
            ("response.body.list.exists_one(a, a == 2) && !response.body.list.exists_one(a, a > 1)", true),
            ("response.body.list.map(a, a * 2) == [6, 2, 4]", true),
            ("response.body.list.map(a, a > 1, a * 2) == [6, 4]", true),
            ("response.body.list.filter(a, a > 1) == [3, 2]", true),
            ("response.body.list.all(a, a / 0 == 1 || a > 0)", true),
            ("response.body.all(key, key in ['list', 'none'])", true),
        ] {
            assert_eq!(evaluate(text, body), Ok(expected), "{text}");
        }
    }
}
