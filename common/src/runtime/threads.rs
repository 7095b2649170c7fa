//! The seam to threads. What a thread of the core does for as long as it lives is a [`Process`]: pieces of work, between which it may
//! be left alone. [`SystemThreads`] gives each a thread of its own; [`OneThread`] runs all of them on the caller's, in an order that a
//! seed decides, so that a test goes through interleavings, and through each of them again.

use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a turn of a process came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Worked,
    /// There was nothing to do.
    Idle,
    /// There never will be anything again.
    Ended,
}

/// The work of one thread, in turns.
pub trait Process: Send {
    /// One bounded piece of work. Where there is none it waits for some, if it may, and as long as it likes.
    fn turn(&mut self, may_wait: bool) -> Turn;

    /// Called first, where the process has a thread of its own, on that thread.
    fn begin(&mut self) {}
}

/// A process under way. Dropped, it goes on.
pub trait Thread: Send + Sync {
    /// Waits for its end. An error: it panicked.
    fn join(self: Box<Self>) -> std::thread::Result<()>;

    /// Whether the caller is this process, which cannot wait for itself.
    fn is_current(&self) -> bool;
}

/// Where processes run.
pub trait Threads: Send + Sync + Debug {
    fn spawn(&self, name: &str, process: Box<dyn Process>) -> io::Result<Box<dyn Thread>>;

    /// For a process that has to wait for another one in the middle of its turn. `false`: it waits as threads do. `true`: others
    /// had a turn on this thread, and it looks again.
    fn run_others(&self) -> bool;
}

/// Every process on a thread of the system.
#[derive(Debug, Default)]
pub struct SystemThreads;

/// Parsing, planning and expressions recurse, as deep as a chain of operators is long. Only what is used of it takes memory.
const STACK_BYTES: usize = 64 << 20;

impl Threads for SystemThreads {
    fn spawn(&self, name: &str, mut process: Box<dyn Process>) -> io::Result<Box<dyn Thread>> {
        let run = move || {
            process.begin();
            while process.turn(true) != Turn::Ended {}
        };
        let thread = std::thread::Builder::new().name(name.to_string()).stack_size(STACK_BYTES).spawn(run)?;
        Ok(Box::new(SystemThread(thread)))
    }

    fn run_others(&self) -> bool {
        false
    }
}

struct SystemThread(std::thread::JoinHandle<()>);

impl Thread for SystemThread {
    fn join(self: Box<Self>) -> std::thread::Result<()> {
        self.0.join()
    }

    fn is_current(&self) -> bool {
        self.0.thread().id() == std::thread::current().id()
    }
}

/// All processes on one thread: nothing runs but in [`OneThread::step`]. Two runs with the same seed, and the same calls, take the same
/// turns.
#[derive(Clone)]
pub struct OneThread(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    killed: AtomicBool,
}

struct State {
    random: StdRng,
    next: u64,
    processes: BTreeMap<u64, Slot>,
}

enum Slot {
    Waiting(Box<dyn Process>),
    /// It is on the stack.
    Running,
}

impl Debug for OneThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OneThread")
    }
}

impl OneThread {
    pub fn new(seed: u64) -> Self {
        let state = State { random: StdRng::seed_from_u64(seed), next: 0, processes: BTreeMap::new() };
        OneThread(Arc::new(Shared { state: Mutex::new(state), killed: AtomicBool::new(false) }))
    }

    /// Gives turns to processes, chosen at random, until one has worked. `false`: none has anything to do.
    pub fn step(&self) -> bool {
        let mut asked = Vec::new();
        while let Some((id, mut process)) = self.choose(&asked) {
            let turn = process.turn(false);
            let mut state = self.0.state.lock();
            match turn {
                Turn::Ended => drop(state.processes.remove(&id)),
                _ => drop(state.processes.insert(id, Slot::Waiting(process))),
            }
            drop(state);
            match turn {
                Turn::Idle => asked.push(id),
                _ => return true,
            }
        }
        false
    }

    /// Lets all processes go where they are, as a kill does: none has another turn, and nobody waits for one.
    pub fn kill(&self) {
        self.0.killed.store(true, Ordering::SeqCst);
        let processes = std::mem::take(&mut self.0.state.lock().processes);
        // Not under the lock: what they hold may spawn or join.
        drop(processes);
    }

    fn choose(&self, asked: &[u64]) -> Option<(u64, Box<dyn Process>)> {
        let mut state = self.0.state.lock();
        let State { random, processes, .. } = &mut *state;
        let waiting = processes.iter_mut().filter(|(id, slot)| matches!(slot, Slot::Waiting(_)) && !asked.contains(id));
        let (id, slot) = waiting.choose(random)?;
        match std::mem::replace(slot, Slot::Running) {
            Slot::Waiting(process) => Some((*id, process)),
            Slot::Running => None,
        }
    }
}

impl Threads for OneThread {
    fn spawn(&self, _name: &str, process: Box<dyn Process>) -> io::Result<Box<dyn Thread>> {
        let mut state = self.0.state.lock();
        let id = state.next;
        state.next += 1;
        state.processes.insert(id, Slot::Waiting(process));
        Ok(Box::new(Place { threads: self.clone(), id }))
    }

    fn run_others(&self) -> bool {
        assert!(self.step(), "a process waits for another one, and none has anything to do");
        true
    }
}

/// A process among those of one thread.
struct Place {
    threads: OneThread,
    id: u64,
}

impl Thread for Place {
    fn join(self: Box<Self>) -> std::thread::Result<()> {
        while !self.threads.0.killed.load(Ordering::SeqCst) && self.threads.0.state.lock().processes.contains_key(&self.id) {
            self.threads.run_others();
        }
        Ok(())
    }

    fn is_current(&self) -> bool {
        matches!(self.threads.0.state.lock().processes.get(&self.id), Some(Slot::Running))
    }
}

/// A process that does one thing with each of the tasks it is sent, and ends with their senders.
pub fn for_each<T: Send + 'static>(tasks: crossbeam_channel::Receiver<T>, work: impl FnMut(T) + Send + 'static) -> Box<dyn Process> {
    Box::new(ForEach { tasks, work })
}

struct ForEach<T, W> {
    tasks: crossbeam_channel::Receiver<T>,
    work: W,
}

impl<T: Send, W: FnMut(T) + Send> Process for ForEach<T, W> {
    fn turn(&mut self, may_wait: bool) -> Turn {
        match next_of(&self.tasks, may_wait) {
            Ok(Some(task)) => {
                (self.work)(task);
                Turn::Worked
            }
            Ok(None) => Turn::Idle,
            Err(_) => Turn::Ended,
        }
    }
}

/// The next message of a channel; `None` if there is none and the process may not wait. An error: there never will be one again.
pub fn next_of<T>(channel: &crossbeam_channel::Receiver<T>, may_wait: bool) -> Result<Option<T>, crossbeam_channel::RecvError> {
    use crossbeam_channel::{RecvError, TryRecvError};
    if may_wait {
        return channel.recv().map(Some);
    }
    match channel.try_recv() {
        Ok(message) => Ok(Some(message)),
        Err(TryRecvError::Empty) => Ok(None),
        Err(TryRecvError::Disconnected) => Err(RecvError),
    }
}

/// Waits in the middle of a turn for what another process sends.
pub fn wait_for<T>(threads: &dyn Threads, channel: &crossbeam_channel::Receiver<T>) -> Result<T, crossbeam_channel::RecvError> {
    loop {
        match next_of(channel, false)? {
            Some(message) => return Ok(message),
            None if threads.run_others() => {}
            None => return channel.recv(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::unbounded;

    /// Processes in a row, each of which notes what it gets and passes it on.
    fn relay(threads: &Arc<OneThread>, count: usize) -> (crossbeam_channel::Sender<u32>, crossbeam_channel::Receiver<(usize, u32)>) {
        let (first, mut input) = unbounded();
        let (seen, all) = unbounded();
        for index in 0..count {
            let (output, next) = unbounded();
            let seen = seen.clone();
            let work = move |n: u32| {
                seen.send((index, n)).unwrap();
                let _last = output.send(n);
            };
            threads.spawn("relay", for_each(input, work)).unwrap();
            input = next;
        }
        (first, all)
    }

    #[test]
    fn a_seed_decides_the_order() {
        let order = |seed| {
            let threads = Arc::new(OneThread::new(seed));
            let (first, all) = relay(&threads, 4);
            (0..8).for_each(|n| first.send(n).unwrap());
            while threads.step() {}
            all.try_iter().collect::<Vec<_>>()
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
        assert_eq!(order(3).len(), 32);
    }

    #[test]
    fn a_join_runs_what_it_waits_for_and_a_kill_ends_waiting() {
        let threads = Arc::new(OneThread::new(7));
        let (tasks, queue) = unbounded::<u32>();
        let (sum, sums) = unbounded();
        let mut total = 0;
        let work = move |n| {
            total += n;
            sum.send(total).unwrap();
        };
        let thread = threads.spawn("sum", for_each(queue, work)).unwrap();
        (1..=3).for_each(|n| tasks.send(n).unwrap());
        drop(tasks);
        assert!(!thread.is_current());
        thread.join().unwrap();
        assert_eq!(sums.try_iter().collect::<Vec<_>>(), [1, 3, 6]);

        let (held, queue) = unbounded::<u32>();
        let thread = threads.spawn("never", for_each(queue, |_| ())).unwrap();
        threads.kill();
        thread.join().unwrap();
        assert!(held.send(1).is_err());
    }

    #[test]
    fn a_thread_of_the_system_ends_with_its_work() {
        let (tasks, queue) = unbounded::<u32>();
        let (done, all) = unbounded();
        let thread = SystemThreads.spawn("work", for_each(queue, move |n| done.send(n).unwrap())).unwrap();
        (0..3).for_each(|n| tasks.send(n).unwrap());
        drop(tasks);
        assert!(!thread.is_current());
        thread.join().unwrap();
        assert_eq!(all.try_iter().collect::<Vec<_>>(), [0, 1, 2]);
    }
}
