//! FMP's error bodies: `{"Error Message": "…"}`, in its own words, by which clients recognise them.

use serde_json::{Value, json};

/// 401.
pub const INVALID_KEY: &str = "Invalid API KEY. Feel free to create a Free API Key or visit \
    https://site.financialmodelingprep.com/faqs?search=why-is-my-api-key-invalid for more information.";
/// 429. The blank before the full stop is FMP's.
pub const LIMIT_REACH: &str = "Limit Reach . Please upgrade your plan or visit our documentation for more details at \
    https://site.financialmodelingprep.com/";
/// 402, for an endpoint or a symbol that is not part of the plan.
pub const RESTRICTED: &str = "Restricted Endpoint: This endpoint is not available under your current subscription please visit \
    our subscription page to upgrade your plan at https://site.financialmodelingprep.com/developer/docs/pricing";
/// 403, for the API before `/stable`.
pub const LEGACY: &str = "Legacy Endpoint : Due to Legacy endpoints being no longer supported - This endpoint is only available \
    for legacy users who have valid subscriptions prior August 31, 2025.";
/// 400.
pub const MISSING_PARAMETER: &str = "Query Error: Invalid or missing query parameter - ";
/// 404.
pub const NOT_FOUND: &str = "Not Found";
/// What a gateway before FMP answers when FMP does not: not JSON.
pub const GATEWAY_PAGE: &str = "<html>\r\n<head><title>Bad Gateway</title></head>\r\n<body>\r\n<center><h1>Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n";

/// The body of an error.
#[must_use]
pub fn body(message: &str) -> Value {
    json!({ "Error Message": message })
}
