"""Which results need a human, and why: near the threshold, unlike the patient's own beats, or poorly recorded."""

from configs.settings import ApiSettings

NEAR_THRESHOLD = "near_threshold"
UNFAMILIAR = "unfamiliar"
NO_TYPICAL_BEAT = "no_typical_beat"
POOR_SIGNAL = "poor_signal"
REASONS = (NEAR_THRESHOLD, UNFAMILIAR, NO_TYPICAL_BEAT, POOR_SIGNAL)


def reasons_to_defer(
    settings: ApiSettings,
    *,
    score: float | None,
    threshold: float,
    familiarity: float | None,
    quality: float | None,
    known: bool = True,
) -> list[str]:
    """Why a human should look at a result before it is acted on; none when the model may be taken at its word.

    Args:
        familiarity: likeness to the patient's own typical beat, 0 to 1; None when there is none yet.
        quality: of the signal, 0 to 1.
        known: False for results of older versions of this platform, of which familiarity and quality were not kept.
    """
    reasons = []
    if score is not None and settings.review_band and abs(score - threshold) <= settings.review_band:
        reasons.append(NEAR_THRESHOLD)
    if known and settings.min_familiarity:
        if familiarity is None:
            reasons.append(NO_TYPICAL_BEAT)
        elif familiarity < settings.min_familiarity:
            reasons.append(UNFAMILIAR)
    if quality is not None and quality < settings.min_quality:
        reasons.append(POOR_SIGNAL)
    return reasons
