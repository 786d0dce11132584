//! - `schedule`: when probes are made and what follows from them, under virtual time
//! - `probes`: what is sent, to small origins of this process

mod probes;
mod schedule;
