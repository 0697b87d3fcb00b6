//! A tablet in words, every pair of it: for golden scripts and for people.

use std::fmt::Write;

use bytes::Bytes;
use prost::Message;

use super::{
    area,
    decision::decode_decision,
    lock::{Holder, decode_lock, decode_prepared},
    state::State,
    view::TabletView,
};
use crate::{
    engine::Order,
    fault::Fault,
    key::Key,
    row::Stored,
    txn::{Outcome, RequestId},
};

/// Every pair of a tablet, a line each, expired ones included and marked.
///
/// # Errors
/// A fault if the engine fails or holds what it should not.
pub fn dump(view: &TabletView) -> Result<String, Fault> {
    let mut text = String::new();
    let now = view.state().time();
    view.pairs(&[0], &[0xff], Order::Forward, |key, value| {
        let value = Bytes::copy_from_slice(value);
        let (&place, rest) = key.split_first().ok_or_else(|| Fault::new("empty engine key"))?;
        let line = match place {
            area::META => state_line(&State::decode_row(&value)?),
            area::RECEIPT => {
                let stored = Stored::decode(&value)?;
                let gone = if stored.is_live(now) { "" } else { " (expired)" };
                format!("receipt  {} {:?}{gone}", id(rest), Outcome::decode(&stored.value)?)
            }
            area::LOCK => {
                let lock = decode_lock(value)?;
                let holders: Vec<String> = lock
                    .exclusive
                    .iter()
                    .map(|holder| format!("x:{}", name(holder)))
                    .chain(lock.shared.iter().map(|holder| format!("s:{}", name(holder))))
                    .collect();
                format!("lock     {} {}", row_key(rest), holders.join(" "))
            }
            area::PREPARED => {
                let prepared = decode_prepared(value)?;
                format!(
                    "prepared {} rows={} checked={} not_after={}",
                    id(rest),
                    prepared.rows.len(),
                    prepared.checked.len(),
                    prepared.not_after
                )
            }
            area::DECISION => {
                let decision = decode_decision(value)?;
                format!("decision {} outstanding={}", id(rest), decision.outstanding.len())
            }
            area::ROW => row_line(rest, &Stored::decode(&value)?, view),
            other => return Err(Fault::new(format!("engine key of unknown area {other:02x}"))),
        };
        let _ = writeln!(text, "{line}");
        Ok(true)
    })?;
    Ok(text)
}

fn state_line(state: &State) -> String {
    let position = state.position.unwrap_or_default();
    let ranges: Vec<String> = state.slot_ranges().iter().map(ToString::to_string).collect();
    format!(
        "state    term={} index={} base={} now={} slots=[{}] fence={} version={} bytes={}",
        position.term,
        position.index,
        state.base,
        state.now,
        ranges.join(" "),
        state.fence_until,
        state.version,
        state.encoded_len(),
    )
}

fn row_line(key: &[u8], stored: &Stored, view: &TabletView) -> String {
    let expiry = stored.expires_at.map_or(String::new(), |at| format!(" expires={}", at.0));
    let gone = if stored.is_live(view.state().time()) { "" } else { " (expired)" };
    let value: String =
        stored.value.iter().flat_map(|b| std::ascii::escape_default(*b)).map(char::from).collect();
    format!("row      {} @{}{expiry}{gone} \"{value}\"", row_key(key), stored.revision.0)
}

fn row_key(bytes: &[u8]) -> String {
    Key::from_bytes(Bytes::copy_from_slice(bytes))
        .map_or_else(|| format!("{bytes:02x?}"), |key| key.to_string())
}

fn id(bytes: &[u8]) -> String {
    RequestId::from_slice(bytes).map_or_else(
        || format!("{bytes:02x?}"),
        |id| id.0.iter().take(4).map(|byte| format!("{byte:02x}")).collect(),
    )
}

fn name(holder: &Holder) -> String {
    id(&holder.request_id)
}
