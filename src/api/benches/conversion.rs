//! Conversion in both directions, of random objects of all kinds: what the API server asks for at every request that is not of the
//! stored version.

#![allow(clippy::unwrap_used, reason = "a bench may fail")]

mod figures;
#[path = "../tests/support/mod.rs"]
mod support;

use capm3_api::convert::convert;
use capm3_api::names::{INFRA_API_VERSION, INFRA_API_VERSION_V1BETA1};
use figures::{Bound, fastest, per_second, title};
use serde_json::Value;
use support::{Dice, kinds, object, schema};

const OF_EACH_KIND: u64 = 50;
const BOUND: Bound = Bound::AtLeast(5000.0);

fn main() {
    let old = objects("v1beta1");
    let new = objects("v1beta2");
    let shown: Vec<_> = new.iter().map(|object| convert(object.clone(), INFRA_API_VERSION_V1BETA1).unwrap()).collect();
    let bytes: usize = new.iter().map(|object| object.to_string().len()).sum();
    title(&format!("Conversion of {} objects of nine kinds, {} bytes on average", new.len(), bytes / new.len()));
    for (name, objects, to) in [
        ("v1beta1 to v1beta2", &old, INFRA_API_VERSION),
        ("v1beta1 to v1beta2, with what v1beta1 cannot say in the annotation", &shown, INFRA_API_VERSION),
        ("v1beta2 to v1beta1", &new, INFRA_API_VERSION_V1BETA1),
    ] {
        let all = |objects: Vec<Value>| objects.into_iter().map(|o| convert(o, to).unwrap()).collect::<Vec<_>>();
        per_second(name, objects.len(), fastest(|| objects.clone(), all), "objects", BOUND);

        let texts: Vec<_> = objects.iter().map(Value::to_string).collect();
        let text_to_text = |text: &String| convert(serde_json::from_str(text).unwrap(), to).unwrap().to_string();
        let time = fastest(|| (), |()| texts.iter().map(text_to_text).collect::<Vec<_>>());
        per_second("  the same, parsed before and written after", texts.len(), time, "objects", BOUND);
    }
}

fn objects(version: &str) -> Vec<Value> {
    let of_kind = |kind: String| {
        let schema = schema(&kind, version);
        (1..=OF_EACH_KIND).map(move |seed| object(&mut Dice(seed * 7919), &kind, version, &schema))
    };
    kinds().into_iter().flat_map(of_kind).collect()
}
