//! Limits further attempts to a share of the traffic, so that they cannot multiply an outage.
//!
//! Every read deposits a part of an attempt, and every further attempt of a read withdraws a whole
//! one. (Finagle's `RetryBudget` does the same.) The account is limited, and gets a little without
//! any traffic.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Moment;

/// The account of one cluster's further attempts. All amounts are in thousandths of an attempt.
#[derive(Debug)]
pub struct RetryBudget {
    /// What each read deposits.
    share: u64,
    /// What the account gets each second without any traffic.
    per_second: u64,
    most: u64,
    balance: AtomicU64,
    /// When the account last got what it gets without traffic, in milliseconds.
    refilled_at_ms: AtomicU64,
}

const ONE: u64 = 1_000;

impl Default for RetryBudget {
    /// For retries: 20 % of the reads, and 10 a second in any case (Finagle's numbers). A hundred
    /// at once, so that all reads that one server loses when it dies find another one.
    fn default() -> Self {
        RetryBudget::new(ONE / 5, 10 * ONE, 100 * ONE)
    }
}

impl RetryBudget {
    /// For hedged reads: 10 % of them, which is twice of what a hedge after the 95th percentile
    /// needs while all is well. Fifty at once, until a server that hangs is ejected.
    #[must_use]
    pub fn for_hedges() -> Self {
        RetryBudget::new(ONE / 10, ONE, 50 * ONE)
    }

    /// For statements that go on on their servers although nobody waits for them any more: one a
    /// second, and sixteen at once, whatever the traffic. More would use up a server's connections.
    #[must_use]
    pub fn for_left_running() -> Self {
        RetryBudget::new(0, ONE, 16 * ONE)
    }

    fn new(share: u64, per_second: u64, most: u64) -> Self {
        let (balance, refilled_at_ms) = (AtomicU64::new(most), AtomicU64::new(0));
        RetryBudget { share, per_second, most, balance, refilled_at_ms }
    }

    /// Records a read's first attempt. A full account is only read.
    pub fn deposit(&self) {
        // Under contention the account may exceed its limit by a little.
        if self.balance.load(Ordering::Relaxed) < self.most {
            self.balance.fetch_add(self.share, Ordering::Relaxed);
        }
    }

    /// Takes one attempt from the account. Returns `false` if there is none left.
    #[must_use]
    pub fn withdraw(&self, now: Moment) -> bool {
        self.refill(now);
        let taken = self
            .balance
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |balance| balance.checked_sub(ONE));
        taken.is_ok()
    }

    fn refill(&self, now: Moment) {
        let now_ms = u64::try_from(now.since(Moment::ZERO).as_millis()).unwrap_or(u64::MAX);
        let last_ms = self.refilled_at_ms.fetch_max(now_ms, Ordering::Relaxed);
        let due =
            now_ms.saturating_sub(last_ms).saturating_mul(self.per_second / 1_000).min(self.most);
        if due > 0 {
            let _ = self.balance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |balance| {
                Some((balance + due).min(self.most.max(balance)))
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::from_origin(Duration::from_millis(ms))
    }

    fn withdraw_all(budget: &RetryBudget, now: Moment) -> u32 {
        (0..1_000).map_while(|_| budget.withdraw(now).then_some(1)).sum()
    }

    #[test]
    fn a_hundred_at_once_and_no_more() {
        let budget = RetryBudget::default();
        assert_eq!((withdraw_all(&budget, at(0)), withdraw_all(&budget, at(0))), (100, 0));
    }

    #[test]
    fn statements_that_are_left_running_are_few_whatever_the_traffic() {
        let budget = RetryBudget::for_left_running();
        assert_eq!(withdraw_all(&budget, at(0)), 16);
        (0..1_000).for_each(|_| budget.deposit());
        assert_eq!(withdraw_all(&budget, at(0)), 0);
        assert_eq!(withdraw_all(&budget, at(1_000)), 1);
    }

    #[test]
    fn ten_hedged_reads_pay_for_one_hedge() {
        let budget = RetryBudget::for_hedges();
        assert_eq!(withdraw_all(&budget, at(0)), 50);
        (0..50).for_each(|_| budget.deposit());
        assert_eq!(withdraw_all(&budget, at(0)), 5);
    }

    #[test]
    fn five_reads_pay_for_one_retry() {
        let budget = RetryBudget::default();
        withdraw_all(&budget, at(0));
        (0..50).for_each(|_| budget.deposit());
        assert_eq!(withdraw_all(&budget, at(0)), 10);
    }

    #[test]
    fn ten_a_second_come_without_traffic() {
        let budget = RetryBudget::default();
        withdraw_all(&budget, at(0));
        assert_eq!(withdraw_all(&budget, at(2_000)), 20);
        // No more than the account holds, however long it was left alone.
        assert_eq!(withdraw_all(&budget, at(3_600_000)), 100);
    }

    #[test]
    fn a_full_account_takes_no_more() {
        let budget = RetryBudget::default();
        (0..1_000).for_each(|_| budget.deposit());
        assert_eq!(withdraw_all(&budget, at(0)), 100);
    }
}
