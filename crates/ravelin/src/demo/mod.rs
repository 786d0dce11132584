//! `ravelin demo`.
use crate::cli::{Common, DemoArguments};
use crate::terminal::Failure;
pub(crate) fn demo(_: &DemoArguments, _: &Common) -> Result<(), Failure> {
    Err(Failure::new("the demo is not built yet", ""))
}
