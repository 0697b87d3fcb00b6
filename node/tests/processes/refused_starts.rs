//! Starts that are refused, each with a clear answer and nothing half done.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Output};

use crate::support::{Cluster, MASTER_KEY, cardea, certificates};

fn start(config: &Path) -> Output {
    let mut child = cardea()
        .args(["start", "--config"])
        .arg(config)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    crate::support::until("the start is refused", || child.try_wait().unwrap().is_some());
    child.wait_with_output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn an_unknown_setting_is_refused_with_the_nearest_name() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("cardea.toml");
    fs::write(&config, "[public]\nlisen = \"127.0.0.1:1\"\n").unwrap();
    let refused = start(&config);
    assert_eq!(refused.status.code(), Some(2));
    let told = told(&refused);
    assert!(told.contains("lisen") && told.contains("public.listen"), "{told}");
    assert!(!directory.path().join("cardea-data").exists(), "nothing was done");
}

#[test]
fn a_start_without_a_master_key_says_how_to_make_one() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("cardea.toml");
    let text = "[node]\ndata_dir = \"data\"\n[cluster]\nlisten = \"127.0.0.1:0\"\ntls = \"off\"\n";
    fs::write(&config, text).unwrap();
    let refused = start(&config);
    assert_eq!(refused.status.code(), Some(2), "{}", told(&refused));
    assert!(told(&refused).contains("secrets.master_key_file"), "{}", told(&refused));
}

#[test]
fn a_port_that_is_taken_is_told_before_anything_is_done() {
    let directory = tempfile::tempdir().unwrap();
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = held.local_addr().unwrap();
    let (config, key) = (directory.path().join("cardea.toml"), directory.path().join("key"));
    let text = format!(
        "[node]\ndata_dir = \"data\"\n[cluster]\nlisten = \"127.0.0.1:0\"\ntls = \"off\"\n\
         join = [\"127.0.0.1:1\"]\n[public]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \
         \"{taken}\"\n[secrets]\nmaster_key_file = \"key\"\n"
    );
    fs::write(&config, text).unwrap();
    fs::write(&key, MASTER_KEY).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let refused = start(&config);
    assert_eq!(refused.status.code(), Some(1), "{}", told(&refused));
    assert!(told(&refused).contains("the admin listener cannot stand"), "{}", told(&refused));
    assert!(!directory.path().join("data").exists(), "it is on its way into no cluster");
}

#[test]
fn a_data_directory_of_another_cluster_is_refused() {
    let mut cluster = Cluster::ready();
    cluster.stop(2);
    let certs = cluster.directory.path().join("certs");
    fs::remove_dir_all(&certs).unwrap();
    certificates(&certs, &["one", "two", "three"]);
    let refused = start(&cluster.nodes[2].config());
    assert_eq!(refused.status.code(), Some(1));
    assert!(told(&refused).contains("the data directory belongs to cluster"), "{}", told(&refused));
}

#[test]
fn a_second_process_under_one_id_is_refused() {
    let mut cluster = Cluster::ready();
    assert_eq!(cluster.stop(2), Some(0));
    let (original, copy) = (&cluster.nodes[2].directory, cluster.directory.path().join("copy"));
    copy_tree(original, &copy);
    let text = fs::read_to_string(original.join("cardea.toml")).unwrap();
    let text: Vec<String> = text
        .lines()
        .map(|line| match line.split_once(" = ") {
            Some(("listen", _)) => "listen = \"127.0.0.1:0\"".to_owned(),
            _ => line.to_owned(),
        })
        .collect();
    fs::write(copy.join("cardea.toml"), text.join("\n")).unwrap();
    cluster.start(2);
    cluster.wait_ready(2);
    let refused = start(&copy.join("cardea.toml"));
    assert_eq!(refused.status.code(), Some(1));
    assert!(told(&refused).contains("runs already"), "{}", told(&refused));
    cluster.wait_ready(2);
}

#[test]
fn a_data_directory_in_use_is_refused() {
    let cluster = Cluster::ready();
    let config = cluster.nodes[0].config();
    let text = fs::read_to_string(&config).unwrap();
    let other = cluster.nodes[0].directory.join("other.toml");
    let text: Vec<&str> = text
        .lines()
        .map(|line| if line.starts_with("listen") { "listen = \"127.0.0.1:0\"" } else { line })
        .collect();
    fs::write(&other, text.join("\n")).unwrap();
    let refused = start(&other);
    assert_eq!(refused.status.code(), Some(1), "{}", told(&refused));
    assert!(told(&refused).contains("is in use"), "{}", told(&refused));
    cluster.wait_ready(0);
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
