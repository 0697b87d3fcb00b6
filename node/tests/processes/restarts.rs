//! What was decided about security outlives the death of every node (N5).

use serde_json::{Value, json};

use crate::support::{Answer, Ask, Cluster, PASSWORD, until};

fn begin(cluster: &Cluster, kind: &str) -> String {
    let begun = cluster.public(0, "GET", &format!("/self-service/{kind}/api"), Ask::default());
    begun.body["id"].as_str().unwrap().to_owned()
}

fn submit(cluster: &Cluster, kind: &str, flow: &str, body: &Value) -> Answer {
    let asked = Ask { body: Some(body.to_string()), ..Ask::default() };
    cluster.public(1, "POST", &format!("/self-service/{kind}?flow={flow}"), asked)
}

fn password(email: &str) -> Value {
    json!({"method": "password", "identifier": email, "password": PASSWORD})
}

fn is_throttled(answer: &Answer) -> bool {
    answer.status == 429
}

/// Because of what it asks for; not that nobody could say.
fn is_refused(answer: &Answer) -> bool {
    (400..500).contains(&answer.status)
        && !is_throttled(answer)
        && !answer.text.contains("session_token")
}

#[test]
fn what_was_spent_revoked_or_counted_stays_so_when_all_nodes_are_killed_at_once() {
    let mut cluster = Cluster::ready();
    // Sessions that are over: revoked, logged out, of who was deactivated or deleted.
    let revoked = cluster.person(0, "revoked@example.org");
    let path = format!("/admin/identities/{}/sessions", revoked.identity);
    assert_eq!(cluster.admin(0, "DELETE", &path, None).status, 204);
    let left = cluster.person(0, "left@example.org");
    let asked =
        Ask { body: Some(json!({"session_token": left.token}).to_string()), ..Ask::default() };
    assert_eq!(cluster.public(1, "DELETE", "/self-service/logout/api", asked).status, 204);
    let inactive = cluster.person(0, "inactive@example.org");
    let path = format!("/admin/identities/{}", inactive.identity);
    for state in ["inactive", "active"] {
        let patch = json!([{"op": "replace", "path": "/state", "value": state}]);
        assert_eq!(cluster.admin(2, "PATCH", &path, Some(patch)).status, 200);
    }
    let deleted = cluster.person(0, "deleted@example.org");
    let path = format!("/admin/identities/{}", deleted.identity);
    assert_eq!(cluster.admin(2, "DELETE", &path, None).status, 204);
    let kept = cluster.person(0, "kept@example.org");
    // A flow that was completed, and a recovery code that was used.
    let flow = begin(&cluster, "login");
    assert_eq!(submit(&cluster, "login", &flow, &password("kept@example.org")).status, 200);
    let body = json!({"identity_id": kept.identity, "flow_type": "api"});
    let made = cluster.admin(0, "POST", "/admin/recovery/code", Some(body)).body;
    let code = json!({"method": "code", "code": made["recovery_code"]});
    let link = made["recovery_link"].as_str().unwrap();
    let recovery = link.split("flow=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    let recovered = submit(&cluster, "recovery", &recovery, &code);
    assert!(recovered.text.contains("session_token"), "{}", recovered.text);
    // A key that was revoked, and attempts that were counted.
    let key = cluster.command(0, &["apikey", "create", "--name", "x", "--scope", "identity:read"]);
    let key: Value = serde_json::from_slice(&key.stdout).unwrap();
    let bearer = format!("Bearer {}", key["key"].as_str().unwrap());
    let by_key = |cluster: &Cluster, at| {
        let asked = Ask { headers: vec![("Authorization", &bearer)], ..Ask::default() };
        cluster.public(at, "GET", "/admin/identities", asked).status
    };
    (0..3).for_each(|at| assert_eq!(by_key(&cluster, at), 200));
    assert!(
        cluster.command(1, &["apikey", "revoke", key["id"].as_str().unwrap()]).status.success()
    );
    cluster.try_sign_up(0, "guessed@example.org");
    let guess = |cluster: &Cluster, at| cluster.try_log_in(at, "guessed@example.org", "not hers");
    until("guesses are slowed down", || is_throttled(&guess(&cluster, 0)));

    for at in 0..3 {
        cluster.kill(at);
    }
    for at in 0..3 {
        cluster.start(at);
    }
    for at in 0..3 {
        cluster.wait_ready(at);
    }
    for at in 0..3 {
        assert_eq!(cluster.checked(at, &kept.token).status, 200, "who was logged in is");
        for over in [&revoked, &left, &inactive, &deleted] {
            assert_eq!(cluster.checked(at, &over.token).status, 401, "{}", over.identity);
        }
        assert_eq!(by_key(&cluster, at), 401);
    }
    let again = submit(&cluster, "login", &flow, &password("kept@example.org"));
    assert!(is_refused(&again), "{}: {}", again.status, again.text);
    let again = submit(&cluster, "recovery", &recovery, &code);
    assert!(is_refused(&again), "{}: {}", again.status, again.text);
    // Whoever guesses has no free attempts anew: each waits for longer than the one before.
    until("one more guess is due", || !is_throttled(&guess(&cluster, 1)));
    assert!(is_throttled(&guess(&cluster, 2)));
}
