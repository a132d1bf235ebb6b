use pretty_assertions::assert_eq;
use rstest::rstest;

use super::*;

fn images(processor: &str, producer: &str) -> Images {
    Images {
        processor: processor.to_owned(),
        producer: producer.to_owned(),
        pull_policy: "Always".to_owned(),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_780_000_000 + second).unwrap()
}

fn missing() -> Evidence {
    Evidence::Missing("nothing came".to_owned())
}

/// Both workers on these images, which are good.
fn good(processor: &str, producer: &str) -> ReleaseStatus {
    let worker = |image: &str| WorkerRelease {
        image: image.to_owned(),
        good: Some(image.to_owned()),
        failed: None,
    };
    ReleaseStatus {
        state: ReleaseState::Good,
        since: Time(at(0)),
        message: String::new(),
        processor: worker(processor),
        producer: worker(producer),
        retried: None,
    }
}

fn facts<'a>(wanted: &'a Images, previous: Option<&'a ReleaseStatus>) -> Facts<'a> {
    Facts {
        wanted,
        previous,
        running_processor: None,
        running_producer: None,
        was_ready: false,
        held: None,
        processor: missing(),
        producer: missing(),
        overdue: false,
        suspended: false,
        retry: None,
        now: at(60),
    }
}

/// In one line: state; image/good/failed of processor and producer.
fn line(release: &ReleaseStatus) -> String {
    let worker = |worker: &WorkerRelease| {
        let failed = worker.failed.as_ref().map(|failed| failed.image.as_str());
        let good = worker.good.as_deref();
        format!(
            "{}/{}/{}",
            worker.image,
            good.unwrap_or("-"),
            failed.unwrap_or("-")
        )
    };
    format!(
        "{:?} {} {}",
        release.state,
        worker(&release.processor),
        worker(&release.producer)
    )
}

#[derive(Clone, Copy)]
struct Given {
    processor_flows: bool,
    producer_flows: bool,
    overdue: bool,
    held: bool,
}

const NOTHING: Given = Given {
    processor_flows: false,
    producer_flows: false,
    overdue: false,
    held: false,
};
const OVERDUE: Given = Given {
    overdue: true,
    ..NOTHING
};
const PROCESSOR: Given = Given {
    processor_flows: true,
    ..NOTHING
};
const BOTH: Given = Given {
    producer_flows: true,
    ..PROCESSOR
};
const HELD: Given = Given { held: true, ..BOTH };

/// Steps from "p1 q1 are good", each with what the options name and what is seen.
fn run(steps: &[(&str, &str, Given)]) -> Vec<String> {
    let mut release = good("p1", "q1");
    let mut lines = Vec::new();
    for (processor, producer, given) in steps {
        let wanted = images(processor, producer);
        let flows = |flows| match flows {
            true => Evidence::Flows,
            false => missing(),
        };
        let decision = decide(&Facts {
            processor: flows(given.processor_flows),
            producer: flows(given.producer_flows),
            overdue: given.overdue,
            held: given.held.then(|| "the schema comes first".to_owned()),
            ..facts(&wanted, Some(&release))
        });
        release = decision.release;
        lines.push(line(&release));
    }
    lines
}

#[rstest]
#[case::at_rest(&[("p1", "q1", NOTHING)], &["Good p1/p1/- q1/q1/-"])]
#[case::both_change(
    &[("p2", "q2", NOTHING), ("p2", "q2", PROCESSOR), ("p2", "q2", BOTH)],
    &["Progressing p2/p1/- q1/q1/-", "Progressing p2/p2/- q2/q1/-", "Good p2/p2/- q2/q2/-"]
)]
#[case::the_schema_comes_first(
    &[("p2", "q2", HELD), ("p2", "q2", NOTHING)],
    &["Progressing p1/p1/- q1/q1/-", "Progressing p2/p1/- q1/q1/-"]
)]
#[case::only_the_producer_changes(
    &[("p1", "q2", NOTHING), ("p1", "q2", BOTH)],
    &["Progressing p1/p1/- q2/q1/-", "Good p1/p1/- q2/q2/-"]
)]
#[case::a_bad_processor_and_the_producer_stays(
    &[("p2", "q2", NOTHING), ("p2", "q2", NOTHING), ("p2", "q2", OVERDUE), ("p2", "q2", BOTH)],
    &["Progressing p2/p1/- q1/q1/-", "Progressing p2/p1/- q1/q1/-", "RolledBack p1/p1/p2 q1/q1/-", "RolledBack p1/p1/p2 q1/q1/-"]
)]
#[case::a_bad_producer_and_the_processor_stays_new(
    &[("p2", "q2", NOTHING), ("p2", "q2", PROCESSOR), ("p2", "q2", OVERDUE), ("p2", "q2", NOTHING)],
    &["Progressing p2/p1/- q1/q1/-", "Progressing p2/p2/- q2/q1/-", "RolledBack p2/p2/- q1/q1/q2", "RolledBack p2/p2/- q1/q1/q2"]
)]
#[case::data_that_flows_at_the_last_moment_counts(
    &[("p2", "q1", NOTHING), ("p2", "q1", Given { overdue: true, ..BOTH })],
    &["Progressing p2/p1/- q1/q1/-", "Good p2/p2/- q1/q1/-"]
)]
#[case::the_option_goes_back(
    &[("p2", "q1", NOTHING), ("p1", "q1", NOTHING)],
    &["Progressing p2/p1/- q1/q1/-", "Good p1/p1/- q1/q1/-"]
)]
#[case::the_option_goes_back_after_a_roll_back(
    &[("p2", "q1", NOTHING), ("p2", "q1", OVERDUE), ("p1", "q1", NOTHING)],
    &["Progressing p2/p1/- q1/q1/-", "RolledBack p1/p1/p2 q1/q1/-", "Good p1/p1/- q1/q1/-"]
)]
#[case::another_image_after_a_roll_back(
    &[("p2", "q1", NOTHING), ("p2", "q1", OVERDUE), ("p3", "q1", NOTHING), ("p3", "q1", PROCESSOR)],
    &["Progressing p2/p1/- q1/q1/-", "RolledBack p1/p1/p2 q1/q1/-", "Progressing p3/p1/- q1/q1/-", "Good p3/p3/- q1/q1/-"]
)]
#[case::the_same_image_after_another(
    &[("p2", "q1", NOTHING), ("p2", "q1", OVERDUE), ("p1", "q1", NOTHING), ("p2", "q1", NOTHING)],
    &["Progressing p2/p1/- q1/q1/-", "RolledBack p1/p1/p2 q1/q1/-", "Good p1/p1/- q1/q1/-", "Progressing p2/p1/- q1/q1/-"]
)]
#[case::a_change_on_the_way(
    &[("p2", "q1", NOTHING), ("p3", "q1", NOTHING), ("p3", "q1", OVERDUE)],
    &["Progressing p2/p1/- q1/q1/-", "Progressing p3/p1/- q1/q1/-", "RolledBack p1/p1/p3 q1/q1/-"]
)]
fn step_by_step(#[case] steps: &[(&str, &str, Given)], #[case] expected: &[&str]) {
    assert_eq!(run(steps), expected);
}

#[test]
fn a_new_feed_has_what_the_options_name_and_nothing_to_go_back_to() {
    let wanted = images("p1", "q1");
    let first = decide(&facts(&wanted, None));
    assert_eq!(line(&first.release), "Progressing p1/-/- q1/-/-");
    assert!(!first.under_way, "it is no upgrade");
    let late = decide(&Facts {
        overdue: true,
        ..facts(&wanted, Some(&first.release))
    });
    assert_eq!(line(&late.release), "Progressing p1/-/- q1/-/-");
    assert_eq!(late.release.since, first.release.since);
    let flows = decide(&Facts {
        processor: Evidence::Flows,
        producer: Evidence::Flows,
        ..facts(&wanted, Some(&first.release))
    });
    assert_eq!(line(&flows.release), "Good p1/p1/- q1/q1/-");
}

#[rstest]
#[case::ready(true, "Progressing p2/p1/- q1/q1/-")]
#[case::not_ready(false, "Progressing p2/-/- q1/-/-")]
fn what_an_earlier_release_left_running_is_as_good_as_the_feed_was(
    #[case] was_ready: bool,
    #[case] expected: &str,
) {
    let wanted = images("p2", "q2");
    let decision = decide(&Facts {
        running_processor: Some("p1"),
        running_producer: Some("q1"),
        was_ready,
        ..facts(&wanted, None)
    });
    assert_eq!(line(&decision.release), expected);
}

#[test]
fn until_it_is_decided_workers_keep_the_images_that_they_have() {
    let wanted = images("p2", "q2");
    let running = |image: &str| Rollout {
        image: Some(image.to_owned()),
        ..Rollout::default()
    };
    let of = |status: Option<&ReleaseStatus>, processor: &Rollout| {
        let found = super::images(&wanted, status, processor, &running("q1"));
        (found.processor, found.producer)
    };
    let pair = |processor: &str, producer: &str| (processor.to_owned(), producer.to_owned());
    assert_eq!(of(None, &running("p1")), pair("p1", "q1"));
    assert_eq!(of(None, &Rollout::default()), pair("p2", "q1"));
    // What the status says is done, whatever runs.
    assert_eq!(of(Some(&good("p3", "q3")), &running("p1")), pair("p3", "q3"));
}

#[test]
fn a_roll_back_says_why_for_as_long_as_it_lasts_and_is_tried_again_when_asked() {
    let wanted = images("p2", "q1");
    let started = decide(&facts(&wanted, Some(&good("p1", "q1")))).release;
    let back = decide(&Facts {
        overdue: true,
        processor: Evidence::Missing("0 of 1 pods have it; pod x: ImagePullBackOff".to_owned()),
        ..facts(&wanted, Some(&started))
    });
    let message = "processor image p2 was put back to p1: 0 of 1 pods have it; pod x: ImagePullBackOff";
    assert_eq!(back.release.message, message);
    let later = decide(&Facts {
        now: at(900),
        ..facts(&wanted, Some(&back.release))
    });
    assert_eq!(later.release, back.release, "nothing new, so nothing is written");

    let asked = Facts {
        retry: Some("again"),
        ..facts(&wanted, Some(&back.release))
    };
    let again = decide(&asked);
    assert_eq!(line(&again.release), "Progressing p2/p1/- q1/q1/-");
    let failed = decide(&Facts {
        overdue: true,
        ..Facts {
            previous: Some(&again.release),
            ..asked.clone()
        }
    });
    assert_eq!(line(&failed.release), "RolledBack p1/p1/p2 q1/q1/-");
    let once = decide(&Facts {
        previous: Some(&failed.release),
        ..asked
    });
    assert_eq!(once.release, failed.release, "the same value asks once");
}

#[test]
fn each_step_has_the_whole_time() {
    let wanted = images("p2", "q2");
    let first = decide(&facts(&wanted, Some(&good("p1", "q1")))).release;
    let waits = decide(&Facts {
        now: at(100),
        ..facts(&wanted, Some(&first))
    });
    assert!(waits.under_way);
    assert_eq!(waits.release.since, Time(at(60)));
    assert_eq!(waits.release.message, "processor: nothing came");
    let second = decide(&Facts {
        processor: Evidence::Flows,
        now: at(200),
        ..facts(&wanted, Some(&first))
    });
    assert_eq!(second.release.since, Time(at(200)));
    assert_eq!(second.release.message, "producer: gets image q2");
}

#[test]
fn a_suspended_feed_is_not_under_way() {
    let wanted = images("p1", "q2");
    let decision = decide(&Facts {
        suspended: true,
        ..facts(&wanted, Some(&good("p1", "q1")))
    });
    assert_eq!(line(&decision.release), "Progressing p1/p1/- q2/q1/-");
    assert!(!decision.under_way);
}

#[test]
fn events_tell_of_beginning_success_and_roll_back_and_of_nothing_else() {
    let said = |before: &ReleaseStatus, now: &ReleaseStatus| news(before, now).map(|(reason, _)| reason);
    let old = good("p1", "q1");
    let wanted = images("p2", "q1");
    let started = decide(&facts(&wanted, Some(&old))).release;
    assert_eq!(said(&old, &started), Some(Reason::RolloutStarted));
    assert_eq!(said(&started, &started), None);
    let done = decide(&Facts {
        processor: Evidence::Flows,
        ..facts(&wanted, Some(&started))
    })
    .release;
    assert_eq!(said(&started, &done), Some(Reason::RolloutSucceeded));
    let back = decide(&Facts {
        overdue: true,
        ..facts(&wanted, Some(&started))
    })
    .release;
    assert_eq!(said(&started, &back), Some(Reason::RolledBack));
    assert_eq!(said(&back, &back), None);
    assert!(is_rolling(&started) && !is_rolling(&back) && !is_rolling(&done));
    let first = decide(&facts(&wanted, None)).release;
    let proved = decide(&Facts {
        processor: Evidence::Flows,
        producer: Evidence::Flows,
        ..facts(&wanted, Some(&first))
    })
    .release;
    assert_eq!(said(&first, &proved), None, "the first images are no change");
}
