//! Whose turn it is: how many feeds are reconciled at the same time, those first that somebody changed.

use std::pin::pin;

use tokio::sync::{Notify, Semaphore, SemaphorePermit};

/// Turns of all feeds. Whoever waits longest comes first.
#[derive(Debug)]
pub struct Turns {
    limit: usize,
    all: Semaphore,
    /// Looks at what nobody changed take no more than a quarter of the turns. With many feeds there is always such a look to be made, and
    /// a person who changes a feed neither waits for them nor shares servers and processors with many of them; and more at a time would
    /// not make them faster.
    looks: Semaphore,
    change: Notify,
}

/// A feed's turn, until it is dropped.
#[derive(Debug)]
pub struct Turn<'a> {
    _look: Option<SemaphorePermit<'a>>,
    _turn: SemaphorePermit<'a>,
}

impl Turns {
    /// So many at a time.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            all: Semaphore::new(limit),
            looks: Semaphore::new(limit.div_ceil(4)),
            change: Notify::new(),
        }
    }

    /// Waits for a turn. `is_changed`: whether somebody wants something else of the feed than before. It is asked again after
    /// [`Self::changed`]: while a feed waits for a look, no other reconciliation of it begins. `None`: the operator ends.
    pub async fn take(&self, is_changed: impl Fn() -> bool) -> Option<Turn<'_>> {
        let mut look = pin!(self.looks.acquire());
        let look = loop {
            let mut change = pin!(self.change.notified());
            // From here on no change is missed.
            change.as_mut().enable();
            if is_changed() {
                break None;
            }
            tokio::select! {
                look = &mut look => break Some(look.ok()?),
                () = change => {}
            }
        };
        let turn = self.all.acquire().await.ok()?;
        Some(Turn {
            _look: look,
            _turn: turn,
        })
    }

    /// Somebody changed a feed.
    pub fn changed(&self) {
        self.change.notify_waiters();
    }

    /// How many feeds have a turn now.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.limit.saturating_sub(self.all.available_permits())
    }

    /// Nobody gets a turn any more.
    pub fn close(&self) {
        self.looks.close();
        self.all.close();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures::FutureExt as _;

    use super::*;

    fn take(turns: &Turns, changed: bool) -> Option<Turn<'_>> {
        turns.take(|| changed).now_or_never().flatten()
    }

    #[test]
    fn looks_leave_three_quarters_of_the_turns_to_changes() {
        let turns = Turns::new(8);
        let looks: Vec<_> = (0..3).map(|_| take(&turns, false)).collect();
        assert_eq!(looks.iter().flatten().count(), 2);
        let changes: Vec<_> = (0..7).map(|_| take(&turns, true)).collect();
        assert_eq!(changes.iter().flatten().count(), 6);
        assert_eq!(turns.taken(), 8);
        drop(looks);
        assert_eq!(turns.taken(), 6);
        assert!(take(&turns, true).is_some());
    }

    #[test]
    fn a_single_turn_is_for_looks_too() {
        let turns = Turns::new(1);
        assert!(take(&turns, false).is_some());
        assert!(take(&turns, true).is_some());
    }

    #[test]
    fn who_waits_for_a_look_comes_first_once_he_is_changed() {
        let turns = Turns::new(2);
        let _look = take(&turns, false);
        let is_changed = Cell::new(false);
        let mut waits = pin!(turns.take(|| is_changed.get()));
        assert!(waits.as_mut().now_or_never().is_none());
        turns.changed();
        assert!(waits.as_mut().now_or_never().is_none(), "another was changed");
        is_changed.set(true);
        turns.changed();
        assert!(waits.now_or_never().flatten().is_some());
    }

    #[test]
    fn nobody_gets_a_turn_at_the_end() {
        let turns = Turns::new(2);
        turns.close();
        for changed in [false, true] {
            let taken = turns.take(|| changed).now_or_never();
            assert!(taken.is_some_and(|turn| turn.is_none()));
        }
    }
}
