//! An object that was read past its cache, for as long as the cache has nothing newer.
//!
//! A cache that lags behind a lost race would lose it again. That the cache shows a higher version is no proof that it is newer: after
//! the API server was restored from a backup it shows what has never been, and only what it shows from then on counts.

use std::sync::Arc;

use capm3_runtime::{Key, Object, ReadError, Reader, Store, key_of};

#[derive(Debug)]
pub(crate) struct Look<K> {
    found: Option<Arc<K>>,
    /// Which version the cache had before.
    before: Option<String>,
}

impl<K: Object> Look<K> {
    pub(crate) async fn at(reader: &Reader, store: &Store<K>, key: &Key) -> Result<Self, ReadError> {
        let before = store.get(key).and_then(|cached| cached.meta().resource_version.clone());
        let found = reader.get(key).await?.map(Arc::new);
        Ok(Self { found, before })
    }

    /// What was found; none: nothing.
    pub(crate) fn found(&self) -> Option<&Arc<K>> {
        self.found.as_ref()
    }

    /// What is known now: nothing when nothing was found.
    pub(crate) fn now(&self, store: &Store<K>) -> Option<Arc<K>> {
        let found = self.found.clone()?;
        let cached = store.get(&key_of(&*found));
        Some(cached.filter(|cached| self.is_news(cached, &found)).unwrap_or(found))
    }

    fn is_news(&self, cached: &K, found: &K) -> bool {
        let version =
            |object: &K| object.meta().resource_version.as_deref().and_then(|version| version.parse::<u64>().ok());
        cached.meta().resource_version != self.before && version(cached) > version(found)
    }
}
