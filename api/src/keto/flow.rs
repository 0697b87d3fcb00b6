//! Answers that go on for long: each is made by a task of its own, no faster than it is
//! taken, and ends with its client.
//!
//! - One part is made ahead. Who makes it waits until it is taken.
//! - When the client goes, the task is dropped where it waits; when the client stops
//!   taking, it is dropped a while later, and with it what it holds of the store.
//! - What was cut short never looks complete: it ends with an error, whatever cut it.
//! - From time to time it is asked whether the key that let the client in still holds.

use std::{future::Future, sync::Arc, time::Duration};

use futures::{FutureExt as _, Stream, stream};
use http::StatusCode;
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Interval, MissedTickBehavior, interval},
};

use crate::{error::ApiError, request::StillAllowed};

/// Most such answers at a time on one node.
pub(super) const FLOWS_MAX: usize = 256;
/// How long a part waits to be taken. A listener has bounds of its own for connections,
/// which say nothing about one answer of several on it.
pub(super) const TAKEN_WITHIN: Duration = Duration::from_secs(60);
/// How often it is asked whether the key holds.
const ALLOWED_EVERY: Duration = Duration::from_secs(5);

/// The places of a node for such answers.
#[derive(Debug)]
pub(super) struct Flows(Arc<Semaphore>);

impl Default for Flows {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(FLOWS_MAX)))
    }
}

/// Why it ended, if it did not end well.
type End = Arc<Mutex<Option<ApiError>>>;

/// Where parts are put.
pub(super) struct Outlet<T> {
    out: mpsc::Sender<T>,
    allowed: Option<StillAllowed>,
    /// When it is asked again.
    beat: Interval,
    _place: OwnedSemaphorePermit,
}

impl<T: Send> Outlet<T> {
    /// Gives a part, and waits until the one before was taken.
    ///
    /// # Errors
    /// If there is nobody, or nobody who may, to give it to.
    pub(super) async fn give(&mut self, part: T) -> Result<(), ApiError> {
        if let Some(allowed) = &self.allowed
            && self.beat.tick().now_or_never().is_some()
        {
            allowed.ask().await?;
        }
        self.out.send_timeout(part, TAKEN_WITHIN).await.map_err(|_| not_taken())
    }
}

/// Nobody has taken what was made.
pub(super) fn not_taken() -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE)
        .id("answer_not_taken")
        .reason("The answer was not taken for a minute, and was given up.")
}

impl Flows {
    /// The parts that somebody makes.
    ///
    /// # Errors
    /// If the node makes as many such answers as it may.
    pub(super) fn begin<T, M, F>(
        &self,
        allowed: Option<StillAllowed>,
        make: M,
    ) -> Result<impl Stream<Item = Result<T, ApiError>> + Send + Unpin + use<T, M, F>, ApiError>
    where
        T: Send + 'static,
        M: FnOnce(Outlet<T>) -> F,
        F: Future<Output = Result<(), ApiError>> + Send + 'static,
    {
        let place = self.0.clone().try_acquire_owned().map_err(|_| {
            ApiError::too_many_requests(Duration::from_secs(5))
                .id("too_many_streams")
                .reason("This node gives as many long answers as it may.")
        })?;
        let mut beat = interval(ALLOWED_EVERY);
        // Its first tick is at once, and nobody was let in that long ago.
        beat.reset();
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(parts(|out| make(Outlet { out, allowed, beat, _place: place })))
    }

    /// How many are under way.
    pub(super) fn under_way(&self) -> usize {
        FLOWS_MAX - self.0.available_permits()
    }
}

/// What a task of its own makes, until it ends or nobody is there any more.
pub(super) fn parts<T, M, F>(
    make: M,
) -> impl Stream<Item = Result<T, ApiError>> + Send + Unpin + use<T, M, F>
where
    T: Send + 'static,
    M: FnOnce(mpsc::Sender<T>) -> F,
    F: Future<Output = Result<(), ApiError>> + Send + 'static,
{
    let (out, taken) = mpsc::channel(1);
    // Until it has ended well, it has not.
    let end: End = Arc::new(Mutex::new(Some(ApiError::internal())));
    let (ended, gone) = (end.clone(), out.clone());
    let making = make(out);
    tokio::spawn(async move {
        tokio::select! {
            biased;
            () = gone.closed() => {}
            made = making => *ended.lock() = made.err(),
        }
    });
    Box::pin(stream::unfold((taken, end), |(mut taken, end)| async move {
        let next = match taken.recv().await {
            Some(part) => Ok(part),
            None => Err(end.lock().take()?),
        };
        Some((next, (taken, end)))
    }))
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;

    async fn endless(mut outlet: Outlet<u32>, made: Arc<Mutex<u32>>) -> Result<(), ApiError> {
        for number in 0.. {
            *made.lock() = number;
            outlet.give(number).await?;
        }
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_is_made_than_is_taken_and_who_stops_taking_is_let_go_with_an_error() {
        let (flows, made) = (Flows::default(), Arc::new(Mutex::new(0)));
        let mut flow = flows.begin(None, |outlet| endless(outlet, made.clone())).unwrap();
        assert_eq!(flow.next().await.unwrap().unwrap(), 0);
        tokio::time::timeout(TAKEN_WITHIN / 2, std::future::pending::<()>()).await.unwrap_err();
        assert_eq!((*made.lock(), flows.under_way()), (2, 1), "one waits, one is in hand");
        tokio::time::timeout(TAKEN_WITHIN, std::future::pending::<()>()).await.unwrap_err();
        assert_eq!(flows.under_way(), 0, "what it held is let go");
        assert_eq!(flow.next().await.unwrap().unwrap(), 1);
        let end = flow.next().await.unwrap().unwrap_err();
        assert_eq!(end.told().id, Some("answer_not_taken"));
        assert!(flow.next().await.is_none());
    }

    #[tokio::test]
    async fn ends_with_its_client_wherever_it_waits() {
        let flows = Flows::default();
        let flow = flows.begin(None, |outlet: Outlet<u32>| async move {
            let _outlet = outlet;
            std::future::pending().await
        });
        assert_eq!(flows.under_way(), 1);
        drop(flow);
        while flows.under_way() > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_panics_or_is_refused_midway_does_not_look_complete() {
        let flows = Flows::default();
        let mut flow = flows
            .begin(None, |mut outlet| async move {
                outlet.give(1).await?;
                panic!("midway");
            })
            .unwrap();
        assert_eq!(flow.next().await.unwrap().unwrap(), 1);
        assert_eq!(flow.next().await.unwrap().unwrap_err().status(), 500);
        let mut flow = flows
            .begin(None, |mut outlet| async move {
                outlet.give(1).await?;
                Err(ApiError::bad_request("no"))
            })
            .unwrap();
        assert_eq!(flow.next().await.unwrap().unwrap(), 1);
        assert_eq!(flow.next().await.unwrap().unwrap_err().status(), 400);
        assert!(flow.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn ends_when_the_key_that_let_it_in_is_revoked() {
        let (flows, holds) = (Flows::default(), Arc::new(Mutex::new(true)));
        let asked = holds.clone();
        let allowed = StillAllowed::new(move || {
            let held = if *asked.lock() { Ok(()) } else { Err(ApiError::unauthorized("revoked")) };
            Box::pin(std::future::ready(held))
        });
        let mut flow =
            flows.begin(Some(allowed), |outlet| endless(outlet, Arc::default())).unwrap();
        let later = || tokio::time::timeout(ALLOWED_EVERY, std::future::pending::<()>());
        later().await.unwrap_err();
        assert_eq!(flow.next().await.unwrap().unwrap(), 0);
        *holds.lock() = false;
        later().await.unwrap_err();
        let mut end = None;
        while let Some(next) = flow.next().await {
            end = Some(next);
        }
        assert_eq!(end.unwrap().unwrap_err().status(), 401);
    }

    #[tokio::test]
    async fn number_is_bounded() {
        let flows = Flows::default();
        let pending = |outlet: Outlet<u32>| async move {
            let _outlet = outlet;
            std::future::pending().await
        };
        let held: Vec<_> = (0..FLOWS_MAX).map(|_| flows.begin(None, pending).unwrap()).collect();
        let refused = flows.begin(None, pending).err().unwrap();
        assert_eq!(refused.status(), 429);
        drop(held);
    }
}
