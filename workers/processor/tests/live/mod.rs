//! A feed in servers that the test may kill, with processors that are processes and a publisher that loses nothing.

#![allow(
    dead_code,
    reason = "every test that lives with real processes uses some of it"
)]

pub mod feed;
pub mod outbox;
pub mod replica;
