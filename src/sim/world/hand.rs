//! How a scenario or an actor does something in a world, and waits for what comes of it.

use std::time::Duration;

use capm3_runtime::{Key, Preconditions, WriteError, Writer};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::kinds::Kind;
use crate::server::{Server, User};

/// How often a wait looks, in virtual time.
const LOOK: Duration = Duration::from_millis(100);

/// Why a scenario cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Stuck {
    #[error("{what} was refused: {source}")]
    Refused { what: String, source: Box<WriteError> },
    #[error("{what} never came; there is {there}")]
    NeverCame { what: String, there: String },
    #[error("{0}")]
    Broken(String),
}

/// Writes as an administrator in one namespace. Clones share the client.
#[derive(Clone)]
pub struct Hand {
    server: Server,
    namespace: String,
    writer: Writer,
}

impl Hand {
    /// Must be called in a runtime.
    pub fn new(server: Server, user: User, namespace: &str) -> Self {
        let writer = Writer::uncached(server.client(user));
        Self { server, namespace: namespace.to_owned(), writer }
    }

    fn key(&self, name: &str) -> Key {
        Key::new(&self.namespace, name)
    }

    /// The kind's apiVersion and the namespace are put in where the body has none.
    pub async fn create(&self, kind: Kind, mut body: Value) -> Result<Value, Stuck> {
        let metadata = &mut body["metadata"];
        if metadata["namespace"].is_null() && kind.plural != "namespaces" && kind.plural != "nodes" {
            metadata["namespace"] = self.namespace.clone().into();
        }
        let what = || format!("{} {}", kind.kind, body["metadata"]["name"]);
        match self.writer.create_dynamic(&kind.resource(), body.clone()).await {
            Ok(created) => serde_json::to_value(created).map_err(|error| Stuck::Broken(error.to_string())),
            Err(source) => Err(Stuck::Refused { what: what(), source: Box::new(source) }),
        }
    }

    pub async fn patch(&self, kind: Kind, name: &str, patch: Value) -> Result<(), Stuck> {
        let done = self.writer.patch_dynamic(&kind.resource(), &self.key(name), patch, &Preconditions::none()).await;
        done.map(drop).map_err(|source| refused(kind, name, source))
    }

    /// What is gone already counts as deleted.
    pub async fn delete(&self, kind: Kind, name: &str) -> Result<(), Stuck> {
        match self.writer.delete_dynamic(&kind.resource(), &self.key(name), &Preconditions::none()).await {
            Ok(_) | Err(WriteError::NotFound(_)) => Ok(()),
            Err(source) => Err(refused(kind, name, source)),
        }
    }

    /// Null when it is not there. Looks at what is stored: no request.
    pub fn get(&self, kind: Kind, name: &str) -> Value {
        self.server.get(&kind.filed(), &self.namespace, name).map(|object| Value::clone(&object)).unwrap_or_default()
    }

    /// Waits until the object, null when it is not there, is as wanted.
    pub async fn until(
        &self,
        bound: Duration,
        (kind, name): (Kind, &str),
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value, Stuck> {
        let wait = async {
            loop {
                let object = self.get(kind, name);
                if wanted(&object) {
                    return object;
                }
                sleep(LOOK).await;
            }
        };
        timeout(bound, wait).await.map_err(|_| Stuck::NeverCame {
            what: format!("{what} ({} {name})", kind.kind),
            there: self.get(kind, name).to_string(),
        })
    }
}

fn refused(kind: Kind, name: &str, source: WriteError) -> Stuck {
    Stuck::Refused { what: format!("{} {name}", kind.kind), source: Box::new(source) }
}
