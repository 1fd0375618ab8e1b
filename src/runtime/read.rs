//! Reads past the caches, where a rule demands to know what is true now.
//!
//! Replies are parsed here and never logged: some of them are Secrets.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, ObjectMeta};
use kube::Client;
use kube::core::params::{GetParams, ListParams};
use kube::core::{ApiResource, DynamicObject, Request};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::controller::{ReconcileError, Retry};
use crate::object::{Key, Kind, Object};

const DEADLINE: Duration = Duration::from_secs(15);
const PAGE: u32 = 500;

#[derive(Clone)]
pub struct Reader {
    client: Client,
    deadline: Duration,
}

#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// None lists all namespaces.
    pub namespace: Option<String>,
    pub label_selector: Option<String>,
    pub field_selector: Option<String>,
}

impl ListOptions {
    pub fn namespace(namespace: impl Into<String>) -> Self {
        Self { namespace: Some(namespace.into()), ..Self::default() }
    }

    pub fn labels(mut self, selector: impl Into<String>) -> Self {
        self.label_selector = Some(selector.into());
        self
    }
}

/// Which API server answers. Some add a `+` to the minor version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ServerVersion {
    #[serde(default)]
    pub major: String,
    #[serde(default)]
    pub minor: String,
}

/// A read that gave no answer; "not there" is an answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("not allowed to read {what}")]
    Forbidden { what: String, source: Box<kube::Error> },
    /// The kind itself is unknown to the API server.
    #[error("the API server does not serve {what}")]
    NoSuchKind { what: String, source: Box<kube::Error> },
    #[error("cannot read {what}")]
    Failed { what: String, source: Box<kube::Error> },
    #[error("no answer in time for {what}")]
    Timeout { what: String },
    #[error("{what} does not parse")]
    Unparsable { what: String, source: serde_json::Error },
}

impl ReconcileError for ReadError {
    fn category(&self) -> &'static str {
        match self {
            Self::Forbidden { .. } => "ReadForbidden",
            Self::NoSuchKind { .. } => "KindMissing",
            Self::Failed { .. } | Self::Timeout { .. } => "ReadFailed",
            Self::Unparsable { .. } => "Unparsable",
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::NoSuchKind { .. } => Retry::After(Duration::from_secs(30)),
            Self::Forbidden { .. } | Self::Failed { .. } | Self::Timeout { .. } | Self::Unparsable { .. } => {
                Retry::Backoff
            }
        }
    }
}

impl Reader {
    pub fn new(client: Client) -> Self {
        Self { client, deadline: DEADLINE }
    }

    pub fn with_deadline(client: Client, deadline: Duration) -> Self {
        Self { client, deadline }
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    pub async fn get<K: Object>(&self, key: &Key) -> Result<Option<K>, ReadError> {
        self.get_kind(&Kind::of::<K>(), key).await
    }

    pub async fn version(&self) -> Result<ServerVersion, ReadError> {
        let what = || "the version of the API server".to_owned();
        let request = http::Request::get("/version").body(Vec::new());
        let request =
            request.map_err(|error| kube::Error::BuildRequest(kube::core::request::Error::BuildRequest(error)));
        parse(&self.text(request, &what).await?, &what)
    }

    /// For references whose kind is only known at run time.
    pub async fn get_dynamic(&self, resource: &ApiResource, key: &Key) -> Result<Option<DynamicObject>, ReadError> {
        self.get_kind(&Kind::dynamic(resource), key).await
    }

    /// Everything that matches, page by page, in the API server's order (namespace, then name).
    pub async fn list<K: Object>(&self, options: &ListOptions) -> Result<Vec<K>, ReadError> {
        self.list_kind(&Kind::of::<K>(), options).await
    }

    pub async fn list_dynamic(
        &self,
        resource: &ApiResource,
        options: &ListOptions,
    ) -> Result<Vec<DynamicObject>, ReadError> {
        self.list_kind(&Kind::dynamic(resource), options).await
    }

    /// The metadata of an object whose kind is only known at run time.
    pub async fn metadata(&self, resource: &ApiResource, key: &Key) -> Result<Option<ObjectMeta>, ReadError> {
        let what = || format!("{} {key}", resource.kind);
        let path = Request::new(Kind::dynamic(resource).path(key.scope()));
        let request = path.get_metadata(&key.name, &GetParams::default());
        match self.text(request.map_err(kube::Error::BuildRequest), &what).await {
            Ok(text) => parse(&text, &what).map(|Partial { metadata }| Some(metadata)),
            Err(ReadError::Failed { source, .. }) if is_missing_object(&source) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One page of the metadata of all objects of a kind in all namespaces, and the token that asks for the next page.
    pub async fn metadata_page(
        &self,
        resource: &ApiResource,
        token: Option<String>,
    ) -> Result<(Vec<ObjectMeta>, Option<String>), ReadError> {
        let what = || resource.plural.clone();
        let params = ListParams { limit: Some(PAGE), continue_token: token, ..ListParams::default() };
        let request = Request::new(Kind::dynamic(resource).path(None)).list_metadata(&params);
        let text = self.text(request.map_err(kube::Error::BuildRequest), &what).await?;
        let page: Page<Partial> = parse(&text, &what)?;
        let items = page.items.into_iter().flatten().map(|Partial { metadata }| metadata).collect();
        Ok((items, page.metadata.continue_.filter(|token| !token.is_empty())))
    }

    async fn get_kind<T: DeserializeOwned>(&self, kind: &Kind, key: &Key) -> Result<Option<T>, ReadError> {
        let what = || format!("{} {key}", kind.kind);
        let request = Request::new(kind.path(key.scope())).get(&key.name, &GetParams::default());
        match self.text(request.map_err(kube::Error::BuildRequest), &what).await {
            Ok(text) => parse(&text, &what).map(Some),
            Err(ReadError::Failed { source, .. }) if is_missing_object(&source) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn list_kind<T: DeserializeOwned>(&self, kind: &Kind, options: &ListOptions) -> Result<Vec<T>, ReadError> {
        let what = || match &options.namespace {
            Some(namespace) => format!("{} in {namespace}", kind.plural),
            None => kind.plural.clone(),
        };
        let request = Request::new(kind.path(options.namespace.as_deref()));
        let mut params = ListParams {
            label_selector: options.label_selector.clone(),
            field_selector: options.field_selector.clone(),
            limit: Some(PAGE),
            ..ListParams::default()
        };
        let mut items = Vec::new();
        loop {
            let text = self.text(request.list(&params).map_err(kube::Error::BuildRequest), &what).await?;
            let page: Page<T> = parse(&text, &what)?;
            items.extend(page.items.into_iter().flatten());
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                return Ok(items);
            }
        }
    }

    async fn text(
        &self,
        request: Result<http::Request<Vec<u8>>, kube::Error>,
        what: &impl Fn() -> String,
    ) -> Result<String, ReadError> {
        let classify = |source: kube::Error| {
            let (what, source) = (what(), Box::new(source));
            match &*source {
                kube::Error::Api(status) if status.code == 403 => ReadError::Forbidden { what, source },
                kube::Error::Api(status) if status.code == 404 && !is_missing_object(&source) => {
                    ReadError::NoSuchKind { what, source }
                }
                _ => ReadError::Failed { what, source },
            }
        };
        let answer = tokio::time::timeout(self.deadline, self.client.request_text(request.map_err(classify)?)).await;
        answer.map_err(|_| ReadError::Timeout { what: what() })?.map_err(classify)
    }
}

#[derive(Deserialize)]
struct Page<T> {
    metadata: ListMeta,
    /// `null` for none, when metadata alone is asked for.
    items: Option<Vec<T>>,
}

#[derive(Deserialize)]
struct Partial {
    metadata: ObjectMeta,
}

fn parse<T: DeserializeOwned>(text: &str, what: &impl Fn() -> String) -> Result<T, ReadError> {
    serde_json::from_str(text).map_err(|source| ReadError::Unparsable { what: what(), source })
}

/// A 404 about the object names it; one about an unknown path or kind does not.
pub(crate) fn is_missing_object(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    status.code == 404 && status.details.as_ref().is_some_and(|details| !details.name.is_empty())
}
