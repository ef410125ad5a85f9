//! Faults that are planted, so that the oracle can be seen to find them.
//!
//! Each is on the simulated side, and makes the product do what it would do with a defect of its
//! own: nothing of the product is changed.

use clap::ValueEnum;

/// What is wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Plant {
    /// Nothing.
    #[default]
    Nothing,
    /// A probe of the primary answers with the position that it saw last: as if the stamp were read
    /// after the query.
    OldSample,
    /// A probe of a replica answers with what was received, not with what is shown.
    ReceivedAsReplayed,
    /// Probes and connections do not tell one run of a server from the next.
    OneRun,
    /// Probes tell the first timeline for ever.
    OneTimeline,
    /// Pools go on with the connections of the generation before.
    OldPools,
    /// A primary that has written says that it was read-only, so that the write is sent again.
    LostSaysReadOnly,
    /// Sessions ask for what is eventually consistent where they ask for their writes.
    Eventual,
    /// Bounds on staleness are ten times what is asked for.
    LooseBound,
    /// Connections are taken and never given back.
    LeakedConnections,
    /// Tokens are dropped on their way.
    LostTokens,
    /// What is merged is forgotten.
    LostMerges,
    /// Servers do not tell whose history they write: numbers alone are compared.
    NoAncestry,
    /// Replicas say that they are the primary's equal.
    AlwaysFresh,
    /// Commits do not wait for a replica where they should.
    Asynchronous,
    /// An endpoint counts as drained as soon as it is asked for.
    NotDrained,
    /// Connections that are given up are not closed.
    UnclosedConnections,
    /// Some answers to writes never come.
    LostAnswers,
    /// Replicas do not tell how far they are.
    NoPositions,
    /// Servers do not tell their filters.
    UntoldFilters,
    /// Loads of the catalog show a view as it was first.
    OldViews,
    /// Each probe counts for thirty.
    ManyProbes,
}
