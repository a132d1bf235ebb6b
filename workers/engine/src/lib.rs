//! Event time: watermarks, windows, candles and late data.
//!
//! ```text
//! message ─► sequence seen before? ─yes─► duplicate, nothing happens
//!                  │ no
//!                  ▼
//!            each tick, each width ─► past the allowed lateness? ─yes─► late
//!                  │ no
//!                  ▼
//!            partial candle (folded) ───► merged into the stored candle by whoever commits the batch
//!                  │
//!                  ▼
//!            watermark moves, if nothing before this message is missing
//! ```
//!
//! Architecture invariant: pure. No clock, no tokio, no IO: time is an argument, and the same messages in the same order
//! give the same effects. Lateness is decided message by message against the watermark *before* the message, so it does
//! not matter how messages are cut into batches.

pub mod calendar;
pub mod candle;
pub mod candles;
pub mod key;
pub mod partition;
pub mod sequence;
