"""Requests that arrive together share a call of the model, and each gets its own answer."""

import threading
import time
from collections.abc import Mapping

import numpy as np
import pytest

from configs import contract
from configs.contract import FeatureSpec
from serving.combining import SMALL, CombiningClient
from serving.model_client import Explanation, FloatArray, Scores

pytestmark = pytest.mark.unit

SHAPE = (FeatureSpec().window_samples, FeatureSpec().n_leads)


def inputs(value: float, n: int = 1) -> dict[str, FloatArray]:
    return {
        contract.SAMPLES: np.full((n, *SHAPE), value, np.float32),
        contract.LEAD_MASK: np.ones((n, SHAPE[1]), np.float32),
        contract.RR: np.zeros((n, len(contract.RR_COLUMNS)), np.float32),
        contract.TEMPLATE: np.zeros((n, *SHAPE), np.float32),
        contract.TEMPLATE_BEATS: np.zeros((n, 1), np.float32),
    }


class SlowModel:
    """The score is the first sample; a call takes 20 ms, whatever it holds, and -1 cannot be scored."""

    model_version = 1

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.callers: list[str] = []
        self.under_way = 0
        self.most = 0

    def score(self, asked: Mapping[str, FloatArray]) -> Scores:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        time.sleep(0.02)
        self.under_way -= 1
        first = asked[contract.SAMPLES][:, 0, 0]
        self.calls.append(len(first))
        self.callers.append(threading.current_thread().name)
        if (first < 0).any():
            raise ValueError("less than nothing")
        return Scores(first, first > 1, np.zeros(len(first), np.int16))

    def explain(self, asked: Mapping[str, FloatArray]) -> Explanation:
        scores, samples = self.score(asked), asked[contract.SAMPLES]
        return Explanation(scores, scores.score, np.tile(scores.score[:, None], (1, 3)), samples, samples * 2)

    def check(self) -> None: ...

    def close(self) -> None: ...


def test_each_of_many_gets_its_own_answer_from_few_calls() -> None:
    model, answers = SlowModel(), {}
    client = CombiningClient(model, batch_size=16)

    def ask(number: int) -> None:
        n = number % 3 + 1
        found = client.explain(inputs(number, n)) if number % 2 else client.score(inputs(number, n))
        answers[number] = found

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(model.calls) == sum(number % 3 + 1 for number in range(40))
    assert len(model.calls) < 20
    assert max(model.calls) <= 16
    for number, found in answers.items():
        scores = found.scores if isinstance(found, Explanation) else found
        assert scores.score.tolist() == [number] * (number % 3 + 1)
        if isinstance(found, Explanation):
            assert found.parts.shape == (number % 3 + 1, 3)
            assert (found.reconstruction == number).all()
            assert (found.sample_error == 2 * number).all()


def test_one_alone_does_not_wait_and_a_large_one_goes_past() -> None:
    model = SlowModel()
    client = CombiningClient(model)
    assert client.score(inputs(3)).score.tolist() == [3]
    assert client.score(inputs(3, SMALL + 1)).score.shape == (SMALL + 1,)
    assert model.calls == [1, SMALL + 1]
    assert set(model.callers) == {threading.current_thread().name}, "no thread was woken for it"
    assert client.explained(inputs(4)).result().scores.score.tolist() == [4]
    assert model.callers[-1] != threading.current_thread().name, "whoever does something else meanwhile"
    with pytest.raises(ValueError, match="less than nothing"):
        client.score(inputs(-1))
    assert client.score(inputs(5)).score.tolist() == [5], "and the next one finds it idle again"


def test_one_that_fails_harms_nobody_else() -> None:
    model, answers, errors = SlowModel(), [], []
    client = CombiningClient(model)

    def ask(value: float) -> None:
        try:
            answers.append(client.score(inputs(value)).score[0])
        except ValueError:
            errors.append(value)

    threads = [threading.Thread(target=ask, args=(value,)) for value in (0, 1, -1, 2, 3, -1, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [0, 1, 2, 3, 4]
    assert errors == [-1, -1]
    assert client.score(inputs(5)).score.tolist() == [5]  # and nobody was left holding the queue
