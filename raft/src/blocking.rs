//! Work that blocks, and where it runs: on threads of its own, or, in a
//! simulated world that has one thread only, as a task that is let run when the
//! world's [`Pace`] says so. Whoever simulates says so for its thread before a
//! host is opened on it; nobody else ever does.

use std::{cell::RefCell, collections::VecDeque, sync::Arc, time::Duration};

use tokio::{runtime::Handle, sync::mpsc, task::JoinHandle, time::sleep};

/// How a simulated machine gets on with what would block.
pub trait Pace: Send + Sync + 'static {
    /// How long the next synced write of the log takes.
    fn sync_time(&self) -> Duration;

    /// How long other blocking work waits for its turn.
    fn turn_time(&self) -> Duration;
}

thread_local! {
    static PACE: RefCell<Option<Arc<dyn Pace>>> = const { RefCell::new(None) };
}

/// From now on what is started on this thread blocks nobody, but follows
/// `pace`; `None` ends that.
pub fn simulate(pace: Option<Arc<dyn Pace>>) {
    PACE.with_borrow_mut(|current| *current = pace);
}

/// The pace of the simulated machine that runs on this thread.
pub(crate) fn pace() -> Option<Arc<dyn Pace>> {
    PACE.with_borrow(Clone::clone)
}

/// Runs `call` where it may block. It runs whether or not anybody awaits it.
pub fn spawn<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    spawn_on(&Handle::current(), call)
}

/// As [`spawn`], on a given runtime.
pub fn spawn_on<T: Send + 'static>(
    runtime: &Handle,
    call: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    match pace() {
        None => runtime.spawn_blocking(call),
        Some(pace) => runtime.spawn(async move {
            turn(pace.as_ref()).await;
            call()
        }),
    }
}

/// Runs `call`, which hands out one item after the other and may block; `ahead`
/// of them wait to be received. Handing out fails once nobody receives.
pub(crate) fn produce<I, T>(
    ahead: usize,
    call: impl FnOnce(&mut dyn FnMut(I) -> Result<(), Unwanted>) -> T + Send + 'static,
) -> (mpsc::Receiver<I>, JoinHandle<T>)
where
    I: Send + 'static,
    T: Send + 'static,
{
    let (items, received) = mpsc::channel(ahead);
    let running = match pace() {
        None => tokio::task::spawn_blocking(move || {
            call(&mut |item| items.blocking_send(item).map_err(|_| Unwanted))
        }),
        Some(pace) => tokio::spawn(async move {
            turn(pace.as_ref()).await;
            let mut made = Vec::new();
            let outcome = call(&mut |item| {
                made.push(item);
                Ok(())
            });
            for item in made {
                turn(pace.as_ref()).await;
                if items.send(item).await.is_err() {
                    break;
                }
            }
            outcome
        }),
    };
    (received, running)
}

/// Nobody receives any more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unwanted;

/// Runs `call`, which takes one item after the other, until there are no more,
/// and may block; `ahead` of them wait to be taken.
pub(crate) fn consume<I, T>(
    ahead: usize,
    call: impl FnOnce(&mut dyn FnMut() -> Option<I>) -> T + Send + 'static,
) -> (mpsc::Sender<I>, JoinHandle<T>)
where
    I: Send + 'static,
    T: Send + 'static,
{
    let (sender, mut items) = mpsc::channel(ahead);
    let running = match pace() {
        None => tokio::task::spawn_blocking(move || call(&mut || items.blocking_recv())),
        Some(pace) => tokio::spawn(async move {
            let mut all = VecDeque::new();
            while let Some(item) = items.recv().await {
                all.push_back(item);
            }
            turn(pace.as_ref()).await;
            call(&mut || all.pop_front())
        }),
    };
    (sender, running)
}

async fn turn(pace: &dyn Pace) {
    match pace.turn_time() {
        Duration::ZERO => tokio::task::yield_now().await,
        time => sleep(time).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Even(u64);

    impl Pace for Even {
        fn sync_time(&self) -> Duration {
            Duration::from_millis(self.0)
        }

        fn turn_time(&self) -> Duration {
            Duration::from_millis(self.0)
        }
    }

    struct Simulated;

    impl Simulated {
        fn at(pace: Even) -> Self {
            simulate(Some(Arc::new(pace)));
            Self
        }
    }

    impl Drop for Simulated {
        fn drop(&mut self) {
            simulate(None);
        }
    }

    async fn everything_is_handed_over_in_order() {
        let (mut received, producing) =
            produce(2, |send| (0..10).map(send).filter(Result::is_ok).count());
        let (items, consuming) = consume(2, |next| std::iter::from_fn(next).collect::<Vec<u32>>());
        while let Some(item) = received.recv().await {
            items.send(item).await.unwrap();
        }
        drop(items);
        assert_eq!(producing.await.unwrap(), 10);
        assert_eq!(consuming.await.unwrap(), (0..10).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn threads_hand_everything_over() {
        everything_is_handed_over_in_order().await;
        let own = std::thread::current().id();
        assert_ne!(spawn(|| std::thread::current().id()).await.unwrap(), own);
    }

    #[tokio::test]
    async fn a_simulated_machine_hands_everything_over_on_one_thread() {
        let _simulated = Simulated::at(Even(1));
        everything_is_handed_over_in_order().await;
        let own = std::thread::current().id();
        assert_eq!(spawn(|| std::thread::current().id()).await.unwrap(), own);
        let detached = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let for_task = detached.clone();
        drop(spawn(move || for_task.store(true, std::sync::atomic::Ordering::SeqCst)));
        while !detached.load(std::sync::atomic::Ordering::SeqCst) {
            sleep(Duration::from_millis(1)).await;
        }
    }
}
