//! What holds while servers move: primaries that are replaced, return, hang or vanish, and
//! addresses that lead elsewhere.

#[path = "moves/address.rs"]
mod address;
#[path = "moves/blackout.rs"]
mod blackout;
#[path = "moves/failure.rs"]
mod failure;
#[path = "moves/fault.rs"]
mod fault;
#[path = "moves/promotion.rs"]
mod promotion;
#[path = "moves/reads.rs"]
mod reads;
#[path = "moves/writes.rs"]
mod writes;
