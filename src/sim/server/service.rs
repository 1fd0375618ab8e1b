//! From an HTTP request to its answer.

use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body as Answer;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};
use tower::{BoxError, Service};

use super::admission::Question;
use super::call::{Call, Fence, Form, Query, Target, User, Verb, parse};
use super::delete::{DeleteOptions, Deleted};
use super::kinds::View;
use super::object::{item_text, list_of, path, present, read};
use super::patch::Patch;
use super::seam::{Fate, Outcome};
use super::selector::Selector;
use super::status::Refusal;
use super::write::{Change, Shown, Written};
use super::{Shared, discovery, meta, rbac};

/// The largest body that is read, as in the real server.
const MAX_BODY: usize = 3 << 20;

/// The server as one user sees it. Clones share it.
#[derive(Clone)]
pub struct Connection {
    pub(super) shared: Arc<Shared>,
    pub(super) user: Arc<User>,
}

impl Service<Request<Body>> for Connection {
    type Response = Response<Answer>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Answer>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Self { shared, user } = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            shared.answer(&user, &parts, &body).await
        })
    }
}

/// An answer, and what it did.
struct Done {
    response: Response<Answer>,
    code: u16,
    wrote: Option<u64>,
}

impl Done {
    fn json(code: u16, value: &Value) -> Self {
        Self::written_out(code, value.to_string())
    }

    /// JSON that is text already.
    fn written_out(code: u16, text: impl Into<Answer>) -> Self {
        let mut response = Response::new(text.into());
        *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Self { response, code, wrote: None }
    }

    fn text(code: u16, text: String) -> Self {
        let mut response = Response::new(Answer::from(text));
        *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        Self { response, code, wrote: None }
    }

    fn wrote(mut self, revision: Option<u64>) -> Self {
        self.wrote = revision;
        self
    }

    fn written(written: &Written, form: Form) -> Self {
        let code = if written.created { 201 } else { 200 };
        let done = match &written.object {
            Shown::Stored(object) => Self::written_out(code, object.text(form).clone()),
            Shown::Made(object) => Self::json(code, &present(object, form)),
        };
        let mut done = done.wrote(written.revision);
        written.warnings.iter().for_each(|warning| done.warn(warning));
        done
    }

    fn warn(&mut self, warning: &str) {
        if let Ok(value) = HeaderValue::from_str(&format!("299 - {warning:?}")) {
            self.response.headers_mut().append(header::WARNING, value);
        }
    }
}

impl From<Refusal> for Done {
    fn from(refusal: Refusal) -> Self {
        if refusal.plain {
            return Self::text(refusal.code, refusal.message);
        }
        let mut done = Self::json(refusal.code, &refusal.body());
        if let Some(seconds) = refusal.retry_after() {
            done.response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        done
    }
}

impl Shared {
    pub(super) async fn answer(
        self: &Arc<Self>,
        user: &User,
        parts: &http::request::Parts,
        body: &[u8],
    ) -> Result<Response<Answer>, BoxError> {
        let other = impersonated(user, &parts.headers);
        let user = other.as_ref().unwrap_or(user);
        let (call, query) = match parse(parts, user, self.next_call()) {
            Ok((Target::Call(call), query)) => (call, query),
            Ok((target, _)) => return Ok(self.about_itself(&target).response),
            Err(refusal) => return Ok(Done::from(refusal).response),
        };
        match self.seam().before(&call).await {
            Fate::Pass => {}
            fate => return self.meet(fate, &call).await,
        }
        let done = match Box::pin(self.carry_out(user, &call, &query, parts, body)).await {
            Ok(done) => done,
            Err(refusal) => refusal.into(),
        };
        self.note(&call, done.code, done.wrote);
        match self.seam().after(&call, Outcome { code: done.code, wrote: done.wrote }).await {
            Fate::Pass => Ok(done.response),
            fate => self.meet(fate, &call).await,
        }
    }

    async fn meet(&self, fate: Fate, call: &Call) -> Result<Response<Answer>, BoxError> {
        match fate {
            Fate::Answer(refusal) => {
                self.note(call, refusal.code, None);
                Ok(Done::from(refusal).response)
            }
            Fate::Break | Fate::Pass => Err("connection reset by peer".into()),
            Fate::Hang => std::future::pending().await,
        }
    }

    fn about_itself(&self, target: &Target) -> Done {
        match target {
            Target::Discovery(path) => match discovery::answer(&self.world.lock(), path) {
                Ok(answer) => Done::json(200, &answer),
                Err(refusal) => refusal.into(),
            },
            Target::Version => {
                let minor = self.minor.lock().clone();
                let git = format!("v1.{minor}.3");
                let version = json!({"major": "1", "minor": minor, "gitVersion": git, "platform": "sim"});
                Done::json(200, &version)
            }
            Target::Health | Target::Call(_) => Done::text(200, "ok".into()),
        }
    }

    async fn carry_out(
        self: &Arc<Self>,
        user: &User,
        call: &Call,
        query: &Query,
        parts: &http::request::Parts,
        body: &[u8],
    ) -> Result<Done, Refusal> {
        let view = {
            let mut world = self.world.lock();
            rbac::authorize(&mut world, user, call)?;
            world.kinds.find(&call.group, &call.version, &call.resource).ok_or_else(Refusal::unknown_path)?
        };
        fits(call, &view)?;
        let mut done = self.about_objects(call, &view, query, parts, body).await?;
        if view.version().deprecated {
            done.warn(&format!("{} {} is deprecated", view.api_version(), view.kind.kind));
        }
        Ok(done)
    }

    async fn about_objects(
        self: &Arc<Self>,
        call: &Call,
        view: &View,
        query: &Query,
        parts: &http::request::Parts,
        body: &[u8],
    ) -> Result<Done, Refusal> {
        if body.len() > MAX_BODY {
            let message = format!("Request entity too large: limit is {MAX_BODY}");
            return Err(Refusal::new(413, "RequestEntityTooLarge", message).with_details(json!({})));
        }
        let form = Form::of(parts);
        let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        match call.verb {
            Verb::Get => Ok(match self.get(call, view, query).await? {
                Shown::Stored(object) => Done::written_out(200, object.text(form).clone()),
                Shown::Made(object) => Done::json(200, &present(&object, form)),
            }),
            Verb::List => Ok(Done::written_out(200, self.list(call, view, query, form).await?)),
            Verb::Watch => {
                let mut done = Done::json(200, &Value::Null);
                *done.response.body_mut() = Answer::from_stream(self.watch(call, view, query, form)?);
                Ok(done)
            }
            Verb::Create => {
                is_json(content_type)?;
                let written = Box::pin(self.create(call, view, query, read(view, body)?)).await?;
                Ok(Done::written(&written, form))
            }
            Verb::Update => {
                is_json(content_type)?;
                let body = read(view, body)?;
                let call = &Call { fence: Fence::of(&body), ..call.clone() };
                let change = Change::Whole(body);
                let written = Box::pin(self.update(call, view, query, change)).await?;
                Ok(Done::written(&written, form))
            }
            Verb::Patch => {
                let patch = Patch::read(content_type.unwrap_or_default(), body, view)?;
                let call = &Call { fence: patch.fence(), ..call.clone() };
                let change = Change::Patch(patch);
                let written = Box::pin(self.update(call, view, query, change)).await?;
                Ok(Done::written(&written, form))
            }
            Verb::Delete => {
                if !call.subresource.is_empty() {
                    return Err(Refusal::not_deletable(view.kind.named("")));
                }
                let options = DeleteOptions::read(body, query)?;
                let call = &Call { fence: options.fence(), ..call.clone() };
                let warnings = self.ask_about_delete(call, view, options.dry_run).await?;
                let (deleted, wrote) = self.delete(call, view, &call.namespace, &call.name, &options)?;
                let mut done = match deleted {
                    Deleted::Gone(last) => Done::json(200, &success(call, view, meta::uid(&last))),
                    Deleted::Marked(Shown::Stored(object)) if view.is_stored() => {
                        Done::written_out(200, object.text(form).clone())
                    }
                    Deleted::Marked(object) => {
                        let object = match object {
                            Shown::Stored(object) => Value::clone(&object),
                            Shown::Made(object) => object,
                        };
                        Done::json(200, &present(&self.convert_one(object, &view.stored(), view).await?, form))
                    }
                };
                warnings.iter().for_each(|warning| done.warn(warning));
                Ok(done.wrote(wrote))
            }
            Verb::DeleteCollection => {
                let options = DeleteOptions::read(body, query)?;
                let selector = Selector::parse(query.text("labelSelector"), query.text("fieldSelector"), view)?;
                let (found, wrote) = self.delete_collection(call, view, &selector, &options)?;
                let items = self.convert(found, &view.stored(), view).await?;
                let revision = self.world.lock().store.revision();
                let metadata = json!({"resourceVersion": revision.to_string()});
                let items: Vec<_> = items.iter().map(|item| item_text(view, form, item).into()).collect();
                Ok(Done::written_out(200, list_of(view, form, metadata, &items)).wrote(wrote))
            }
        }
    }
}

impl Shared {
    /// What webhooks have to say about the end of this object, if it is there.
    async fn ask_about_delete(&self, call: &Call, view: &View, dry_run: bool) -> Result<Vec<String>, Refusal> {
        if !self.guards_deletes(view) {
            return Ok(Vec::new());
        }
        let stored = self.world.lock().store.get(&view.kind.id, &path(&call.namespace, &call.name)).cloned();
        let Some(stored) = stored else { return Ok(Vec::new()) };
        let old = self.convert_one(Value::clone(&stored), &view.stored(), view).await?;
        self.may_delete(&Question { call, view, object: None, old: Some(&old), dry_run }).await
    }
}

/// The user that an administrator speaks for.
fn impersonated(user: &User, headers: &http::HeaderMap) -> Option<User> {
    let text = |value: &HeaderValue| value.to_str().map(str::to_owned).unwrap_or_default();
    let name = headers.get("impersonate-user").filter(|_| user.is_admin()).map(text)?;
    let groups = headers.get_all("impersonate-group").iter().map(text);
    Some(User { name, groups: groups.chain(["system:authenticated".to_owned()]).collect(), process: user.process })
}

/// Whether the path fits the kind's scope.
fn fits(call: &Call, view: &View) -> Result<(), Refusal> {
    let namespaced = !call.namespace.is_empty();
    let whole = call.name.is_empty() && matches!(call.verb, Verb::List | Verb::Watch);
    if view.kind.namespaced && !namespaced && !whole {
        if call.name.is_empty() && view.built_in().is_some() {
            return Err(Refusal::method_not_allowed());
        }
        return Err(Refusal::unknown_path());
    }
    let one = matches!(call.verb, Verb::Update | Verb::Patch);
    if one == call.name.is_empty() && matches!(call.verb, Verb::Create | Verb::Update | Verb::Patch) {
        if view.built_in().is_some() {
            return Err(Refusal::method_not_allowed());
        }
        if one {
            return Err(Refusal::bad_request("name must be provided"));
        }
    }
    if !view.kind.namespaced && namespaced {
        return Err(Refusal::unknown_path());
    }
    Ok(())
}

fn is_json(content_type: Option<&str>) -> Result<(), Refusal> {
    let kind = content_type.and_then(|value| value.split(';').next()).unwrap_or("application/json").trim();
    if kind == "application/json" {
        return Ok(());
    }
    Err(Refusal::unsupported_media_type(&[
        "application/json",
        "application/yaml",
        "application/vnd.kubernetes.protobuf",
    ]))
}

/// What a delete says when nothing is left.
fn success(call: &Call, view: &View, uid: &str) -> Value {
    let mut details = json!({"name": call.name, "kind": view.kind.plural, "uid": uid});
    if !view.kind.group.is_empty() {
        details["group"] = view.kind.group.clone().into();
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}
