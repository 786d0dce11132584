//! What a site or a route asks of every request: the keys that both have.

use crate::decode::Table;
use crate::model::Guards;

use super::{access, auth, cors, rate_limit};

/// Decodes the keys `access`, `access_control`, `rate_limit` and `auth` of a site or a route.
pub(super) fn decode(table: &Table<'_>) -> Guards {
    Guards {
        access: access::decode(table),
        cors: cors::decode(table),
        rate_limits: rate_limit::decode(table),
        auth: auth::decode(table),
    }
}
