//! What is learnt of endpoints from the requests they get: pure state, shared by all workers without a
//! lock, with time as an argument.

mod budget;
mod max_fails;

pub use budget::Budget;
pub use max_fails::{Fails, Verdict};
