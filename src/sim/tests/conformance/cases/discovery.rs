//! Paths: what is served and what is not.

use serde_json::json;

use super::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("discovery_of_the_group").get("/apis/conformance.example.com"),
        Case::new("discovery_of_the_versions")
            .get("/apis/conformance.example.com/v1beta1")
            .get("/apis/conformance.example.com/v2")
            .get("/apis/none.example.com")
            .get("/apis/none.example.com/v1"),
        Case::new("paths_that_are_not_served")
            .get("/apis/none.example.com/v1/namespaces/NS/things")
            .get("/apis/conformance.example.com/v1/namespaces/NS/candles")
            .get("/apis/conformance.example.com/v2/namespaces/NS/lamps/a")
            .get("/nothing")
            .post("/apis/conformance.example.com/v1/namespaces/NS/candles", json!({})),
        Case::new("paths_with_an_unknown_subresource")
            .post(LAMPS, plain("a"))
            .get(&at(LAMPS, "a/scale"))
            .get(&at(LAMPS, "a/none")),
        Case::new("paths_with_a_method_that_is_none")
            .post(&at(LAMPS, "a"), plain("a"))
            .put(LAMPS, plain("a"))
            .merge(LAMPS, json!({})),
        Case::new("paths_of_the_wrong_scope")
            .get("/apis/conformance.example.com/v1/namespaces/NS/grids/a")
            .get("/apis/conformance.example.com/v1/lamps/a"),
        Case::new("paths_about_health").get("/readyz").get("/livez").get("/healthz"),
    ]
}
