//! What the writes and reads that all controllers share answer (S-14, as it is here: the caller decides what an answer means).

use capm3_api::common::NamespacedRef;
use capm3_api::foreign::{BareMetalHost, SecretMeta};
use capm3_api::infra::v1beta2::{Metal3Data, Metal3DataClaim, Metal3Machine};
use capm3_runtime::{Key, Preconditions, Reader, WriteError, Writer};
use capm3_sim::server::User;
use capm3_sim::world::kinds::{DATA, HOST, METAL3_MACHINE, SECRET};
use serde_json::{Value, json};

use crate::site::{HERE, Site, image};

fn clients(site: &Site) -> (Reader, Writer) {
    let client = site.world.server.client(User::admin());
    (Reader::new(client.clone()), Writer::uncached(client))
}

/// A patch that meets nothing says so, and a machine whose host is gone is done with it.
#[tokio::test(start_paused = true)]
async fn a_x_1_a_host_that_is_gone_needs_no_release() {
    let site = Site::deployed().await;
    let (_, writer) = clients(&site);
    let patched =
        writer.patch::<BareMetalHost>(&Key::new(HERE, "none"), json!({"spec": {}}), &Preconditions::none()).await;
    assert!(matches!(patched, Err(WriteError::NotFound(_))), "{patched:?}");

    site.hand.delete(METAL3_MACHINE, "m1").await.unwrap();
    site.until(HOST, "host-0", "no image", |host| host["spec"]["image"].is_null()).await;
    site.hand.delete(HOST, "host-0").await.unwrap();
    site.gone(METAL3_MACHINE, "m1").await;
    assert_eq!(site.errors("metal3machine"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_x_2_to_5_patches_and_replacements() {
    let site = Site::new().await;
    let (reader, writer) = clients(&site);
    site.create(METAL3_MACHINE, json!({"metadata": {"name": "m1"}, "spec": {"image": image()}})).await;
    let key = Key::new(HERE, "m1");
    let seen: Metal3Machine = reader.get(&key).await.unwrap().unwrap();

    let as_before = seen.clone();
    let patch = json!({"spec": {"automatedCleaningMode": "disabled"}});
    let stored = writer.patch::<Metal3Machine>(&key, patch.clone(), &Preconditions::unchanged(&seen)).await.unwrap();
    assert_eq!(stored.spec.automated_cleaning_mode.as_deref(), Some("disabled"), "A-X-2");
    assert_eq!(site.hand.get(METAL3_MACHINE, "m1")["spec"]["automatedCleaningMode"], "disabled", "A-X-2");
    assert_eq!(seen, as_before, "A-X-2");

    let wrong = json!({"spec": {"automatedCleaningMode": "thoroughly"}});
    let refused = writer.patch::<Metal3Machine>(&key, wrong, &Preconditions::none()).await;
    assert!(matches!(refused, Err(WriteError::Invalid(_))), "A-X-3 {refused:?}");

    let mut missing = stored.clone();
    missing.metadata.name = Some("none".to_owned());
    let refused = writer.replace(&missing).await;
    assert!(matches!(refused, Err(WriteError::NotFound(_))), "A-X-4 {refused:?}");

    let mut changed = stored.clone();
    changed.spec.automated_cleaning_mode = Some("metadata".to_owned());
    writer.replace(&changed).await.unwrap();
    let again = writer.replace(&changed).await;
    assert!(matches!(again, Err(WriteError::Conflict(_))), "A-X-5 {again:?}");
    let behind = writer.patch::<Metal3Machine>(&key, patch, &Preconditions::unchanged(&stored)).await;
    assert!(matches!(behind, Err(WriteError::Conflict(_))), "A-X-5 {behind:?}");
}

#[tokio::test(start_paused = true)]
async fn a_x_6_7_and_10_what_is_there_and_what_is_not() {
    let site = Site::new().await;
    let (reader, writer) = clients(&site);
    let mut claim = Metal3DataClaim::named(HERE, "m1");
    claim.spec.template = Some(NamespacedRef::named("t"));
    writer.create(&claim).await.unwrap();
    let again = writer.create(&claim).await;
    assert!(matches!(again, Err(WriteError::AlreadyExists(_))), "{again:?}");

    let secret = async |name: &str| reader.get::<SecretMeta>(&Key::new(HERE, name)).await;
    assert!(secret("none").await.unwrap().is_none(), "A-X-7");
    site.create(SECRET, json!({"metadata": {"name": "some"}})).await;
    assert!(secret("some").await.unwrap().is_some(), "A-X-7");

    let data = async |name: &str| reader.get::<Metal3Data>(&Key::new(HERE, name)).await;
    assert!(data("none").await.unwrap().is_none(), "A-X-10");
    site.create(
        DATA,
        json!({"metadata": {"name": "t-0"}, "spec": {"claim": {"name": "m1"}, "template": {"name": "t"}, "index": 0}}),
    )
    .await;
    assert!(data("t-0").await.unwrap().is_some(), "A-X-10");
    assert_eq!(site.hand.get(SECRET, "none"), Value::Null);
}
