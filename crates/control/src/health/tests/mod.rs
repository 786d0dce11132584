//! - `schedule`: when probes are made and what follows from them, under virtual time
//! - `probes`: what is sent, to small origins of this process
//! - `simulation`: all that decides over a request, together, under virtual time and chance

mod probes;
mod schedule;
mod simulation;
