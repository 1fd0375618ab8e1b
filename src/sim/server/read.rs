//! Get and list.

use std::ops::Bound;

use axum::body::Bytes;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::call::{Call, Form, Query};
use super::kinds::View;
use super::object::{item_text, list_of, path};
use super::selector::Selector;
use super::status::{FieldError, Named, Refusal};
use super::store::Object;
use super::write::Shown;
use super::{Shared, meta};

const TOO_OLD: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without \
     the continue parameter, or use the continue token in this response to retrieve the remainder of the results. \
     Continuing with the provided token results in an inconsistent list - objects that were created, modified, or \
     deleted between the time the first chunk was returned and now may show up in the list.";

/// One page.
struct Page {
    revision: u64,
    items: Vec<Object>,
    /// Where the next page starts, and how many objects follow.
    next: Option<(String, usize)>,
}

impl Shared {
    pub(super) async fn get(&self, call: &Call, view: &View, query: &Query) -> Result<Shown, Refusal> {
        match call.subresource.as_str() {
            "" => {}
            "status" if view.version().status => {}
            _ if view.built_in().is_none() => return Err(Refusal::not_found(view.kind.named(&call.name))),
            _ => return Err(Refusal::unknown_path()),
        }
        let object = {
            let world = self.world.lock();
            let asked = version_of(query)?;
            if asked > world.store.revision() {
                return Err(Refusal::too_large_version(asked, world.store.revision()));
            }
            world.store.get(&view.kind.id, &path(&call.namespace, &call.name)).cloned()
        };
        let object = object.ok_or_else(|| Refusal::not_found(view.kind.named(&call.name)))?;
        if view.is_stored() {
            return Ok(Shown::Stored(object));
        }
        self.convert_one(object.shown().into_owned(), &view.stored(), view).await.map(Shown::Made)
    }

    pub(super) async fn list(&self, call: &Call, view: &View, query: &Query, form: Form) -> Result<String, Refusal> {
        let selector = Selector::parse(query.text("labelSelector"), query.text("fieldSelector"), view)?;
        check_options(query)?;
        let page = self.page(call, view, query, &selector)?;
        let as_stored = view.is_stored() && (view.built_in().is_none() || form == Form::Metadata);
        let items: Vec<Bytes> = if as_stored {
            page.items.iter().map(|object| object.text(form).clone()).collect()
        } else {
            let objects = page.items.iter().map(|object| object.shown().into_owned()).collect();
            let objects = self.convert(objects, &view.stored(), view).await?;
            objects.iter().map(|object| item_text(view, form, object).into()).collect()
        };
        let mut metadata = json!({"resourceVersion": page.revision.to_string()});
        if let Some((start, left)) = page.next {
            metadata["continue"] = token(page.revision, &start).into();
            if selector.is_empty() {
                metadata["remainingItemCount"] = left.into();
            }
        }
        Ok(list_of(view, form, metadata, &items))
    }

    fn page(&self, call: &Call, view: &View, query: &Query, selector: &Selector) -> Result<Page, Refusal> {
        // The real server answers a list at any version from its cache, whole.
        let whole = query.text("resourceVersion") == "0" && query.text("resourceVersionMatch") != "Exact";
        let lag = if whole { self.seam().lag(call) } else { 0 };
        let world = self.world.lock();
        let asked = version_of(query)
            .map_err(|refusal| Refusal::bad_request(format!("invalid resource version: {}", refusal.message)))?;
        let current = world.store.revision();
        let (revision, start) = if query.has("continue") && !query.text("continue").is_empty() {
            let (at, start) = read_token(query.text("continue"))?;
            if !matches!(query.text("resourceVersion"), "" | "0") {
                return Err(Refusal::bad_request("specifying resource version is not allowed when using continue"));
            }
            if at != 0 && at < world.store.compacted() {
                let details = json!({"continue": token(0, &start)});
                return Err(Refusal::expired(TOO_OLD).with_details(details));
            }
            (if at == 0 { current } else { at }, start)
        } else {
            if asked > current {
                return Err(Refusal::too_large_version(asked, current));
            }
            let exact = query.text("resourceVersionMatch") == "Exact" && asked > 0;
            let cached = current.saturating_sub(lag).max(world.store.compacted());
            (if exact { asked } else { cached }, String::new())
        };
        let prefix = if call.namespace.is_empty() { String::new() } else { format!("{}/", call.namespace) };
        let start = start.max(prefix.clone());
        let then;
        let table: Box<dyn Iterator<Item = (&std::sync::Arc<str>, &Object)>> = if revision == current {
            Box::new(world.store.table_from(&view.kind.id, &start))
        } else {
            then = world.store.at(&view.kind.id, revision).ok_or_else(|| {
                let horizon = world.store.compacted();
                Refusal::expired(format!("The resourceVersion for the provided list is too old: {asked} ({horizon})"))
            })?;
            Box::new(then.range::<str, _>((Bound::Included(start.as_str()), Bound::Unbounded)))
        };
        let mut found =
            table.take_while(|(key, _)| key.starts_with(&prefix)).filter(|(_, object)| selector.matches(object));
        let limit = query.number("limit").filter(|limit| *limit > 0 && !whole);
        let most = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        let mut items = Vec::new();
        let mut next = None;
        while let Some((key, object)) = found.next() {
            if items.len() == most {
                next = Some((key.to_string(), 1 + found.count()));
                break;
            }
            items.push(object.clone());
        }
        Ok(Page { revision, items, next })
    }
}

pub(super) fn version_of(query: &Query) -> Result<u64, Refusal> {
    let text = query.text("resourceVersion");
    if text.is_empty() {
        return Ok(0);
    }
    text.parse().map_err(|_| {
        let why = format!("strconv.ParseUint: parsing {text:?}: invalid syntax");
        Refusal::new(500, "", format!("resourceVersion: Invalid value: {text:?}: {why}"))
    })
}

/// What of the options does not go together.
pub(super) fn check_options(query: &Query) -> Result<(), Refusal> {
    let matching = query.text("resourceVersionMatch");
    let (version, watch) = (query.text("resourceVersion"), query.flag("watch"));
    let mut errors = Vec::new();
    let field = "resourceVersionMatch";
    if query.flag("sendInitialEvents") && !watch {
        let detail = "sendInitialEvents is forbidden for list";
        errors.push(FieldError::forbidden("sendInitialEvents", detail));
    }
    if watch && query.has("sendInitialEvents") && matching.is_empty() {
        errors.push(FieldError::forbidden(
            field,
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ));
    }
    if !matching.is_empty() && !watch {
        if version.is_empty() {
            errors.push(FieldError::forbidden(
                field,
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        if query.has("continue") && !query.text("continue").is_empty() {
            errors.push(FieldError::forbidden(field, "resourceVersionMatch is forbidden when continue is provided"));
        }
        if !matches!(matching, "Exact" | "NotOlderThan") {
            let valid = ["Exact".to_owned(), "NotOlderThan".to_owned(), String::new()];
            errors.push(FieldError::not_supported(field, &json!(matching), &valid));
        }
        if matching == "Exact" && version == "0" {
            let detail = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            errors.push(FieldError::forbidden(field, detail));
        }
    }
    if watch && !matching.is_empty() && !query.has("sendInitialEvents") {
        errors.push(FieldError::forbidden(
            field,
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Refusal::invalid(Named { group: "meta.k8s.io", what: "ListOptions", name: "" }, &errors))
}

fn token(revision: u64, start: &str) -> String {
    URL_SAFE_NO_PAD.encode(json!({"v": "meta.k8s.io/v1", "rv": revision, "start": start}).to_string())
}

fn read_token(text: &str) -> Result<(u64, String), Refusal> {
    let refused = || Refusal::bad_request("invalid continue token: continue key is not valid");
    let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| refused())?;
    let token: Value = serde_json::from_slice(&bytes).map_err(|_| refused())?;
    let start = token["start"].as_str().ok_or_else(refused)?;
    Ok((token["rv"].as_u64().unwrap_or_default(), start.to_owned()))
}

/// Whether the object lies in the namespace, or any.
pub(super) fn lies_in(namespace: &str, object: &Value) -> bool {
    namespace.is_empty() || meta::namespace(object) == namespace
}
