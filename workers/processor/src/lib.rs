//! The stream processor: partition queues in, ticks and candles out, exactly once.
//!
//! One task a partition queue ([`consumer`]). Each takes deliveries ([`subscription`]) into a batch ([`batch`]): decodes them
//! ([`decode`]), lets the [`engine`] say what they do to candles and the watermark, and writes their rows as COPY takes them.
//! A batch is committed in one transaction ([`committer`], [`store`]) and acknowledged after that. While one batch commits,
//! the next is taken in.
//!
//! Architecture invariant: nothing is acknowledged that is not committed, and every commit names the version of the
//! partition that it began from, so that of two processors that believe a partition to be theirs only one writes.

pub mod activity;
pub mod api;
pub mod batch;
pub mod board;
pub mod committer;
pub mod consumer;
pub mod dead_letters;
pub mod decode;
pub mod depth;
mod fault;
pub mod metrics;
pub mod run;
pub mod store;
pub mod subscription;
