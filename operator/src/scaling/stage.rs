//! What the stage of the processors says while their number changes. Pure.

use crate::{
    api::status::{StockFeedStatus, reason},
    build::WorkloadState,
    status::Verdict,
    validate::ValidatedFeed,
};

/// A feed is as ready while it scales as it was before: at least `min` processors run, and none of them is of an earlier form. A spec
/// that was not seen before is another matter: what follows from it has to run first.
#[must_use]
pub fn while_it_scales(
    verdict: Verdict,
    processors: &WorkloadState,
    feed: &ValidatedFeed,
    previous: Option<&StockFeedStatus>,
) -> Verdict {
    let status = processors
        .observed
        .as_ref()
        .and_then(|deployment| deployment.status.as_ref());
    let seen = previous.and_then(|previous| previous.observed_generation) == Some(feed.generation);
    let progresses = [reason::PROGRESSING, reason::PROGRESS_DEADLINE_EXCEEDED].contains(&&*verdict.reason);
    let (Some(status), Some(_), true, true) = (status, feed.limits.max, seen, progresses) else {
        return verdict;
    };
    let [all, updated, available] = [
        status.replicas,
        status.updated_replicas,
        status.available_replicas,
    ]
    .map(|number| number.unwrap_or(0));
    if updated < all || available < i32::from(feed.limits.min) {
        return verdict;
    }
    let wanted = feed.replicas;
    Verdict::yes(reason::AVAILABLE, format!("{available} of {wanted} available"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::{
        status::tests::deployment,
        validate::tests::{example, validated},
    };

    const SEEN: i64 = 1;

    #[rstest]
    #[case::one_more_starts(Some(2), 2, 1, SEEN, true)]
    #[case::fewer_than_the_least_run(Some(2), 2, 0, SEEN, false)]
    #[case::the_number_is_fixed(None, 2, 1, SEEN, false)]
    #[case::the_spec_is_new(Some(2), 2, 1, SEEN - 1, false)]
    fn scaling_is_no_trouble(
        #[case] max: Option<i32>,
        #[case] wanted: i32,
        #[case] available: i32,
        #[case] observed: i64,
        #[case] ready: bool,
    ) {
        let mut value = example();
        value["spec"]["processing"]["replicas"] = json!({"min": 1, "max": max});
        let feed = validated(value);
        let previous = StockFeedStatus {
            observed_generation: Some(observed),
            ..StockFeedStatus::default()
        };
        let before = Verdict::no(reason::PROGRESSING, "");
        let verdict = while_it_scales(before, &deployment(wanted, available), &feed, Some(&previous));
        assert_eq!(verdict.is_true(), ready, "{verdict:?}");
    }

    #[test]
    fn a_processor_of_an_earlier_form_is_a_rollout() {
        let mut value = example();
        value["spec"]["processing"]["replicas"] = json!({"min": 1, "max": 2});
        let feed = validated(value);
        let previous = StockFeedStatus {
            observed_generation: Some(SEEN),
            ..StockFeedStatus::default()
        };
        let mut state = deployment(2, 2);
        let status = state
            .observed
            .as_mut()
            .and_then(|deployment| deployment.status.as_mut());
        status.unwrap().updated_replicas = Some(1);
        let before = Verdict::no(reason::PROGRESSING, "");
        assert_eq!(
            while_it_scales(before.clone(), &state, &feed, Some(&previous)),
            before
        );
    }

    #[test]
    fn other_trouble_stays() {
        let mut value = example();
        value["spec"]["processing"]["replicas"] = json!({"min": 1, "max": 2});
        let feed = validated(value);
        let previous = StockFeedStatus {
            observed_generation: Some(SEEN),
            ..StockFeedStatus::default()
        };
        let before = Verdict::no(reason::WAITING, "");
        assert_eq!(
            while_it_scales(before.clone(), &deployment(2, 2), &feed, Some(&previous)),
            before
        );
    }
}
