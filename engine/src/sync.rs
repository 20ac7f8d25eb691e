//! The primitives of the submit kernel, or their model-checked twins.
//!
//! `--cfg loom` swaps the atomics (for the slot word), `--cfg shuttle` atomics and locks (for the whole
//! kernel). Everything that decides an outcome takes its atomics and locks from here.

#[cfg(loom)]
pub(crate) use loom::sync::atomic;
#[cfg(shuttle)]
pub(crate) use shuttle::sync::atomic;
#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::sync::atomic;

#[cfg(not(shuttle))]
pub(crate) use parking_lot::{Mutex, MutexGuard};

#[cfg(shuttle)]
mod checked {
    pub(crate) use shuttle::sync::MutexGuard;

    /// Shuttle's mutex with parking_lot's signature.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("no holder of a kernel lock panics")
        }
    }
}
#[cfg(shuttle)]
pub(crate) use checked::{Mutex, MutexGuard};

/// Whether somebody had the lock at some instant: a read and no more.
pub(crate) fn is_locked<T>(mutex: &Mutex<T>) -> bool {
    #[cfg(shuttle)]
    let _ = mutex;
    #[cfg(shuttle)]
    return false;
    #[cfg(not(shuttle))]
    mutex.is_locked()
}

/// Lets another thread run: a scheduling point under shuttle, a hint otherwise.
pub(crate) fn yield_now() {
    #[cfg(shuttle)]
    shuttle::thread::yield_now();
    #[cfg(not(shuttle))]
    std::thread::yield_now();
}
