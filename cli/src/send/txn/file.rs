//! The file of a transaction: JSON, of which every word is understood or refused.

use std::io::Read as _;
use std::path::Path;
use std::str::FromStr;

use bytes::Bytes;
use queue_protocol::content::{self, ContentSpec, Headers};
use queue_protocol::limits::PRIORITY_DEFAULT;
use queue_protocol::names::{MessageId, QueueName, Receipt};
use queue_protocol::wire::bounded::{Bounded, Text};
use queue_protocol::wire::request::{
    Change, Due, Edit, Nack, NackKind, Push, PushMessage, PushOptions, Receipts, Unique, UniqueHeld,
};
use queue_protocol::wire::txn::{Condition, Step, Txn};
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::failure::exit::Exit;
use crate::grammar::{duration, milliseconds};
use crate::show::render;

/// What a part of the file came to.
type Read<T> = Result<T, String>;

/// Reads the file, or standard input for `-`: the transaction and the contents of its pushes.
pub(super) fn read(path: &Path) -> Result<(Txn, Vec<Bytes>), Failure> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map(|_| ())
    } else {
        std::fs::read_to_string(path).map(|read| text = read)
    };
    read.map_err(|error| Failure::io(format!("cannot read {}: {error}", path.display())))?;
    parse(&text).map_err(|what| {
        let what = format!("{} is no transaction: {what}", path.display());
        Failure::new("bad_request", Exit::BadData, what).hint("`queuectl txn --help` shows one")
    })
}

/// The queue that a step pushes to.
pub(super) fn pushed_to(step: &Step) -> Option<QueueName> {
    if let Step::Push(push) = step { Some(push.queue.clone()) } else { None }
}

fn parse(text: &str) -> Read<(Txn, Vec<Bytes>)> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut whole = Fields::of(value)?;
    let list = |value: Option<Value>, name: &str| match value {
        None => Ok(Vec::new()),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err(format!("{name:?} is a list")),
    };
    let (conditions, steps) = (list(whole.take("if"), "if")?, list(whole.take("do"), "do")?);
    whole.end()?;
    if steps.is_empty() {
        return Err("it has nothing to do".to_owned());
    }
    let numbered = |what: &str, k: usize, error: String| format!("{what} {}: {error}", k + 1);
    let conditions = conditions.into_iter().enumerate();
    let conditions = conditions.map(|(k, value)| condition(value).map_err(|e| numbered("condition", k, e)));
    let mut contents = Vec::new();
    let steps = steps.into_iter().enumerate();
    let steps = steps.map(|(k, value)| step(value, &mut contents).map_err(|e| numbered("step", k, e)));
    let txn = Txn {
        conditions: Bounded::new(conditions.collect::<Read<_>>()?).map_err(|error| error.to_string())?,
        steps: Bounded::new(steps.collect::<Read<_>>()?).map_err(|error| error.to_string())?,
    };
    Ok((txn, contents))
}

/// An object of which every field must be asked for.
struct Fields(Map<String, Value>);

impl Fields {
    fn of(value: Value) -> Read<Self> {
        if let Value::Object(fields) = value {
            Ok(Self(fields))
        } else {
            Err("expected an object".to_owned())
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name)
    }

    fn text(&mut self, name: &str) -> Read<Option<String>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(format!("{name:?} is a text")),
        }
    }

    fn parsed<T: FromStr<Err: ToString>>(&mut self, name: &str) -> Read<Option<T>> {
        let parse =
            |text: String| text.parse().map_err(|error: T::Err| format!("{name:?}: {}", error.to_string()));
        self.text(name)?.map(parse).transpose()
    }

    fn number(&mut self, name: &str) -> Read<Option<u64>> {
        let number = |value: Value| value.as_u64().ok_or_else(|| format!("{name:?} is a number"));
        self.take(name).map(number).transpose()
    }

    fn milliseconds(&mut self, name: &str) -> Read<Option<u64>> {
        let parse =
            |text: String| duration(&text).map(milliseconds).map_err(|error| format!("{name:?}: {error}"));
        self.text(name)?.map(parse).transpose()
    }

    fn reason(&mut self) -> Read<Text<{ queue_protocol::limits::ERROR_TEXT_SIZE_MAX }>> {
        Text::new(self.text("reason")?.unwrap_or_default()).map_err(|error| format!("\"reason\": {error}"))
    }

    /// Nothing is left.
    fn end(self) -> Read<()> {
        self.0.keys().next().map_or(Ok(()), |name| Err(format!("{name:?} is not understood here")))
    }
}

fn condition(value: Value) -> Read<Condition> {
    let mut fields = Fields::of(value)?;
    let condition = if let Some(Receipt { queue, id, token }) = fields.parsed("leased")? {
        Condition::Leased { queue, id, token }
    } else if let Some(Named { queue, id }) = fields.parsed("exists")? {
        Condition::Exists { queue, id }
    } else {
        let queue = fields.parsed("queue")?.ok_or("expected leased, exists or queue")?;
        if let Some(count) = fields.number("at_most")? {
            Condition::AtMost { queue, count }
        } else if let Some(version) = fields.number("version")? {
            Condition::Version { queue, version }
        } else {
            let key = fields.parsed("no_dedup_key")?.ok_or("expected at_most, version or no_dedup_key")?;
            Condition::NoDedupKey { queue, key }
        }
    };
    fields.end()?;
    Ok(condition)
}

fn step(value: Value, contents: &mut Vec<Bytes>) -> Read<Step> {
    let mut fields = Fields::of(value)?;
    let step = if let Some(queue) = fields.parsed("push")? {
        push(queue, &mut fields, contents)?
    } else if let Some(leases) = lease(&mut fields, "ack")? {
        Step::Ack(leases)
    } else if let Some(leases) = lease(&mut fields, "nack")? {
        let (delay_ms, error) = (fields.milliseconds("delay")?, fields.reason()?);
        Step::Nack(Nack { leases, kind: NackKind::Fail { delay_ms, error } })
    } else if let Some(leases) = lease(&mut fields, "release")? {
        let delay_ms = fields.milliseconds("delay")?.unwrap_or(0);
        Step::Nack(Nack { leases, kind: NackKind::Release { delay_ms } })
    } else if let Some(leases) = lease(&mut fields, "reject")? {
        Step::Nack(Nack { leases, kind: NackKind::Reject { reason: fields.reason()? } })
    } else if let Some(leases) = lease(&mut fields, "extend")? {
        let lease_ms = fields.milliseconds("for")?.ok_or("an extend says for how long: \"for\"")?;
        Step::Extend { leases, lease_ms }
    } else {
        edit(&mut fields)?
    };
    fields.end()?;
    Ok(step)
}

fn edit(fields: &mut Fields) -> Read<Step> {
    const WORDS: [&str; 5] = ["rm", "cancel", "kick", "move", "edit"];
    let word = WORDS.into_iter().find(|word| fields.0.contains_key(*word));
    let word =
        word.ok_or("expected push, ack, nack, release, reject, extend, move, rm, cancel, kick or edit")?;
    let Named { queue, id } = fields.parsed(word)?.expect("it is there");
    let change = match word {
        "rm" => Change::Delete,
        "cancel" => Change::Cancel,
        "kick" => Change::Kick,
        "move" => Change::Move(fields.parsed("to")?.ok_or("a move says where: \"to\"")?),
        _ => Change::Priority(priority(fields)?.ok_or("an edit says what: \"priority\"")?),
    };
    Ok(Step::Edit(Edit { queue, ids: Bounded::new(vec![id]).expect("one is within the limit"), change }))
}

fn push(queue: QueueName, fields: &mut Fields, contents: &mut Vec<Bytes>) -> Read<Step> {
    let body = match (fields.text("body")?, fields.text("body_base64")?) {
        (Some(body), None) => body.into_bytes(),
        (None, Some(text)) => render::from_base64(&text).ok_or("\"body_base64\" is no base64")?,
        (Some(_), Some(_)) => return Err("a push has one body".to_owned()),
        (None, None) => return Err("a push has a \"body\" or a \"body_base64\"".to_owned()),
    };
    let mut headers = Vec::new();
    if let Some(value) = fields.take("headers") {
        for (name, value) in Fields::of(value)?.0 {
            let value = value.as_str().ok_or("headers are texts")?.to_owned();
            let text = |text| Text::new(text).map_err(|error| error.to_string());
            headers.push((text(name)?, text(value)?));
        }
    }
    let headers = Headers::new(headers).map_err(|error| error.to_string())?;
    let content = content::encode(&headers, &body).map_err(|error| error.to_string())?;
    let options = PushOptions {
        priority: priority(fields)?.unwrap_or(PRIORITY_DEFAULT),
        due: fields.milliseconds("delay")?.map_or(Due::Now, Due::AfterMs),
        ttl_ms: fields.milliseconds("ttl")?,
        dedup_key: fields.parsed("dedup_key")?,
        unique: unique(fields)?,
        group: fields.parsed("group")?,
    };
    let message = PushMessage { content: ContentSpec::of(&content), options };
    contents.push(content);
    let messages = Bounded::new(vec![message]).expect("one is within the limit");
    Ok(Step::Push(Push { queue, create: false, atomic: true, messages }))
}

/// As `--unique` and `--on-held`.
fn unique(fields: &mut Fields) -> Read<Option<Unique>> {
    let (key, held) = (fields.parsed("unique")?, fields.text("on_held")?);
    let held = match held.as_deref() {
        None | Some("reject") => UniqueHeld::Reject,
        Some("replace") => UniqueHeld::Replace,
        Some("keep") => UniqueHeld::Keep,
        Some(_) => return Err("\"on_held\" is reject, replace or keep".to_owned()),
    };
    Ok(key.map(|key| Unique { key, held }))
}

fn priority(fields: &mut Fields) -> Read<Option<u8>> {
    let small = |number| u8::try_from(number).map_err(|_| "a priority is 0 to 31".to_owned());
    fields.number("priority")?.map(small).transpose()
}

fn lease(fields: &mut Fields, name: &str) -> Read<Option<Receipts>> {
    let receipts = |Receipt { queue, id, token }| {
        let receipts = Bounded::new(vec![(id, token)]).expect("one is within the limit");
        Receipts { queue, receipts }
    };
    Ok(fields.parsed(name)?.map(receipts))
}

/// A message as `QUEUE/ID`.
struct Named {
    queue: QueueName,
    id: MessageId,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (queue, id) = text.split_once('/')?;
            Some(Named { queue: queue.parse().ok()?, id: MessageId(id.parse().ok()?) })
        };
        parse().ok_or_else(|| format!("{text:?} is no message: expected QUEUE/ID"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_the_help_is_understood() {
        let file = r#"{"if": [{"leased": "jobs/1006/1005"}, {"exists": "jobs/1007"}, {"queue": "mail", "at_most": 100},
            {"queue": "mail", "version": 3}, {"queue": "mail", "no_dedup_key": "invoice-7"}],
            "do": [{"push": "mail", "body": "text", "headers": {"a": "b"}, "priority": 9, "delay": "1h", "ttl": "1d",
                    "dedup_key": "k", "group": "g"},
                    {"push": "mail", "body_base64": "/wA=", "unique": "u", "on_held": "keep"}, {"ack": "jobs/1006/1005"}, {"nack": "jobs/7/6", "delay": "5s"},
            {"release": "jobs/7/6"}, {"reject": "jobs/7/6", "reason": "no"}, {"extend": "jobs/8/7", "for": "1m"},
            {"move": "jobs/9", "to": "other"}, {"rm": "jobs/10"}, {"cancel": "jobs/11"}, {"kick": "jobs/12"},
            {"edit": "jobs/13", "priority": 9}]}"#;
        let (txn, contents) = parse(file).unwrap();
        assert_eq!((txn.conditions.len(), txn.steps.len(), contents.len()), (5, 12, 2));
        let Step::Push(push) = &txn.steps[0] else { panic!("{:?}", txn.steps[0]) };
        assert_eq!(push.messages[0].options.due, Due::AfterMs(3_600_000));
        assert!(contents[1].ends_with(&[0xff, 0]));
        let Step::Push(push) = &txn.steps[1] else { panic!("{:?}", txn.steps[1]) };
        let unique =
            push.messages[0].options.unique.as_ref().map(|unique| (unique.key.as_str(), unique.held));
        assert_eq!(unique, Some(("u", UniqueHeld::Keep)));
        assert!(matches!(&txn.steps[6], Step::Extend { lease_ms: 60_000, .. }));
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_place() {
        for (file, why) in [
            ("[]", "expected an object"),
            ("{}", "nothing to do"),
            (r#"{"do": [], "then": []}"#, "\"then\" is not understood"),
            (r#"{"do": [{"ack": "jobs/1"}]}"#, "step 1: \"ack\""),
            (r#"{"do": [{"ack": "jobs/1/2", "for": "1s"}]}"#, "step 1: \"for\" is not understood here"),
            (r#"{"do": [{"push": "jobs"}]}"#, "\"body\""),
            (r#"{"do": [{"push": "jobs", "body": "x"}, {"pop": "jobs"}]}"#, "step 2: expected push"),
            (r#"{"do": [{"push": "jobs", "body": "x", "body_base64": "eA=="}]}"#, "one body"),
            (r#"{"do": [{"push": "jobs", "body_base64": "eA"}]}"#, "no base64"),
            (r#"{"do": [{"push": "jobs", "body": "x", "unique": "k", "on_held": "go"}]}"#, "on_held"),
            (r#"{"if": [{"queue": "jobs"}], "do": [{"rm": "jobs/1"}]}"#, "condition 1: expected at_most"),
            (r#"{"do": [{"extend": "jobs/1/2", "for": "1"}]}"#, "unit"),
        ] {
            let error = parse(file).unwrap_err();
            assert!(error.contains(why), "{file}: {error}");
        }
    }
}
