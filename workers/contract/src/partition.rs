//! Which partition a symbol belongs to.

use sha2::{Digest, Sha256};

use crate::symbol::Symbol;

/// The partition of a symbol, `0..partitions`: the first eight bytes of the symbol's SHA-256, big-endian, modulo the
/// number of partitions. A cryptographic hash is not needed, but one that every language has is: anyone may publish.
///
/// # Panics
/// When `partitions` is zero, which no configuration can say.
#[must_use]
pub fn partition_of(symbol: &Symbol, partitions: u16) -> u16 {
    let digest = Sha256::digest(symbol.as_str().as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    let partition = u64::from_be_bytes(first) % u64::from(partitions);
    u16::try_from(partition).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_stable_over_releases() {
        // Changing these breaks every running feed: the same symbol would go to two partitions.
        let of = |text: &str, partitions| partition_of(&text.parse().unwrap(), partitions);
        assert_eq!(
            [
                of("AAPL", 4),
                of("MSFT", 4),
                of("IBM", 4),
                of("GOOG", 4),
                of("BRK.B", 4)
            ],
            [3, 1, 2, 3, 3]
        );
        assert_eq!(of("AAPL", 1), 0);
    }

    #[test]
    fn spreads_symbols() {
        let mut counts = [0; 8];
        for number in 0..8_000 {
            let symbol = format!("S{number}").parse().unwrap();
            counts[usize::from(partition_of(&symbol, 8))] += 1;
        }
        assert!(
            counts.iter().all(|count| (850..1150).contains(count)),
            "{counts:?}"
        );
    }
}
