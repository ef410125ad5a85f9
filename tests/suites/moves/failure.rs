//! What sealane says of a statement that it could not see through.

use sea_orm::DbErr;
use sealane::Error;

/// Nobody knows whether it was carried out.
pub fn is_outcome_unknown(error: &DbErr) -> bool {
    matches!(Error::of(error), Some(Error::OutcomeUnknown { .. }))
}

/// Its transaction can no longer be committed.
pub fn is_transaction_lost(error: &DbErr) -> bool {
    matches!(Error::of(error), Some(Error::TransactionLost { .. }))
}

/// There is no primary, and the message says which one is missing.
pub fn is_no_primary(error: &DbErr) -> bool {
    matches!(Error::of(error), Some(Error::NoPrimary { why, .. }) if why.contains("primary"))
}
