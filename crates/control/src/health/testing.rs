//! Parts that tests of several files need.

use std::time::Duration;

use config::model::{HealthCheck, HttpProbe, Probe, StartState};

/// GET /health, 200 to 399.
pub(super) fn http_probe() -> HttpProbe {
    HttpProbe {
        method: "GET".to_owned(),
        target: "/health".to_owned(),
        host: None,
        fields: Vec::new(),
        body: Vec::new(),
        statuses: vec![(200, 399)],
        expect_fields: Vec::new(),
        expect_body: None,
    }
}

/// A check with the defaults, but for jitter.
pub(super) fn check(probe: Probe) -> HealthCheck {
    HealthCheck {
        probe,
        port: None,
        interval: Duration::from_secs(30),
        down_interval: Duration::from_secs(30),
        timeout: Duration::from_secs(5),
        rise: 1,
        fall: 3,
        jitter: 0,
        start: StartState::Up,
    }
}
