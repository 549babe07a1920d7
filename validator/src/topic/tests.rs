use proptest::prelude::*;

use super::*;

fn filter(text: &str) -> TopicFilter<'_> {
    TopicFilter::parse(text).unwrap_or_else(|error| panic!("{text:?} {error}"))
}

fn name(text: &str) -> TopicName<'_> {
    TopicName::parse(text).unwrap_or_else(|error| panic!("{text:?} {error}"))
}

#[test]
fn what_is_a_filter() {
    for text in
        ["#", "+", "a", "/", "//", "a/#", "+/+/#", "a/+/b", "/+", "$SYS/#", "ä/日本", "a b", "$shared/x"]
    {
        assert!(TopicFilter::parse(text).is_ok(), "{text}");
    }
    for text in ["a/#/b", "#/", "##", "a#", "a/b#", "+a", "a+", "a/+b/c", "++"] {
        assert_eq!(TopicFilter::parse(text), Err(InvalidTopic::MisplacedWildcard), "{text}");
    }
    for text in ["$share", "$share/", "$share/g/a"] {
        assert_eq!(TopicFilter::parse(text), Err(InvalidTopic::MalformedShare), "{text}");
    }
}

#[test]
fn what_is_a_name() {
    for text in ["+", "#", "a/+", "a/#", "a+b"] {
        assert_eq!(TopicName::parse(text), Err(InvalidTopic::WildcardInName), "{text}");
    }
    assert_eq!(TopicName::parse(""), Err(InvalidTopic::Empty));
    for (text, c) in [
        ("a\0b", '\0'),
        ("a\u{1}", '\u{1}'),
        ("\u{7f}", '\u{7f}'),
        ("\u{9f}x", '\u{9f}'),
        ("\u{fffe}", '\u{fffe}'),
        ("\u{fdd0}", '\u{fdd0}'),
        ("\u{10ffff}", '\u{10ffff}'),
    ] {
        assert_eq!(TopicName::parse(text), Err(InvalidTopic::Character(c)), "{text:?}");
        assert_eq!(TopicFilter::parse(text), Err(InvalidTopic::Character(c)), "{text:?}");
    }
    let longest = "x".repeat(MAX_TOPIC_LENGTH);
    assert!(TopicName::parse(&longest).is_ok());
    assert_eq!(
        TopicName::parse(&(longest + "x")),
        Err(InvalidTopic::TooLong { length: MAX_TOPIC_LENGTH + 1 })
    );
}

#[test]
fn what_is_a_subscription() {
    let shared = Subscription::parse("$share/g/a/+").unwrap();
    assert_eq!((shared.share_name, shared.filter.as_str()), (Some("g"), "a/+"));
    assert_eq!(Subscription::parse("a").unwrap().share_name, None);
    assert_eq!(Subscription::parse("$share/g//a").unwrap().filter.as_str(), "/a");
    for text in [
        "$share",
        "$share/",
        "$share/g",
        "$share/g/",
        "$share//a",
        "$share/+/a",
        "$share/g#/a",
        "$share/g/$share/h/a",
    ] {
        assert_eq!(Subscription::parse(text), Err(InvalidTopic::MalformedShare), "{text}");
    }
    assert_eq!(Subscription::parse("$share/g/a/#/b"), Err(InvalidTopic::MisplacedWildcard));
    assert_eq!(Subscription::parse("$share/g\0/a"), Err(InvalidTopic::Character('\0')));
}

/// The examples of MQTT 5 §4.7.1 and §4.7.2, and the corners.
#[test]
fn matching() {
    let table = [
        ("sport/tennis/player1/#", "sport/tennis/player1", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
        ("sport/#", "sport", true),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        ("+", "finance", true),
        ("#", "a/b", true),
        ("#", "$SYS/x", false),
        ("+/x", "$SYS/x", false),
        ("$SYS/#", "$SYS/x", true),
        ("$SYS/+", "$SYS/x", true),
        ("a/b", "a/b/c", false),
        ("a/b/c", "a/b", false),
        ("a/b", "a/bc", false),
        ("a/#", "ab", false),
        ("devices/A/#", "devices/AB/x", false),
        ("devices/A/#", "devices//A", false),
        ("a/+/c", "a//c", true),
        ("a/+", "a/b/c", false),
        ("+/#", "a", true),
        ("a/+/#", "a", false),
        ("a/+/#", "a/b", true),
    ];
    for (f, t, expected) in table {
        assert_eq!(filter(f).matches(name(t)), expected, "{f} {t}");
    }
}

#[test]
fn covering() {
    let table = [
        ("devices/A/#", "devices/A", true),
        ("devices/A/#", "devices/A/#", true),
        ("devices/A/#", "devices/A/+/x", true),
        ("devices/A/#", "devices/AB/#", false),
        ("devices/A/#", "devices/+/x", false),
        ("devices/A/#", "devices//A", false),
        ("devices/A/#", "#", false),
        ("#", "+/#", true),
        ("+/#", "#", true),
        ("+/+/#", "#", false),
        ("/+/#", "/#", true),
        ("/+", "/#", false),
        ("#", "$SYS/#", false),
        ("+/x", "$SYS/x", false),
        ("$SYS/#", "$SYS/+", true),
        ("$SYS/+", "$SYS/#", false),
        ("a/+", "a/b", true),
        ("a/b", "a/+", false),
        ("a/+/#", "a/#", false),
        ("a/#", "a/+/#", true),
        ("a/+", "a/#", false),
        ("a", "a/#", false),
        ("+", "#", false),
        ("+/+", "+/#", false),
    ];
    for (granted, asked, expected) in table {
        assert_eq!(filter(granted).covers(filter(asked)), expected, "{granted} {asked}");
    }
}

/// What the standard says, word for word, on whole vectors of levels.
mod naive {
    pub(super) fn matches(filter: &str, topic: &str) -> bool {
        let (filter, topic): (Vec<_>, Vec<_>) = (filter.split('/').collect(), topic.split('/').collect());
        if topic[0].starts_with('$') && (filter[0] == "+" || filter[0] == "#") {
            return false;
        }
        levels(&filter, &topic)
    }

    fn levels(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) | ([], []) => true,
            (["+", filter @ ..], [_, topic @ ..]) => levels(filter, topic),
            ([f, filter @ ..], [t, topic @ ..]) => f == t && levels(filter, topic),
            _ => false,
        }
    }
}

/// Few letters, so that things are often equal; `$` and empty levels included.
const LITERALS: [&str; 5] = ["a", "b", "", "$", "$a"];
/// One level more than the longest filter has, so that `#` shows.
const TOPIC_LEVELS: usize = 4;

fn filters() -> impl Strategy<Value = String> {
    let level = prop_oneof![3 => prop::sample::select(&LITERALS[..]), 2 => Just("+")];
    (prop::collection::vec(level, 0..TOPIC_LEVELS), any::<bool>())
        .prop_map(|(mut levels, hash)| {
            if hash {
                levels.push("#");
            }
            levels.truncate(TOPIC_LEVELS - 1);
            if levels.len() == TOPIC_LEVELS - 1 && hash {
                levels[TOPIC_LEVELS - 2] = "#";
            }
            levels.join("/")
        })
        .prop_filter("a filter is not empty", |text| !text.is_empty())
}

fn topics() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&LITERALS[..]), 1..=TOPIC_LEVELS)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("a name is not empty", |text| !text.is_empty())
}

/// Every topic of up to [`TOPIC_LEVELS`] levels over the literals and one
/// letter that stands in no filter.
fn all_topics() -> Vec<String> {
    let mut topics: Vec<String> = vec![];
    let mut longest: Vec<Vec<&str>> = vec![vec![]];
    for _ in 0..TOPIC_LEVELS {
        longest = longest
            .iter()
            .flat_map(|prefix| {
                LITERALS.iter().chain(&["z"]).map(move |level| [&prefix[..], &[*level]].concat())
            })
            .collect();
        topics.extend(longest.iter().map(|levels| levels.join("/")).filter(|topic| !topic.is_empty()));
    }
    topics
}

proptest! {
    #[test]
    fn matches_as_the_standard_says(f in filters(), topic in topics()) {
        prop_assert_eq!(filter(&f).matches(name(&topic)), naive::matches(&f, &topic), "{} {}", f, topic);
    }

    /// Covering is inclusion of the sets of topics, in both directions.
    #[test]
    fn covers_exactly_when_every_topic_is_included(granted in filters(), asked in filters()) {
        thread_local!(static TOPICS: Vec<String> = all_topics());
        let included = TOPICS.with(|topics| {
            topics.iter().all(|topic| !naive::matches(&asked, topic) || naive::matches(&granted, topic))
        });
        prop_assert_eq!(filter(&granted).covers(filter(&asked)), included, "{} {}", granted, asked);
    }

    #[test]
    fn parsing_never_panics_and_names_are_filters(text in "\\PC{0,12}|[a+#/$]{0,8}") {
        let as_filter = TopicFilter::parse(&text);
        let _ = Subscription::parse(&text);
        if TopicName::parse(&text).is_ok() && text != "$share" && !text.starts_with("$share/") {
            prop_assert!(as_filter.is_ok(), "{}", text);
        }
    }
}
