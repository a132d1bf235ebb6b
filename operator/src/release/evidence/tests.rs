use k8s_openapi::api::core::v1::Pod;
use pretty_assertions::assert_eq;
use rstest::rstest;
use serde_json::json;

use super::*;

fn progress(ticks: i64, quarantined: i64) -> Progress {
    Progress {
        ticks,
        quarantined,
        ..Progress::default()
    }
}

/// (second, pods are rolled, ticks, quarantined, messages in the queues, consumers)
type OfProcessor = (u64, bool, i64, i64, i64, i64);

fn processor_after(looks: &[OfProcessor]) -> Evidence {
    let start = Instant::now();
    let releases = Releases::default();
    let mut last = Evidence::Missing(String::new());
    for (second, rolled, ticks, quarantined, messages, consumers) in looks {
        let now = start + Duration::from_secs(*second);
        let progress = progress(*ticks, *quarantined);
        let queues = Found {
            messages: Some(*messages),
            consumers: Some(*consumers),
            ..Found::default()
        };
        let look = Look {
            expected: true,
            processor: ("p2", rolled.then_some(()).ok_or_else(|| "it rolls".to_owned())),
            producer: ("q1", Ok(())),
            producer_is_good: true,
            progress: Some(&progress),
            queues: Some(&queues),
            read_at: now,
            source: SourceSays::Quotes,
        };
        last = releases.observe("a", &look, now).processor;
    }
    last
}

#[rstest]
#[case::rolls(&[(0, false, 5, 0, 0, 1), (60, false, 9, 0, 0, 1)], Some("it rolls"))]
#[case::just_rolled(&[(0, false, 5, 0, 9, 1), (3, true, 9, 0, 9, 1)], Some("nothing has been committed"))]
#[case::committed(&[(0, true, 5, 0, 9, 1), (3, true, 6, 0, 9, 1)], None)]
#[case::what_the_old_ones_committed_does_not_count(&[(0, false, 5, 0, 9, 1), (3, true, 8, 0, 9, 1), (6, true, 8, 0, 9, 1)], Some("nothing has been committed"))]
#[case::idle(&[(0, true, 5, 0, 0, 1), (12, true, 5, 0, 0, 1)], None)]
#[case::idle_by_an_old_count(&[(0, true, 5, 0, 0, 1), (11, true, 5, 0, 0, 1)], Some("being counted"))]
#[case::no_consumer(&[(0, true, 5, 0, 0, 0), (60, true, 5, 0, 0, 0)], Some("nothing has been committed"))]
#[case::waiting_messages(&[(0, true, 5, 0, 7, 1), (60, true, 5, 0, 7, 1)], Some("nothing has been committed"))]
#[case::all_goes_to_quarantine(&[(0, true, 5, 0, 0, 1), (60, true, 5, 3, 0, 1)], Some("goes to quarantine"))]
#[case::a_pod_is_replaced_meanwhile(&[(0, true, 5, 0, 9, 1), (3, false, 6, 0, 9, 1), (6, true, 7, 0, 9, 1)], Some("nothing has been committed"))]
fn processors_are_good_when_data_flows_after_all_have_the_image(
    #[case] looks: &[OfProcessor],
    #[case] missing: Option<&str>,
) {
    match (processor_after(looks), missing) {
        (Evidence::Flows, None) => {}
        (Evidence::Missing(why), Some(words)) => assert!(why.contains(words), "{why}"),
        other => panic!("{other:?}"),
    }
}

fn watermark(second: i64) -> Progress {
    let time = contract::event_time::EventTime::from_microseconds(second * 1_000_000);
    Progress {
        watermark: time,
        ..Progress::default()
    }
}

fn look<'a>(progress: &'a Progress, source: SourceSays, good: bool, expected: bool) -> Look<'a> {
    Look {
        expected,
        processor: ("p1", Ok(())),
        producer: ("q2", Ok(())),
        producer_is_good: good,
        progress: Some(progress),
        queues: None,
        read_at: Instant::now(),
        source,
    }
}

#[rstest]
#[case::heartbeats(SourceSays::Quotes, 2, None)]
#[case::nothing_arrives(SourceSays::Quotes, 1, Some("nothing that it published"))]
#[case::closed(SourceSays::NotNow, 1, None)]
#[case::silent(SourceSays::Nothing, 2, Some("has not said"))]
#[case::trouble(SourceSays::Trouble("refused".to_owned()), 1, Some("the source gives nothing: refused"))]
fn a_producer_is_good_when_what_it_published_is_committed(
    #[case] source: SourceSays,
    #[case] reached: i64,
    #[case] missing: Option<&str>,
) {
    let releases = Releases::default();
    let start = Instant::now();
    let (before, after) = (watermark(1), watermark(reached));
    releases.observe("a", &look(&before, source.clone(), false, true), start);
    let later = start + Duration::from_secs(3);
    let seeing = releases.observe("a", &look(&after, source, false, true), later);
    match (seeing.producer, missing) {
        (Evidence::Flows, None) => {}
        (Evidence::Missing(why), Some(words)) => assert!(why.contains(words), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[case::it_gave_quotes_before(SourceSays::Quotes, true, 600)]
#[case::it_gave_nothing_before(SourceSays::Trouble("no".to_owned()), true, 0)]
#[case::the_broker_is_away(SourceSays::Quotes, false, 0)]
fn time_counts_only_while_nothing_else_is_to_blame(
    #[case] before: SourceSays,
    #[case] expected: bool,
    #[case] undisturbed: u64,
) {
    let releases = Releases::default();
    let start = Instant::now();
    let progress = watermark(1);
    releases.observe("a", &look(&progress, before, true, true), start);
    let later = start + Duration::from_secs(600);
    let trouble = SourceSays::Trouble("no".to_owned());
    let seeing = releases.observe("a", &look(&progress, trouble, false, expected), later);
    assert_eq!(seeing.undisturbed, Duration::from_secs(undisturbed));
    releases.forget("a");
    let anew = releases.observe("a", &look(&progress, SourceSays::Quotes, false, true), later);
    assert_eq!(anew.undisturbed, Duration::ZERO);
}

fn deployment(image: &str, wanted: i32, current: bool, counts: [i32; 3]) -> Deployment {
    let [replicas, updated, available] = counts;
    serde_json::from_value(json!({
        "metadata": {"generation": 2},
        "spec": {"replicas": wanted, "selector": {}, "template": {"spec": {"containers": [{"name": "c", "image": image}]}}},
        "status": {
            "observedGeneration": 1 + i64::from(current), "replicas": replicas,
            "updatedReplicas": updated, "availableReplicas": available,
        },
    }))
    .unwrap()
}

#[rstest]
#[case::all(deployment("p2", 2, true, [2, 2, 2]), 2, None)]
#[case::an_old_pod_ends(deployment("p2", 2, true, [2, 2, 2]), 3, Some("2 of 2 pods have it, 2 are ready, 3 are there"))]
#[case::an_old_replica(deployment("p2", 2, true, [3, 2, 2]), 3, Some("2 of 2"))]
#[case::not_ready(deployment("p2", 2, true, [2, 2, 1]), 2, Some("1 are ready"))]
#[case::not_looked_at(deployment("p2", 2, false, [2, 2, 2]), 2, Some("0 of 2"))]
#[case::not_applied(deployment("p1", 2, true, [2, 2, 2]), 2, Some("does not have it yet"))]
#[case::suspended(deployment("p2", 0, true, [0, 0, 0]), 0, Some("suspended"))]
fn a_worker_is_rolled_when_all_of_its_pods_and_no_others_are(
    #[case] deployment: Deployment,
    #[case] pods: usize,
    #[case] missing: Option<&str>,
) {
    let pods = vec![Pod::default(); pods];
    let rollout = Rollout::new(Some(&deployment), &pods);
    match (rolled(Some(&deployment), &rollout, "p2"), missing) {
        (Ok(()), None) => {}
        (Err(why), Some(words)) => assert!(why.contains(words), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_keeps_a_pod_from_running_is_said() {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "tech-processor-x"},
        "status": {"containerStatuses": [{
            "name": "processor", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ImagePullBackOff", "message": "…"}},
        }]},
    }))
    .unwrap();
    let deployment = deployment("p2", 1, true, [2, 1, 1]);
    let rollout = Rollout::new(Some(&deployment), [&pod, &Pod::default()]);
    let why = rolled(Some(&deployment), &rollout, "p2").unwrap_err();
    assert!(why.ends_with("pod tech-processor-x: ImagePullBackOff"), "{why}");
}
