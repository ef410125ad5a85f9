//! Remembers the timeline of a replica.
//!
//! The WAL receiver knows the current timeline. Without a receiver, only the control file names
//! one, and a replica writes this file when it has replayed a checkpoint. So for minutes after a
//! promotion the file still holds the old timeline. If the connection to the new primary broke in
//! this time, the replica would seem to have gone back. But within one run a replica never goes
//! back.

/// The newest timeline seen in one run of a server.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    run: String,
    newest: i32,
}

impl Timeline {
    /// The timeline of a server that reports `told` in this run.
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
