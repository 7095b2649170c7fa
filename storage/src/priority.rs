//! Threads that work in the background leave the processor to those that somebody waits for.

/// How nice such a thread is: it gets about a third of what a thread of the usual priority does while both want to run, so that
/// checkpoints come to an end on a machine that is busy for hours.
const NICE: libc::c_int = 5;

/// Lowers the priority of this thread, for good. One that is lower already stays as it is.
pub fn lower() {
    // SAFETY: no memory is involved. On Linux the process 0 is the calling thread.
    let failed = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE.max(libc::getpriority(libc::PRIO_PROCESS, 0))) != 0 };
    if failed {
        tracing::debug!("a thread keeps its priority: {}", std::io::Error::last_os_error());
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_the_calling_thread_gets_nicer() {
        // SAFETY: no memory is involved.
        let nice = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        let before = nice();
        let lowered = std::thread::spawn(move || {
            super::lower();
            nice()
        });
        assert_eq!(lowered.join().unwrap(), super::NICE.max(before));
        assert_eq!(nice(), before);
    }
}
