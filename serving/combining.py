"""Requests that arrive together become one call of the model."""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from configs import contract
from serving.model_client import Explanation, FloatArray, ModelClient, Scores

Answer = TypeVar("Answer", Scores, Explanation)
Inputs = Mapping[str, FloatArray]

SMALL = 32  # windows: larger requests fill a call on their own


class CombiningClient:
    """A `serving.model_client.ModelClient` over another, for many threads with a window or a few each.

    Whoever comes while the model is idle calls it at once; whoever comes meanwhile waits and shares the next call. So
    nobody ever waits for company, and under load a call takes all that queue, at little more than the cost of one.

    Args:
        client: asked by one thread at a time for small requests, and by any for large ones.
        batch_size: windows a call, at most.
    """

    def __init__(self, client: ModelClient, *, batch_size: int = 256) -> None:
        self._client = client
        self._score = _Queue(client.score, _split_scores, batch_size)
        self._explain = _Queue(client.explain, _split_explanation, batch_size)

    @property
    def model_version(self) -> int:
        return self._client.model_version

    def score(self, inputs: Inputs) -> Scores:
        """See `ModelClient.score`."""
        return self._client.score(inputs) if _size(inputs) > SMALL else self._score.ask(inputs)

    def explain(self, inputs: Inputs) -> Explanation:
        """See `ModelClient.explain`."""
        return self._client.explain(inputs) if _size(inputs) > SMALL else self._explain.ask(inputs)

    def check(self) -> None:
        """See `ModelClient.check`."""
        self._client.check()

    def close(self) -> None:
        """See `ModelClient.close`."""
        self._client.close()


@dataclass(eq=False)
class _Waiting(Generic[Answer]):
    """A request in the queue; `turn` is set when somebody called for it, or when it is its thread's turn to call."""

    inputs: Inputs
    turn: threading.Event = field(default_factory=threading.Event)
    leads: bool = False
    answer: Answer | None = None


class _Queue(Generic[Answer]):
    def __init__(
        self, call: Callable[[Inputs], Answer], split: Callable[[Answer, int, int], Answer], batch_size: int
    ) -> None:
        self._call: Callable[[Inputs], Answer] = call
        self._split: Callable[[Answer, int, int], Answer] = split
        self._batch_size = batch_size
        self._lock = threading.Lock()
        self._queue: deque[_Waiting[Answer]] = deque()
        self._busy = False

    def ask(self, inputs: Inputs) -> Answer:
        """Answers one request, by a call of its own or together with others."""
        mine: _Waiting[Answer] = _Waiting(inputs)
        with self._lock:
            self._queue.append(mine)
            mine.leads, self._busy = not self._busy, True
        if not mine.leads:
            mine.turn.wait()
        if mine.leads:
            with suppress(Exception):  # whose fault it was, the call alone tells
                self._call_for_all()
        if mine.answer is None:  # the call for all failed, perhaps for another's sake
            return self._call(inputs)
        return mine.answer

    def _call_for_all(self) -> None:
        """One call for the requests at the head of the queue, the caller's own first among them."""
        batch = self._take()
        try:
            self._answer(batch)
        finally:
            with self._lock:
                following = self._queue[0] if self._queue else None
                self._busy = following is not None
            if following is not None:
                following.leads = True
                following.turn.set()
            for one in batch:
                one.turn.set()

    def _take(self) -> list[_Waiting[Answer]]:
        with self._lock:
            batch = [self._queue.popleft()]
            windows = _size(batch[0].inputs)
            while self._queue and windows + _size(self._queue[0].inputs) <= self._batch_size:
                batch.append(self._queue.popleft())
                windows += _size(batch[-1].inputs)
        return batch

    def _answer(self, batch: list[_Waiting[Answer]]) -> None:
        if len(batch) == 1:
            batch[0].answer = self._call(batch[0].inputs)
            return
        names = contract.MODEL_INPUTS
        whole = self._call({name: np.concatenate([one.inputs[name] for one in batch]) for name in names})
        start = 0
        for one in batch:
            stop = start + _size(one.inputs)
            one.answer = self._split(whole, start, stop)
            start = stop


def _size(inputs: Inputs) -> int:
    return len(inputs[contract.SAMPLES])


def _split_scores(scores: Scores, start: int, stop: int) -> Scores:
    return Scores(*(getattr(scores, name)[start:stop] for name in Scores.__dataclass_fields__))


def _split_explanation(whole: Explanation, start: int, stop: int) -> Explanation:
    others = [name for name in Explanation.__dataclass_fields__ if name != "scores"]
    return Explanation(
        _split_scores(whole.scores, start, stop), **{name: getattr(whole, name)[start:stop] for name in others}
    )
