//! The tasks of one node: started together, stopped together and, in simulation, frozen together.
//!
//! Production code and simulation spawn through the same handle. In production a dedicated task gets an OS thread with a
//! current-thread runtime of its own; in simulation everything runs on the one runtime with simulated time. This module
//! NEVER decides anything about a node: it only holds its futures.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::watch;

/// A handle to the tasks of one node. Clones share the same set.
#[derive(Clone, Debug)]
pub struct Tasks {
    stop: Arc<watch::Sender<bool>>,
    gate: Arc<Gate>,
    simulated: bool,
}

#[derive(Debug, Default)]
struct Gate {
    frozen: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl Tasks {
    /// For real processes: `spawn` uses the current runtime, `spawn_thread` an OS thread.
    pub fn real() -> Tasks {
        Tasks::new(false)
    }

    /// For simulation: everything runs on the current runtime, and `freeze` works.
    pub fn simulated() -> Tasks {
        Tasks::new(true)
    }

    fn new(simulated: bool) -> Tasks {
        Tasks { stop: Arc::new(watch::Sender::new(false)), gate: Arc::default(), simulated }
    }

    /// Runs `task` on the current runtime until it ends or the node stops.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(self.scoped(task));
    }

    /// Runs the task that `make` returns on a thread of its own, named `name`, with a current-thread runtime.
    ///
    /// For the loops that must not share a thread: the world, and all ZeroMQ sockets.
    pub fn spawn_thread<F>(&self, name: &str, make: impl FnOnce() -> F + Send + 'static) -> std::io::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if self.simulated {
            self.spawn(make());
            return Ok(());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let tasks = self.clone();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || runtime.block_on(async move { tasks.scoped(make()).await }))?;
        Ok(())
    }

    /// Stops every task at its next await. Nothing of theirs runs afterwards: in simulation this is SIGKILL.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// True once [`Tasks::stop`] was called.
    pub fn stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits until the node is stopped.
    pub async fn until_stopped(&self) {
        let mut stop = self.stop.subscribe();
        // An error means that the sender is gone, which is as good as stopped.
        let _ = stop.wait_for(|stopped| *stopped).await;
    }

    /// Simulation only: while frozen no task of the node is polled, as under SIGSTOP.
    pub fn freeze(&self, frozen: bool) {
        self.gate.frozen.store(frozen, Ordering::SeqCst);
        if !frozen {
            let mut waiting = self.gate.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.drain(..).for_each(Waker::wake);
        }
    }

    fn scoped<F>(&self, task: F) -> Scoped
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let tasks = self.clone();
        let scoped = async move {
            tokio::select! { biased; () = tasks.until_stopped() => {} () = task => {} }
        };
        Scoped { gate: self.gate.clone(), task: Box::pin(scoped) }
    }
}

struct Scoped {
    gate: Arc<Gate>,
    task: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Future for Scoped {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.gate.frozen.load(Ordering::SeqCst) {
            self.gate.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(cx.waker().clone());
            return Poll::Pending;
        }
        self.task.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[tokio::test]
    async fn stopping_drops_every_task() {
        let tasks = Tasks::real();
        let (held, mut dropped) = tokio::sync::oneshot::channel::<()>();
        tasks.spawn(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        tokio::task::yield_now().await;
        assert!(dropped.try_recv().is_err());
        tasks.stop();
        assert!(dropped.await.is_err(), "the task's values are dropped");
    }

    #[tokio::test]
    async fn a_frozen_node_is_not_polled_until_it_thaws() {
        let tasks = Tasks::simulated();
        let count = Arc::new(AtomicU32::new(0));
        let counted = count.clone();
        tasks.spawn(async move {
            loop {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        });
        tokio::task::yield_now().await;
        tasks.freeze(true);
        tokio::task::yield_now().await;
        let before = count.load(Ordering::SeqCst);
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(count.load(Ordering::SeqCst), before);
        tasks.freeze(false);
        while count.load(Ordering::SeqCst) == before {
            tokio::task::yield_now().await;
        }
        tasks.stop();
    }
}
