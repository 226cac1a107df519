//! The settings of a queue as people name them. One table serves the flags of `queue create`, the words of `queue set`,
//! what `queue info` shows, and JSON.

use clap::builder::TypedValueParser;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use queue_protocol::settings::{QueueSettings, Settings};
use serde_json::Value;

/// A setting with its name in flags, in `KEY=VALUE` and in listings.
pub(crate) struct QueueSetting {
    pub(crate) key: &'static str,
    value: &'static str,
    help: &'static str,
    /// Its name in JSON.
    pub(crate) json: &'static str,
    parse: fn(&str, &mut QueueSettings) -> Result<(), String>,
    /// For people.
    pub(crate) show: fn(&Settings) -> String,
    /// For scripts.
    pub(crate) to_json: fn(&Settings) -> Value,
}

macro_rules! settings {
    ($($key:literal $json:literal $field:ident $kind:ident $value:literal $help:literal;)*) => {
        /// All of them, in the order in which they are shown.
        pub(crate) const SETTINGS: &[QueueSetting] = &[$(QueueSetting {
            key: $key,
            value: $value,
            help: $help,
            json: $json,
            parse: |text, settings| {
                settings.$field = Some($kind::parse(text)?);
                Ok(())
            },
            show: |settings| $kind::show(&settings.$field),
            to_json: |settings| $kind::to_json(&settings.$field),
        },)*];
    };
}

settings! {
    "max-failures" "max_failures" max_failures count "N" "Failures after which a message is dead";
    "lease" "lease_ms" lease_ms lease "DURATION" "Length of leases taken without --for";
    "backoff" "backoff_ms" backoff_ms span "DURATION" "Delay after the first failure; `none`: ready again at once";
    "backoff-factor" "backoff_factor_percent" backoff_factor_percent percent "PERCENT" "What each further failure makes of the delay: 200% doubles it";
    "backoff-max" "backoff_max_ms" backoff_ms_max span "DURATION" "Longest delay after a failure";
    "backoff-jitter" "backoff_jitter_percent" backoff_jitter_percent percent "PERCENT" "How far each delay is shifted at most, either way";
    "ttl" "ttl_ms" ttl_ms span "DURATION" "Time to live of messages pushed without --ttl; `none`: for ever";
    "on-expiry" "on_expiry" on_expiry on_expiry "drop|dead" "What to do with a message whose time to live has passed";
    "dedup-window" "dedup_window_ms" dedup_window_ms span "DURATION" "How long a dedup key is remembered";
    "max-messages" "max_messages" max_messages limit "N" "Most messages ready, leased and delayed; `none`: no limit";
    "max-bytes" "max_bytes" max_bytes bytes "SIZE" "Most bytes of bodies in the queue; `none`: no limit";
    "on-full" "on_full" on_full on_full "reject|drop-oldest" "What to do with a push into a full queue: reject it, or drop the oldest messages";
    "dead-to" "dead_to" dead_to queue "QUEUE" "The queue that dead messages move to; `none`: they stay";
    "dead-max" "dead_max" dead_max limit "N" "Most dead messages kept, the newest; `none`: no limit";
    "dead-ttl" "dead_ttl_ms" dead_ttl_ms span "DURATION" "How long a dead message is kept; `none`: for ever";
    "ordered" "ordered" ordered switch "on|off" "One lease at a time for each group, in the order of the pushes";
    "on-poison" "on_poison" on_poison on_poison "skip|block|park-group" "What a dead message does to the rest of its group, if ordered";
    "fair" "fair" fair switch "on|off" "Serve groups in turn, by weight";
    "group-weight" "group_weight" group_weight count "N" "Messages of a group in each of its turns";
    "group-leased-max" "group_leased_max" group_leased_max limit "N" "Most leases held at once for each group; `none`: no limit";
    "rate-max" "rate_max" rate_max limit "N" "Most messages handed out in each --rate-per; `none`: no limit";
    "rate-per" "rate_ms" rate_ms span "DURATION" "The period that --rate-max applies to";
    "group-rate-max" "group_rate_max" group_rate_max limit "N" "Most messages of one group in each --group-rate-per; `none`: no limit";
    "group-rate-per" "group_rate_ms" group_rate_ms span "DURATION" "The period that --group-rate-max applies to";
    "single-active" "single_active" single_active switch "on|off" "Only one consumer at a time gets messages";
}

/// Numbers that are at least what the broker says.
mod count {
    use super::*;

    pub(super) fn parse<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
        let number = text.replace(['_', ','], "").parse::<u64>().ok();
        number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| "expected a number".to_owned())
    }

    pub(super) fn show<T: Copy + Into<u64>>(value: &T) -> String {
        crate::show::render::count((*value).into())
    }

    pub(super) fn to_json<T: Copy + Into<u64>>(value: &T) -> Value {
        (*value).into().into()
    }
}

/// Numbers of which 0 is none.
mod limit {
    use super::*;

    pub(super) fn parse<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
        count::parse(if text == NONE { "0" } else { text })
    }

    pub(super) fn show<T: Copy + Into<u64>>(value: &T) -> String {
        if (*value).into() == 0 { "-".to_owned() } else { count::show(value) }
    }

    pub(super) fn to_json<T: Copy + Into<u64>>(value: &T) -> Value {
        if (*value).into() == 0 { Value::Null } else { count::to_json(value) }
    }
}

/// Sizes of which 0 is none.
mod bytes {
    use super::*;

    pub(super) fn parse(text: &str) -> Result<u64, String> {
        if text == NONE { Ok(0) } else { super::super::values::size(text) }
    }

    pub(super) fn show(value: &u64) -> String {
        if *value == 0 { "-".to_owned() } else { crate::show::render::size(*value) }
    }

    pub(super) use super::limit::to_json;
}

/// Milliseconds of which 0 is none.
mod span {
    use super::*;

    pub(super) fn parse(text: &str) -> Result<u64, String> {
        if text == NONE { Ok(0) } else { super::super::values::span(text).map(super::super::milliseconds) }
    }

    pub(super) fn show(value: &u64) -> String {
        if *value == 0 {
            return "-".to_owned();
        }
        humantime::format_duration(std::time::Duration::from_millis(*value)).to_string()
    }

    pub(super) use super::limit::to_json;
}

/// The length of a lease.
mod lease {
    pub(super) fn parse(text: &str) -> Result<u64, String> {
        super::super::values::lease_length(text).map(super::super::milliseconds)
    }

    pub(super) use super::count::to_json;
    pub(super) use super::span::show;
}

mod percent {
    use super::*;

    pub(super) fn parse(text: &str) -> Result<u32, String> {
        count::parse(text.strip_suffix('%').unwrap_or(text)).map_err(|_| "expected a percentage".to_owned())
    }

    pub(super) fn show(value: &u32) -> String {
        format!("{value}%")
    }

    pub(super) use super::count::to_json;
}

/// A queue, or none.
mod queue {
    use queue_protocol::names::QueueName;

    use super::*;

    pub(super) fn parse(text: &str) -> Result<Option<QueueName>, String> {
        if text == NONE {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|error: queue_protocol::names::BadQueueName| error.to_string())
    }

    pub(super) fn show(value: &Option<QueueName>) -> String {
        value.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string)
    }

    pub(super) fn to_json(value: &Option<QueueName>) -> Value {
        value.as_ref().map(|queue| queue.as_str()).into()
    }
}

mod switch {
    use super::*;

    pub(super) fn parse(text: &str) -> Result<bool, String> {
        match text {
            "on" | "true" => Ok(true),
            "off" | "false" => Ok(false),
            _ => Err("expected on or off".to_owned()),
        }
    }

    pub(super) fn show(value: &bool) -> String {
        if *value { "on" } else { "off" }.to_owned()
    }

    pub(super) fn to_json(value: &bool) -> Value {
        (*value).into()
    }
}

/// One of some words.
macro_rules! words {
    ($name:ident: $type:ident { $($word:literal => $variant:ident),* }) => {
        mod $name {
            use queue_protocol::settings::$type;

            use super::*;

            pub(super) fn parse(text: &str) -> Result<$type, String> {
                match text {
                    $($word => Ok($type::$variant),)*
                    _ => Err(format!("expected {}", [$($word),*].join(" or "))),
                }
            }

            fn word(value: $type) -> &'static str {
                match value {
                    $($type::$variant => $word,)*
                }
            }

            pub(super) fn show(value: &$type) -> String {
                word(*value).to_owned()
            }

            pub(super) fn to_json(value: &$type) -> Value {
                word(*value).replace('-', "_").into()
            }
        }
    };
}

words!(on_expiry: OnExpiry { "drop" => Drop, "dead" => Dead });
words!(on_poison: OnPoison { "skip" => Skip, "block" => Block, "park-group" => ParkGroup });
words!(on_full: OnFull { "reject" => Reject, "drop-oldest" => DropOldest });

/// What a number or a queue that is not there is called.
const NONE: &str = "none";

/// The settings named by flags, each by its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct SettingFlags(pub(crate) QueueSettings);

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        SETTINGS.iter().fold(command, |command, setting| {
            let check = |text: String| (setting.parse)(&text, &mut QueueSettings::default()).map(|()| text);
            let parser = clap::builder::StringValueParser::new().try_map(check);
            let default = match (setting.show)(&Settings::default()).as_str() {
                "-" => NONE.to_owned(),
                shown => shown.to_owned(),
            };
            let help = format!("{} [default: {default}]", setting.help);
            let arg = Arg::new(setting.key).long(setting.key).value_name(setting.value).help(help);
            command.arg(arg.value_parser(parser))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for setting in SETTINGS {
            if let Some(text) = matches.get_one::<String>(setting.key) {
                (setting.parse)(text, &mut self.0)
                    .map_err(|error| clap::Error::raw(clap::error::ErrorKind::ValueValidation, error))?;
            }
        }
        Ok(())
    }
}

/// One `KEY=VALUE` of `queue set`.
#[derive(Clone, Debug)]
pub(crate) struct Assignment {
    setting: &'static str,
    text: String,
}

impl std::str::FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
        // As in JSON, too.
        let setting = SETTINGS.iter().find(|setting| setting.key == key.replace('_', "-"));
        let Some(setting) = setting else {
            let keys: Vec<&str> = SETTINGS.iter().map(|setting| setting.key).collect();
            return Err(format!("no setting {key:?}; there are {}", keys.join(", ")));
        };
        (setting.parse)(value, &mut QueueSettings::default())?;
        Ok(Self { setting: setting.key, text: value.to_owned() })
    }
}

/// The change that these make together; the last of the same key counts.
pub(crate) fn change(assignments: &[Assignment]) -> QueueSettings {
    let mut change = QueueSettings::default();
    for Assignment { setting, text } in assignments {
        let setting = SETTINGS.iter().find(|known| known.key == *setting).expect("it was found before");
        (setting.parse)(text, &mut change).expect("it was parsed before");
    }
    change
}

/// Completes the key of a `KEY=VALUE`.
pub(crate) fn keys(current: &std::ffi::OsStr) -> Vec<clap_complete::engine::CompletionCandidate> {
    let current = current.to_str().unwrap_or_default();
    let keys = SETTINGS.iter().filter(|setting| setting.key.starts_with(current));
    keys.map(|setting| {
        let candidate = clap_complete::engine::CompletionCandidate::new(format!("{}=", setting.key));
        candidate.help(Some(setting.help.into()))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use queue_protocol::settings::{OnExpiry, OnFull, OnPoison};

    use super::*;

    fn parse(words: &[&str]) -> Result<QueueSettings, String> {
        let assignments: Result<Vec<Assignment>, String> = words.iter().map(|word| word.parse()).collect();
        Ok(change(&assignments?))
    }

    #[test]
    fn what_is_shown_can_be_typed_again() {
        let settings = Settings {
            ttl_ms: 90_000,
            on_expiry: OnExpiry::Drop,
            max_bytes: 3 << 20,
            on_full: OnFull::DropOldest,
            dead_to: Some("poison".parse().unwrap()),
            ordered: true,
            on_poison: OnPoison::ParkGroup,
            group_leased_max: 2,
            group_rate_max: 7,
            group_rate_ms: 60_000,
            ..Settings::default()
        };
        for setting in SETTINGS {
            let shown = (setting.show)(&settings);
            let shown = if shown == "-" { NONE.to_owned() } else { shown };
            let change = parse(&[&format!("{}={shown}", setting.key)]).unwrap();
            let back = Settings::default().with(&change);
            assert_eq!((setting.to_json)(&back), (setting.to_json)(&settings), "{} {shown}", setting.key);
        }
    }

    #[test]
    fn keys_are_understood_as_flags_and_as_json_names_them() {
        let expected = QueueSettings { max_messages: Some(1_000_000), ttl_ms: Some(0), ..Default::default() };
        assert_eq!(parse(&["max_messages=1,000,000", "ttl=none"]), Ok(expected));
        assert_eq!(parse(&["max-failures=3", "max-failures=4"]).unwrap().max_failures, Some(4));
    }

    #[test]
    fn what_makes_no_sense_is_said_to() {
        for (word, why) in [
            ("ttl", "KEY=VALUE"),
            ("tll=1s", "dead-ttl"),
            ("ttl=5", "unit"),
            ("on-full=drop", "reject or drop-oldest"),
            ("max-bytes=1 acre", "unit"),
            ("max-failures=none", "number"),
            ("max-failures=4294967296", "number"),
            ("lease=1ms", "from 1s to 12h"),
            ("backoff=367d", "366d"),
            ("backoff-factor=x%", "percentage"),
            ("dead-to=a b", "name"),
        ] {
            let error = parse(&[word]).unwrap_err();
            assert!(error.contains(why), "{word}: {error}");
        }
    }
}
