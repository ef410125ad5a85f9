//! Limits retries to a share of the traffic, so that retries cannot multiply an outage.
//!
//! Every read deposits a fifth of a retry, and every further attempt of a read withdraws one. (As
//! Finagle's `RetryBudget` does, with the same numbers: a share of 20 % and 10 retries a second in
//! any case.) The account holds a hundred retries at most, so that all reads that one server loses
//! when it dies find another one.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Moment;

/// The account of one cluster's retries. In thousandths of a retry.
#[derive(Debug)]
pub struct RetryBudget {
    balance: AtomicU64,
    /// When the account last got what it gets without traffic, in milliseconds.
    refilled_at_ms: AtomicU64,
}

const ONE: u64 = 1_000;
const DEPOSIT: u64 = ONE / 5;
const PER_SECOND: u64 = 10 * ONE;
const MOST: u64 = 100 * ONE;

impl Default for RetryBudget {
    fn default() -> Self {
        RetryBudget { balance: AtomicU64::new(MOST), refilled_at_ms: AtomicU64::new(0) }
    }
}

impl RetryBudget {
    /// Records a read's first attempt. A full account is only read.
    pub fn deposit(&self) {
        // Under contention the account may exceed its limit by a little.
        if self.balance.load(Ordering::Relaxed) < MOST {
            self.balance.fetch_add(DEPOSIT, Ordering::Relaxed);
        }
    }

    /// Takes one retry from the account. Returns `false` if there is none left.
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
        let due = now_ms.saturating_sub(last_ms).saturating_mul(PER_SECOND / 1_000).min(MOST);
        if due > 0 {
            let _ = self.balance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |balance| {
                Some((balance + due).min(MOST.max(balance)))
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
