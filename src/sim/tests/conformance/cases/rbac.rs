//! Who may do what.

use serde_json::json;

use super::*;

const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/NS/roles";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/NS/rolebindings";
const CLUSTER_ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
const CLUSTER_BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";

fn role(kind: &str, name: &str, rule: Value) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "rules": [rule]})
}

fn binding(kind: &str, name: &str, role: &str, user: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    })
}

fn rule(groups: &[&str], resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": groups, "resources": resources, "verbs": verbs})
}

pub(crate) fn cases() -> Vec<Case> {
    let lamp_a = at(LAMPS, "a");
    let mut nobody = Case::new("rbac_nobody_may_nothing").post(LAMPS, plain("a"));
    for (method, path) in [
        ("GET", at(MAPS, "a")),
        ("GET", MAPS.to_owned()),
        ("GET", lamp_a.clone()),
        ("GET", format!("{LAMPS}?watch=true")),
        ("GET", "/apis/conformance.example.com/v1/lamps".to_owned()),
        ("GET", "/api/v1/namespaces/NS".to_owned()),
        ("GET", "/api/v1/nodes".to_owned()),
        ("GET", "/apis/conformance.example.com/v1/namespaces/NS/candles".to_owned()),
        ("GET", at(LAMPS, "a/status")),
        ("DELETE", lamp_a.clone()),
        ("DELETE", LAMPS.to_owned()),
    ] {
        nobody = nobody.step(crate::harness::Step::new(method, path, Value::Null)).by("nobody");
    }
    nobody = nobody.post(LAMPS, plain("b")).by("nobody");
    nobody = nobody.put(&lamp_a, plain("a")).by("nobody");
    nobody = nobody.merge(&at(LAMPS, "a/status"), json!({})).by("nobody");
    vec![
        nobody,
        Case::new("rbac_a_role_allows_what_it_says")
            .post(LAMPS, plain("a"))
            .post(ROLES, role("Role", "r", rule(&["conformance.example.com"], &["lamps"], &["get", "patch"])))
            .post(BINDINGS, binding("RoleBinding", "r", "Role", "jane"))
            .get(&lamp_a)
            .by("jane")
            .patient()
            .get(LAMPS)
            .by("jane")
            .merge(&lamp_a, json!({"spec": {"watts": 6}}))
            .by("jane")
            .merge(&at(LAMPS, "a/status"), json!({"status": {"phase": "On"}}))
            .by("jane")
            .get(&at(BULBS, "a"))
            .by("jane"),
        Case::new("rbac_a_role_for_the_status")
            .post(LAMPS, plain("a"))
            .post(ROLES, role("Role", "r", rule(&["conformance.example.com"], &["lamps/status"], &["*"])))
            .post(BINDINGS, binding("RoleBinding", "r", "Role", "joe"))
            .merge(&at(LAMPS, "a/status"), json!({"status": {"phase": "On"}}))
            .by("joe")
            .patient()
            .get(&lamp_a)
            .by("joe"),
        Case::new("rbac_a_role_for_one_name")
            .post(MAPS, map("a"))
            .post(ROLES, {
                let mut role = role("Role", "r", rule(&[""], &["configmaps"], &["get", "list", "create"]));
                role["rules"][0]["resourceNames"] = json!(["a"]);
                role
            })
            .post(BINDINGS, binding("RoleBinding", "r", "Role", "jim"))
            .get(&at(MAPS, "a"))
            .by("jim")
            .patient()
            .get(&at(MAPS, "b"))
            .by("jim")
            .get(MAPS)
            .by("jim")
            .post(MAPS, map("a"))
            .by("jim"),
        Case::new("rbac_a_cluster_role_in_one_namespace")
            .post(CLUSTER_ROLES, role("ClusterRole", "NS", rule(&["*"], &["*"], &["list"])))
            .post(BINDINGS, binding("RoleBinding", "NS", "ClusterRole", "jill"))
            .get(LAMPS)
            .by("jill")
            .patient()
            .get("/api/v1/namespaces/default/configmaps")
            .by("jill")
            .get("/api/v1/configmaps")
            .by("jill"),
        Case::new("rbac_a_cluster_role_everywhere")
            .post(
                CLUSTER_ROLES,
                role("ClusterRole", "NS", rule(&["conformance.example.com"], &["grids", "lamps"], &["get"])),
            )
            .post(CLUSTER_BINDINGS, binding("ClusterRoleBinding", "NS", "ClusterRole", "jack"))
            .get(&at(GRIDS, "none"))
            .by("jack")
            .patient()
            .get(&lamp_a)
            .by("jack")
            .get(GRIDS)
            .by("jack"),
    ]
}
