//! What the binary logs when the API server's answers cannot be read: kube would log them whole, and RUST_LOG
//! must not bring that back.

use serde_json::json;

use crate::api_server::{ApiServer, connect, gateway, login, token};
use crate::process::{ended, terminate};
use crate::world::run;

#[test]
fn an_unreadable_answer_is_never_logged_whatever_rust_log_asks_for() {
    run(async {
        let token = token();
        let review = json!({"spec": {"token": token}, "status": "broken"});
        let server =
            ApiServer::start("201 Created\r\nContent-Type: application/json", &review.to_string()).await;
        let mut gateway = gateway(&server, "trace,kube_client::client=trace").await;
        let answer = connect(&gateway, &token).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        // Lines are written with a delay: only at the end is the log complete.
        terminate(&gateway);
        assert!(ended(&mut gateway).await.success());
        let text = std::fs::read_to_string(gateway.files.path().join("log")).unwrap();
        assert!(text.contains("its answer cannot be read") && text.contains("TRACE"), "{text}");
        for secret in [token.as_str(), login(&token).as_str(), token.split('.').nth(1).unwrap()] {
            assert!(!text.contains(secret), "{secret} is in the log");
        }
    });
}
