//! How values of other crates look in the API's description.

use utoipa::ToSchema;

/// A ticker symbol as the source spells it.
// Only its description is used: the API reads and writes `contract::symbol::Symbol`.
#[derive(ToSchema)]
#[schema(as = Symbol, pattern = r"^[A-Z0-9.^=-]{1,16}$", example = "AAPL")]
pub struct SymbolText(#[expect(dead_code, reason = "never made")] String);

#[cfg(test)]
mod tests {
    use utoipa::PartialSchema as _;

    use super::*;

    #[test]
    fn a_symbol_has_the_pattern_of_the_contract() {
        let schema = serde_json::to_value(SymbolText::schema()).unwrap();
        assert_eq!(schema["pattern"], contract::symbol::PATTERN);
    }
}
