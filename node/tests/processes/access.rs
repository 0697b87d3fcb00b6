//! API keys on the real listeners of a real cluster.

use serde_json::{Value, json};

use crate::support::{Answer, Ask, Cluster, ask, ask_again, until};

fn with_key(port: u16, method: &str, path: &str, key: Option<&str>) -> Answer {
    let bearer = key.map(|key| format!("Bearer {key}"));
    let headers = bearer.iter().map(|bearer| ("Authorization", bearer.as_str())).collect();
    ask_again(port, method, path, &Ask { headers, ..Ask::default() })
}

fn create(cluster: &Cluster, scopes: &[&str]) -> Value {
    let mut arguments = vec!["apikey", "create", "--name", "ci"];
    scopes.iter().for_each(|scope| arguments.extend(["--scope", scope]));
    let made = cluster.command(0, &arguments);
    assert!(made.status.success(), "{made:?}");
    serde_json::from_slice(&made.stdout).unwrap()
}

#[test]
fn a_key_opens_what_it_names_on_every_node_until_its_revocation_is_acknowledged() {
    let cluster = Cluster::ready();
    let made = create(&cluster, &["identity:read"]);
    let (key, id) = (made["key"].as_str().unwrap(), made["id"].as_str().unwrap());
    for node in &cluster.nodes {
        let identities = "/admin/identities";
        assert_eq!(with_key(node.public, "GET", identities, None).status, 401);
        assert_eq!(with_key(node.public, "GET", identities, Some(key)).status, 200);
        assert_eq!(with_key(node.public, "POST", identities, Some(key)).status, 403);
        assert_eq!(with_key(node.public, "GET", "/cluster/status", Some(key)).status, 403);
        assert_eq!(with_key(node.public, "GET", "/metrics", Some(key)).status, 403);
        // Loopback needs no key; a key that is shown counts nevertheless.
        assert_eq!(with_key(node.admin, "GET", identities, None).status, 200);
        assert_eq!(with_key(node.admin, "POST", identities, Some(key)).status, 403);
        let cut = &key[..key.len() - 1];
        assert_eq!(with_key(node.admin, "GET", identities, Some(cut)).status, 401);
    }
    let listed: Value =
        serde_json::from_slice(&cluster.command(1, &["apikey", "list"]).stdout).unwrap();
    assert_eq!(listed[0]["id"], json!(id));
    assert!(listed[0]["key"].is_null(), "{listed}");
    let revoked = cluster.command(2, &["apikey", "revoke", id]);
    assert!(revoked.status.success(), "{revoked:?}");
    for node in &cluster.nodes {
        assert_eq!(with_key(node.public, "GET", "/admin/identities", Some(key)).status, 401);
    }
    assert!(!cluster.command(0, &["apikey", "revoke", id]).status.success());
}

#[test]
fn a_node_without_a_cluster_answers_its_health_and_refuses_the_rest_for_now() {
    let cluster = Cluster::started();
    let node = &cluster.nodes[1];
    until("the node answers", || ask(node.public, "GET", "/health/alive", Ask::default()).is_ok());
    let ready = ask(node.public, "GET", "/health/ready", Ask::default()).unwrap();
    assert_eq!(ready.status, 503, "{}", ready.text);
    let answer = ask(node.public, "GET", "/sessions/whoami", Ask::default()).unwrap();
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert!(answer.head.to_lowercase().contains("retry-after"), "{}", answer.head);
    let status = cluster.status(1);
    assert_eq!(status["cluster_id"], Value::Null, "{status}");
}

#[test]
fn what_a_node_is_asked_as_soon_as_it_is_ready_is_served() {
    let cluster = Cluster::started();
    let (public, admin) = (cluster.nodes[0].public, cluster.nodes[0].admin);
    until("the node answers", || ask(admin, "GET", "/health/alive", Ask::default()).is_ok());
    // Who balances load has no other sign that all shards are there.
    let asked = std::thread::spawn(move || {
        until("the node is ready", || {
            let ready = || ask(public, "GET", "/health/ready", Ask::default());
            (0..20).any(|_| ready().is_ok_and(|answer| answer.status == 200))
        });
        ask(admin, "GET", "/admin/identities", Ask::default()).unwrap()
    });
    assert!(cluster.command(0, &["init"]).status.success());
    let answer = asked.join().unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[test]
fn a_cluster_is_made_once() {
    let cluster = Cluster::ready();
    for at in [0, 2] {
        let again = cluster.command(at, &["init"]);
        assert!(!again.status.success());
        let told = String::from_utf8_lossy(&again.stderr).into_owned();
        assert!(told.contains("already"), "{told}");
    }
}

#[test]
fn a_cluster_is_divided_as_asked_and_a_plan_out_of_bounds_makes_none() {
    let cluster = Cluster::started();
    let admins = [1, 0].map(|at: usize| cluster.nodes[at].admin);
    for admin in admins {
        until("the node answers", || ask(admin, "GET", "/health/alive", Ask::default()).is_ok());
    }
    let bad = [
        r#"{"home_shards":0}"#,
        r#"{"home_shards":1025}"#,
        r#"{"index_shards":-1}"#,
        r#"{"voters":2}"#,
        r#"{"homeshards":8}"#,
        r#"{"home_shards":"#,
    ];
    for (admin, body) in admins.into_iter().flat_map(|admin| bad.map(|body| (admin, body))) {
        let asked = Ask { body: Some(body.to_owned()), ..Ask::default() };
        let answer = ask(admin, "POST", "/cluster/init", asked).unwrap();
        assert_eq!(answer.status, 400, "{body}: {}", answer.text);
    }
    assert!(!cluster.command(0, &["init", "--home-shards", "0"]).status.success());
    assert_eq!(cluster.status(0)["cluster_id"], Value::Null);

    let asked = ["init", "--home-shards", "7", "--index-shards", "2"];
    assert!(cluster.command(0, &asked).status.success());
    cluster.wait_ready(0);
    // Who was asked in vain joins all the same.
    cluster.wait_ready(1);
    let shards = cluster.status(0)["shards"].as_array().unwrap().len();
    assert_eq!(shards, 7 + 2 + 1 + 1, "home, identifiers, relation tuples, the directory");
}
