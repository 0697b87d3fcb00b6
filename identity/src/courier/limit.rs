//! How many messages strangers may bring about.
//!
//! Whoever asks for a code makes us send something to somebody: mail that annoys, text
//! messages that cost, and some numbers pay those who have them called. So what is to be
//! sent because somebody asked for it is counted before it is known whether anybody has
//! the address, and refused the same way in either case: the answer says when to come
//! back, and nothing else.
//!
//! Counted are: the messages to one address, those that one source asks for, the text
//! messages to one country, and all mails and all text messages of the cluster. Each
//! count is a counter of the store, which begins with its first message and is over a
//! window later. A count is read first and added to afterwards, so what is asked for at
//! the same moment may pass a limit by as much as is under way. Where it is told anyway
//! whether a message goes out, as at a registration, it is counted once it does: nobody
//! uses up somebody else's by what is refused.
//!
//! What is told to people because they changed something is not counted: nobody can be
//! kept from learning that an account was taken over.

use std::time::Duration;

use cardea_storage::{Consistency, Key, Slot, Space, StoreError, row::counter};

use crate::{
    Service,
    flow::throttle::TooEarly,
    identity::draft::via_number,
    model::{Client, Scope},
    schema::{Address, Channel, country_of},
    table::message_count::message_count_key,
};

/// The limits; 0 for none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How long a count lasts.
    pub window: Duration,
    /// Messages to one address.
    pub per_address: u32,
    /// Messages that one source asks for: an address, for IPv6 its /64.
    pub per_source: u32,
    /// Text messages to one country, by its prefix.
    pub texts_per_country: u32,
    /// Mails in all.
    pub mails: u32,
    /// Text messages in all.
    pub texts: u32,
    /// Prefixes of the numbers that text messages go to; empty for all.
    pub text_prefixes: Vec<String>,
}

impl Default for Limits {
    /// In an hour: 10 to an address, 100 of a source, 500 text messages to a country,
    /// 2,000 in all, and 20,000 mails.
    fn default() -> Self {
        Self {
            window: Duration::from_secs(3600),
            per_address: 10,
            per_source: 100,
            texts_per_country: 500,
            mails: 20_000,
            texts: 2_000,
            text_prefixes: Vec::new(),
        }
    }
}

impl Limits {
    /// Whether text messages go to a number at all.
    pub(crate) fn reaches(&self, address: &Address) -> bool {
        address.via == Channel::Email
            || self.text_prefixes.is_empty()
            || self.text_prefixes.iter().any(|prefix| address.value.starts_with(prefix))
    }
}

/// What is counted, and how much of it may be.
struct Count {
    name: &'static str,
    key: Key,
    most: u32,
}

impl Service {
    /// Counts a message that somebody asks for; refuses it if there were too many.
    pub(crate) async fn count_message(
        &self,
        scope: Scope,
        client: &Client,
        to: &Address,
    ) -> Result<Result<(), TooEarly>, StoreError> {
        let may = self.message_may_go(scope, client, to).await?;
        if may.is_ok() {
            self.message_goes(scope, client, to).await?;
        }
        Ok(may)
    }

    /// Whether a message that somebody asks for may go; it is to be counted once it does.
    pub(crate) async fn message_may_go(
        &self,
        scope: Scope,
        client: &Client,
        to: &Address,
    ) -> Result<Result<(), TooEarly>, StoreError> {
        let counts = self.counts_of(scope, client, to);
        let keys: Vec<Key> = counts.iter().map(|count| count.key.clone()).collect();
        let rows = self.store.view(Consistency::Strong).rows(&keys, false).await?;
        let mut wait: Option<Duration> = None;
        for (count, row) in counts.iter().zip(rows) {
            let sent = counter(row.as_ref().map(|row| &row.value));
            if sent < i64::from(count.most) {
                continue;
            }
            let until = row.and_then(|row| row.expires_at).unwrap_or_default();
            let retry_after = until.since(self.now()).max(Duration::from_secs(1));
            wait = wait.max(Some(retry_after));
            if sent == i64::from(count.most) && matches!(count.name, "country" | "all") {
                let (limit, via) = (count.name, to.via.name());
                tracing::warn!(limit, via, "a limit on messages is reached; more are refused");
            }
        }
        Ok(wait.map_or(Ok(()), |retry_after| Err(TooEarly { retry_after })))
    }

    /// Counts a message.
    pub(crate) async fn message_goes(
        &self,
        scope: Scope,
        client: &Client,
        to: &Address,
    ) -> Result<(), StoreError> {
        let keys = self.counts_of(scope, client, to).into_iter().map(|count| count.key).collect();
        let window = self.settings.message_limits.window;
        for together in self.of_one_shard(keys) {
            let together = &together;
            self.store
                .transact(|t| async move {
                    for key in together {
                        t.add(key, 1, Some(t.now().after(window)));
                    }
                    Ok::<_, StoreError>(())
                })
                .await?;
        }
        Ok(())
    }

    /// Counts a message that was written with something else; what is done is done, whether
    /// that can be counted or not.
    pub(crate) async fn message_went(&self, scope: Scope, client: &Client, to: &str) {
        let to = Address { via: Channel::of_address(to), value: to.to_owned() };
        if let Err(error) = self.message_goes(scope, client, &to).await {
            tracing::warn!(%error, "a message was not counted");
        }
    }

    fn counts_of(&self, scope: Scope, client: &Client, to: &Address) -> Vec<Count> {
        let limits = &self.settings.message_limits;
        let via = to.via.name();
        let count = |name: &'static str, what: &[u8], most: u32| {
            let digest = self.message_digest(scope.tenant, name, what);
            Count { name, key: message_count_key(scope.tenant, &digest), most }
        };
        let address = format!("{} {}", via_number(to.via), to.value);
        let mut counts = vec![
            count("address", address.as_bytes(), limits.per_address),
            count("source", &self.source(scope, client), limits.per_source),
        ];
        match to.via {
            Channel::Email => counts.push(count("all", via.as_bytes(), limits.mails)),
            Channel::Sms => {
                let country = country_of(&to.value).unwrap_or_default();
                counts.push(count("country", country.as_bytes(), limits.texts_per_country));
                counts.push(count("all", via.as_bytes(), limits.texts));
            }
        }
        counts.retain(|count| count.most > 0);
        counts
    }

    /// Keys of one shard together: a transaction over several would hold what many add
    /// to.
    fn of_one_shard(&self, keys: Vec<Key>) -> Vec<Vec<Key>> {
        let mut groups: Vec<Vec<Key>> = Vec::new();
        for key in keys {
            let shards = self.store.shards(Space::Index);
            let together = |a: Slot, b: Slot| shards.iter().any(|s| s.contains(a) && s.contains(b));
            let group = groups.iter_mut().find(|group| {
                group.first().is_some_and(|first| together(first.slot(), key.slot()))
            });
            match group {
                Some(group) => group.push(key),
                None => groups.push(vec![key]),
            }
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Settings,
        testing::{World, client, settings},
    };

    const ANN: &str = "ann@example.org";

    fn none() -> Limits {
        Limits {
            per_address: 0,
            per_source: 0,
            texts_per_country: 0,
            mails: 0,
            texts: 0,
            ..Limits::default()
        }
    }

    fn world(message_limits: Limits) -> World {
        World::with(Settings { message_limits, ..settings() })
    }

    fn mail(value: &str) -> Address {
        Address { via: Channel::Email, value: value.to_owned() }
    }

    fn text(value: &str) -> Address {
        Address { via: Channel::Sms, value: value.to_owned() }
    }

    /// Whether each of these may be sent.
    async fn sent<const N: usize>(world: &World, asked: [(&Client, &Address); N]) -> [bool; N] {
        let mut answers = [false; N];
        for (answer, (client, to)) in answers.iter_mut().zip(asked) {
            let counted = world.service.count_message(world.scope, client, to).await.unwrap();
            *answer = counted.is_ok();
        }
        answers
    }

    #[tokio::test]
    async fn an_address_gets_no_more_than_its_share_whoever_asks() {
        let world = world(Limits { per_address: 2, ..none() });
        let (here, there) = (&client("192.0.2.1"), &client("192.0.2.2"));
        let (ann, bob) = (&mail(ANN), &mail("bob@example.org"));
        let asked = [(here, ann), (there, ann), (here, ann), (there, ann), (here, bob)];
        assert_eq!(sent(&world, asked).await, [true, true, false, false, true]);
        let counted = world.service.count_message(world.scope, here, ann).await.unwrap();
        assert_eq!(counted.unwrap_err().retry_after, Duration::from_secs(3600));
        world.clock.advance(Duration::from_secs(3600));
        assert_eq!(sent(&world, [(here, ann)]).await, [true]);
    }

    #[tokio::test]
    async fn a_source_asks_for_no_more_than_its_share_for_whomever() {
        let world = world(Limits { per_source: 2, ..none() });
        let (here, there) = (&client("2001:db8:1:2::1"), &client("2001:db8:1:3::1"));
        let neighbour = &client("2001:db8:1:2:ffff::9");
        let (ann, bob) = (&mail(ANN), &text("+4930901820"));
        let asked = [(here, ann), (neighbour, bob), (here, ann), (there, ann)];
        assert_eq!(sent(&world, asked).await, [true, true, false, true]);
    }

    #[tokio::test]
    async fn a_country_gets_no_more_text_messages_than_its_share() {
        let world = world(Limits { texts_per_country: 2, ..none() });
        let here = &client("192.0.2.1");
        let jamaica = ["+18765550100", "+18765550101", "+18765550102"].map(text);
        let [one, two, three] = &jamaica;
        let (states, mail) = (&text("+12024561111"), &mail(ANN));
        let asked = [(here, one), (here, two), (here, three), (here, states), (here, mail)];
        assert_eq!(sent(&world, asked).await, [true, true, false, true, true]);
    }

    #[tokio::test]
    async fn all_messages_of_a_kind_are_bounded() {
        let world = world(Limits { mails: 1, texts: 2, ..none() });
        let (here, there) = (&client("192.0.2.1"), &client("192.0.2.2"));
        let (ann, bob) = (&mail(ANN), &mail("bob@example.org"));
        let (germany, france) = (&text("+4930901820"), &text("+33123456789"));
        let asked = [(here, ann), (there, bob), (here, germany), (there, france), (here, france)];
        assert_eq!(sent(&world, asked).await, [true, false, true, true, false]);
    }

    #[tokio::test]
    async fn what_is_refused_is_not_counted_and_no_limit_costs_no_write() {
        let world = world(Limits { per_address: 1, per_source: 2, ..none() });
        let (here, there) = (&client("192.0.2.1"), &client("192.0.2.2"));
        let (ann, bob) = (&mail(ANN), &mail("bob@example.org"));
        // The source is at its second, not its fourth.
        let asked = [(here, ann), (here, ann), (here, ann), (here, bob), (here, bob), (there, ann)];
        assert_eq!(sent(&world, asked).await, [true, false, false, true, false, false]);
        let unlimited = World::with(Settings { message_limits: none(), ..settings() });
        unlimited.counted.take();
        assert_eq!(sent(&unlimited, [(here, ann), (here, ann)]).await, [true, true]);
        assert_eq!(unlimited.counted.take()[2], 0);
    }

    #[test]
    fn numbers_elsewhere_are_not_reached() {
        let limits = Limits { text_prefixes: vec!["+49".to_owned()], ..Limits::default() };
        assert!(limits.reaches(&text("+4930901820")) && limits.reaches(&mail(ANN)));
        assert!(!limits.reaches(&text("+33123456789")));
        assert!(Limits::default().reaches(&text("+33123456789")));
    }
}
