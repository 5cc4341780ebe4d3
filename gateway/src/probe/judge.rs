//! What a class's CEL says of a target's answer. The class is an operator's, but how long it takes is the target's
//! choice: each evaluation has little time, and a namespace that has used up its own comes after the others.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use connectors_api::expression::{Expression, ExpressionError, Response};
use connectors_api::places::{Place, Places};
use http::HeaderValue;
use moka::sync::Cache;

use super::fetch::Fetched;

/// Of one evaluation, with room for a busy machine: a long one takes milliseconds.
const TIME: Duration = Duration::from_millis(500);
/// What has no loops does not look at the time. It keeps its place, and nobody waits longer for it.
const PATIENCE: Duration = Duration::from_secs(2);
/// For a place: some that take all of their time may be before it.
const PLACE_TIME: Duration = Duration::from_secs(8);
/// Evaluations at a time: they take CPU.
static JUDGES: LazyLock<Places> = LazyLock::new(|| Places::new(4, 1));

/// Namespaces that have used up the time of an evaluation lately, and their own place.
static LATE: LazyLock<Cache<String, ()>> =
    LazyLock::new(|| Cache::builder().max_capacity(LATE_NAMESPACES).time_to_live(LATE_TIME).build());
static OF_THE_LATE: LazyLock<Places> = LazyLock::new(|| Places::new(1, 1));
const LATE_NAMESPACES: u64 = 10_000;
const LATE_TIME: Duration = Duration::from_secs(600);

/// Whether the answer is a success; else why nobody can say. Quotes nothing of the target's.
pub(super) async fn judge(namespace: &str, cel: &str, fetched: Fetched) -> Result<bool, String> {
    let Ok(Some(place)) = tokio::time::timeout(PLACE_TIME, place(namespace)).await else {
        return Err("there was no time for it among others that take long: it is tried again".to_owned());
    };
    let cel = cel.to_owned();
    let judged = tokio::task::spawn_blocking(move || {
        let _place = place;
        verdict(&cel, &fetched)
    });
    let outcome = match tokio::time::timeout(PATIENCE, judged).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => return Err("it cannot be evaluated".to_owned()),
        Err(_) => Err(ExpressionError::OutOfTime),
    };
    if outcome == Err(ExpressionError::OutOfTime) {
        LATE.insert(namespace.to_owned(), ());
    }
    outcome.map_err(|error| error.to_string())
}

/// Who was late while another of its namespace waited for a place has made that one late, too.
async fn place(namespace: &str) -> Option<Place> {
    let is_late = || LATE.contains_key(namespace);
    if !is_late() {
        let place = JUDGES.take(namespace).await;
        if !is_late() {
            return place;
        }
    }
    OF_THE_LATE.take(namespace).await
}

fn verdict(cel: &str, fetched: &Fetched) -> Result<bool, ExpressionError> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers: Vec<(String, String)> =
        fetched.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let response = Response { status: fetched.status.as_u16(), headers: &headers, body: &fetched.body };
    Expression::compile(cel)?.evaluate(&response, Instant::now() + TIME)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};
    use tokio::task::JoinSet;

    use super::*;

    const HOPELESS: &str = "response.body.all(a, response.body.all(b, a < 2))";
    const USUAL: &str = "response.statusCode == 200 && response.body.size() > 0";

    fn long_answer() -> Fetched {
        let body = Bytes::from(format!("[{}0]", "1,".repeat(30_000)));
        let headers = HeaderMap::from_iter([(
            http::header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        )]);
        Fetched { status: StatusCode::OK, headers, body }
    }

    /// As twenty tenants whose connectors are of a class that compares each item with each.
    fn hopeless() -> JoinSet<Result<bool, String>> {
        (0..20)
            .flat_map(|number| [number; 3])
            .map(|number| async move { judge(&format!("hopeless-{number}"), HOPELESS, long_answer()).await })
            .collect()
    }

    /// Liveness and authentication.
    async fn both_probes_of_another() -> Duration {
        let begun = Instant::now();
        for _ in 0..2 {
            assert_eq!(judge("other", USUAL, long_answer()).await, Ok(true));
        }
        begun.elapsed()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn twenty_namespaces_that_use_up_all_their_time_delay_another_once_and_a_little() {
        let mut first = hopeless();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let took = both_probes_of_another().await;
        assert!(took < Duration::from_secs(5), "{took:?}");
        for _ in 0..20 {
            let outcome = first.join_next().await.unwrap().unwrap();
            assert!(outcome.as_ref().is_err_and(|why| why.contains("too long")), "{outcome:?}");
        }
        let _others = hopeless();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let took = both_probes_of_another().await;
        assert!(took < Duration::from_secs(2), "they are late, and still before it: {took:?}");
    }
}
