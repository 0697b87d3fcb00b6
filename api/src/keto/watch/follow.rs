//! A watch as clients see it: changes, and progress from time to time.
//!
//! Progress is a promise: everything that had been acknowledged when the node last
//! asked a quorum was given. Where the quorum does not answer, or what it answered does
//! not arrive, the watch ends instead of falling silent. With each progress it is asked
//! whether the key that let the client in still holds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cardea_permission::{
    ReadRejection,
    watch::{TupleChange, Watching},
};
use cardea_storage::{Snaptoken, StoreError};
use http::StatusCode;
use tokio::{
    sync::watch,
    time::{Interval, MissedTickBehavior, interval, timeout},
};

use super::Place;
use crate::{error::ApiError, request::StillAllowed};

/// How long what a quorum has may take to arrive here.
const LAG_MAX: Duration = Duration::from_secs(30);

/// What happened, and up to where everything was given.
#[derive(Debug)]
pub(crate) struct Event {
    /// What one transaction changed; nothing is progress.
    pub(crate) changes: Vec<TupleChange>,
    pub(crate) snaptoken: Snaptoken,
}

/// See the [module](self).
pub(crate) struct Follow {
    watching: Watching,
    beat: Interval,
    stop: watch::Receiver<bool>,
    allowed: Option<StillAllowed>,
    /// Up to where progress is to be told.
    until: Option<Snaptoken>,
    first: bool,
    too_old: Arc<AtomicU64>,
    _place: Place,
}

enum Step {
    Changes(Vec<TupleChange>),
    Arrived,
    Beat,
    Stop,
}

impl Follow {
    pub(super) fn new(
        watching: Watching,
        heartbeat: Duration,
        stop: watch::Receiver<bool>,
        allowed: Option<StillAllowed>,
        too_old: Arc<AtomicU64>,
        place: Place,
    ) -> Self {
        let mut beat = interval(heartbeat);
        // Its first tick is at once, and the first event is no beat.
        beat.reset();
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { watching, beat, stop, allowed, until: None, first: true, too_old, _place: place }
    }

    /// What happens next. At first the token that the watch begins behind.
    ///
    /// # Errors
    /// Why it is the end: 410 if what follows is no longer held, anything else if the
    /// watch may be taken up again.
    pub(crate) async fn next(&mut self) -> Result<Event, ApiError> {
        if std::mem::take(&mut self.first) {
            return Ok(self.event(Vec::new()));
        }
        loop {
            match self.step().await? {
                Step::Changes(changes) => return Ok(self.event(changes)),
                Step::Arrived => {
                    self.until = None;
                    return Ok(self.event(Vec::new()));
                }
                Step::Beat => {
                    if let Some(allowed) = &self.allowed {
                        allowed.ask().await?;
                    }
                    self.until = Some({
                        let frontier = self.watching.frontier().await;
                        frontier.map_err(|error| ended(error, &self.too_old))?
                    });
                }
                Step::Stop => {
                    return Err(again("This node is stopping; go on at another one."));
                }
            }
        }
    }

    fn event(&self, changes: Vec<TupleChange>) -> Event {
        Event { changes, snaptoken: self.watching.token().clone() }
    }

    async fn step(&mut self) -> Result<Step, ApiError> {
        if *self.stop.borrow_and_update() {
            return Ok(Step::Stop);
        }
        let Some(until) = &self.until else {
            return tokio::select! {
                biased;
                _ = self.stop.changed() => Ok(Step::Stop),
                _ = self.beat.tick() => Ok(Step::Beat),
                changes = self.watching.next() => {
                    changes.map(Step::Changes).map_err(|error| ended(error, &self.too_old))
                }
            };
        };
        let arriving = timeout(LAG_MAX, self.watching.next_until(until));
        let arrived = tokio::select! {
            biased;
            _ = self.stop.changed() => return Ok(Step::Stop),
            arrived = arriving => arrived,
        };
        match arrived {
            Ok(Ok(changes)) if changes.is_empty() => Ok(Step::Arrived),
            Ok(Ok(changes)) => Ok(Step::Changes(changes)),
            Ok(Err(error)) => Err(ended(error, &self.too_old)),
            Err(_) => Err(again("This node is behind the others; go on at another one.")),
        }
    }
}

fn again(why: &'static str) -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE)
        .id("watch_interrupted")
        .reason(why)
        .retry_after(Duration::from_secs(1))
}

/// Why a watch does not begin.
pub(super) fn refused(rejection: ReadRejection, too_old: &AtomicU64) -> ApiError {
    match rejection {
        ReadRejection::Store(error) => ended(error, too_old),
        rejection => rejection.into(),
    }
}

fn ended(error: StoreError, too_old: &AtomicU64) -> ApiError {
    match error {
        StoreError::TooOld => {
            too_old.fetch_add(1, Ordering::Relaxed);
            ApiError::new(StatusCode::GONE)
                .id("watch_too_old")
                .message("What follows the snaptoken is no longer held")
                .reason(
                    "List the relation tuples again, and watch from the snaptoken of the first \
                     page.",
                )
        }
        error => error.into(),
    }
}
