//! What hosts and their operator suffer (F22): errors, lost credentials, power that goes, hosts that are detached.

use std::time::Duration;

use capm3_api::names::annotation;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{name, within};
use crate::host::FAIL;
use crate::world::kinds::{HOST, SECRET};
use crate::world::{Hand, Stuck, World};

/// Between two mishaps, at most.
const PAUSE: Duration = Duration::from_secs(3);

/// So many mishaps, each of a host by chance, each repaired after a while.
pub async fn suffer(world: &World, times: u32) -> Result<(), Stuck> {
    let (dice, hand) = (world.dice(), world.hand());
    for _ in 0..times {
        sleep(within(&*dice, PAUSE)).await;
        let hosts = world.server.all(&HOST.filed());
        let Some(many) = u64::try_from(hosts.len()).ok().filter(|many| *many > 0) else { return Ok(()) };
        let host = name(&hosts[usize::try_from(dice.roll() % many).unwrap_or_default()]).to_owned();
        let after = within(&*dice, PAUSE * 5);
        match dice.roll() % 5 {
            0 => credentials(&hand, &host, after).await?,
            1 => annotated(&hand, &host, annotation::HOST_DETACHED, "", after).await?,
            2 => annotated(&hand, &host, FAIL, "provisioning", after).await?,
            3 => annotated(&hand, &host, FAIL, "power: no answer", after).await?,
            _ => {
                let error = json!({"errorType": "power management error", "errorMessage": "no answer", "operationalStatus": "error", "poweredOn": false});
                hand.patch_status(HOST, &host, error).await?;
                sleep(after).await;
                let well = json!({"errorType": null, "errorMessage": "", "operationalStatus": "OK", "poweredOn": true});
                hand.patch_status(HOST, &host, well).await?;
            }
        }
    }
    Ok(())
}

async fn annotated(hand: &Hand, host: &str, key: &str, value: &str, after: Duration) -> Result<(), Stuck> {
    let annotation = |value: Value| json!({"metadata": {"annotations": {key: value}}});
    hand.patch(HOST, host, annotation(value.into())).await?;
    sleep(after).await;
    hand.patch(HOST, host, annotation(Value::Null)).await
}

/// The Secret with the credentials is gone, and comes back.
async fn credentials(hand: &Hand, host: &str, after: Duration) -> Result<(), Stuck> {
    let secret = format!("{host}-bmc");
    hand.delete(SECRET, &secret).await?;
    if !hand.get(SECRET, &secret).is_null() {
        match hand.patch(SECRET, &secret, json!({"metadata": {"finalizers": null}})).await {
            Err(Stuck::Refused { source, .. }) if source.code == 404 => {}
            done => done?,
        }
    }
    sleep(after).await;
    let body = json!({"metadata": {"name": secret}, "stringData": {"username": "u", "password": "p"}});
    match hand.create(SECRET, body).await {
        Err(Stuck::Refused { source, .. }) if source.code == 409 => Ok(()),
        done => done.map(drop),
    }
}
