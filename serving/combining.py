"""Requests that arrive together become one call of the model."""

import threading
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from configs import contract
from serving.model_client import Explanation, FloatArray, ModelClient, Scores

Inputs = Mapping[str, FloatArray]
Kind = Literal["score", "explain"]

SMALL = 32  # windows: larger requests fill a call on their own


class CombiningClient:
    """A `serving.model_client.ModelClient` over another, for many callers with a window or a few each.

    Whoever comes while the model is idle calls it, in their own thread; whoever comes meanwhile waits and shares the
    next call, which a thread of this client makes. So nobody ever waits for company, one caller alone is as fast as
    without this, and under load a call takes all that queue, at little more than the cost of one.

    Args:
        client: asked by one thread at a time for small requests, and by any for large ones.
        batch_size: windows a call, at most.
    """

    def __init__(self, client: ModelClient, *, batch_size: int = 256) -> None:
        self._client = client
        self._batch_size = batch_size
        self._lock = threading.Lock()
        self._queue: deque[_Asked] = deque()
        self._busy = False
        self._caller = ThreadPoolExecutor(1, thread_name_prefix="model")  # its thread ends when nobody holds it

    @property
    def model_version(self) -> int:
        return self._client.model_version

    def score(self, inputs: Inputs) -> Scores:
        """See `ModelClient.score`."""
        if _size(inputs) > SMALL:
            return self._client.score(inputs)
        scores: Scores = self._here_or_with_others("score", inputs)
        return scores

    def explain(self, inputs: Inputs) -> Explanation:
        """See `ModelClient.explain`."""
        if _size(inputs) > SMALL:
            return self._client.explain(inputs)
        explanation: Explanation = self._here_or_with_others("explain", inputs)
        return explanation

    def explained(self, inputs: Inputs) -> "Future[Explanation]":
        """As `explain`, of at most `SMALL` windows, for a caller that does something else meanwhile."""
        asked = _Asked("explain", inputs)
        if self._is_idle(asked, here=False):
            self._caller.submit(self._answer_all)
        return asked.answer

    def check(self) -> None:
        """See `ModelClient.check`."""
        self._client.check()

    def close(self) -> None:
        """See `ModelClient.close`."""
        self._client.close()

    def _here_or_with_others(self, kind: Kind, inputs: Inputs) -> Any:
        asked = _Asked(kind, inputs)
        if self._is_idle(asked, here=True):
            try:
                return self._client.explain(inputs) if kind == "explain" else self._client.score(inputs)
            finally:
                with self._lock:
                    self._busy = bool(self._queue)
                    others = self._busy
                if others:
                    self._caller.submit(self._answer_all)
        return asked.answer.result()

    def _is_idle(self, asked: "_Asked", *, here: bool) -> bool:
        """Whether the caller has to see to a call; what is asked waits for it, unless they make it `here`."""
        with self._lock:
            idle, self._busy = not self._busy, True
            if not (idle and here):
                self._queue.append(asked)
        return idle

    def _answer_all(self) -> None:
        while batch := self._take():
            self._answer(batch)

    def _take(self) -> "list[_Asked]":
        """The requests of one call: the oldest, and those like it that fit beside it; none when nobody waits."""
        batch: list[_Asked] = []
        left: deque[_Asked] = deque()
        windows = 0
        with self._lock:
            for one in self._queue:
                n = _size(one.inputs)
                if not batch or (one.kind == batch[0].kind and windows + n <= self._batch_size):
                    batch.append(one)
                    windows += n
                else:
                    left.append(one)
            self._queue = left
            self._busy = bool(batch)
        return batch

    def _answer(self, batch: "list[_Asked]") -> None:
        """One call for all of them; one each where that fails, perhaps for another's sake."""
        try:
            answers = self._call(batch)
        except Exception as error:  # noqa: BLE001 - whoever asked raises it
            if len(batch) == 1:
                batch[0].fail(error)
            else:
                for one in batch:
                    self._answer([one])
            return
        for one, answer in zip(batch, answers, strict=True):
            one.succeed(answer)

    def _call(self, batch: "list[_Asked]") -> list[Scores | Explanation]:
        call = self._client.explain if batch[0].kind == "explain" else self._client.score
        if len(batch) == 1:
            return [call(batch[0].inputs)]
        names = contract.MODEL_INPUTS
        whole = call({name: np.concatenate([one.inputs[name] for one in batch]) for name in names})
        stops = np.cumsum([_size(one.inputs) for one in batch]).tolist()
        return [_rows(whole, start, stop) for start, stop in zip([0, *stops], stops, strict=False)]


@dataclass(eq=False)
class _Asked:
    kind: Kind
    inputs: Inputs
    answer: "Future[Any]" = field(default_factory=Future)

    def succeed(self, answer: Scores | Explanation) -> None:
        if self.answer.set_running_or_notify_cancel():
            self.answer.set_result(answer)

    def fail(self, error: Exception) -> None:
        if self.answer.set_running_or_notify_cancel():
            self.answer.set_exception(error)


def _size(inputs: Inputs) -> int:
    return len(inputs[contract.SAMPLES])


def _rows(whole: Scores | Explanation, start: int, stop: int) -> Scores | Explanation:
    """The answer to some of the windows of a call."""
    if isinstance(whole, Scores):
        return Scores(whole.score[start:stop], whole.verdict[start:stop], whole.lead_slot[start:stop])
    scores = Scores(*(getattr(whole.scores, name)[start:stop] for name in Scores.__dataclass_fields__))
    others = [name for name in Explanation.__dataclass_fields__ if name != "scores"]
    return Explanation(scores, *(getattr(whole, name)[start:stop] for name in others))
