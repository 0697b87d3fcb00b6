//! Three processes over gRPC: Keto's check service, and our look-up stream.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use cardea_permission::{Subject, Tuple};
use prost::Message;

use super::{
    Round,
    model::{Model, Scale},
    rest::Fresh,
    store::{Listed, ready},
};
use crate::{
    cardea::Cluster,
    grpc::{Channel, Refused},
    load::{
        Exchange, Outcome,
        closed::{self, Window},
    },
};

const CHECK: &str = "/ory.keto.relation_tuples.v1alpha2.CheckService/Check";
const TRANSACT: &str = "/ory.keto.relation_tuples.v1alpha2.WriteService/TransactRelationTuples";
const LIST_OBJECTS: &str = "/cardea.permission.v1.LookupService/ListObjects";

/// `Subject`.
#[derive(Clone, PartialEq, Eq, Message)]
struct SubjectMessage {
    #[prost(string, tag = "1")]
    id: String,
}

/// `RelationTuple`, of a subject id.
#[derive(Clone, PartialEq, Eq, Message)]
struct TupleMessage {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, tag = "2")]
    object: String,
    #[prost(string, tag = "3")]
    relation: String,
    #[prost(message, optional, tag = "4")]
    subject: Option<SubjectMessage>,
}

/// `CheckRequest`.
#[derive(Clone, PartialEq, Eq, Message)]
struct Check {
    #[prost(bool, tag = "5")]
    latest: bool,
    #[prost(string, tag = "6")]
    snaptoken: String,
    #[prost(message, optional, tag = "8")]
    tuple: Option<TupleMessage>,
}

/// `CheckResponse`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct Checked {
    #[prost(bool, tag = "1")]
    allowed: bool,
}

/// `RelationTupleDelta`; 1 inserts.
#[derive(Clone, PartialEq, Eq, Message)]
struct Delta {
    #[prost(int32, tag = "1")]
    action: i32,
    #[prost(message, optional, tag = "2")]
    tuple: Option<TupleMessage>,
}

/// `TransactRelationTuplesRequest`.
#[derive(Clone, PartialEq, Eq, Message)]
struct Transact {
    #[prost(message, repeated, tag = "1")]
    deltas: Vec<Delta>,
}

/// `TransactRelationTuplesResponse`.
#[derive(Clone, PartialEq, Eq, Message)]
struct Transacted {
    #[prost(string, repeated, tag = "1")]
    snaptokens: Vec<String>,
}

/// `ListObjectsRequest`.
#[derive(Clone, PartialEq, Eq, Message)]
struct ListObjects {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, tag = "2")]
    relation: String,
    #[prost(message, optional, tag = "3")]
    subject: Option<SubjectMessage>,
    #[prost(bool, tag = "4")]
    latest: bool,
}

/// `ListObjectsResponse`.
#[derive(Clone, PartialEq, Eq, Message)]
struct Objects {
    #[prost(string, repeated, tag = "1")]
    objects: Vec<String>,
}

fn subject_message(subject: &Subject) -> Option<SubjectMessage> {
    match subject {
        Subject::Id(id) => Some(SubjectMessage { id: id.clone() }),
        Subject::Set(_) => None,
    }
}

fn message(tuple: &Tuple) -> TupleMessage {
    let Tuple { namespace, object, relation, subject } = tuple.clone();
    TupleMessage { namespace, object, relation, subject: subject_message(&subject) }
}

/// Writes a tuple; the snaptoken covers it and all that was written before.
///
/// # Errors
/// If the node refuses it.
pub async fn write(cluster: &Cluster, tuple: &Tuple) -> anyhow::Result<String> {
    let node = cluster.admin().into_iter().next().context("no node")?;
    let delta = Delta { action: 1, tuple: Some(message(tuple)) };
    let request = Transact { deltas: vec![delta] };
    let done: Transacted = Channel::connect(node).await?.unary(TRANSACT, &request).await?;
    done.snaptokens.into_iter().next().context("a write without a snaptoken")
}

struct Client {
    channel: Channel,
    asked: Arc<Vec<Check>>,
    at: usize,
    holds: bool,
}

impl Exchange for Client {
    async fn call(&mut self) -> Outcome {
        self.at = (self.at + 1) % self.asked.len();
        let answer: anyhow::Result<Checked> = self.channel.unary(CHECK, &self.asked[self.at]).await;
        match answer {
            Ok(checked) if checked.allowed == self.holds => Outcome::Done,
            Ok(_) => Outcome::Refused(0),
            Err(error) => match error.downcast_ref::<Refused>() {
                Some(refused) => Outcome::Refused(refused.0),
                None => Outcome::Broken,
            },
        }
    }
}

/// Asks a model's questions for a while, spread over the nodes, each client over a
/// connection of its own.
///
/// # Errors
/// If a node is not reached, or how fresh is not said as gRPC says it.
pub async fn check(
    cluster: &Cluster,
    scale: Scale,
    model: Model,
    fresh: &Fresh,
    clients: usize,
    over: Duration,
) -> anyhow::Result<Round> {
    let (latest, snaptoken) = match fresh {
        Fresh::Strong => (true, String::new()),
        Fresh::Snaptoken(token) => (false, token.clone()),
        Fresh::Eventual | Fresh::Bounded => anyhow::bail!("gRPC says it in metadata"),
    };
    let asked = ready(scale, model).take(2_000).map(|tuple| Check {
        latest,
        snaptoken: snaptoken.clone(),
        tuple: Some(message(&tuple)),
    });
    let (asked, nodes) = (Arc::new(asked.collect::<Vec<_>>()), cluster.admin());
    let mut exchanges = Vec::new();
    for number in 0..clients {
        let channel = Channel::connect(nodes[number % nodes.len()]).await?;
        let (asked, at) = (asked.clone(), number * 211);
        exchanges.push(Client { channel, asked, at, holds: model.holds() });
    }
    let window = Window { warm_up: Duration::from_millis(500), measure: over };
    let sample = closed::run(exchanges, window, &cluster.processes()).await;
    Ok(Round::of_processes(model, format!("three processes, gRPC, {}", fresh.name()), &sample))
}

/// Lists the documents that somebody views, as one stream.
///
/// # Errors
/// If a node refuses, or the list is not as long as it must be.
pub async fn list(cluster: &Cluster, subject: &Subject, results: u64) -> anyhow::Result<Listed> {
    let node = cluster.admin().into_iter().next().context("no node")?;
    let request = ListObjects {
        namespace: "Doc".to_owned(),
        relation: "view".to_owned(),
        subject: subject_message(subject),
        latest: true,
    };
    let mut channel = Channel::connect(node).await?;
    let (began, mut first_page_ms, mut parts) = (Instant::now(), 0.0, Vec::new());
    let shown = |part| {
        if parts.is_empty() {
            first_page_ms = began.elapsed().as_secs_f64() * 1e3;
        }
        parts.push(part);
    };
    channel.stream(LIST_OBJECTS, &request, shown).await?;
    let all_ms = began.elapsed().as_secs_f64() * 1e3;
    let mut found = 0;
    for part in parts {
        found += Objects::decode(part)?.objects.len() as u64;
    }
    anyhow::ensure!(found == results, "{found} objects were listed, not {results}");
    Ok(Listed { of: "three processes, gRPC".to_owned(), results, first_page_ms, all_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_field_numbers_of_the_protocol() {
        let tuple = message(&"d:o#r@s".parse().unwrap());
        let bytes = [0x0a, 1, b'd', 0x12, 1, b'o', 0x1a, 1, b'r', 0x22, 3, 0x0a, 1, b's'];
        assert_eq!(tuple.encode_to_vec(), bytes);
        let check = Check { latest: true, snaptoken: "t".to_owned(), tuple: Some(tuple.clone()) };
        let head = [0x28, 1, 0x32, 1, b't', 0x42, 14];
        assert_eq!(check.encode_to_vec(), [&head[..], &bytes].concat());
        let delta = Delta { action: 1, tuple: Some(tuple) };
        assert_eq!(delta.encode_to_vec(), [&[0x08, 1, 0x12, 14][..], &bytes].concat());
        assert!(Checked::decode(&[0x08, 1, 0x12, 1, b't'][..]).unwrap().allowed);
        let list = ListObjects {
            namespace: "d".to_owned(),
            relation: "r".to_owned(),
            subject: subject_message(&Subject::Id("s".to_owned())),
            latest: true,
        };
        let bytes = [0x0a, 1, b'd', 0x12, 1, b'r', 0x1a, 3, 0x0a, 1, b's', 0x20, 1];
        assert_eq!(list.encode_to_vec(), bytes);
    }
}
