//! Who is let in by a server that answers so many in a second, on a clock that is set.

use std::cell::Cell;

use futures::{StreamExt as _, stream::FuturesUnordered};

use super::*;

const PATH: &str = "/a";

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

async fn enter(admission: &Admission, class: Class) -> Result<Place, Overloaded> {
    admission.enter(class, &Method::GET, PATH).await
}

fn refused(admission: &Admission, class: Class) -> u64 {
    admission.room(class).0.lock().refused_total
}

/// What answers so many requests in a second, in the order of their arrival.
struct Server {
    apart: Duration,
    free_at: Cell<Instant>,
}

impl Server {
    fn new(per_second: u32) -> Self {
        Self { apart: Duration::from_secs(1) / per_second, free_at: Cell::new(Instant::now()) }
    }

    async fn answer(&self) {
        let at = self.free_at.get().max(Instant::now()) + self.apart;
        self.free_at.set(at);
        tokio::time::sleep_until(at).await;
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    answered: usize,
    refused: usize,
    /// Later than a client waits.
    late: usize,
}

/// Asks `server` for so many in each of so many hundredths of a second.
async fn ask(admission: &Admission, server: &Server, each: usize, hundredths: u64) -> Outcome {
    let one = async || {
        let asked = Instant::now();
        let Ok(place) = enter(admission, Class::Write).await else { return Err(Overloaded) };
        server.answer().await;
        place.answered(StatusCode::OK);
        Ok(asked.elapsed())
    };
    let (mut outcome, mut asked) = (Outcome::default(), FuturesUnordered::new());
    let mut note = |ended: Result<Duration, Overloaded>| match ended {
        Ok(took) if took <= ms(1_500) => outcome.answered += 1,
        Ok(_) => outcome.late += 1,
        Err(Overloaded) => outcome.refused += 1,
    };
    let mut pace = tokio::time::interval(ms(10));
    for _ in 0..hundredths {
        loop {
            tokio::select! {
                biased;
                _ = pace.tick() => break,
                Some(ended) = asked.next() => note(ended),
            }
        }
        asked.extend((0..each).map(|_| one()));
    }
    while let Some(ended) = asked.next().await {
        note(ended);
    }
    outcome
}

#[tokio::test(start_paused = true)]
async fn what_can_be_served_is_served_while_thrice_as_much_is_asked_for() {
    let (admission, server) = (Admission::new(), Server::new(1_000));
    assert_eq!(ask(&admission, &server, 9, 1_000).await.refused, 0);
    // Until most were late for longer than a burst all are let in.
    ask(&admission, &server, 30, 300).await;
    let outcome = ask(&admission, &server, 30, 3_000).await;
    assert!(outcome.answered >= 29_000, "{outcome:?}");
    assert_eq!(outcome.late, 0, "{outcome:?}");
    assert!(outcome.refused > 50_000, "{outcome:?}");
    // Afterwards nobody is refused, neither a burst once it had time to calm.
    let calm = Outcome { answered: 9_000, ..Outcome::default() };
    assert_eq!(ask(&admission, &server, 9, 1_000).await, calm);
    let burst = Outcome { answered: 700, ..Outcome::default() };
    assert_eq!(ask(&admission, &server, 700, 1).await, burst);
}

#[tokio::test(start_paused = true)]
async fn bursts_that_are_served_in_time_are_let_in_whole() {
    let (admission, server) = (Admission::new(), Server::new(1_000));
    assert_eq!(ask(&admission, &server, 5, 100).await.refused, 0);
    for _ in 0..60 {
        let outcome = ask(&admission, &server, 600, 1).await;
        assert_eq!(outcome, Outcome { answered: 600, ..Outcome::default() });
        tokio::time::advance(ms(400)).await;
    }
}

/// A region is lost, and what was written near by is written far away, in two trips.
#[tokio::test(start_paused = true)]
async fn a_leader_that_is_far_all_at_once_is_no_overload() {
    let admission = Admission::new();
    for (rounds, takes) in [(200, 3), (40, 600)] {
        for _ in 0..rounds {
            let entered = (0..1_000).map(|_| enter(&admission, Class::Write));
            let places = futures::future::join_all(entered).await;
            tokio::time::advance(ms(takes)).await;
            places.into_iter().for_each(|place| place.unwrap().answered(StatusCode::OK));
        }
    }
    assert_eq!(refused(&admission, Class::Write), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_slow_always_is_no_overload() {
    let admission = Admission::new();
    for _ in 0..200 {
        let entered = (0..1_000).map(|_| enter(&admission, Class::Write));
        let places = futures::future::join_all(entered).await;
        tokio::time::advance(ms(900)).await;
        places.into_iter().for_each(|place| place.unwrap().answered(StatusCode::OK));
    }
    assert_eq!(refused(&admission, Class::Write), 0);
}

#[tokio::test(start_paused = true)]
async fn what_hung_and_goes_on_is_no_overload() {
    let (admission, server) = (Admission::new(), Server::new(10_000));
    assert_eq!(ask(&admission, &server, 10, 100).await.refused, 0);
    // Nobody leads for three seconds.
    server.free_at.set(Instant::now() + ms(3_000));
    let outcome = ask(&admission, &server, 10, 600).await;
    assert_eq!(outcome.refused, 0, "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_hash_takes_no_place_of_others() {
    let (admission, reads) = (Admission::new(), Server::new(1_000));
    let mut hashing = Vec::new();
    for _ in 0..100 {
        // Ten are hashed in each tenth of a second, and hundreds wait for that.
        while hashing.len() < 400 {
            hashing.push(enter(&admission, Class::Hashing).await.unwrap());
        }
        for _ in 0..10 {
            let place = enter(&admission, Class::Read).await.unwrap();
            reads.answer().await;
            place.answered(StatusCode::OK);
            tokio::time::advance(ms(9)).await;
        }
        hashing.drain(..10).for_each(|place| place.answered(StatusCode::OK));
    }
    assert_eq!(refused(&admission, Class::Hashing), 0);
    assert_eq!(refused(&admission, Class::Read), 0);
}

#[tokio::test(start_paused = true)]
async fn the_newest_gets_the_next_place_and_the_oldest_is_refused() {
    let admission = Admission::within(|_| 2, 2);
    let first = enter(&admission, Class::Read).await.unwrap();
    let second = enter(&admission, Class::Read).await.unwrap();
    let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(enter(&admission, Class::Read))).collect();
    for one in &mut waiting {
        assert!(futures::poll!(one).is_pending());
    }
    let mut waiting = waiting.into_iter();
    let (oldest, middle, newest) =
        (waiting.next().unwrap(), waiting.next().unwrap(), waiting.next().unwrap());
    assert_eq!(oldest.await.unwrap_err(), Overloaded);
    drop(first);
    let newest = newest.await.unwrap();
    // Who left takes no place, not even one that was on its way.
    drop(second);
    drop(middle);
    let third = enter(&admission, Class::Read).await.unwrap();
    assert_eq!(enter(&admission, Class::Read).await.unwrap_err(), Overloaded);
    drop((newest, third));
    let state = admission.room(Class::Read).0.lock();
    assert_eq!((state.under_way, state.waiting.len()), (0, 0));
    assert_eq!((state.admitted_total, state.refused_total), (4, 2));
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_further_in_was_not_served_quickly() {
    let admission = Admission::new();
    for _ in 0..50 {
        enter(&admission, Class::Write).await.unwrap().answered(StatusCode::OK);
    }
    let limit = || admission.room(Class::Write).0.lock().limit;
    for _ in 0..10 {
        let late = enter(&admission, Class::Write).await.unwrap();
        tokio::time::advance(ms(900)).await;
        for _ in 0..50 {
            let refused = enter(&admission, Class::Write).await.unwrap();
            refused.answered(StatusCode::SERVICE_UNAVAILABLE);
        }
        late.answered(StatusCode::OK);
    }
    assert!(limit() < LIMIT_MAX);
}

#[test]
fn classes_go_by_what_is_waited_for() {
    for (method, path, class) in [
        (Method::GET, "/sessions/whoami", Class::Read),
        (Method::GET, "/self-service/login/api", Class::Read),
        (Method::POST, "/self-service/login", Class::Hashing),
        (Method::POST, "/admin/identities", Class::Hashing),
        (Method::PATCH, "/admin/identities", Class::Hashing),
        (Method::PUT, "/admin/identities/{id}", Class::Hashing),
        (Method::PATCH, "/admin/identities/{id}", Class::Write),
        (Method::DELETE, "/admin/identities/{id}", Class::Write),
    ] {
        assert_eq!(Class::of(&method, path), class, "{method} {path}");
    }
}
