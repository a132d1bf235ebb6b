//! What FMP says about a symbol beside its prices.

use contract::symbol::Symbol;

/// Company and exchange of a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The company.
    pub name: Option<&'static str>,
    /// The exchange's short name.
    pub exchange: Option<&'static str>,
}

/// The listing of a symbol; both parts are absent for one that is not known here, as they sometimes are at FMP.
#[must_use]
pub fn listing(symbol: &Symbol) -> Listing {
    let (name, exchange) = match symbol.as_str() {
        "AAPL" => ("Apple Inc.", "NASDAQ"),
        "ADBE" => ("Adobe Inc.", "NASDAQ"),
        "AMD" => ("Advanced Micro Devices, Inc.", "NASDAQ"),
        "AMZN" => ("Amazon.com, Inc.", "NASDAQ"),
        "AVGO" => ("Broadcom Inc.", "NASDAQ"),
        "BRK.B" | "BRK-B" => ("Berkshire Hathaway Inc.", "NYSE"),
        "CRM" => ("Salesforce, Inc.", "NYSE"),
        "CSCO" => ("Cisco Systems, Inc.", "NASDAQ"),
        "FB" => ("Facebook, Inc.", "NASDAQ"),
        "GOOG" | "GOOGL" => ("Alphabet Inc.", "NASDAQ"),
        "IBM" => ("International Business Machines Corporation", "NYSE"),
        "INTC" => ("Intel Corporation", "NASDAQ"),
        "JPM" => ("JPMorgan Chase & Co.", "NYSE"),
        "META" => ("Meta Platforms, Inc.", "NASDAQ"),
        "MSFT" => ("Microsoft Corporation", "NASDAQ"),
        "NFLX" => ("Netflix, Inc.", "NASDAQ"),
        "NVDA" => ("NVIDIA Corporation", "NASDAQ"),
        "ORCL" => ("Oracle Corporation", "NYSE"),
        "TSLA" => ("Tesla, Inc.", "NASDAQ"),
        "V" => ("Visa Inc.", "NYSE"),
        _ => {
            return Listing {
                name: None,
                exchange: None,
            };
        }
    };
    Listing {
        name: Some(name),
        exchange: Some(exchange),
    }
}
