//! What the plans of Financial Modeling Prep allow. A provider may agree to something else: then this is not asked.

use crate::plan::Limit;

/// What one plan allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What the plan is called.
    pub name: &'static str,
    /// The most symbols of one call; 1 without the batch endpoint.
    pub symbols_per_call: u64,
    /// Calls a day; `None`: no limit.
    pub calls_per_day: Option<u64>,
    /// Calls in any minute; `None`: no limit.
    pub calls_per_minute: Option<u64>,
}

/// The plans, cheapest first.
pub const OFFERS: [Offer; 4] = [
    Offer {
        name: "Basic",
        symbols_per_call: 1,
        calls_per_day: Some(250),
        calls_per_minute: None,
    },
    Offer {
        name: "Starter",
        symbols_per_call: 100,
        calls_per_day: None,
        calls_per_minute: Some(300),
    },
    Offer {
        name: "Premium",
        symbols_per_call: 100,
        calls_per_day: None,
        calls_per_minute: Some(750),
    },
    Offer {
        name: "Ultimate",
        symbols_per_call: 100,
        calls_per_day: None,
        calls_per_minute: Some(3_000),
    },
];

impl Offer {
    /// The plan of that name, if there is one.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        OFFERS.into_iter().find(|offer| offer.name == name)
    }

    /// Its limits, for so many feeds with the same key.
    #[must_use]
    pub const fn limit(self, feeds: u64) -> Limit {
        Limit {
            per_day: self.calls_per_day,
            per_minute: self.calls_per_minute,
            feeds,
        }
    }
}
