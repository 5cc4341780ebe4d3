//! Stands between a controller and the API server: holds requests up, or answers them itself.

use http::{Method, Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;

/// `see` is told method and path of each request, before the API server is; what it answers is the answer.
pub fn client<F>(real: Client, see: impl Fn(Method, String) -> F + Clone + Send + 'static) -> Client
where
    F: Future<Output = Option<StatusCode>> + Send + 'static,
{
    client_by_head(real, move |head| see(head.method().clone(), head.uri().path().to_owned()))
}

/// As `client`, for what only a header tells.
pub fn client_by_head<F>(real: Client, see: impl Fn(&Request<Body>) -> F + Clone + Send + 'static) -> Client
where
    F: Future<Output = Option<StatusCode>> + Send + 'static,
{
    let service = tower::service_fn(move |request: Request<Body>| {
        let seen = see(&request);
        let real = real.clone();
        async move {
            match seen.await {
                Some(status) => {
                    let mut answer = Response::new(Body::empty());
                    *answer.status_mut() = status;
                    Ok(answer)
                }
                None => real.send(request).await,
            }
        }
    });
    Client::new(service, "default")
}
