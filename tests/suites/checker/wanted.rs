//! What the checker asks for, but for what is not kept yet.

/// A session misses nothing that it read in a transaction of its own which is still open.
pub const WITH_TRANSACTIONS: bool = true;
/// A task that left its session's scope reads what any session of its process wrote.
pub const STRAYS: bool = true;
/// What is written through a handle's conversion into SeaORM's executor counts as its session's.
pub const EXECUTORS: bool = true;
/// Merging a session into the shared handle takes over what it has read.
pub const MERGES_INTO_SHARED: bool = true;
/// Connections know the server that they were made to: an address may move.
pub const MOVES: bool = true;
/// Everything ends, and nothing is answered by a primary that was replaced.
pub const FAILOVERS: bool = true;
