//! The picture on terminals of all sizes.

use std::time::{Duration, SystemTime};

use ratatui::{Terminal, backend::TestBackend, buffer::Buffer, style::Style};
use rstest::rstest;
use sealane::{Condition, Endpoint, EndpointId, Event, Failure, Moment, TimedEvent, Topology};

use super::*;
use crate::watch::{fleet::Fleet, history::History, paint::Paint, picture::FOOTER};

/// What a terminal of this size shows.
fn drawn(fleet: &Fleet, events: &[TimedEvent], size: (u16, u16), paint: Paint) -> Buffer {
    let mut history = History::default();
    history.note(Duration::ZERO, &fleet.status);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(3_723);
    let picture =
        Picture { status: &fleet.status, history: &history, events, now, paint, footer: FOOTER };
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    terminal.draw(|frame| draw(frame, &picture)).unwrap();
    terminal.backend().buffer().clone()
}

/// The lines of a buffer, without the blanks at their ends.
fn lines(buffer: &Buffer) -> Vec<String> {
    let width = usize::from(buffer.area.width).max(1);
    let line = |cells: &[ratatui::buffer::Cell]| {
        let text: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
        text.trim_end().to_owned()
    };
    buffer.content.chunks(width).map(line).collect()
}

fn text(fleet: &Fleet, events: &[TimedEvent], size: (u16, u16)) -> String {
    lines(&drawn(fleet, events, size, Paint::new(true))).join("\n")
}

fn events() -> Vec<TimedEvent> {
    let names = (1..=3).map(|number| Endpoint::new(format!("db-{number}"), "here"));
    let topology = Topology::new(names.collect());
    let first = EndpointId::FIRST;
    let failure = Failure::Connection("connection refused".to_owned());
    let all = [
        Event::Up { endpoint: first },
        Event::Down { endpoint: first, failure },
        Event::PrimaryChanged { from: Some(first), to: None },
    ];
    let told = |(number, event): (u64, Event)| {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(60 * number);
        TimedEvent::new(number, time, Moment::ZERO, event, &topology)
    };
    (1..).zip(all).map(told).collect()
}

#[tokio::test]
async fn a_good_cluster_is_a_tree_with_its_lags() {
    let fleet = Fleet::sail(2).await;
    let text = text(&fleet, &[], (80, 16));
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("all serve") && lines[0].ends_with("01:02:03 UTC"), "{text}");
    assert!(lines[2].starts_with("NAME") && lines[2].contains("IN FLIGHT"), "{text}");
    assert!(lines[3].starts_with("db-1") && lines[3].contains("primary"), "{text}");
    assert!(lines[4].starts_with("├─ db-2") && lines[4].contains("3 ms"), "{text}");
    assert!(lines[5].starts_with("└─ db-3") && lines[5].contains("▂"), "{text}");
    assert!(!lines[3].contains("3 ms"), "the primary has no lag: {text}");
    assert!(text.contains("nothing has changed since the start"), "{text}");
    assert!(lines[15].starts_with("q, Esc or Ctrl-C ends"), "{text}");
}

#[tokio::test]
async fn a_replica_that_dies_changes_the_picture() {
    let mut fleet = Fleet::sail(2).await;
    let before = text(&fleet, &[], (80, 16));
    fleet.sink(1);
    let after = text(&fleet, &[], (80, 16));
    assert_ne!(before, after);
    let lines: Vec<_> = after.lines().collect();
    assert!(lines[0].starts_with("1 of 3 do not serve"), "{after}");
    assert!(lines[4].contains("db-2") && lines[4].contains("down"), "{after}");
    assert!(lines[4].contains('?'), "its lag is unknown, and not zero: {after}");
    assert!(lines[5].starts_with("│") && lines[5].contains("connection refused"), "{after}");
    assert!(lines[6].contains("db-3") && lines[6].contains("serving"), "{after}");
}

#[tokio::test]
async fn an_ejected_replica_is_told_by_a_word() {
    let mut fleet = Fleet::sail(1).await;
    fleet.replica(1).ejected = true;
    let ejected = text(&fleet, &[], (80, 16));
    assert!(ejected.contains("replica  ejected") && ejected.contains("1 of 2"), "{ejected}");
    fleet.replica(1).condition = Condition::Lagging;
    let lagging = text(&fleet, &[], (80, 16));
    assert!(lagging.contains("ejected, lagging"), "{lagging}");
}

#[tokio::test]
async fn a_primary_that_is_away_is_told_first() {
    let mut fleet = Fleet::sail(1).await;
    fleet.status.endpoints[0].condition = Condition::Down;
    let down = text(&fleet, &[], (80, 16));
    assert!(down.starts_with("the primary, db-1, is down; 1 of 2 do not serve"), "{down}");
    fleet.status.primary = None;
    let none = text(&fleet, &[], (80, 16));
    assert!(none.starts_with("there is no primary"), "{none}");
    assert!(none.contains("(none)") && none.contains("not in charge"), "{none}");
}

#[tokio::test]
async fn reads_that_are_all_on_the_primary_are_told() {
    let mut fleet = Fleet::sail(1).await;
    fleet.status.reads_on_primary = Some(true);
    let text = text(&fleet, &[], (80, 16));
    assert!(text.starts_with("no replica takes reads"), "{text}");
}

#[tokio::test]
async fn events_come_with_time_and_severity_and_the_newest_first() {
    let text = text(&Fleet::sail(2).await, &events(), (80, 24));
    let from = text.lines().position(|line| line == "LAST EVENTS").unwrap();
    let shown: Vec<_> = text.lines().skip(from + 1).take(3).collect();
    let wanted = [
        "00:03:00  error    no endpoint may take writes",
        "00:02:00  error    db-1 is down: no connection: connection refused",
        "00:01:00  info     db-1 answers",
    ];
    assert_eq!(shown, wanted);
}

#[rstest]
#[case(0, 0)]
#[case(1, 1)]
#[case(1, 50)]
#[case(20, 5)]
#[case(200, 1)]
#[tokio::test]
async fn no_terminal_is_too_small(#[case] width: u16, #[case] height: u16) {
    let mut fleet = Fleet::sail(3).await;
    fleet.sink(2);
    drawn(&fleet, &events(), (width, height), Paint::new(true));
}

#[tokio::test]
async fn every_size_shows_something_and_nothing_beyond_it() {
    let mut fleet = Fleet::sail(3).await;
    fleet.sink(2);
    for width in 1..130 {
        for height in 1..30 {
            let buffer = drawn(&fleet, &events(), (width, height), Paint::new(true));
            assert!(!lines(&buffer)[0].is_empty(), "{width}x{height}");
        }
    }
}

#[tokio::test]
async fn a_small_terminal_still_tells_what_is_wrong() {
    let mut fleet = Fleet::sail(1).await;
    fleet.sink(1);
    let text = text(&fleet, &events(), (20, 5));
    let wanted = [
        "1 of 2 do not serve",
        "NAME     CONDITION",
        "db-1     serving",
        "└─ db-2  down",
        "       no connectio…",
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), wanted);
}

#[rstest]
#[case::ascii("replica-1.eu-north-1b.fleet.internal.example.com:5432")]
#[case::wide("港港港港港港港港港港港港港港港港港港港港港港港港港")]
#[tokio::test]
async fn a_long_name_is_cut_and_the_condition_stays(#[case] name: &str) {
    let mut fleet = Fleet::sail(1).await;
    name.clone_into(&mut fleet.replica(1).name);
    fleet.replica(1).condition = Condition::Paused;
    for width in [20, 40, 80] {
        let text = text(&fleet, &[], (width, 16));
        let line = text.lines().find(|line| line.starts_with("└─ ")).unwrap();
        assert!(line.contains('…') && line.contains("paused"), "{width}: {text}");
        assert!(!line.contains(name), "{width}: {text}");
    }
}

#[tokio::test]
async fn a_fleet_that_is_too_large_says_how_much_is_missing() {
    let fleet = Fleet::sail(40).await;
    let text = text(&fleet, &events(), (80, 24));
    assert!(text.contains("… and ") && text.contains(" more lines"), "{text}");
    assert!(text.contains("no endpoint may take writes"), "the events keep their place: {text}");
}

#[tokio::test]
async fn what_a_server_says_does_not_rule_the_terminal() {
    let mut fleet = Fleet::sail(1).await;
    fleet.replica(1).name = "db\u{1b}[2J\u{202e}".to_owned();
    let text = text(&fleet, &[], (80, 16));
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()) && !text.contains('\u{202e}'));
}

#[tokio::test]
async fn colours_only_repeat_what_words_say() {
    let mut fleet = Fleet::sail(2).await;
    fleet.sink(1);
    let coloured = drawn(&fleet, &events(), (80, 24), Paint::new(true));
    let plain = drawn(&fleet, &events(), (80, 24), Paint::new(false));
    assert_eq!(lines(&coloured), lines(&plain));
    let is_plain = |cell: &ratatui::buffer::Cell| {
        cell.style() == Style::reset() || cell.style() == ratatui::buffer::Cell::EMPTY.style()
    };
    assert!(plain.content.iter().all(is_plain));
    assert!(!coloured.content.iter().all(is_plain));
}

#[tokio::test]
async fn a_server_alone_is_not_probed() {
    let fleet = Fleet::sail(0).await;
    let text = text(&fleet, &[], (80, 16));
    assert!(text.starts_with("all serve") && text.contains("not probed"), "{text}");
}
