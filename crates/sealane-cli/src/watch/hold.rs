//! The hold on the terminal, which is given back exactly once: at the end, at an error, or before
//! the message of a panic is printed.
//!
//! A panic needs a hook, because its message would otherwise be printed to the alternate screen and
//! vanish with it. Hooks see the panics of all threads, also those that are caught. So the hold
//! remembers that it is gone, and the picture ends: it must not go on without its screen.

use std::{
    fmt, panic,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Calls `release` when dropped or at a panic of any thread, whatever comes first.
pub(super) struct Hold {
    is_held: Arc<AtomicBool>,
    release: fn(),
}

impl Hold {
    pub(super) fn new(release: fn()) -> Self {
        let hold = Hold::unhooked(release);
        let (before, is_held) = (panic::take_hook(), Arc::clone(&hold.is_held));
        panic::set_hook(Box::new(move |panic| {
            give_back(&is_held, release);
            before(panic);
        }));
        hold
    }

    /// Does not notice panics.
    fn unhooked(release: fn()) -> Self {
        Hold { is_held: Arc::new(AtomicBool::new(true)), release }
    }

    /// Whether a panic has ended the hold.
    pub(super) fn is_lost(&self) -> bool {
        !self.is_held.load(Ordering::Acquire)
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").field("is_lost", &self.is_lost()).finish_non_exhaustive()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // The hook stays, and does nothing any more: a hook cannot be taken away while a thread
        // panics.
        give_back(&self.is_held, self.release);
    }
}

fn give_back(is_held: &AtomicBool, release: fn()) {
    if is_held.swap(false, Ordering::AcqRel) {
        release();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicU32, thread};

    use super::*;

    #[test]
    fn the_end_gives_back_once() {
        static RELEASES: AtomicU32 = AtomicU32::new(0);
        // Other tests may panic meanwhile.
        let hold = Hold::unhooked(|| {
            RELEASES.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(RELEASES.load(Ordering::Relaxed), 0);
        drop(hold);
        assert_eq!(RELEASES.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_panic_of_another_thread_gives_back_at_once_and_the_end_not_again() {
        static RELEASES: AtomicU32 = AtomicU32::new(0);
        let hold = Hold::new(|| {
            RELEASES.fetch_add(1, Ordering::Relaxed);
        });
        assert!(thread::spawn(|| panic!("planted")).join().is_err());
        assert!(hold.is_lost());
        assert_eq!(RELEASES.load(Ordering::Relaxed), 1);
        drop(hold);
        assert_eq!(RELEASES.load(Ordering::Relaxed), 1);
    }
}
