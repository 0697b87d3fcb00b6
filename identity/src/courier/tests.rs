//! The outbox: claims, failures, erasure.

use std::{collections::VecDeque, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::*;
use crate::{
    PageRequest, Settings,
    outbox::{Round, Status},
    testing::{World, settings},
};

/// Remembers what it was given, and answers what it was told to.
#[derive(Default)]
struct Postman {
    carried: Mutex<Vec<Mail>>,
    answers: Mutex<VecDeque<Undelivered>>,
}

#[async_trait]
impl Carrier for Postman {
    async fn carry(&self, mail: &Mail) -> Result<(), Undelivered> {
        self.carried.lock().push(mail.clone());
        self.answers.lock().pop_front().map_or(Ok(()), Err)
    }
}

fn world() -> World {
    World::with(Settings { verification: true, ..settings() })
}

async fn only(world: &World) -> SentMessage {
    let filter = MessageFilter::default();
    let page = PageRequest::default();
    let mut listed = world.service.list_messages(world.scope, &filter, &page).await.unwrap();
    assert_eq!(listed.items.len(), 1);
    listed.items.remove(0)
}

#[tokio::test]
async fn message_is_sent_once_and_what_it_said_is_erased() {
    let world = world();
    world.register("ann@example.org").await;
    let before = only(&world).await;
    assert_eq!(before.status, Status::Queued);
    assert!(before.body.contains("code"));
    let postman = Postman::default();
    let round = world.service.deliver_due(&postman).await.unwrap();
    assert_eq!(round, Round { sent: 1, ..Round::default() });
    assert_eq!(world.service.deliver_due(&postman).await.unwrap(), Round::default());
    let carried = postman.carried.lock().clone();
    assert_eq!(carried.len(), 1);
    assert_eq!((carried[0].id, carried[0].recipient.as_str()), (before.id, "ann@example.org"));
    let after = only(&world).await;
    assert_eq!((after.status, after.send_count), (Status::Sent, 1));
    assert_eq!((after.body.as_str(), after.subject.as_str()), ("", ""));
}

#[tokio::test]
async fn failure_is_tried_again_later_and_given_up_at_last() {
    let world = world();
    world.register("ann@example.org").await;
    let postman = Postman::default();
    let failed = || Undelivered::Failed("no route".to_owned());
    postman.answers.lock().extend(std::iter::repeat_with(failed).take(20));
    let round = world.service.deliver_due(&postman).await.unwrap();
    assert_eq!(round, Round { postponed: 1, ..Round::default() });
    let told = only(&world).await;
    assert_eq!(told.status, Status::Queued);
    assert_eq!(told.last, Some(Delivery { error: Some("no route".to_owned()) }));
    assert_eq!(world.service.deliver_due(&postman).await.unwrap(), Round::default());
    world.clock.advance(Duration::from_secs(5));
    assert_eq!(world.service.deliver_due(&postman).await.unwrap().postponed, 1);
    let mut abandoned = 0;
    for _ in 0..12 {
        world.clock.advance(Duration::from_secs(30 * 60));
        abandoned += world.service.deliver_due(&postman).await.unwrap().abandoned;
    }
    assert_eq!(abandoned, 1);
    assert_eq!(postman.carried.lock().len(), 12);
    let given_up = only(&world).await;
    assert_eq!((given_up.status, given_up.body.as_str()), (Status::Abandoned, ""));
}

#[tokio::test]
async fn refusal_is_not_tried_again() {
    let world = world();
    world.register("ann@example.org").await;
    let postman = Postman::default();
    postman.answers.lock().push_back(Undelivered::Refused("550 no such user".to_owned()));
    assert_eq!(world.service.deliver_due(&postman).await.unwrap().abandoned, 1);
    assert_eq!(only(&world).await.status, Status::Abandoned);
}

/// Two couriers at once; and one that dies between claiming and sending.
#[tokio::test]
async fn message_has_one_claim_at_a_time_and_outlives_who_claimed_it() {
    /// Looks for work itself while it carries, as another node would, and then dies.
    struct Dying<'a>(&'a World, Mutex<Round>);

    #[async_trait]
    impl Carrier for Dying<'_> {
        async fn carry(&self, _: &Mail) -> Result<(), Undelivered> {
            *self.1.lock() = self.0.service.deliver_due(&Postman::default()).await.unwrap();
            std::future::pending().await
        }
    }

    let world = world();
    world.register("ann@example.org").await;
    let dying = Dying(&world, Mutex::new(Round { sent: 9, ..Round::default() }));
    {
        let mut delivery = Box::pin(world.service.deliver_due(&dying));
        while *dying.1.lock() != Round::default() {
            assert!(futures::poll!(&mut delivery).is_pending());
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(only(&world).await.status, Status::Processing);
    world.clock.advance(Duration::from_secs(60));
    let postman = Postman::default();
    assert_eq!(world.service.deliver_due(&postman).await.unwrap().sent, 1);
    assert_eq!(only(&world).await.send_count, 2);
}
