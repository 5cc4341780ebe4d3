//! How our programs ask the home API server: when a silent one is left, and that nobody asks again unseen.

use std::time::Duration;

use kube::Config;

/// Longer than the API server keeps a watch open (290 s as kube asks for it): only a peer that is gone is
/// silent for so long.
const SILENCE: Duration = Duration::from_secs(295);

/// kube would ask again after 429, 503 and 504, up to 15 times and each time after as long as Retry-After says.
/// Meanwhile a question waits for its deadline and then does not know the cause, a walk keeps its place, and a watch
/// that has failed is not told of. Who asked decides when to ask again.
pub fn asked_once(mut config: Config) -> Config {
    config.default_retry = false;
    left_after(SILENCE, config)
}

fn left_after(silence: Duration, mut config: Config) -> Config {
    config.read_timeout = Some(silence);
    // A connection that rested before it was asked has not been silent.
    config.reset_reader_on_write = true;
    config
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Instant;

    use k8s_openapi::api::core::v1::Secret;
    use kube::{Api, Client};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Says this to each request, nothing if it is empty, and counts them.
    async fn server(says: &'static str) -> (Config, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::<AtomicUsize>::default();
        let count = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let count = count.clone();
                tokio::spawn(async move {
                    let mut room = [0; 4096];
                    while stream.read(&mut room).await.is_ok_and(|read| read > 0) {
                        count.fetch_add(1, Ordering::SeqCst);
                        stream.write_all(says.as_bytes()).await.unwrap();
                    }
                });
            }
        });
        (Config::new(url.parse().unwrap()), asked)
    }

    async fn ask(config: Config) -> kube::Error {
        let secrets: Api<Secret> = Api::namespaced(Client::try_from(config).unwrap(), "demo");
        let answer = tokio::time::timeout(Duration::from_secs(10), secrets.get("k8s"));
        answer.await.expect("it is answered or left at once").expect_err("there is no Secret")
    }

    #[tokio::test]
    async fn an_api_server_that_is_too_busy_is_asked_once_and_heard_at_once() {
        for (code, says) in [
            (429, "HTTP/1.1 429 X\r\nRetry-After: 600\r\nContent-Length: 0\r\n\r\n"),
            (503, "HTTP/1.1 503 X\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"),
            (504, "HTTP/1.1 504 X\r\nContent-Length: 0\r\n\r\n"),
        ] {
            let (config, asked) = server(says).await;
            let answer = ask(asked_once(config)).await;
            assert!(matches!(&answer, kube::Error::Api(status) if status.code == code), "{answer}");
            assert_eq!(asked.load(Ordering::SeqCst), 1, "{code}");
        }
    }

    #[tokio::test]
    async fn an_api_server_that_falls_silent_is_left() {
        let (config, asked) = server("").await;
        let begun = Instant::now();
        let answer = ask(left_after(Duration::from_millis(100), config)).await;
        assert!(matches!(answer, kube::Error::Service(_) | kube::Error::HyperError(_)), "{answer:?}");
        assert!(asked.load(Ordering::SeqCst) > 0 && begun.elapsed() < Duration::from_secs(5));
    }
}
