//! A Secret of a Connector's namespace, as the API server has it now. Whoever may write Secrets decides how large
//! the answers are and how often they are asked for: few of them are in memory at a time, fewer of one namespace,
//! and large ones are looked at beside the one task of all walks.

use std::pin::pin;
use std::sync::Arc;

use connectors_api::Connector;
use connectors_api::names::is_object_name;
use connectors_api::places::{Place, Places};
use futures::AsyncReadExt;
use k8s_openapi::api::core::v1::Secret;
use kube::core::{Request, params::GetParams};
use kube::{Client, Resource, ResourceExt};
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::Version;
use crate::error::{Error, in_time};

/// A Secret's values have at most 1 MiB, which base64 makes 1.4; metadata comes on top.
const MAX_BYTES: u64 = 2 << 20;
/// Answers in memory, of all namespaces and of one.
const AT_ONCE: usize = 16;
const OF_ONE_NAMESPACE: usize = 2;
/// Looked at where it is: it takes less time than to hand it over and to wait.
const SMALL: usize = 16 << 10;
/// Large answers that are looked at at a time: some processor is left for all walks.
const LOOKS: usize = 2;

pub struct Reader {
    client: Client,
    places: Places,
    looks: Arc<Semaphore>,
}

/// The answer as it came. kube's own parsing logs a text that it cannot parse, and this one holds
/// credentials.
struct Answer {
    json: Vec<u8>,
    place: Option<Place>,
}

enum Part {
    Whole,
    Metadata,
}

impl Reader {
    pub fn new(client: Client) -> Reader {
        Reader {
            client,
            places: Places::new(AT_ONCE, OF_ONE_NAMESPACE),
            looks: Arc::new(Semaphore::new(LOOKS)),
        }
    }

    /// What `look` makes of it, `None` if there is none.
    pub async fn whole<T: Send + 'static>(
        &self,
        connector: &Connector,
        name: &str,
        look: impl FnOnce(&[u8]) -> serde_json::Result<T> + Send + 'static,
    ) -> Result<Option<T>, Error> {
        self.ask(connector, name, Part::Whole, look).await
    }

    /// Costs little, however large the Secret is.
    pub async fn version(&self, connector: &Connector, name: &str) -> Result<Option<Version>, Error> {
        #[derive(Deserialize)]
        struct Head {
            metadata: Version,
        }
        let version = |json: &[u8]| serde_json::from_slice(json).map(|Head { metadata }| metadata);
        self.ask(connector, name, Part::Metadata, version).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        connector: &Connector,
        name: &str,
        part: Part,
        look: impl FnOnce(&[u8]) -> serde_json::Result<T> + Send + 'static,
    ) -> Result<Option<T>, Error> {
        // kube puts a name into the URL as it is: one with a `?` would ask for a list or a watch.
        if !is_object_name(name) {
            return Ok(None);
        }
        let namespace = connector.namespace().unwrap_or_default();
        let place = self.places.take(&namespace).await;
        let answer = in_time(self.answer(place, &namespace, name, part)).await;
        let answer = match answer.attempt(|| format!("read secret {name:?}")) {
            Err(error) if error.is_not_found() => return Ok(None),
            answer => answer?,
        };
        // Without the cause: it would quote what could not be read.
        let unread = |_| Error::Api {
            action: format!("cannot read secret {name:?}"),
            source: kube::Error::Service("its answer cannot be read".into()),
        };
        self.look(answer, look).await?.map(Some).map_err(unread)
    }

    async fn answer(
        &self,
        place: Option<Place>,
        namespace: &str,
        name: &str,
        part: Part,
    ) -> Result<Answer, kube::Error> {
        let secrets = Request::new(Secret::url_path(&(), Some(namespace)));
        let request = match part {
            Part::Whole => secrets.get(name, &GetParams::default()),
            Part::Metadata => secrets.get_metadata(name, &GetParams::default()),
        };
        let request = request.map_err(kube::Error::BuildRequest)?;
        let mut json = Vec::new();
        let mut answer = pin!(self.client.request_stream(request).await?.take(MAX_BYTES + 1));
        answer.read_to_end(&mut json).await.map_err(kube::Error::ReadEvents)?;
        if json.len() as u64 > MAX_BYTES {
            return Err(kube::Error::Service(format!("the answer is longer than {MAX_BYTES} bytes").into()));
        }
        Ok(Answer { json, place })
    }

    async fn look<T: Send + 'static>(
        &self,
        Answer { json, place }: Answer,
        look: impl FnOnce(&[u8]) -> T + Send + 'static,
    ) -> Result<T, Error> {
        if json.len() <= SMALL {
            return Ok(look(&json));
        }
        let turn = self.looks.clone().acquire_owned().await;
        let looked = tokio::task::spawn_blocking(move || {
            // Given back at the end of the look, also where its walk was given up before.
            let _held = (turn, place);
            look(&json)
        });
        looked.await.map_err(|_| Error::Ended("a look at a secret"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use connectors_testenv::eventually;
    use serde::de::IgnoredAny;
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::watch;
    use tokio::time::timeout;

    use super::super::SecretShape;
    use super::*;

    /// An API server that gives each request the same answer: `body`, as often as the client takes it.
    async fn answering(body: &'static str, times: usize) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
                let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
                let mut written = stream.write_all(head.as_bytes()).await;
                for _ in 0..times {
                    written = if written.is_ok() { stream.write_all(body.as_bytes()).await } else { break };
                }
            }
        });
        Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap()
    }

    /// An API server that gives no answer before it may, and how many it was asked for.
    async fn waiting(may: watch::Receiver<bool>) -> (Client, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (mut may, asked) = (may.clone(), counted.clone());
                tokio::spawn(async move {
                    assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
                    asked.fetch_add(1, Ordering::SeqCst);
                    may.wait_for(|may| *may).await.unwrap();
                    let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"metadata\": {}}";
                    stream.write_all(answer.as_bytes()).await.unwrap();
                });
            }
        });
        (Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap(), asked)
    }

    fn connector(namespace: &str) -> Connector {
        serde_json::from_value(json!({"metadata": {"name": "c", "namespace": namespace}, "spec": {}}))
            .unwrap()
    }

    #[tokio::test]
    async fn few_answers_are_in_memory_at_a_time_and_fewer_of_one_namespace() {
        let (may, wait) = watch::channel(false);
        let (client, asked) = waiting(wait).await;
        let reader = Arc::new(Reader::new(client));
        let ask = |namespace: String| {
            let reader = reader.clone();
            tokio::spawn(async move { reader.version(&connector(&namespace), "s").await.is_ok() })
        };
        let are_asked = async |number: usize| {
            eventually("they are asked for", async || asked.load(Ordering::SeqCst) == number).await;
        };
        let mut asks = vec![ask("0".to_owned()), ask("0".to_owned())];
        are_asked(OF_ONE_NAMESPACE).await;
        let waits = async |namespace: &str| {
            let soon = Duration::from_millis(50);
            assert!(timeout(soon, reader.version(&connector(namespace), "s")).await.is_err());
        };
        waits("0").await;
        for namespace in 1..AT_ONCE / OF_ONE_NAMESPACE {
            asks.extend([ask(namespace.to_string()), ask(namespace.to_string())]);
        }
        are_asked(AT_ONCE).await;
        waits("another").await;
        are_asked(AT_ONCE).await;
        may.send(true).unwrap();
        for asked in asks {
            assert!(asked.await.unwrap());
        }
        assert!(reader.version(&connector("another"), "s").await.is_ok());
    }

    async fn outcome(body: &'static str, times: usize, name: &str) -> String {
        let shape = |json: &[u8]| serde_json::from_slice::<SecretShape<IgnoredAny>>(json);
        match Reader::new(answering(body, times).await).whole(&connector("demo"), name, shape).await {
            Ok(secret) => secret.map_or("none".to_owned(), |_| "read".to_owned()),
            Err(error) => error.to_string(),
        }
    }

    #[tokio::test]
    async fn an_answer_is_bounded_and_what_cannot_be_read_of_it_is_not_quoted() {
        const SECRET: &str = r#"{"metadata": {"resourceVersion": "1"}, "data": {"token": "aHVudGVyMg=="}}"#;
        for (body, times, name, expected) in [
            (SECRET, 1, "s", "read"),
            (SECRET, 1, "s?watch=true", "none"),
            (SECRET, 1, "", "none"),
            (SECRET, usize::MAX, "s", "cannot read secret \"s\": the answer is longer than 2097152 bytes"),
            (r#"{"metadata": "hunter2"}"#, 1, "s", "cannot read secret \"s\": its answer cannot be read"),
        ] {
            assert_eq!(outcome(body, times, name).await, expected);
        }
    }
}
