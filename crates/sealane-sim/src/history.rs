//! What was written, and in which order: the truth that answers are held against.
//!
//! A *branch* is what one primary wrote, beginning where it took over from another branch. A place
//! on a branch is counted from the very beginning, so that the same place on two branches is the
//! same record up to where they part.

/// The number of a branch.
pub(crate) type BranchId = usize;
/// The number of a record that was committed.
pub(crate) type CommitId = usize;
/// The number of a write, which its client gave it.
pub(crate) type WriteId = u64;

#[derive(Debug)]
pub(crate) struct Branch {
    /// The branch that it grew from, and how much of that it has.
    parent: Option<(BranchId, usize)>,
    pub(crate) timeline: u32,
    /// The server that writes it.
    pub(crate) author: usize,
    /// The identity of that server while it wrote the branch.
    source: u64,
    /// What its primary has written. A place without a commit is a note of the server's own.
    records: Vec<Option<CommitId>>,
}

/// Something that was committed.
#[derive(Debug)]
pub(crate) struct Commit {
    /// `None` if a crash has taken it away.
    place: Option<(BranchId, usize)>,
    #[allow(dead_code, reason = "for people who read a story")]
    pub(crate) writes: Vec<WriteId>,
    /// When the primary showed it.
    pub(crate) visible_at_ms: Option<u64>,
}

/// What somebody was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) server: usize,
    pub(crate) branch: BranchId,
    pub(crate) len: usize,
    /// Places that were written, and not shown yet.
    pub(crate) hidden: Vec<usize>,
    pub(crate) by_primary: bool,
}

/// All branches and all commits.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) branches: Vec<Branch>,
    pub(crate) commits: Vec<Commit>,
    /// The branch of the last primary that was made.
    pub(crate) current: BranchId,
}

impl History {
    pub(crate) fn new(author: usize) -> Self {
        let first = Branch { parent: None, timeline: 1, author, source: 0, records: vec![None] };
        History { branches: vec![first], commits: Vec::new(), current: 0 }
    }

    pub(crate) fn len(&self, branch: BranchId) -> usize {
        self.fork(branch) + self.branches[branch].records.len()
    }

    /// How much of its parent a branch began with.
    pub(crate) fn fork(&self, branch: BranchId) -> usize {
        self.branches[branch].parent.map_or(0, |(_, fork)| fork)
    }

    /// A new branch, of a server that has so much of another one.
    pub(crate) fn part(
        &mut self,
        from: BranchId,
        len: usize,
        author: usize,
        source: u64,
    ) -> BranchId {
        let timeline = self.branches.iter().map(|it| it.timeline).max().unwrap_or(0) + 1;
        let parent = Some((from, len));
        self.branches.push(Branch { parent, timeline, author, source, records: vec![None] });
        self.current = self.branches.len() - 1;
        self.current
    }

    pub(crate) fn append(&mut self, branch: BranchId, writes: Vec<WriteId>) -> (CommitId, usize) {
        let (commit, place) = (self.commits.len(), self.len(branch));
        self.commits.push(Commit { place: Some((branch, place)), writes, visible_at_ms: None });
        self.branches[branch].records.push(Some(commit));
        (commit, place)
    }

    /// A crash takes away what was not on disk. Nobody else has it.
    pub(crate) fn cut(&mut self, branch: BranchId, len: usize) {
        let base = self.fork(branch);
        let kept = len.saturating_sub(base).max(1);
        for lost in self.branches[branch].records.split_off(kept).into_iter().flatten() {
            self.commits[lost].place = None;
        }
    }

    /// The branch and all that it grew from, each with how much of it belongs to the first one.
    fn line(&self, branch: BranchId) -> impl Iterator<Item = (BranchId, usize)> + '_ {
        std::iter::successors(Some((branch, usize::MAX)), |(branch, limit)| {
            self.branches[*branch].parent.map(|(parent, fork)| (parent, fork.min(*limit)))
        })
    }

    /// How many places are the same on both.
    pub(crate) fn shared(&self, one: BranchId, other: BranchId) -> usize {
        self.line(one)
            .filter_map(|(branch, limit)| {
                let (_, its) = self.line(other).find(|(it, _)| *it == branch)?;
                Some(limit.min(its))
            })
            .max()
            .unwrap_or(0)
    }

    /// Who has written so much of a branch: each identity, with its first place and the one behind
    /// its last.
    pub(crate) fn sources(
        &self,
        branch: BranchId,
        len: usize,
    ) -> impl Iterator<Item = (u64, usize, usize)> + '_ {
        self.line(branch).map(move |(of, limit)| {
            let base = self.fork(of);
            (self.branches[of].source, base, limit.min(len).max(base))
        })
    }

    fn record(&self, branch: BranchId, place: usize) -> Option<CommitId> {
        let (branch, _) = self.line(branch).find(|(branch, _)| place >= self.fork(*branch))?;
        self.branches[branch].records.get(place - self.fork(branch)).copied().flatten()
    }

    /// Whether a server with so much of a branch has the commit.
    pub(crate) fn has(&self, branch: BranchId, len: usize, commit: CommitId) -> bool {
        let Some((of, place)) = self.commits[commit].place else { return false };
        place < len && self.line(branch).any(|(branch, limit)| branch == of && place < limit)
    }

    /// Where the commit was written.
    pub(crate) fn branch_of(&self, commit: CommitId) -> Option<BranchId> {
        self.commits[commit].place.map(|(branch, _)| branch)
    }

    /// Whether a crash or a promotion has taken the commit away.
    pub(crate) fn is_lost(&self, commit: CommitId) -> bool {
        !self.has(self.current, usize::MAX, commit)
    }

    pub(crate) fn shows(&self, snapshot: &Snapshot, commit: CommitId) -> bool {
        let is_hidden = || {
            let place = self.commits[commit].place.map(|(_, place)| place);
            place.is_some_and(|place| snapshot.hidden.contains(&place))
        };
        self.has(snapshot.branch, snapshot.len, commit) && !is_hidden()
    }

    /// A commit that `older` showed and `newer` does not, though nobody has lost it.
    pub(crate) fn missing(&self, newer: &Snapshot, older: &Snapshot) -> Option<CommitId> {
        let shared = self.shared(newer.branch, older.branch).min(newer.len);
        let unseen = (shared..older.len).chain(newer.hidden.iter().copied());
        unseen
            .filter(|place| *place < older.len && !older.hidden.contains(place))
            .filter_map(|place| self.record(older.branch, place))
            .find(|commit| !self.is_lost(*commit) && !self.shows(newer, *commit))
    }

    /// A commit that the primary had shown by then, and that `snapshot` does not show.
    pub(crate) fn missing_since(&self, snapshot: &Snapshot, by_ms: u64) -> Option<CommitId> {
        let place_of = |commit: &CommitId| {
            let (branch, place) = self.commits[*commit].place?;
            (place < self.shared(branch, snapshot.branch)).then_some(place)
        };
        let was_shown =
            |commit: &CommitId| self.commits[*commit].visible_at_ms.is_some_and(|at| at <= by_ms);
        // Few are missing, and those are young.
        let young = (0..self.commits.len()).rev().filter(was_shown);
        young.take_while(|commit| place_of(commit) != Some(snapshot.len.saturating_sub(1))).find(
            |commit| {
                place_of(commit).is_some()
                    && !self.is_lost(*commit)
                    && !self.shows(snapshot, *commit)
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(branch: BranchId, len: usize, hidden: &[usize]) -> Snapshot {
        Snapshot { server: 0, branch, len, hidden: hidden.to_vec(), by_primary: false }
    }

    #[test]
    fn a_branch_has_what_it_grew_from_up_to_where_they_part() {
        let mut history = History::new(0);
        let (kept, _) = history.append(0, vec![1]);
        let (lost, _) = history.append(0, vec![2]);
        let branch = history.part(0, 2, 1, 1_000);
        let (new, _) = history.append(branch, vec![3]);
        assert_eq!(history.shared(0, branch), 2);
        assert!(history.has(branch, 9, kept) && !history.has(branch, 9, lost));
        assert!(history.has(branch, 9, new) && !history.has(0, 9, new));
        assert!(history.is_lost(lost) && !history.is_lost(kept));
    }

    #[test]
    fn what_is_missing_is_found_unless_it_is_lost() {
        let mut history = History::new(0);
        let (first, _) = history.append(0, vec![1]);
        let (second, place) = history.append(0, vec![2]);
        assert_eq!(history.missing(&shown(0, 2, &[]), &shown(0, 3, &[])), Some(second));
        assert_eq!(history.missing(&shown(0, 3, &[place]), &shown(0, 3, &[])), Some(second));
        assert_eq!(history.missing(&shown(0, 3, &[]), &shown(0, 2, &[])), None);
        let branch = history.part(0, 2, 1, 1_000);
        assert_eq!(history.missing(&shown(branch, 3, &[]), &shown(0, 3, &[])), None, "lost");
        assert_eq!(history.missing(&shown(0, 1, &[]), &shown(branch, 3, &[])), Some(first));
    }

    #[test]
    fn staleness_is_what_was_shown_and_is_missing() {
        let mut history = History::new(0);
        let (first, _) = history.append(0, vec![1]);
        history.commits[first].visible_at_ms = Some(10);
        assert_eq!(history.missing_since(&shown(0, 1, &[]), 9), None);
        assert_eq!(history.missing_since(&shown(0, 1, &[]), 10), Some(first));
        assert_eq!(history.missing_since(&shown(0, 2, &[]), 10), None);
    }

    #[test]
    fn a_crash_takes_the_end_away() {
        let mut history = History::new(0);
        history.append(0, vec![1]);
        let (lost, place) = history.append(0, vec![2]);
        history.cut(0, place);
        assert!(history.is_lost(lost));
        assert_eq!(history.len(0), place);
    }
}
