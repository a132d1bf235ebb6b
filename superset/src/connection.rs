//! How Superset is told where a feed's tables are.

use serde_json::{Value, json};

use crate::{Connection, bundle::PASSWORD_MASK};

/// Whatever a query does, it ends. A dashboard gives up on a chart after a minute.
const STATEMENT_TIMEOUT: &str = "30s";

/// The address, with a mask where the password belongs.
pub(crate) fn uri(connection: &Connection) -> String {
    let host = if connection.host.contains(':') {
        format!("[{}]", connection.host)
    } else {
        connection.host.clone()
    };
    format!(
        "postgresql+psycopg2://{}:{PASSWORD_MASK}@{host}:{}/{}",
        percent_encoded(&connection.user),
        connection.port,
        percent_encoded(&connection.database)
    )
}

/// What the driver is given beside the address. Superset writes bounds of time without a zone and means UTC. Compiling a
/// query takes longer than any of ours runs.
pub(crate) fn arguments(connection: &Connection) -> Value {
    let mut arguments = json!({
        "application_name": "superset",
        "connect_timeout": 10,
        "options": format!("-c timezone=UTC -c jit=off -c statement_timeout={STATEMENT_TIMEOUT} -c default_transaction_read_only=on"),
    });
    if let Some(mode) = &connection.ssl_mode {
        arguments["sslmode"] = json!(mode);
    }
    arguments
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        Connection {
            host: "db.markets.svc".to_owned(),
            port: 5432,
            database: "market data".to_owned(),
            user: "tech:reader@x".to_owned(),
            ssl_mode: Some("verify-full".to_owned()),
            certificate_authority: None,
        }
    }

    #[test]
    fn names_are_encoded_and_the_password_is_masked() {
        assert_eq!(
            uri(&connection()),
            "postgresql+psycopg2://tech%3Areader%40x:XXXXXXXXXX@db.markets.svc:5432/market%20data"
        );
        let six = Connection {
            host: "fd00::5".to_owned(),
            ..connection()
        };
        assert!(uri(&six).contains("@[fd00::5]:5432/"), "{}", uri(&six));
    }

    #[test]
    fn the_mode_of_tls_is_passed_on_where_there_is_one() {
        assert_eq!(arguments(&connection())["sslmode"], "verify-full");
        let plain = Connection {
            ssl_mode: None,
            ..connection()
        };
        assert_eq!(arguments(&plain).get("sslmode"), None);
    }
}
