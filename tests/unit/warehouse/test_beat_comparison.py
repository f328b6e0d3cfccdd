"""Beat-by-beat comparison: the same counts as PhysioNet's comparators, and what statistics of flags mean."""

import re
from pathlib import Path

import numpy as np
import pytest
import wfdb
from wfdb.processing import compare_annotations

from warehouse.signal.beat_comparison import EC57_OF_SYMBOL, Beats, Counts, average, compare
from warehouse.signal.readers.wfdb_annotations import read_beats, read_fibrillation

pytestmark = pytest.mark.unit
RATE_HZ = 360.0

#: What `bxb -r RECORD -a atr dis -S -` of the WFDB Software Package 10.7.0 printed for the beats of `disturbed`.
BXB = {
    "105": """
 N |  432  437  434    0  432  386    0
 S |    0    0    0    0    0    0    0
 V |    7    4    4    0    8    6    0
 F |    0    0    0    0    0    0    0
 Q |    1    0    3    0    0    1    0
 O |   49   49  175    0   50
           QRS sensitivity:  81.76% (1762/2155)
 QRS positive predictivity:  84.51% (1762/2085)
           VEB sensitivity:  13.79% (4/29)
 VEB positive predictivity:   0.65% (4/613)
          SVEB sensitivity:      -  (0/0)
SVEB positive predictivity:   0.00% (0/490)""",
    "207": """
 N |  278  281  283    0  284  250    0
 S |   21   22   22    0   23   19    0
 V |   26   23   21    0   20   19    0
 F |    0    0    0    0    0    0    0
 Q |    0    0    0    0    0    0    0
 O |   37   36  130    0   35
           QRS sensitivity:  81.91% (1304/1592)
 QRS positive predictivity:  84.57% (1304/1542)
           VEB sensitivity:  19.27% (21/109)
 VEB positive predictivity:   4.61% (21/456)
          SVEB sensitivity:  20.56% (22/107)
SVEB positive predictivity:   6.08% (22/362)""",
    "222": """
 N |  349  357  340    0  339  310    0
 S |   84   76   94    0   93   74    0
 V |    0    0    0    0    0    0    0
 F |    0    0    0    0    0    0    0
 Q |    0    0    0    0    0    0    0
 O |   48   48  171    0   49
           QRS sensitivity:  81.85% (1732/2116)
 QRS positive predictivity:  84.57% (1732/2048)
           VEB sensitivity:      -  (0/0)
 VEB positive predictivity:   0.00% (0/605)
          SVEB sensitivity:  18.05% (76/421)
SVEB positive predictivity:  15.80% (76/481)""",
}


def disturbed(sample: np.ndarray) -> Beats:
    """Reference beats moved by up to 60 samples (the match window is 54), some left out, some added, with labels."""
    i = np.arange(len(sample))
    keep, extra = i % 11 != 3, sample[i % 17 == 5] + 100
    moved = np.concatenate([(sample + (i * 37) % 121 - 60)[keep], extra])
    label = np.concatenate([np.array(["n", "v", "s", "q"])[(i[keep] * 7) % 4], np.full(len(extra), "v")])
    unique, first = np.unique(moved, return_index=True)
    there = unique >= 0
    return Beats(unique[there], label[first][there].tolist())


@pytest.mark.parametrize("record", BXB)  # 207: ventricular flutter; 222: junctional escape beats
def test_counts_are_those_of_bxb(mitdb_dir: Path, record: str) -> None:
    header = wfdb.rdheader(str(mitdb_dir / record))
    file, clock = mitdb_dir / f"{record}.atr", {"sampling_rate_hz": RATE_HZ, "duration_s": header.sig_len / RATE_HZ}
    beats = read_beats(file, **clock)
    reference = Beats(np.rint(beats.time_s * RATE_HZ).astype(int), [EC57_OF_SYMBOL[s] for s in beats.symbol.tolist()])
    every = wfdb.rdann(str(mitdb_dir / record), "atr")
    in_file = every.sample[[symbol in EC57_OF_SYMBOL for symbol in every.symbol]]
    spans = [(round(a * RATE_HZ), round(b * RATE_HZ)) for a, b in read_fibrillation(file, **clock)]
    assert bool(spans) == (record == "207")
    found = compare(
        reference, disturbed(in_file), sampling_rate_hz=RATE_HZ, end=header.sig_len, fibrillation=spans
    )  # fmt: skip
    printed = {m[1]: list(map(int, m[2].split())) for m in re.finditer(r"(?m)^ ([NSVFQO]) \| (.*)$", BXB[record])}
    for reference_class, row in printed.items():
        n, s, v, _, q, *missed = row
        assert [found.pairs.get((reference_class, said), 0) for said in "nsvq"] == [n, s, v, q]
        assert found.pairs.get((reference_class, "o"), 0) == sum(missed[:1])
    # What it says of VEBs is what we say when "v" is the flag; of SVEBs, when "s" is.
    for kind, name in (("v", "VEB"), ("s", "SVEB")):
        flagged = Counts({(a, "f" if said == kind else "o" if said == "o" else "n"): 0 for a, said in found.pairs})
        for (a, said), n in found.pairs.items():
            flagged.pairs[a, "f" if said == kind else "o" if said == "o" else "n"] += n
        said_of = flagged.statistics()
        ours = {
            "QRS sensitivity": said_of["qrs_sensitivity"],
            "QRS positive predictivity": said_of["qrs_positive_predictivity"],
            f"{name} sensitivity": said_of[f"{name.lower()}_sensitivity"],
            f"{name} positive predictivity": said_of[f"{name.lower()}_named_positive_predictivity"],
        }
        for what, value in ours.items():
            match = re.search(rf"(?m)^ *{what}: +([\d.]+|-)", BXB[record])
            assert match is not None
            assert match[1] == ("-" if value is None else f"{100 * value:.2f}")


@pytest.mark.parametrize("seed", range(20))
def test_qrs_counts_are_those_of_wfdb_python(seed: int) -> None:
    random = np.random.default_rng(seed)
    reference = 108_000 + np.cumsum(random.integers(180, 400, 500))  # at most 120 beats a minute
    found = np.unique(np.concatenate([reference + random.integers(-70, 71, 500), random.choice(reference, 30) + 90]))
    found = found[(random.random(len(found)) > 0.05) & (found >= 108_000)]
    theirs = compare_annotations(reference, found, 55)  # which it takes as less than 55
    counts = compare(
        Beats(reference, ["N"] * 500), Beats(found, ["n"] * len(found)), sampling_rate_hz=RATE_HZ,
        end=int(reference[-1]) + 1000,
    )  # fmt: skip
    assert counts.of("N", "n") + counts.of("N", "o") == 500
    assert counts.of("N", "n") + counts.of("O", "n") == len(found)
    assert (counts.of("N", "n"), counts.of("N", "o"), counts.of("O", "n")) == (theirs.tp, theirs.fn, theirs.fp)


def test_the_first_five_minutes_do_not_count() -> None:
    sample = np.arange(360, 720 * 360, 360)
    counts = compare(
        Beats(sample, ["N"] * len(sample)), Beats(sample[::2], ["n"] * len(sample[::2])), sampling_rate_hz=RATE_HZ,
        end=720 * 360,
    )  # fmt: skip
    assert counts.of("N", "no") == (sample >= 300 * 360).sum()
    nothing = Beats(np.zeros(0, int), [])
    assert compare(nothing, nothing, sampling_rate_hz=RATE_HZ, end=0).pairs == {}


def test_statistics_of_flags() -> None:
    counts = Counts(
        {("N", "n"): 90, ("N", "f"): 6, ("N", "o"): 4, ("V", "f"): 8, ("V", "n"): 1, ("V", "o"): 1, ("S", "f"): 3,
         ("S", "n"): 1, ("F", "f"): 2, ("O", "f"): 2, ("O", "n"): 3, ("Q", "q"): 1}
    )  # fmt: skip
    found = counts.statistics()
    assert found["qrs_sensitivity"] == pytest.approx(112 / 117)
    assert found["qrs_positive_predictivity"] == pytest.approx(112 / 117)
    assert found["veb_sensitivity"] == pytest.approx(8 / 10)
    assert found["veb_positive_predictivity"] == pytest.approx(8 / (8 + 6 + 2))
    assert found["veb_named_positive_predictivity"] == pytest.approx(8 / (8 + 6 + 3 + 2))
    assert found["sveb_sensitivity"] == pytest.approx(3 / 4)
    assert found["sveb_named_positive_predictivity"] == pytest.approx(3 / (3 + 6 + 8 + 2 + 2))
    assert found["flags_sensitivity"] == pytest.approx(13 / 17)
    assert found["flags_positive_predictivity"] == pytest.approx(13 / 21)
    without = Counts({("N", "n"): 5})
    assert without.statistics()["veb_sensitivity"] is None
    assert average([counts, without])["veb_sensitivity"] == found["veb_sensitivity"]
    assert Counts.total([counts, without]).of("N", "n") == 95
