//! Clients of etcd: many calls share a connection, as in etcd's own clients.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;

use super::wire::{Found, Nothing, PUT, Put, RANGE, Range};
use crate::{
    grpc::{Channel, Refused},
    load::{Exchange, Outcome},
};

/// How long an answer is awaited.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a client of the load asks.
#[derive(Debug, Clone)]
pub enum Question {
    /// Put the value under the key.
    Put(Put),
    /// Read the key; it must be there.
    Range(Range),
}

/// A client of the load.
pub struct Client {
    address: SocketAddr,
    channel: Option<Channel>,
    question: Question,
    patience: Duration,
}

impl Client {
    /// A client of a member that shares a connection.
    pub fn sharing(channel: Channel, question: Question) -> Self {
        Self { address: channel.address(), channel: Some(channel), question, patience: PATIENCE }
    }

    /// A client of a member with a connection of its own, made when it is needed.
    pub fn alone(address: SocketAddr, question: Question) -> Self {
        Self { address, channel: None, question, patience: PATIENCE }
    }

    /// With another patience.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    async fn ask(&mut self) -> anyhow::Result<()> {
        let patience = self.patience;
        let channel = match &mut self.channel {
            Some(channel) => channel,
            none => {
                let connect = Channel::connect(self.address);
                none.insert(tokio::time::timeout(patience, connect).await??)
            }
        };
        match &self.question {
            Question::Put(put) => {
                channel.unary_within::<_, Nothing>(patience, PUT, put).await?;
            }
            Question::Range(range) => {
                let found: Found = channel.unary_within(patience, RANGE, range).await?;
                anyhow::ensure!(found.count == 1, "the key is not there");
            }
        }
        Ok(())
    }
}

impl Exchange for Client {
    async fn call(&mut self) -> Outcome {
        match self.ask().await {
            Ok(()) => Outcome::Done,
            Err(error) => match error.downcast_ref::<Refused>() {
                Some(refused) => Outcome::Refused(refused.0),
                None => {
                    self.channel = None;
                    Outcome::Broken
                }
            },
        }
    }
}

/// The question of the `number`th client: its own key of 8 bytes, and for a put a
/// value of `bytes` bytes.
pub fn put(number: usize, bytes: usize) -> Question {
    Question::Put(Put { key: key(number), value: Bytes::from(vec![b'v'; bytes]) })
}

/// See [`put`].
pub fn range(number: usize, linearizable: bool) -> Question {
    Question::Range(Range { key: key(number), serializable: !linearizable })
}

fn key(number: usize) -> Bytes {
    Bytes::from(format!("k{number:07}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::{Etcd, program};

    #[tokio::test]
    async fn what_was_put_is_read_from_every_member() {
        // Where etcd is not installed there is nothing to compare with.
        let Some(program) = program() else { return };
        let dir = tempfile::tempdir().unwrap();
        let mut etcd = Etcd::start(&program, dir.path(), None).await.unwrap();
        let addresses = etcd.addresses();
        let mut writer = Client::alone(addresses[0], put(1, 256));
        assert_eq!(writer.call().await, Outcome::Done);
        for address in addresses {
            let channel = Channel::connect(address).await.unwrap();
            let mut reader = Client::sharing(channel.clone(), range(1, true));
            assert_eq!(reader.call().await, Outcome::Done);
            let mut nothing = Client::sharing(channel, range(2, true));
            assert_eq!(nothing.call().await, Outcome::Broken);
        }
        let leader = etcd.leader().await.unwrap();
        etcd.members()[leader].server.kill().await.unwrap();
        etcd.members()[leader].server.start().unwrap();
        etcd.await_well(Duration::from_secs(30)).await.unwrap();
    }
}
