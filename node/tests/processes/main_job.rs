//! The main job: sign up, log in, be recognised, survive deaths, be logged out.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::support::{Ask, Cluster, MASTER_KEY, PASSWORD, ask, until};

fn recognised(cluster: &Cluster, at: usize, token: &str) -> bool {
    cluster.whoami(at, token).is_ok_and(|answer| answer.status == 200)
}

#[test]
fn a_person_signs_up_on_one_node_logs_in_on_another_and_is_known_to_the_third_until_revoked() {
    let cluster = Cluster::ready();
    let signed_up = cluster.try_sign_up(0, "ann@example.org");
    assert_eq!(signed_up.status, 200, "{}", signed_up.text);
    let again = cluster.try_sign_up(1, "ann@example.org");
    assert_eq!(again.status, 400, "the identifier is taken: {}", again.text);

    let ann = cluster.log_in(1, "ann@example.org");
    for at in [2, 1, 0] {
        let answer = cluster.checked(at, &ann.token);
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.body["identity"]["id"], json!(ann.identity));
        assert_eq!(answer.body["identity"]["traits"]["email"], json!("ann@example.org"));
    }
    let wrong = cluster.try_log_in(2, "ann@example.org", "not her password");
    assert_eq!(wrong.status, 400, "{}", wrong.text);
    let nobody = cluster.try_log_in(2, "bob@example.org", PASSWORD);
    assert_eq!(nobody.status, 400, "{}", nobody.text);
    assert_eq!(
        wrong.body["ui"]["messages"], nobody.body["ui"]["messages"],
        "who is unknown is not told apart"
    );

    let path = format!("/admin/identities/{}/sessions", ann.identity);
    let revoked = cluster.admin(2, "DELETE", &path, None);
    assert_eq!(revoked.status, 204, "{}", revoked.text);
    for at in 0..3 {
        let answer = cluster.checked(at, &ann.token);
        assert_eq!(answer.status, 401, "acknowledged, so gone on node {at}: {}", answer.text);
    }
}

#[test]
fn any_one_node_may_die_and_come_back() {
    let mut cluster = Cluster::ready();
    let ann = cluster.person(0, "ann@example.org");
    for dead in 0..3 {
        cluster.kill(dead);
        let others: Vec<usize> = (0..3).filter(|at| *at != dead).collect();
        for at in &others {
            until("a session is recognised without the dead node", || {
                recognised(&cluster, *at, &ann.token)
            });
        }
        let email = format!("born-without-{dead}@example.org");
        until("somebody signs up without the dead node", || {
            let answer = cluster.try_sign_up(others[0], &email);
            // Unknown outcomes are not retried blindly: taken means it was done.
            answer.status == 200 || answer.status == 400
        });
        cluster.start(dead);
        cluster.wait_ready(dead);
        let known = cluster.log_in(dead, &email);
        assert_eq!(cluster.checked(dead, &known.token).status, 200);
    }
}

#[test]
fn a_node_that_is_told_to_stop_hands_over_and_stops_cleanly() {
    let mut cluster = Cluster::ready();
    let ann = cluster.person(0, "ann@example.org");
    assert_eq!(cluster.stop(0), Some(0));
    // Its leaderships were handed over: there is no election to wait for.
    let answer = cluster.checked(1, &ann.token);
    assert_eq!(answer.status, 200, "{}", answer.text);
    cluster.start(0);
    cluster.wait_ready(0);
    assert_eq!(cluster.checked(0, &ann.token).status, 200);
}

#[test]
fn keys_are_rotated_while_everybody_stays_logged_in() {
    let cluster = Cluster::ready();
    let ann = cluster.person(0, "ann@example.org");
    for purpose in ["token", "index", "seal"] {
        let rotated = cluster.command(1, &["key", "rotate", purpose]);
        assert!(rotated.status.success(), "{rotated:?}");
    }
    for at in 0..3 {
        assert_eq!(cluster.checked(at, &ann.token).status, 200);
    }
    let again = cluster.log_in(2, "ann@example.org");
    for at in 0..3 {
        until("a token of the new key is known", || recognised(&cluster, at, &again.token));
    }
    let taken = cluster.try_sign_up(1, "ann@example.org");
    assert_eq!(taken.status, 400, "what an older key filed is found: {}", taken.text);
}

#[test]
fn no_secret_is_in_any_log_line() {
    let cluster = Cluster::talkative();
    let ann = cluster.person(0, "ann@example.org");
    let made =
        cluster.command(0, &["apikey", "create", "--name", "ci", "--scope", "identity:read"]);
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    let key = made["key"].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {key}");
    let asked = Ask { headers: vec![("Authorization", &bearer)], ..Ask::default() };
    assert_eq!(
        ask(cluster.nodes[1].public, "GET", "/admin/identities", asked).unwrap().status,
        200
    );
    assert!(recognised(&cluster, 2, &ann.token));
    let body = json!({"schema_id": "default", "traits": {"email": "bob@example.org"},
        "credentials": {"password": {"config": {"password": PASSWORD}}}});
    assert_eq!(cluster.admin(1, "POST", "/admin/identities", Some(body)).status, 201);
    let wrong = cluster.try_log_in(0, "ann@example.org", "a wrong password of hers");
    assert_eq!(wrong.status, 400, "{}", wrong.text);

    let logs = cluster.logs();
    assert!(logs.contains("/sessions/whoami"), "requests are logged");
    let secret_of_key = key.rsplit('_').next().unwrap();
    for secret in [
        PASSWORD,
        "a wrong password of hers",
        MASTER_KEY,
        secret_of_key,
        &ann.token,
        "$argon2id$",
        "PRIVATE KEY",
        // No secrets, but nobody's business in a log either.
        "ann@example.org",
        "bob@example.org",
    ] {
        let line = logs.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{secret:?} is logged: {line:?}");
    }
}

#[test]
fn status_and_metrics_tell_what_is_there() {
    let cluster = Cluster::ready();
    cluster.person(0, "ann@example.org");
    let status = cluster.status(1);
    assert_eq!(status["nodes"].as_array().map(Vec::len), Some(3), "{status}");
    assert_eq!(status["shards"].as_array().map(Vec::len), Some(7), "{status}");
    assert_eq!(status["name"], json!("test"));
    for node in status["nodes"].as_array().unwrap() {
        assert_eq!(node["state"], json!("live"), "{node}");
        assert!(node["disk_free_bytes"].as_u64().unwrap() > 0, "{node}");
    }
    let written = cluster.nodes[0].directory.join("data").join("IDENTITY");
    let mode = std::fs::metadata(written).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "nobody else reads what a node writes");
    let metrics = ask(cluster.nodes[0].admin, "GET", "/metrics", Ask::default()).unwrap().text;
    for family in [
        "cardea_http_requests_total{",
        "cardea_http_request_seconds_bucket{",
        "cardea_raft_term{group=\"0\"}",
        "cardea_raft_committed_index{group=\"1\"}",
        "cardea_raft_unapplied_entries{",
        "cardea_raft_proposals_waiting{",
        "cardea_log_syncs_total",
        "cardea_log_sync_seconds_sum",
        "cardea_argon2_busy_seconds_total",
        "cardea_process_cpu_seconds_total",
        "cardea_build_info{version=\"",
        "cardea_cluster_version ",
        "cardea_tablet_disk_bytes{",
        "cardea_tablet_keys{",
        "cardea_block_cache_bytes_max ",
        "cardea_write_buffers_bytes ",
        "cardea_transactions_outstanding{",
        "cardea_argon2_done_total",
        "cardea_directory_confirmed 1",
        "cardea_process_resident_bytes",
    ] {
        assert!(metrics.contains(family), "{family} is missing:\n{metrics}");
    }
}
