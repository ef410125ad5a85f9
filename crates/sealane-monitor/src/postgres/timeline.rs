//! The timeline of a replica, remembered.
//!
//! The receiver's process tells it. Without one, only the control file does, which a replica
//! writes when it has replayed a checkpoint: for minutes after a promotion that it follows, it
//! still says the old timeline there. So when the new primary's connection breaks, a replica
//! would seem to have gone back. In one run it never does.

/// What was told in one run of a server.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    run: String,
    newest: i32,
}

impl Timeline {
    /// The timeline of a server that tells `told` in this run.
    pub(super) fn note(&mut self, run: &str, told: i32) -> i32 {
        if self.run != run {
            *self = Timeline { run: run.to_owned(), newest: told };
        }
        self.newest = self.newest.max(told);
        self.newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_does_not_go_back_in_one_run() {
        let mut timeline = Timeline::default();
        let told = [("a", 1), ("a", 2), ("a", 1), ("b", 1), ("b", 3)];
        let noted = told.map(|(run, told)| timeline.note(run, told));
        assert_eq!(noted, [1, 2, 2, 1, 3]);
    }
}
