#!/usr/bin/env python3
"""Scores a recording with an exported model, on a device without TensorFlow: this one file, numpy, scipy and LiteRT.

    pip install numpy scipy ai-edge-litert
    python -m serving.export --out build/export                    # on the platform
    python score_ecg.py recording.csv --model low_rank.tflite --meta export.json --top 10

The recording is a CSV file with `# sampling_rate_hz: 360` above a header row, one column a lead, millivolts. R peaks
are found by a simple detector of this file's own (the platform uses neurokit2 or reference annotations), so beats and
scores are close to the platform's, not the same. Decision support for review, not a diagnosis.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from scipy.signal import butter, find_peaks, resample_poly, sosfiltfilt


def load_interpreter(path):
    """LiteRT's interpreter, whichever package has it."""
    for package in ("ai_edge_litert.interpreter", "tflite_runtime.interpreter", "tensorflow.lite.python.interpreter"):
        try:
            module = __import__(package, fromlist=["Interpreter"])
        except ImportError:
            continue
        interpreter = module.Interpreter(model_path=str(path), num_threads=1)
        interpreter.allocate_tensors()
        return interpreter
    sys.exit("error: no LiteRT runtime here. pip install ai-edge-litert")


def read_csv(path):
    """Millivolts (n, leads), names of the leads, and the sampling rate in hertz."""
    rate_hz, names, rows = None, None, []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
        if line.startswith("#"):
            key, _, value = line[1:].partition(":")
            if key.strip() == "sampling_rate_hz":
                rate_hz = float(value)
        elif names is None:
            names = [name.strip().removesuffix("_mV") for name in line.split(",")]
        elif line.strip():
            try:
                rows.append([float(cell) for cell in line.split(",")])
            except ValueError:
                sys.exit(f"error: {path}, line {number}: not numbers")
    if rate_hz is None or not rows:
        sys.exit(f"error: {path}: needs '# sampling_rate_hz: ...', a header row and samples")
    return np.asarray(rows), names, rate_hz


def prepare(signal_mv, rate_hz, features):
    """Zero-phase band-pass, then the model's sampling rate: (m, leads)."""
    low, high = features["band_hz"]
    filtered = sosfiltfilt(
        butter(2, [low, min(high, 0.45 * rate_hz)], "bandpass", fs=rate_hz, output="sos"), signal_mv, 0
    )
    up, down = int(features["sampling_rate_hz"] * 10), round(rate_hz * 10)
    divisor = np.gcd(up, down)
    return resample_poly(filtered, up // divisor, down // divisor, axis=0)


def find_r_peaks(signal, rate_hz):
    """Samples of the R peaks, by the energy of the slope over all leads."""
    slope = np.diff(signal, axis=0, prepend=signal[:1])
    energy = np.convolve((slope**2).sum(1), np.ones(int(0.1 * rate_hz)) / int(0.1 * rate_hz), "same")
    height = 0.3 * np.percentile(energy, 98)
    peaks, _ = find_peaks(energy, height=height, distance=int(0.25 * rate_hz))
    reach = int(0.08 * rate_hz)
    size = np.abs(signal - np.median(signal, axis=0)).max(axis=1)
    return np.array([p - reach + int(np.argmax(size[max(p - reach, 0) : p + reach])) for p in peaks if p >= reach])


def lead_slots(names, features):
    """Column of each of the model's lead slots; None where the recording has no lead for it."""
    slots, used = [], set()
    for accepted in features["lead_slots"]:
        column = next((names.index(name) for name in accepted if name in names and names.index(name) not in used), None)
        slots.append(column)
        used.add(column)
    for i, column in enumerate(slots):
        if column is None:
            slots[i] = next((c for c in range(len(names)) if c not in used), None)
            used.add(slots[i])
    return slots


def rr_context(rr, i, features):
    """What the model is told of the rhythm around beat i; rr[k] is from beat k to k + 1, 0 where it is not known."""
    before = [(k, rr[k]) for k in range(max(0, i - 1 - features["rr_p90_beats"]), max(0, i - 1)) if rr[k] > 0]
    known = [value for _, value in before]
    deviations = []
    for k, value in before:
        own = [one for one in rr[max(0, k - features["rr_median_beats"]) : k] if one > 0]
        if own:
            deviations.append(abs(np.log(value / np.median(own))))
    return {
        "rr_prev_s": rr[i - 1] if i else 0.0,
        "rr_next_s": rr[i] if i < len(rr) else 0.0,
        "rr_median_s": np.median(known[-features["rr_median_beats"] :]) if known else 0.0,
        "rr_p90_s": np.percentile(known, 90) if known else 0.0,
        "rr_spread": np.median(deviations) if deviations else 0.0,
    }


def windows(signal, peaks, slots, features, rr_columns):
    """The model's inputs for each beat whose window lies in the recording, and their R peaks (samples)."""
    rate_hz = features["sampling_rate_hz"]
    before, after = int(features["before_ms"] * rate_hz / 1000), int(features["after_ms"] * rate_hz / 1000)
    inside = (peaks >= before) & (peaks + after <= len(signal))
    rr = np.diff(peaks) / rate_hz
    rr = np.where(rr <= features["max_rr_s"], rr, 0.0)
    mask = np.array([[slot is not None for slot in slots]], np.float32)
    recent = []
    for i, peak in enumerate(peaks):
        if not inside[i]:
            continue
        window = np.zeros((before + after, len(slots)), np.float32)
        for slot, column in enumerate(slots):
            if column is not None:
                window[:, slot] = signal[peak - before : peak + after, column]
        context = rr_context(rr, i, features)
        template = np.median(recent, axis=0) if recent else np.zeros_like(window)
        yield (
            peak,
            {
                "samples": window[None],
                "lead_mask": mask,
                "rr": np.asarray([[context[name] for name in rr_columns]], np.float32),
                "template": template[None].astype(np.float32),
                "template_beats": np.array([[len(recent)]], np.float32),
            },
        )
        recent = [*recent, window][-features["template_beats"] :]


def main():
    parser = argparse.ArgumentParser(description="Scores a recording with an exported model, without TensorFlow.")
    parser.add_argument("recording", type=Path, help="CSV file, millivolts")
    parser.add_argument("--model", type=Path, required=True, help=".tflite file of serving.export")
    parser.add_argument("--meta", type=Path, required=True, help="export.json beside it")
    parser.add_argument("--top", type=int, default=10, help="most anomalous beats to show")
    parser.add_argument("--json", type=Path, help="write all beats here")
    options = parser.parse_args()
    for file in (options.recording, options.model, options.meta):
        if not file.is_file():
            sys.exit(f"error: {file}: does not exist")
    meta = json.loads(options.meta.read_text(encoding="utf-8"))
    features = meta["features"]
    interpreter = load_interpreter(options.model)
    inputs = {
        d["name"].split(":")[0].removeprefix("serving_default_"): d["index"] for d in interpreter.get_input_details()
    }
    score_at = interpreter.get_output_details()[meta["outputs"].index("score")]["index"]

    signal_mv, names, rate_hz = read_csv(options.recording)
    signal = prepare(signal_mv, rate_hz, features)
    peaks = find_r_peaks(signal, features["sampling_rate_hz"])
    beats = []
    for peak, raw in windows(signal, peaks, lead_slots(names, features), features, meta["rr_columns"]):
        for name, index in inputs.items():
            interpreter.set_tensor(index, raw[name])
        interpreter.invoke()
        score = float(np.ravel(interpreter.get_tensor(score_at))[0])
        seconds = float(peak / features["sampling_rate_hz"])
        beats.append({"r_peak_s": seconds, "score": score, "anomalous": score >= meta["threshold"]})
    flagged = sum(beat["anomalous"] for beat in beats)
    print(f"{len(beats)} beats, {flagged} anomalous (score >= {meta['threshold']:.2f})")
    for beat in sorted(beats, key=lambda one: -one["score"])[: options.top]:
        print(f"{beat['r_peak_s']:10.2f} s  {beat['score']:6.2f}{'  anomalous' if beat['anomalous'] else ''}")
    if options.json:
        options.json.write_text(json.dumps(beats, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
