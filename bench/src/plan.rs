//! How much of everything.

/// Counts of ticks and of repetitions.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How often each pair is measured.
    pub pairs: usize,
    /// How often what is not compared in pairs is measured.
    pub repetitions: usize,
    /// Ticks in a run with 1 tick a message.
    pub ticks: u64,
    /// Ticks in a run with 100 ticks a message, which is over sooner.
    pub batched_ticks: u64,
    /// Ticks in the short and in the long run whose costs are compared.
    pub growth: (u64, u64),
    /// Ticks a message in these two runs.
    pub growth_ticks_per_message: usize,
    /// Seconds at each rate.
    pub latency_seconds: u64,
}

impl Plan {
    /// For figures to publish.
    pub const FULL: Self = Self {
        pairs: 3,
        repetitions: 1,
        ticks: 300_000,
        batched_ticks: 1_500_000,
        growth: (300_000, 3_000_000),
        // Filling a queue with three million messages one by one takes longer than everything else together.
        growth_ticks_per_message: 100,
        latency_seconds: 20,
    };

    /// For a look during development.
    pub const QUICK: Self = Self {
        pairs: 2,
        repetitions: 1,
        ticks: 100_000,
        batched_ticks: 500_000,
        growth: (100_000, 1_000_000),
        // Filling a queue message by message would take most of the time.
        growth_ticks_per_message: 100,
        latency_seconds: 5,
    };
}

/// Ticks a message where there are several: as many as a poll of a hundred symbols brings.
pub const TICKS_PER_MESSAGE: usize = 100;
/// Rows in a COPY beside it: 3 MiB of messages, the processor's default limit of a batch, hold as many.
pub const ROWS: usize = 26_000;
/// The numbers of partitions that are measured.
pub const PARTITIONS: [u16; 3] = [1, 2, 4];
/// Messages a second of the calm feed whose latency is measured.
pub const CALM_RATE: f64 = 1_000.0;
/// The share of the top rate at which it is measured again.
pub const BUSY_SHARE: f64 = 0.7;
