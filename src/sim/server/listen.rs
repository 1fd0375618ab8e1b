//! The server over HTTP, for who is not in this process: `kubectl`, or a manager of its own.
//!
//! It is the same service with the same faults. Who asks is who says so: a bearer token that is the name of a ServiceAccount
//! (`system:serviceaccount:namespace:name`) makes one of it, anybody else is an administrator. A connection that breaks in the
//! simulation breaks here within the answer.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::body::Body as Answer;
use axum::extract::Request;
use capm3_runtime::Tasks;
use http::{Response, header};
use http_body_util::BodyExt;
use tokio::net::TcpListener;

use super::Server;
use super::call::User;

impl Server {
    /// Serves at the address until the tasks are stopped; returns where that is, which tells the port when none was asked for.
    pub async fn listen(&self, address: SocketAddr, tasks: &Tasks) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let server = self.clone();
        let app = Router::new().fallback(move |request: Request| async move { server.over_http(request).await });
        tasks.spawn("simulated API server", async move {
            if let Err(error) = axum::serve(listener, app).await {
                tracing::error!(%error, "the simulated API server no longer listens");
            }
        });
        Ok(address)
    }

    async fn over_http(&self, request: Request) -> Response<Answer> {
        let (parts, body) = request.into_parts();
        let bearer = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let user = user(bearer.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default());
        let answered = match body.collect().await {
            Ok(body) => self.shared.answer(&user, &parts, &body.to_bytes()).await,
            Err(error) => Err(error.into()),
        };
        answered.unwrap_or_else(|error| {
            let broken = futures::stream::iter([Err::<axum::body::Bytes, _>(error)]);
            Response::new(Answer::from_stream(broken))
        })
    }
}

fn user(token: &str) -> User {
    match token.split(':').collect::<Vec<_>>().as_slice() {
        ["system", "serviceaccount", namespace, name] => User::service_account(namespace, name),
        _ => User::admin(),
    }
}
