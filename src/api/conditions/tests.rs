use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::new(second, 123_456_789).unwrap()
}

fn stamped(condition: Condition, second: i64) -> Condition {
    let last_transition_time = Time(Timestamp::from_second(second).unwrap());
    Condition { last_transition_time, ..condition }
}

fn failed(type_: &str, severity: Severity) -> Condition {
    Condition::failed(type_, severity, &format!("{type_}Reason"), format!("{type_} message"))
}

#[test]
fn the_time_changes_only_with_what_the_condition_says() {
    let mut list = Vec::new();
    assert!(set(&mut list, Condition::ok("A"), at(1)));
    assert!(!set(&mut list, Condition::ok("A"), at(2)));
    assert_eq!(list, [stamped(Condition::ok("A"), 1)]);

    assert!(set(&mut list, failed("A", Severity::Error), at(3)));
    assert!(set(&mut list, failed("A", Severity::Warning), at(4)));
    let reworded = Condition::failed("A", Severity::Warning, "AReason", "other");
    assert!(set(&mut list, reworded.clone(), at(5)));
    let renamed = Condition { reason: Some("Other".into()), ..reworded };
    assert!(set(&mut list, renamed.clone(), at(6)));
    assert!(!set(&mut list, renamed.clone(), at(7)));
    assert_eq!(list, [stamped(renamed, 6)]);
}

#[test]
fn an_empty_text_of_another_writer_is_no_difference() {
    let written = Condition {
        reason: Some(String::new()),
        message: Some(String::new()),
        ..stamped(Condition::ok("A"), 1)
    };
    let mut list = vec![written.clone()];
    assert!(!set(&mut list, Condition::ok("A"), at(2)));
    assert_eq!(list, [written]);
}

#[test]
fn ready_comes_first_and_the_entries_of_others_stay() {
    let foreign = stamped(failed("Zeta", Severity::Info), 1);
    let mut list = vec![foreign.clone(), stamped(Condition::ok("Beta"), 1)];
    set(&mut list, Condition::ok("Alpha"), at(2));
    set(&mut list, Condition::ok(READY), at(2));
    let expected = [
        stamped(Condition::ok(READY), 2),
        stamped(Condition::ok("Alpha"), 2),
        stamped(Condition::ok("Beta"), 1),
        foreign,
    ];
    assert_eq!(list, expected);
}

#[test]
fn the_summary_takes_the_first_condition_of_the_worst_group() {
    let (error, warning, info) = (Severity::Error, Severity::Warning, Severity::Info);
    let unknown = |t: &str| Condition::unknown(t, "Why", "because");
    let bare = Condition { status: ConditionStatus::False, ..Condition::ok("M") };
    let cases: Vec<(Vec<Condition>, Option<Condition>)> = vec![
        (vec![], None),
        (vec![Condition::ok(READY)], Some(Condition::ok(READY))),
        (vec![Condition::ok("A"), Condition::ok("B")], Some(Condition::ok(READY))),
        (vec![Condition::ok("B"), unknown("A")], Some(Condition::ok(READY))),
        (vec![unknown("A")], Some(unknown("A"))),
        (vec![failed("A", info.clone()), Condition::ok("B")], Some(failed("A", info.clone()))),
        (vec![failed("A", info), failed("B", warning.clone())], Some(failed("B", warning.clone()))),
        (
            vec![failed("D", error.clone()), failed("C", error.clone()), failed("A", warning)],
            Some(failed("C", error)),
        ),
        (vec![Condition::ok("A"), bare.clone()], Some(bare)),
    ];
    for (mut list, expected) in cases {
        let had_ready = get(&list, READY).is_some();
        let changed = summarize(&mut list, at(9));
        assert_eq!(changed, expected.is_some() && !had_ready);
        match (get(&list, READY), expected) {
            (Some(ready), Some(expected)) => {
                let expected = Condition { type_: READY.into(), ..expected };
                assert!(ready.says_the_same(&expected), "{ready:?} {expected:?}");
                assert!(!summarize(&mut list, at(10)));
            }
            (None, None) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_wire_has_whole_seconds_and_no_empty_fields() {
    let mut list = Vec::new();
    set(&mut list, Condition::ok("A"), "2026-11-22T21:59:32.9Z".parse().unwrap());
    let expected = serde_json::json!([
        { "type": "A", "status": "True", "lastTransitionTime": "2026-11-22T21:59:32Z" }
    ]);
    assert_eq!(serde_json::to_value(&list).unwrap(), expected);
    assert_eq!(serde_json::from_value::<Vec<Condition>>(expected).unwrap(), list);
}

#[test]
fn a_status_from_the_future_survives() {
    let wire = serde_json::json!({
        "type": "A", "status": "Maybe", "severity": "Odd",
        "lastTransitionTime": "2026-11-22T21:59:32Z", "added": 1,
    });
    let condition: Condition = serde_json::from_value(wire).unwrap();
    assert_eq!(condition.status, ConditionStatus::Other("Maybe".into()));
    assert_eq!(condition.severity, Some(Severity::Other("Odd".into())));
}

#[test]
fn a_standard_condition_keeps_its_time_until_its_status_changes() {
    let mut list = Vec::new();
    let no = ConditionStatus::False;
    assert!(set_standard(&mut list, READY, &no, "A", "a", at(1)));
    assert!(set_standard(&mut list, READY, &no, "B", "b", at(2)));
    assert!(!set_standard(&mut list, READY, &no, "B", "b", at(3)));
    assert_eq!(list[0].last_transition_time, whole_seconds(at(1)));
    assert!(set_standard(&mut list, READY, &ConditionStatus::True, "B", "b", at(4)));
    assert_eq!(list[0].last_transition_time, whole_seconds(at(4)));
}
