//! Whose turn it is: the threads of queries, and how queries share them. Each task of a query has a thread for one poll of its future, a *turn*, after which others
//! have theirs. A query begins on the threads of short ones. Once its tasks together have had them for long enough to be called long, all of them go on on other threads,
//! which are as few as the share of the processor that queries may have, and of lower priority. So a short query waits for first turns of others at most, however
//! many long ones there are, and long ones wait for each other.
//!
//! What DataFusion starts within a turn (`Spawned`), and what a turn waits for in its middle (`waiting_for`), belongs to the query whose turn it is. What can go on for long within one looks at `is_over`. It knows nothing of plans.

use super::engine::STACK_BYTES;
use super::rows::AbortOnDrop;
use datafusion::common::runtime::{JoinSetTracer, set_join_set_tracer};
use eddyline_common::{Result, SqlError};
use eddyline_storage::priority;
use futures::future::BoxFuture;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::{JoinHandle, block_in_place};

/// Threads on which queries begin. More than there are cores, as a turn may be long all the same (a large sort, a plan of thousands of nodes): the
/// system shares cores between threads.
const SHORT_THREADS: usize = 4;

/// What a query may take and still be short: many times what a look-up, a write or an aggregate over some thousand rows takes.
const SHORT: Duration = Duration::from_millis(100);

/// Threads of one kind at most, with those that wait in the middle of turns: one for each level of a statement's correlated subqueries and each of its parts. The work that they
/// wait for would find no thread beyond that, so it is far more than there are sessions.
const THREADS_MAX: usize = 10_000;

/// How long a turn should be: short for who waits for the next one, and many times what going from one to the next costs.
pub const TURN: Duration = Duration::from_millis(5);

thread_local! {
    static CURRENT: RefCell<Option<Turn>> = const { RefCell::new(None) };
    static IS_FOR_LONG: Cell<bool> = const { Cell::new(false) };
}

/// The turn that this thread's work is done in, which counts for its query when it ends.
struct Turn {
    began: Instant,
    query: Arc<Query>,
}

impl Turn {
    fn begin(query: Arc<Query>) {
        CURRENT.set(Some(Turn { began: Instant::now(), query }));
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.query.micros.fetch_add(self.began.elapsed().as_micros() as u64, Ordering::Relaxed);
    }
}

/// What the tasks of a query have in common.
struct Query {
    /// How long its turns were, all together.
    micros: AtomicU64,
    /// Where it goes on when it is long.
    long: Handle,
}

impl Query {
    fn is_long(&self) -> bool {
        u128::from(self.micros.load(Ordering::Relaxed)) >= SHORT.as_micros()
    }

    fn turn<T>(self: &Arc<Self>, poll: impl FnOnce() -> T) -> T {
        Turn::begin(self.clone());
        let _ends = Ends;
        poll()
    }
}

/// Ends this thread's turn, also by a panic.
struct Ends;

impl Drop for Ends {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}

/// Whether what can wait should let others have this thread now. Never where work is done in no turn.
pub fn is_over() -> bool {
    CURRENT.with_borrow(|turn| turn.as_ref().is_some_and(|turn| turn.began.elapsed() >= TURN))
}

/// Whether the turn began after that moment.
pub fn began_after(moment: Instant) -> bool {
    CURRENT.with_borrow(|turn| turn.as_ref().is_some_and(|turn| turn.began > moment))
}

/// What `work` makes, for which this thread waits in the middle of a turn: it is another task of the same query. Others have a thread in the place of this one meanwhile, and
/// what comes after is another turn.
pub fn waiting_for<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T> {
    let query = CURRENT.with_borrow(|turn| turn.as_ref().map(|turn| turn.query.clone()));
    let query = query.ok_or_else(|| SqlError::internal("work of a query outside of its turns"))?;
    CURRENT.set(None);
    let task = Task { query: query.clone(), work: Work::Here(Box::pin(work)) };
    let made = block_in_place(|| {
        let threads = Handle::current();
        threads.block_on(threads.spawn(task))
    });
    Turn::begin(query);
    made.or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_aborted) => Err(SqlError::internal("the server ends")),
    })
}

/// The threads of queries.
pub struct Threads {
    short: Handle,
    long: Handle,
    runtimes: Vec<Runtime>,
}

impl Threads {
    /// So many are for long queries.
    pub fn new(long: usize) -> Result<Self> {
        // There is one for the process, which serves all engines.
        let _is_set = set_join_set_tracer(&Spawned);
        let for_long = || {
            priority::lower();
            IS_FOR_LONG.set(true);
        };
        let runtimes = vec![runtime("query", SHORT_THREADS, || {})?, runtime("long query", long, for_long)?];
        Ok(Threads { short: runtimes[0].handle().clone(), long: runtimes[1].handle().clone(), runtimes })
    }

    /// Starts a query.
    pub fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        let query = Arc::new(Query { micros: AtomicU64::new(0), long: self.long.clone() });
        self.short.spawn(Task { query, work: Work::Here(Box::pin(work)) })
    }

    /// Starts what does little at a time, however long it goes on.
    pub fn spawn_light(&self, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.short.spawn(work)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.runtimes.drain(..).for_each(Runtime::shutdown_background);
    }
}

fn runtime(name: &str, threads: usize, begins: impl Fn() + Send + Sync + 'static) -> Result<Runtime> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(THREADS_MAX)
        .thread_name(name)
        .thread_stack_size(STACK_BYTES)
        .on_thread_start(begins)
        // What comes from sessions is looked for after each turn: otherwise a thread has many of its own tasks first.
        .global_queue_interval(1)
        .enable_time()
        .build()?;
    Ok(runtime)
}

/// One task of a query.
struct Task<T> {
    query: Arc<Query>,
    work: Work<T>,
}

enum Work<T> {
    Here(BoxFuture<'static, T>),
    /// It goes on on the threads of long queries, until nobody wants it.
    There {
        task: JoinHandle<T>,
        _abort: AbortOnDrop,
    },
}

impl<T: Send + 'static> Future for Task<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let this = self.get_mut();
        if let Work::Here(work) = &mut this.work
            && this.query.is_long()
            && !IS_FOR_LONG.get()
        {
            let work = std::mem::replace(work, Box::pin(pending::<T>()));
            let task = this.query.long.spawn(Task { query: this.query.clone(), work: Work::Here(work) });
            this.work = Work::There { _abort: AbortOnDrop::new(task.abort_handle()), task };
        }
        match &mut this.work {
            Work::Here(work) => this.query.turn(|| work.as_mut().poll(context)),
            Work::There { task, .. } => match ready!(Pin::new(task).poll(context)) {
                Ok(output) => Poll::Ready(output),
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // The server ends.
                    Err(_aborted) => {
                        this.work = Work::Here(Box::pin(pending::<T>()));
                        Poll::Pending
                    }
                },
            },
        }
    }
}

/// Makes what DataFusion spawns tasks of the query whose turn it is.
struct Spawned;

impl JoinSetTracer for Spawned {
    fn trace_future(&self, work: BoxFuture<'static, Box<dyn Any + Send>>) -> BoxFuture<'static, Box<dyn Any + Send>> {
        match CURRENT.with_borrow(|turn| turn.as_ref().map(|turn| turn.query.clone())) {
            Some(query) => Box::pin(Task { query, work: Work::Here(work) }),
            None => work,
        }
    }

    fn trace_block(&self, work: Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>) -> Box<dyn FnOnce() -> Box<dyn Any + Send> + Send> {
        work
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::common::runtime::SpawnedTask;
    use tokio::sync::oneshot;
    use tokio::task::yield_now;

    /// One turn that is as long as it should be.
    fn work() {
        while !is_over() {
            std::hint::spin_loop();
        }
    }

    /// Turns until they are had on the threads of long queries.
    async fn until_long() {
        while !IS_FOR_LONG.get() {
            work();
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_query_that_goes_on_makes_way_with_all_that_it_started() {
        let threads = Threads::new(1).unwrap();
        let (said, hears) = oneshot::channel();
        let query = threads.spawn(async move {
            let began_here = !IS_FOR_LONG.get();
            let part = SpawnedTask::spawn(async move {
                hears.await.unwrap();
                yield_now().await;
                IS_FOR_LONG.get()
            });
            until_long().await;
            said.send(()).unwrap();
            (began_here, part.join().await.unwrap())
        });
        assert_eq!(query.await.unwrap(), (true, true));
        assert!(!threads.spawn(async { IS_FOR_LONG.get() }).await.unwrap(), "the next one begins among the short ones");
    }

    #[tokio::test]
    async fn what_nobody_wants_ends_wherever_it_is() {
        let threads = Threads::new(1).unwrap();
        let (is_long, waits) = oneshot::channel();
        let (lives, ended) = oneshot::channel::<()>();
        let query = threads.spawn(async move {
            let _lives = lives;
            until_long().await;
            is_long.send(()).unwrap();
            pending::<()>().await;
        });
        waits.await.unwrap();
        query.abort();
        assert!(ended.await.is_err(), "it is dropped");
    }

    #[tokio::test]
    async fn turns_that_wait_hold_up_no_short_query() {
        let threads = Threads::new(1).unwrap();
        for _ in 0..=SHORT_THREADS {
            threads.spawn(async { waiting_for(pending::<()>()).is_ok() });
        }
        assert_eq!(threads.spawn(async { 1 }).await.unwrap(), 1);
    }

    /// There is one thread for all of them, and it is lent to what they wait for.
    #[tokio::test]
    async fn what_long_queries_wait_for_is_long() {
        let threads = Threads::new(1).unwrap();
        let query = || async {
            until_long().await;
            waiting_for(async { waiting_for(async { IS_FOR_LONG.get() }) }).and_then(|within| within)
        };
        let queries: Vec<_> = (0..3).map(|_| threads.spawn(query())).collect();
        for query in queries {
            assert!(query.await.unwrap().unwrap());
        }
    }

    #[tokio::test]
    async fn a_panic_comes_through() {
        let threads = Threads::new(1).unwrap();
        let query = threads.spawn(async {
            until_long().await;
            assert!(!IS_FOR_LONG.get(), "a defect");
        });
        assert!(query.await.unwrap_err().is_panic());
    }
}
