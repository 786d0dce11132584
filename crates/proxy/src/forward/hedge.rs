//! A second attempt beside one that takes long: the client gets the response that begins first.
//!
//! What always holds: there are two attempts at most at the same time, to different endpoints; the
//! second is paid from the pool's budget like any further attempt; the one that is not needed any
//! more is dropped with its connection; only a request that has no body, and may be acted upon twice,
//! is sent twice.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use wire::head::Framing;

use super::attempt::{Answered, Call, Lost, Work, attempt};
use super::attempts::is_idempotent;
use crate::metrics::Why;
use crate::worker::Heads;

/// How long the first attempt has for itself; `None` if there will be no second one beside it.
pub(super) fn hedges_after(call: &Call<'_, '_>) -> Option<Duration> {
    let after = call.matched.pool.settings.retry.hedge?;
    let fits = matches!(call.inbound.head.framing, Framing::None | Framing::Length(0))
        && !call.matched.upgrade
        && is_idempotent(call.inbound);
    fits.then_some(after)
}

/// Makes an attempt, and another one if there is no response after a time.
pub(super) async fn hedged<'r, 'a>(
    call: Call<'r, 'a>,
    after: Duration,
    work: &mut Work<'_, '_, 'a>,
) -> Result<Answered<'r, 'a>, Box<Lost<'r>>>
where
    'a: 'r,
{
    let inbound = call.inbound;
    let deadline = inbound.connection.worker.context.timers.deadline();
    let mut heads = Heads::default();
    let mut record = *work.record;
    let mut patience = work.patience.beside(&deadline);
    let mut second_work = Work {
        heads: &mut heads,
        patience: &mut patience,
        record: &mut record,
        sent_to: None,
        waits: false,
        holds_interim: true,
        interim: Vec::new(),
        place: None,
    };
    work.holds_interim = true;
    let (result, by_second, overtook) = {
        let mut first = pin!(attempt(call, work));
        let mut second = pin!(attempt(call, &mut second_work));
        let mut both = Both { first: State::Running, second: State::Waiting, poor: None };
        // Milliseconds matter here, which the worker's deadlines do not count.
        let mut alarm = pin!(sleep(after));
        poll_fn(|cx| {
            if both.first == State::Running
                && let Poll::Ready(result) = first.as_mut().poll(cx)
            {
                both.first = State::Over;
                let other_runs = both.second == State::Running;
                if let Some((result, by_second)) = both.settle(call, result, false, other_runs) {
                    return Poll::Ready((result, by_second, other_runs));
                }
            }
            while both.second == State::Waiting && alarm.as_mut().poll(cx).is_ready() {
                // What the first one waits for, the second would wait for as well.
                match call.attempts.is_waiting() {
                    true => alarm.as_mut().reset(Instant::now() + after),
                    false if call.attempts.may_hedge() => {
                        let metrics = &inbound.connection.worker.metrics;
                        metrics.retried(&call.matched.pool.series, Why::Hedge);
                        both.second = State::Running;
                    }
                    false => both.second = State::Over,
                }
            }
            if both.second == State::Running {
                let _woken_by_it = deadline.poll_expired(cx);
                if let Poll::Ready(result) = second.as_mut().poll(cx) {
                    both.second = State::Over;
                    let other_runs = both.first == State::Running;
                    if let Some((result, by_second)) = both.settle(call, result, true, other_runs) {
                        return Poll::Ready((result, by_second, other_runs));
                    }
                }
            }
            Poll::Pending
        })
        .await
    };
    work.holds_interim = false;
    let overtaken = if by_second { work.sent_to } else { second_work.sent_to };
    if result.is_ok() && overtook {
        call.attempts.overtaken(inbound, overtaken);
    }
    if by_second {
        work.sent_to = second_work.sent_to;
        work.interim = second_work.interim;
        *work.record = record;
        std::mem::swap(work.heads, &mut heads);
    }
    work.patience.renew();
    result
}

impl<'r, 'a> Both<'r, 'a> {
    /// What becomes of the request now that one attempt is over, if that is known: the other one may
    /// still do better.
    fn settle(
        &mut self,
        call: Call<'r, 'a>,
        result: Result<Answered<'r, 'a>, Box<Lost<'r>>>,
        by_second: bool,
        other_runs: bool,
    ) -> Option<(Result<Answered<'r, 'a>, Box<Lost<'r>>>, bool)> {
        let (attempts, inbound) = (call.attempts, call.inbound);
        match result {
            Ok(answered) if other_runs && attempts.retries(answered.status) => {
                self.poor = Some((answered, by_second));
                None
            }
            Ok(answered) => {
                if let Some((poor, _)) = self.poor.take() {
                    attempts.answered(inbound, poor.underway.reached.member, poor.status, None);
                }
                Some((Ok(answered), by_second))
            }
            Err(lost) if other_runs => {
                attempts.lost(inbound, &lost);
                None
            }
            Err(lost) => match self.poor.take() {
                Some((poor, by_second)) => {
                    attempts.lost(inbound, &lost);
                    Some((Ok(poor), by_second))
                }
                None => Some((Err(lost), by_second)),
            },
        }
    }
}

/// How far the two attempts are.
struct Both<'r, 'a> {
    first: State,
    second: State,
    /// A response that is a reason for another attempt, while that was under way; and whose it is.
    poor: Option<(Answered<'r, 'a>, bool)>,
}

#[derive(PartialEq, Eq)]
enum State {
    Waiting,
    Running,
    Over,
}
