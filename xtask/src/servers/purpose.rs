//! What a pair of servers is for, and the settings that follow from it.

/// What the servers are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be started quickly and thrown away; nothing is forced to disk.
    Tests {
        /// Whether a Superset comes with them.
        superset: bool,
    },
    /// To be measured: as the chart sets them up.
    Benchmark,
}

impl Purpose {
    /// PostgreSQL's settings.
    pub(super) const fn postgres(self) -> &'static [&'static str] {
        match self {
            Self::Tests { .. } => &["fsync=off", "max_connections=300", "shared_buffers=64MB"],
            // `postgresql.settings` of helm/stockfeed/values.yaml; fsync is on where nothing else is said.
            Self::Benchmark => &[
                "shared_buffers=256MB",
                "effective_cache_size=640MB",
                "max_connections=200",
                "max_wal_size=2GB",
                "checkpoint_timeout=15min",
                "checkpoint_completion_target=0.9",
                "wal_compression=on",
                "random_page_cost=1.1",
                "timezone=UTC",
                "jit=off",
            ],
        }
    }

    /// More environment of PostgreSQL's first start.
    pub(super) const fn initdb(self) -> &'static str {
        match self {
            Self::Tests { .. } => "",
            Self::Benchmark => "--data-checksums",
        }
    }

    /// Whether the servers speak TLS too, on ports of their own or where a client asks for it.
    pub(super) const fn tls(self) -> bool {
        matches!(self, Self::Tests { .. })
    }

    /// More lines of `rabbitmq.conf`.
    pub(super) const fn rabbitmq(self) -> &'static str {
        match self {
            // Figures of queues are collected each second, so that tests wait less for them.
            Self::Tests { .. } => "collect_statistics_interval = 1000\n",
            Self::Benchmark => "",
        }
    }
}
