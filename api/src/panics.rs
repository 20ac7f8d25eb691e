//! Threads that must not die in silence: what to tell when one panics, at once and not when somebody joins it.

/// Calls its function when it is dropped by a panic of the thread that holds it, and not otherwise.
pub(crate) struct OnPanic<F: FnMut()>(pub(crate) F);

impl<F: FnMut()> Drop for OnPanic<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0)();
        }
    }
}
