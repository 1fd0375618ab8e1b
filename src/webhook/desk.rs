//! Where requests are taken in and answers handed out, both by the piece and within bounds.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use capm3_runtime::{Counter, Metrics};
use futures::stream;
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of all requests that are being read or answered. What they become in memory is a multiple of it.
const ROOM: usize = 256 << 20;
/// Longer work than this would keep other tasks of its thread waiting.
const AT_ONCE: usize = 256 << 10;
const PIECE: usize = 64 << 10;

/// Gets the whole review and returns it with a response, or says what is no review in it.
pub(crate) type Clerk = fn(Value, &Counted) -> Result<Value, String>;

/// What is counted while a review is answered.
#[derive(Clone)]
pub(crate) struct Counted {
    pub(crate) metrics: Metrics,
    panics: Counter,
}

impl Counted {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let help = "Total number of panics of webhooks.";
        Self { metrics: metrics.clone(), panics: metrics.counter("controller_runtime_webhook_panics_total", help, &[]) }
    }

    /// Runs `f`; a panic in it becomes the error, so that the caller can still answer.
    pub(crate) fn caught<T>(&self, f: impl FnOnce() -> T) -> Result<T, String> {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).map_err(|panic| {
            let said = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
            let said = said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            tracing::error!(panic = said, "a webhook panicked");
            self.panics.inc();
            format!("panic: {said}")
        })
    }
}

/// Clones share the room.
#[derive(Clone)]
pub(crate) struct Desk {
    room: Arc<Semaphore>,
    counted: Counted,
}

impl Desk {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self { room: Arc::new(Semaphore::new(ROOM)), counted: Counted::new(metrics) }
    }

    /// Reads, parses, asks, answers.
    pub(crate) async fn answer(&self, body: Body, longest: usize, clerk: Clerk) -> Response {
        let taken = match self.take(body, longest).await {
            Ok(taken) => taken,
            Err(refused) => return refused.into_response(),
        };
        let counted = self.counted.clone();
        if taken.bytes.len() <= AT_ONCE {
            return taken.answer(clerk, &counted);
        }
        let answer = tokio::task::spawn_blocking(move || taken.answer(clerk, &counted)).await;
        answer.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
    }

    /// Room is taken as bytes arrive, not as they are announced: a promise costs nothing.
    async fn take(&self, mut body: Body, longest: usize) -> Result<Taken, (StatusCode, String)> {
        let mut taken = Taken { bytes: Vec::new(), room: None };
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| (StatusCode::BAD_REQUEST, format!("{error}\n")))?;
            let Ok(data) = frame.into_data() else { continue };
            if taken.bytes.len() + data.len() > longest {
                return Err((StatusCode::PAYLOAD_TOO_LARGE, format!("more than {longest} bytes\n")));
            }
            let room = u32::try_from(data.len()).ok().and_then(|n| self.room.clone().try_acquire_many_owned(n).ok());
            let Some(room) = room else {
                return Err((StatusCode::SERVICE_UNAVAILABLE, "too much at once\n".to_owned()));
            };
            match &mut taken.room {
                Some(all) => all.merge(room),
                none => *none = Some(room),
            }
            taken.bytes.extend_from_slice(&data);
        }
        Ok(taken)
    }
}

/// A request and the room it has.
struct Taken {
    bytes: Vec<u8>,
    room: Option<OwnedSemaphorePermit>,
}

impl Taken {
    fn answer(self, clerk: Clerk, counted: &Counted) -> Response {
        let Self { bytes, room } = self;
        let parsed = serde_json::from_slice(&bytes).map_err(|error| error.to_string());
        drop(bytes);
        match parsed.and_then(|review| counted.caught(|| clerk(review, counted)).flatten()) {
            Ok(review) => given(review.to_string(), room),
            Err(why) => {
                tracing::warn!(error = %why, "a request was no review");
                (StatusCode::BAD_REQUEST, format!("not a review: {why}\n")).into_response()
            }
        }
    }
}

/// An answer in pieces: its room is free again when the other side has taken the last one.
fn given(answer: String, room: Option<OwnedSemaphorePermit>) -> Response {
    let answer = Bytes::from(answer);
    let headers =
        [(header::CONTENT_TYPE, "application/json".to_owned()), (header::CONTENT_LENGTH, answer.len().to_string())];
    if answer.len() <= PIECE {
        return (headers, answer).into_response();
    }
    let pieces = (0..answer.len()).step_by(PIECE).map(move |from| {
        let _taken_up = &room;
        Ok::<_, Infallible>(answer.slice(from..answer.len().min(from + PIECE)))
    });
    (headers, Body::from_stream(stream::iter(pieces))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo(review: Value, _: &Counted) -> Result<Value, String> {
        Ok(review)
    }

    async fn text(response: Response) -> (u16, String) {
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (code, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn room_is_taken_until_the_answer_is_gone() {
        let desk = Desk::new(&Metrics::new());
        let long = format!("{:?}", "x".repeat(3 * PIECE));
        let answer = desk.answer(Body::from(long.clone()), MAX, echo).await;
        assert_eq!(desk.room.available_permits(), ROOM - long.len());
        assert_eq!(text(answer).await, (200, long));
        assert_eq!(desk.room.available_permits(), ROOM);
    }

    #[tokio::test]
    async fn what_is_too_long_or_too_much_at_once_is_refused_and_leaves_nothing() {
        let desk = Desk { room: Arc::new(Semaphore::new(10)), counted: Counted::new(&Metrics::new()) };
        let answer = async |body: &'static str, longest| text(desk.answer(Body::from(body), longest, echo).await).await;
        assert_eq!(answer("[1,2,3]", 6).await.0, 413);
        assert_eq!(answer("[1,2,3,4,5]", MAX).await.0, 503);
        assert_eq!(answer("[1,2,3]", 7).await, (200, "[1,2,3]".to_owned()));
        assert_eq!(answer("[1,2,3", 7).await.0, 400);
        assert_eq!(desk.room.available_permits(), 10);
    }

    #[tokio::test]
    async fn w_4_a_panic_is_answered_and_counted() {
        let metrics = Metrics::new();
        let desk = Desk::new(&metrics);
        let (code, said) = text(desk.answer(Body::from("{}"), MAX, |_, _| panic!("went wrong")).await).await;
        assert_eq!((code, said.as_str()), (400, "not a review: panic: went wrong\n"));
        assert!(metrics.render().contains("controller_runtime_webhook_panics_total 1"));
    }

    const MAX: usize = 1 << 20;
}
