//! Shadow mode: everything runs on the primary, and what would have run elsewhere is recorded.

use std::fmt;

use serde::Serialize;

/// Whether proved reads run where they belong, or on the primary while sealane records where they
/// would have run; see [`Config::shadow`](crate::Config::shadow).
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
#[serde(rename_all = "snake_case", tag = "mode")]
#[non_exhaustive]
pub enum Shadow {
    /// Reads run where they belong.
    #[default]
    Off,
    /// All reads run on the primary. The report counts where they would have run.
    Record,
    /// Like [`Record`](Self::Record). In addition, a share of the reads that would have left the
    /// primary runs on the chosen replica as well, after its caller has the primary's answer, and
    /// the two answers are compared.
    Compare {
        /// The share of these reads that is compared, 0 to 1.
        share: f64,
    },
}

impl Shadow {
    /// Compares every read, as far as there is room for it.
    pub const COMPARE_ALL: Shadow = Shadow::Compare { share: 1.0 };

    /// Whether reads stay on the primary.
    #[must_use]
    pub fn is_on(self) -> bool {
        self != Shadow::Off
    }
}

impl fmt::Display for Shadow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shadow::Off => f.write_str("off"),
            Shadow::Record => f.write_str("record"),
            Shadow::Compare { share } => write!(f, "compare, share {share}"),
        }
    }
}
