//! Changes to a message on its way through: what is taken from a head, what is put on it.
//!
//! A head is never turned into a map. It stays where it was parsed, and a filter writes a new head
//! from an index over it plus a list of edits, so fields keep their order and case.

mod client_certificate;
mod edits;
mod forwarded;
mod location;
mod request;
mod response;

pub use client_certificate::{CLIENT_CERTIFICATE_FIELDS, client_certificate_lines};
pub use edits::{Edits, is_same};
pub use forwarded::ToldBefore;
pub use location::PublicPath;
pub use request::{RequestHeadParts, Told, write_request_head};
pub use response::{ConnectionSays, ResponseHeadParts, write_informational, write_response_head};
