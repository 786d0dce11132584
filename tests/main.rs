//! Black-box tests: the built binary, run as a user runs it, between real sockets. Each module is
//! named after what a user would see; `harness` holds what they share.
//!
//! Nothing here knows a type of Ravelin's: what the tests say holds for any proxy that keeps the
//! documents it implements.

#![forbid(unsafe_code)]
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod access;
mod acme;
mod admin;
mod auth;
mod balancing;
mod bodies;
mod body_limits;
mod budget;
mod buffering;
mod chaos;
mod check;
mod convert;
mod cors;
mod dashboard;
mod demo;
mod easegress;
mod examples;
mod expectations;
mod explain;
mod failures;
mod grpc;
mod haproxy_commands;
mod harness;
mod headers;
mod health_checks;
mod hedging;
mod http2;
mod http2_attacks;
mod keep_alive;
mod limits;
mod listeners;
mod logs;
mod metrics;
mod names;
mod outages;
mod packaging;
mod privileges;
mod proxy_protocol;
mod pyserve;
mod rate_limits;
mod reload;
mod replays;
mod retries;
mod routes;
mod routing;
mod seeds;
mod serves;
mod signals;
mod slow_clients;
mod smuggling;
mod static_files;
mod stats_page;
mod sticky;
mod strict;
mod systemd;
mod tls;
mod tls_attacks;
mod tls_clients;
mod tls_files;
mod tracing;
mod trickling;
mod upgrade;
mod upstream_http2;
mod upstream_peers;
mod upstream_proxy_protocol;
mod upstream_tls;
mod watching;
mod websocket;
mod websocket_clients;
mod websocket_frames;
