//! Explains a statement that a client sends.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
};

use bytes::{Buf, BufMut, BytesMut};
use http::{HeaderMap, StatusCode, Uri, header};
use http_body::Body;
use sealane::{Explanation, RoutedConnection};
use serde_json::{Value, json};
use url::form_urlencoded;

/// The longest statement. Longer ones would only be cut by the classifier's own limits.
const MOST_BYTES: usize = 64 * 1024;

/// A request without a usable statement.
pub(crate) type Unusable = (StatusCode, &'static str);

/// The statement in the address of a GET.
pub(crate) fn of_query(uri: &Uri) -> Result<String, Unusable> {
    let query = uri.query().unwrap_or_default();
    field(query.as_bytes()).ok_or((StatusCode::BAD_REQUEST, "the parameter `sql` is missing\n"))
}

/// The statement in the body of a POST: plain text or a form.
pub(crate) async fn of_body<B>(headers: &HeaderMap, body: B) -> Result<String, Unusable>
where
    B: Body,
{
    let bytes = read(pin!(body)).await?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if kind.is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded")) {
        return field(&bytes).ok_or((StatusCode::BAD_REQUEST, "the field `sql` is missing\n"));
    }
    String::from_utf8(bytes.to_vec())
        .map_err(|_| (StatusCode::BAD_REQUEST, "the statement is not UTF-8\n"))
}

fn field(form: &[u8]) -> Option<String> {
    let mut fields = form_urlencoded::parse(form);
    fields.find(|(name, _)| name == "sql").map(|(_, sql)| sql.into_owned())
}

async fn read<B: Body>(mut body: Pin<&mut B>) -> Result<BytesMut, Unusable> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        let Ok(frame) = frame else {
            return Err((StatusCode::BAD_REQUEST, "the body did not arrive\n"));
        };
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.remaining() > MOST_BYTES {
            return Err((StatusCode::PAYLOAD_TOO_LARGE, "the statement is too long\n"));
        }
        bytes.put(data);
    }
    Ok(bytes)
}

/// Where `sql` would run now, without its literals.
pub(crate) fn explain(db: &RoutedConnection, sql: &str) -> Value {
    let explanation = db.explain(sql);
    let mut told = serde_json::to_value(&explanation).unwrap_or_default();
    if let Some(told) = told.as_object_mut() {
        // The text with its literals.
        told.remove("annotated");
        told.insert("first_choice".to_owned(), explanation.first_choice().into());
        told.insert("choices".to_owned(), choices(&explanation));
        let cost = explanation.intent.is_read().then(|| explanation.cost.to_string());
        told.insert("cost_text".to_owned(), cost.into());
    }
    told
}

/// The endpoints, with refusals in words as well.
fn choices(explanation: &Explanation) -> Value {
    let choice = |choice: &sealane::Choice| {
        let why = choice.refusal.as_ref().map(|refusal| format!("it {refusal}"));
        json!({
            "endpoint": choice.endpoint,
            "role": choice.role,
            "refusal": choice.refusal,
            "why": why,
        })
    };
    explanation.choices.iter().map(choice).collect()
}
