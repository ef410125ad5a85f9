//! What sealane says when it cannot keep on: in one place, whatever its form.

use sea_orm::DbErr;

/// Nobody takes writes, and waiting for it has ended.
pub fn is_no_primary(error: &DbErr) -> bool {
    says(error, "no primary")
}

/// The statement may have happened, or not.
pub fn is_outcome_unknown(error: &DbErr) -> bool {
    says(error, "outcome") && says(error, "unknown")
}

/// The transaction was on a server that is the primary no more.
pub fn is_transaction_lost(error: &DbErr) -> bool {
    says(error, "transaction") && says(error, "lost")
}

fn says(error: &DbErr, word: &str) -> bool {
    error.to_string().to_lowercase().contains(word)
}
