"""The tables of both databases. Comments here are the data dictionary (`make docs` writes docs/data-dictionary.md)."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

warehouse = sa.MetaData()
results = sa.MetaData()

#: A window's id is its window set's id and its beat index: one primary-key range holds a recording's windows in order,
#: and ids stay below 2**53, so JSON clients read them exactly.
BEAT_BITS = 24
MAX_BEATS = 1 << BEAT_BITS

_now = sa.text("now()")

#: The hospital that what has no other belongs to.
DEFAULT_SITE = "main"


def _site(comment: str = "Hospital or tenant; others never see it.") -> sa.Column[str]:
    return sa.Column("site", sa.Text, nullable=False, server_default=DEFAULT_SITE, comment=comment)


def _id(name: str, comment: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, sa.Identity(always=True), primary_key=True, comment=comment)


feature_versions = sa.Table(
    "feature_versions",
    warehouse,
    sa.Column("feature_version", sa.Text, primary_key=True, comment="Digest of the geometry."),
    sa.Column("name", sa.Text, nullable=False, comment="What people call the geometry."),
    sa.Column("spec", pg.JSONB, nullable=False, comment="The whole geometry (configs.contract.FeatureSpec)."),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=_now, comment="First use."),
    comment="How windows were cut: rate, window, filter, lead slots, context.",
)

patients = sa.Table(
    "patients",
    warehouse,
    _id("patient_id", "Internal number."),
    _site(),
    sa.Column("pseudonym", sa.Text, nullable=False, comment="Keyed HMAC of the source's patient id, hex."),
    sa.Column("sex", sa.Text, nullable=False, comment="female, male or unknown."),
    sa.Column("age_band", sa.Text, nullable=False, comment="0-17, 18-39, 40-64, 65-79, 80+ or unknown."),
    sa.Column("split", sa.Text, nullable=False, comment="train, calibration or test: fixed when first seen."),
    sa.Column("first_seen", sa.DateTime(timezone=True), nullable=False, server_default=_now, comment="First ingest."),
    sa.UniqueConstraint("site", "pseudonym", name="patients_site_pseudonym"),
    sa.CheckConstraint("split IN ('train', 'calibration', 'test')", name="patients_split_known"),
    comment="Pseudonyms only; direct identifiers never enter.",
)

recordings = sa.Table(
    "recordings",
    warehouse,
    _id("recording_id", "Internal number."),
    _site(),
    sa.Column("patient_id", sa.ForeignKey("patients.patient_id"), nullable=False, index=True, comment="Whose it is."),
    sa.Column("name", sa.Text, nullable=False, index=True, comment="Record name, as in the file."),
    sa.Column("source_format", sa.Text, nullable=False, comment="wfdb, edf, csv, ucr or simulated."),
    sa.Column("source_key", sa.Text, nullable=False, comment="sha256 of where it was read from: versions share it."),
    sa.Column("version", sa.Integer, nullable=False, comment="1, 2, ... of the same source."),
    sa.Column("checksum", sa.Text, nullable=False, comment="sha256 of everything it was read from."),
    sa.Column("superseded_by", sa.ForeignKey("recordings.recording_id"), comment="The next version; null: current."),
    sa.Column("device", sa.Text, nullable=False, comment="Device as the source says, or empty."),
    sa.Column("start_time", sa.DateTime(timezone=True), nullable=False, comment="Start; the ingest's when unknown."),
    sa.Column("start_time_known", sa.Boolean, nullable=False, comment="False: start_time is the time of ingest."),
    sa.Column("sampling_rate_hz", sa.Float, nullable=False, comment="Of the source, in hertz."),
    sa.Column("leads", pg.ARRAY(sa.Text), nullable=False, comment="Lead names of the source, in order."),
    sa.Column("duration_s", sa.Float, nullable=False, comment="Length in seconds."),
    sa.Column("annotated", sa.Boolean, nullable=False, comment="Reference beat annotations were read."),
    sa.Column("simulated", sa.Boolean, nullable=False, comment="Made by the simulator."),
    sa.Column(
        "ingested_at", sa.DateTime(timezone=True), nullable=False, server_default=_now, comment="When committed."
    ),
    sa.UniqueConstraint("site", "source_key", "version", name="recordings_source_version"),
    sa.UniqueConstraint("site", "checksum", name="recordings_checksum"),
    comment="One row a version of a recording; a row exists only when all of it is in.",
)

window_sets = sa.Table(
    "window_sets",
    warehouse,
    _id("window_set_id", "Upper bits of its windows' ids."),
    sa.Column("recording_id", sa.ForeignKey("recordings.recording_id"), nullable=False, comment="Cut from."),
    sa.Column(
        "feature_version", sa.ForeignKey("feature_versions.feature_version"), nullable=False, comment="Cut with."
    ),
    sa.Column("lead_slots", pg.ARRAY(sa.Text), nullable=False, comment="Lead in each model input slot; '' for none."),
    sa.Column("r_peak_source", sa.Text, nullable=False, comment="annotations, precut, or the detector's name."),
    sa.Column("n_windows", sa.BigInteger, nullable=False, comment="Usable windows."),
    sa.Column("n_rejected", sa.BigInteger, nullable=False, comment="Beats in dead_letters."),
    sa.Column("windowed_s", sa.Float, nullable=False, comment="Seconds that windows account for."),
    sa.Column("unusable_s", sa.Float, nullable=False, comment="Seconds in unusable_spans of all leads; sum: duration."),
    sa.Column("suspect_inverted", pg.ARRAY(sa.Text), nullable=False, comment="Leads that look upside down."),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=_now, comment="When committed."),
    sa.UniqueConstraint("recording_id", "feature_version", name="window_sets_recording_feature"),
    comment="The windows of one recording in one geometry.",
)

windows = sa.Table(
    "windows",
    warehouse,
    sa.Column("window_id", sa.BigInteger, primary_key=True, comment="window_set_id * 2^24 + beat index."),
    sa.Column("recorded_at", sa.DateTime(timezone=True), primary_key=True, comment="Of the R peak; partition key."),
    sa.Column("r_peak_s", sa.Float, nullable=False, comment="R peak, seconds from the recording's start."),
    sa.Column("samples", pg.BYTEA, nullable=False, comment="int16 little-endian (samples, slots), microvolts."),
    sa.Column("lead_mask", sa.SmallInteger, nullable=False, comment="Bit i: slot i is there and usable."),
    sa.Column("rr_prev_s", sa.REAL, nullable=False, comment="RR before, seconds; 0 unknown."),
    sa.Column("rr_next_s", sa.REAL, nullable=False, comment="RR after, seconds; 0 unknown."),
    sa.Column("rr_median_s", sa.REAL, nullable=False, comment="Median of the RRs before rr_prev_s; 0 unknown."),
    sa.Column("rr_p90_s", sa.REAL, nullable=False, comment="90th percentile of the RRs before; 0 unknown."),
    sa.Column("rr_spread", sa.REAL, nullable=False, server_default="0", comment="Irregularity of the RRs before."),
    sa.Column("template", pg.BYTEA, nullable=False, comment="Running template, as samples; zeros when none."),
    sa.Column("template_beats", sa.SmallInteger, nullable=False, comment="Beats in the template; 0: none yet."),
    sa.Column("quality", sa.REAL, nullable=False, comment="0 worst to 1 best."),
    sa.Column("symbol", sa.CHAR(4), nullable=False, comment="Annotation symbol; blank when unlabelled."),
    sa.Column("aami_class", sa.CHAR(1), nullable=False, comment="N S V F Q; U unlabelled."),
    sa.Column("label_source", sa.CHAR(9), nullable=False, comment="reference, simulator, reviewer or none."),
    postgresql_partition_by="RANGE (recorded_at)",
    comment="One row a beat. Partitioned by month: old data is dropped a partition at a time. Split: the patient's.",
)

signal_chunks = sa.Table(
    "signal_chunks",
    warehouse,
    sa.Column("window_set_id", sa.BigInteger, primary_key=True, comment="window_sets.window_set_id: rate and leads."),
    sa.Column("first_sample", sa.BigInteger, primary_key=True, comment="Of the recording, at the windows' rate."),
    sa.Column("recorded_at", sa.DateTime(timezone=True), primary_key=True, comment="Its start; partition key."),
    sa.Column(
        "envelope",
        pg.BYTEA,
        nullable=False,
        comment="Least and greatest of each second: int16 little-endian (seconds, leads, 2), as samples.",
    ),
    sa.Column(
        "samples",
        pg.BYTEA,
        nullable=False,
        comment="int16 little-endian (samples, leads in use), microvolts, band-passed; -32768: no sample.",
    ),
    sa.Column(
        "removed",
        pg.BYTEA,
        comment="What the band-pass took out of each second: its level, and its root mean square above the band; int16 "
        "little-endian (seconds, leads in use, 2), microvolts. Null: ingested by an older version.",
    ),
    postgresql_partition_by="RANGE (recorded_at)",
    comment="The signal without gaps, a minute a row, usable or not: strips are drawn from it. Partitioned as windows.",
)

labels = sa.Table(
    "labels",
    warehouse,
    _id("label_id", "Internal number; a training run says up to which it read."),
    sa.Column("window_id", sa.BigInteger, nullable=False, comment="windows.window_id."),
    sa.Column("revision", sa.BigInteger, nullable=False, comment="results.review_states.revision it came from."),
    sa.Column("source", sa.Text, nullable=False, comment="reviewer."),
    sa.Column("aami_class", sa.CHAR(1), comment="N S V F Q; null: withdrawn, or an artefact."),
    sa.Column("artefact", sa.Boolean, nullable=False, comment="No beat at all."),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=_now, comment="When."),
    sa.UniqueConstraint("window_id", "revision", name="labels_window_revision"),
    comment="What reviewers said of beats. Rows are only added: the newest of a window counts.",
)

uploads = sa.Table(
    "uploads",
    warehouse,
    sa.Column("upload_id", sa.Text, primary_key=True, comment="Random, 32 hex digits."),
    _site(),
    sa.Column("created_by", sa.Text, nullable=False, comment="Who posted it."),
    sa.Column("idempotency_key", sa.Text, comment="The caller's own; null: none was sent."),
    sa.Column("digest", sa.Text, nullable=False, comment="sha256 of what was posted."),
    sa.Column("files", pg.ARRAY(sa.Text), nullable=False, comment="Names of the files."),
    sa.Column("bytes", sa.BigInteger, nullable=False, comment="All of them together."),
    sa.Column("patients", pg.ARRAY(sa.Text), comment="The only pseudonyms allowed in it; null: any."),
    sa.Column("status", sa.Text, nullable=False, comment="waiting, ingesting, done or failed."),
    sa.Column("problem", sa.Text, comment="Why it failed, and what to do."),
    sa.Column("recordings", pg.JSONB, comment="Once done: recording_id and name of each."),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=_now, comment="When posted."),
    sa.Column("finished_at", sa.DateTime(timezone=True), comment="When done or failed."),
    sa.UniqueConstraint("site", "created_by", "idempotency_key", name="uploads_idempotency"),
    comment="Recordings posted to the API, and what became of them.",
)

unusable_spans = sa.Table(
    "unusable_spans",
    warehouse,
    sa.Column("window_set_id", sa.ForeignKey("window_sets.window_set_id"), primary_key=True, comment="Of."),
    sa.Column("ordinal", sa.Integer, primary_key=True, comment="0, 1, ... in time order."),
    sa.Column("start_s", sa.Float, nullable=False, comment="From the recording's start."),
    sa.Column("end_s", sa.Float, nullable=False, comment="Exclusive."),
    sa.Column("lead", sa.Text, comment="Null: no window covers this time. Else only this lead is unusable."),
    sa.Column("reason", sa.Text, nullable=False, comment="warehouse.signal.ecg.Reason."),
    comment="Time that no window covers, and why; and single leads that could not be used.",
)

dead_letters = sa.Table(
    "dead_letters",
    warehouse,
    _id("dead_letter_id", "Internal number."),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=_now, comment="When."),
    sa.Column("window_set_id", sa.ForeignKey("window_sets.window_set_id"), index=True, comment="For a beat."),
    sa.Column("beat_index", sa.BigInteger, comment="For a beat: counts all beats of the recording."),
    sa.Column("r_peak_s", sa.Float, comment="For a beat: from the recording's start."),
    sa.Column("symbol", sa.Text, comment="For a beat: its annotation symbol."),
    sa.Column("source", sa.Text, comment="For a whole file that could not be read: its name."),
    sa.Column("reason", sa.Text, nullable=False, comment="warehouse.signal.ecg.Reason, or source for a file."),
    sa.Column("detail", sa.Text, nullable=False, comment="What exactly."),
    comment="Beats and files that gave no window, and why. Nothing is dropped in silence.",
)

data_spans = sa.Table(
    "data_spans",
    warehouse,
    sa.Column("span", sa.Integer, sa.Identity(always=True), primary_key=True, comment="TFX's span number."),
    sa.Column("digest", sa.Text, nullable=False, unique=True, comment="Of everything below: same data, same span."),
    sa.Column("feature_version", sa.ForeignKey("feature_versions.feature_version"), nullable=False, comment="In."),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=_now, comment="First use."),
    sa.Column("n_windows", sa.BigInteger, nullable=False, comment="All splits together."),
    sa.Column("content", pg.JSONB, nullable=False, comment="Per recording: window_set_id, split, n_windows, labels."),
    comment="What a training run saw, exactly.",
)

# --- results ---------------------------------------------------------------------------------------

model_versions = sa.Table(
    "model_versions",
    results,
    sa.Column("model_version", sa.BigInteger, primary_key=True, comment="The Pusher's directory name."),
    sa.Column("model_name", sa.Text, nullable=False, comment="Served name."),
    sa.Column("feature_version", sa.Text, nullable=False, comment="Geometry it takes."),
    sa.Column("feature_spec", pg.JSONB, nullable=False, comment="That geometry, whole."),
    sa.Column("threshold", sa.Float, nullable=False, comment="Score at and above which a beat is anomalous."),
    sa.Column("digest", sa.Text, nullable=False, comment="sha256 of the SavedModel's files."),
    sa.Column("data_span", sa.Integer, nullable=False, comment="warehouse.data_spans.span."),
    sa.Column("run_key", sa.Text, nullable=False, comment="training_runs.run_key."),
    sa.Column("card", pg.JSONB, nullable=False, comment="Model card: lineage, configuration, metrics, limits."),
    sa.Column("registered_at", sa.DateTime(timezone=True), nullable=False, server_default=_now, comment="When pushed."),
    sa.Column("datasheet", pg.JSONB, comment="Data sheet of its data span; null: made by an older version."),
    comment="Pushed models.",
)

model_recordings = sa.Table(
    "model_recordings",
    results,
    sa.Column(
        "model_version", sa.ForeignKey("model_versions.model_version"), primary_key=True, comment="Made from it."
    ),
    sa.Column("window_set_id", sa.BigInteger, primary_key=True, comment="warehouse.window_sets.window_set_id."),
    _site(),
    sa.Column("pseudonym", sa.Text, nullable=False, comment="warehouse.patients.pseudonym."),
    sa.Column("recording_id", sa.BigInteger, nullable=False, comment="warehouse.recordings.recording_id."),
    sa.Column("recording", sa.Text, nullable=False, comment="Record name."),
    sa.Column("checksum", sa.Text, nullable=False, comment="warehouse.recordings.checksum."),
    sa.Column("split", sa.Text, nullable=False, comment="train, calibration or test."),
    sa.Column("n_windows", sa.BigInteger, nullable=False, comment="Windows of it that the run read."),
    sa.Index("model_recordings_by_patient", "site", "pseudonym"),
    sa.Index("model_recordings_by_recording", "recording_id"),
    comment="Which recordings, and so which patients, a model version was made from. Written when it is registered.",
)

training_runs = sa.Table(
    "training_runs",
    results,
    _id("run_id", "Internal number."),
    sa.Column("started_at", sa.DateTime(timezone=True), nullable=False, server_default=_now, comment="Start."),
    sa.Column("finished_at", sa.DateTime(timezone=True), comment="End; null: running, or killed."),
    sa.Column(
        "status", sa.Text, nullable=False, comment="running, pushed, blessed, not_blessed, data_invalid or failed."
    ),
    sa.Column("run_key", sa.Text, nullable=False, comment="Of data, code and configuration: same key, same model."),
    sa.Column("data_span", sa.Integer, nullable=False, comment="warehouse.data_spans.span."),
    sa.Column("config", pg.JSONB, nullable=False, comment="Training and evaluation settings, feature version."),
    sa.Column("code_revision", sa.Text, nullable=False, comment="Digest of the code; git revision where there is one."),
    sa.Column("metrics", pg.JSONB, comment="Evaluator's overall metrics."),
    sa.Column("artifacts", pg.JSONB, comment="Stage outputs: artifact type to path."),
    sa.Column("seconds", pg.JSONB, comment="Wall time a stage."),
    sa.Column("model_version", sa.BigInteger, comment="What was pushed."),
    sa.Column("error", sa.Text, comment="Why it was not."),
    comment="Experiment tracking: one row a run of pipelines.train.",
)

scoring_runs = sa.Table(
    "scoring_runs",
    results,
    _id("run_id", "Internal number."),
    sa.Column("model_version", sa.ForeignKey("model_versions.model_version"), nullable=False, comment="Scored with."),
    sa.Column("started_at", sa.DateTime(timezone=True), nullable=False, server_default=_now, comment="Start."),
    sa.Column("finished_at", sa.DateTime(timezone=True), comment="End; null: running, or killed."),
    sa.Column("status", sa.Text, nullable=False, comment="running, succeeded or failed."),
    sa.Column("windows_in", sa.BigInteger, nullable=False, comment="Windows without a score at the start."),
    sa.Column("scored", sa.BigInteger, nullable=False, server_default="0", comment="Of those, scored by this run."),
    sa.Column("failed", sa.BigInteger, nullable=False, server_default="0", comment="Of those, in score_failures."),
    sa.Column("unusable", sa.BigInteger, nullable=False, comment="Beats without a window, of the recordings covered."),
    sa.Column("seconds", sa.Float, comment="Wall time."),
    sa.Column("error", sa.Text, comment="Why it failed."),
    sa.Column("model_seconds", sa.Float, nullable=False, server_default="0", comment="In calls of the model."),
    sa.Column("shadow", sa.Boolean, nullable=False, server_default="false", comment="Into shadow_scores."),
    comment="One row a run of pipelines.score and model version.",
)

scores = sa.Table(
    "scores",
    results,
    sa.Column("model_version", sa.BigInteger, primary_key=True, comment="Scored with."),
    sa.Column("window_id", sa.BigInteger, primary_key=True, comment="warehouse.windows.window_id."),
    sa.Column("recording_id", sa.BigInteger, nullable=False, comment="warehouse.recordings.recording_id."),
    sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False, comment="Of the R peak."),
    sa.Column("score", sa.REAL, nullable=False, comment="-log10 of the share of normal beats that score as high."),
    sa.Column("verdict", sa.Boolean, nullable=False, comment="score >= the model's threshold."),
    sa.Column("lead_slot", sa.SmallInteger, nullable=False, comment="Slot of the lead that contributes most."),
    comment="Exactly one row a window and model version.",
)

anomalies = sa.Table(
    "anomalies",
    results,
    sa.Column("model_version", sa.BigInteger, primary_key=True, comment="Scored with."),
    sa.Column("window_id", sa.BigInteger, primary_key=True, comment="warehouse.windows.window_id."),
    sa.Column("recording_id", sa.BigInteger, nullable=False, comment="warehouse.recordings.recording_id."),
    sa.Column("recording", sa.Text, nullable=False, comment="Record name."),
    sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False, comment="Of the R peak."),
    sa.Column("r_peak_s", sa.Float, nullable=False, comment="Seconds from the recording's start."),
    sa.Column("score", sa.REAL, nullable=False, comment="As in scores."),
    sa.Column("lead", sa.Text, nullable=False, comment="Lead that contributes most; '' when unknown."),
    sa.Column("label", sa.CHAR(1), nullable=False, comment="Reference class: N S V F Q; U unlabelled."),
    sa.Column(
        "episode_id",
        sa.BigInteger,
        comment="episodes.episode_id, once the recording is summarised; null: not known yet.",
    ),
    _site(),
    sa.Column("quality", sa.REAL, comment="Signal quality, 0 worst to 1 best; null: unknown."),
    sa.Column("familiarity", sa.REAL, comment="Likeness to the patient's own typical beat, 0 to 1; null: unknown."),
    sa.Column(
        "threshold", sa.REAL, comment="That the verdict is by, where it follows the recording; null: the model's."
    ),
    sa.Index("anomalies_by_time", "model_version", "site", "recorded_at", "window_id"),
    sa.Index("anomalies_by_score", "model_version", "site", "score", "window_id"),
    sa.Index("anomalies_by_recording", "model_version", "site", "recording", "recorded_at", "window_id"),
    comment="Windows with verdict true, ready to list.",
)

episodes = sa.Table(
    "episodes",
    results,
    sa.Column("model_version", sa.BigInteger, primary_key=True, comment="Scored with."),
    sa.Column("episode_id", sa.BigInteger, primary_key=True, comment="window_id of its first beat."),
    sa.Column("recording_id", sa.BigInteger, nullable=False, index=True, comment="In."),
    sa.Column("recording", sa.Text, nullable=False, comment="Record name."),
    sa.Column("start_time", sa.DateTime(timezone=True), nullable=False, comment="First R peak."),
    sa.Column("end_time", sa.DateTime(timezone=True), nullable=False, comment="Last R peak."),
    sa.Column("start_s", sa.Float, nullable=False, comment="First R peak, seconds from the recording's start."),
    sa.Column("end_s", sa.Float, nullable=False, comment="Last R peak, likewise."),
    sa.Column("peak_score", sa.REAL, nullable=False, comment="Highest score in it."),
    sa.Column("n_beats", sa.Integer, nullable=False, comment="Anomalous beats in it."),
    sa.Column("label", sa.Text, comment="Set once reviewed."),
    _site(),
    sa.Index("episodes_by_time", "model_version", "site", "start_time", "episode_id"),
    sa.Index("episodes_by_score", "model_version", "site", "peak_score", "episode_id"),
    comment="Consecutive anomalous beats of a recording.",
)

recording_summaries = sa.Table(
    "recording_summaries",
    results,
    sa.Column("model_version", sa.BigInteger, primary_key=True, comment="Scored with."),
    sa.Column("recording_id", sa.BigInteger, primary_key=True, comment="Of."),
    sa.Column("window_set_id", sa.BigInteger, nullable=False, comment="warehouse.window_sets.window_set_id."),
    sa.Column("recording", sa.Text, nullable=False, comment="Record name."),
    sa.Column("beats", sa.BigInteger, nullable=False, comment="Windows and rejected beats."),
    sa.Column("scored", sa.BigInteger, nullable=False, comment="Windows with a score."),
    sa.Column("failed", sa.BigInteger, nullable=False, comment="Windows in score_failures."),
    sa.Column("unusable", sa.BigInteger, nullable=False, comment="Rejected beats."),
    sa.Column("anomalous", sa.BigInteger, nullable=False, comment="Scored windows with verdict true."),
    sa.Column("episodes", sa.BigInteger, nullable=False, comment="Episodes."),
    sa.Column("burden_percent", sa.Float, nullable=False, comment="anomalous / scored * 100."),
    sa.Column("analysable_s", sa.Float, nullable=False, comment="Seconds that windows account for."),
    sa.Column("duration_s", sa.Float, nullable=False, comment="Length of the recording."),
    sa.Column("mean_heart_rate_bpm", sa.Float, comment="From the known RR intervals; null when none."),
    sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=_now, comment="When."),
    _site(),
    sa.Column("device", sa.Text, nullable=False, server_default="", comment="Of the recording, or empty."),
    sa.Column(
        "score_histogram",
        pg.ARRAY(sa.Integer),
        comment="Scores a bin of 0.01 from 0 on, the last bin takes all above; null: made by an older version.",
    ),
    sa.Index("recording_summaries_by_site", "model_version", "site"),
    comment="One row a recording and model version.",
)

score_failures = sa.Table(
    "score_failures",
    results,
    sa.Column("model_version", sa.BigInteger, primary_key=True, comment="Tried with."),
    sa.Column("window_id", sa.BigInteger, primary_key=True, comment="warehouse.windows.window_id."),
    sa.Column("recording_id", sa.BigInteger, nullable=False, comment="warehouse.recordings.recording_id."),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=_now, comment="When."),
    sa.Column("reason", sa.Text, nullable=False, comment="What was wrong with the window or its score."),
    comment="Windows the model could not score (dead letters of scoring). They are tried again with --retry-failed.",
)

reviews = sa.Table(
    "reviews",
    results,
    _id("review_id", "Internal number, in order."),
    sa.Column(
        "batch_id", sa.BigInteger, nullable=False, comment="Shared by what was said at once, such as of an episode."
    ),
    _site(),
    sa.Column("window_id", sa.BigInteger, nullable=False, comment="The beat: warehouse.windows.window_id."),
    sa.Column("recording_id", sa.BigInteger, nullable=False, comment="warehouse.recordings.recording_id."),
    sa.Column("episode_id", sa.BigInteger, comment="Said of this whole episode; null: of the beat alone."),
    sa.Column("model_version", sa.BigInteger, nullable=False, comment="Whose result was looked at."),
    sa.Column("score", sa.REAL, comment="What that model said; null: it has no score."),
    sa.Column("flagged", sa.Boolean, comment="Whether that model flagged it; null: it has no score."),
    sa.Column("sampled", sa.Boolean, nullable=False, comment="Handed out by the random sample of unflagged beats."),
    sa.Column("reviewer", sa.Text, nullable=False, comment="Who, as signed in."),
    sa.Column("role", sa.Text, nullable=False, comment="Their role then."),
    sa.Column("action", sa.Text, nullable=False, comment="review, or undo."),
    sa.Column("verdict", sa.Text, comment="confirm (anomalous), reject (normal) or unsure; null: undo."),
    sa.Column("label", sa.Text, comment="N S V F Q or artefact; null: none given."),
    sa.Column("cause", sa.Text, comment="Tag of the cause; null: none given."),
    sa.Column("comment", sa.Text, comment="In words; null: none."),
    sa.Column("supersedes", sa.BigInteger, comment="review_id of the same reviewer's earlier word on it."),
    sa.Column("undoes", sa.BigInteger, comment="review_id that is taken back."),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=_now, comment="When."),
    sa.CheckConstraint("action IN ('review', 'undo')", name="reviews_action_known"),
    sa.CheckConstraint("verdict IN ('confirm', 'reject', 'unsure')", name="reviews_verdict_known"),
    sa.CheckConstraint("label IN ('N', 'S', 'V', 'F', 'Q', 'artefact')", name="reviews_label_known"),
    sa.Index("reviews_by_window", "window_id", "review_id"),
    sa.Index("reviews_by_site", "site", "review_id"),
    sa.Index("reviews_by_batch", "batch_id"),
    comment="What people said of beats. Rows are only added, never changed: a trigger sees to it.",
)

review_states = sa.Table(
    "review_states",
    results,
    sa.Column("window_id", sa.BigInteger, primary_key=True, comment="warehouse.windows.window_id."),
    _site(),
    sa.Column("recording_id", sa.BigInteger, nullable=False, comment="warehouse.recordings.recording_id."),
    sa.Column("status", sa.Text, nullable=False, comment="unreviewed, confirmed, rejected, unsure, conflict, settled."),
    sa.Column("verdict", sa.Text, comment="confirm or reject; null: open."),
    sa.Column("label", sa.Text, comment="N S V F Q or artefact; null: open, or none given."),
    sa.Column("cause", sa.Text, comment="Tag of the cause; null: none."),
    sa.Column("reviewers", pg.ARRAY(sa.Text), nullable=False, comment="Whose word counts, oldest first."),
    sa.Column("sampled", sa.Boolean, nullable=False, comment="Reached by the random sample of unflagged beats."),
    sa.Column("revision", sa.BigInteger, nullable=False, comment="review_id of the last row it was made from."),
    sa.Column("delivered", sa.BigInteger, nullable=False, comment="Revision that is in warehouse.labels."),
    sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=_now, comment="When."),
    sa.Index("review_states_by_status", "site", "status", "window_id"),
    sa.Index("review_states_undelivered", "window_id", postgresql_where=sa.text("delivered < revision")),
    comment="What reviews of a beat come to; made from reviews, in the same transaction. No row: unreviewed.",
)

api_keys = sa.Table(
    "api_keys",
    results,
    sa.Column("key_id", sa.Text, primary_key=True, comment="Public part, 12 hex digits."),
    _site(),
    sa.Column("secret_sha256", sa.Text, nullable=False, comment="sha256 of the secret part (256 random bits), hex."),
    sa.Column("name", sa.Text, nullable=False, comment="Who or what it is for; reviews carry it."),
    sa.Column("role", sa.Text, nullable=False, comment="viewer, reviewer, admin or device."),
    sa.Column("scopes", pg.ARRAY(sa.Text), nullable=False, comment="What it may do, of what its role may."),
    sa.Column("patients", pg.ARRAY(sa.Text), comment="Of a device: pseudonyms it may post recordings of."),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=_now, comment="When."),
    sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False, comment="Not accepted from then on."),
    sa.Column("revoked_at", sa.DateTime(timezone=True), comment="Not accepted since; null: not revoked."),
    sa.Column("last_used_at", sa.DateTime(timezone=True), comment="To the minute; null: never."),
    sa.CheckConstraint("role IN ('viewer', 'reviewer', 'admin', 'device')", name="api_keys_role_known"),
    comment="API keys, without their secrets.",
)

sessions = sa.Table(
    "sessions",
    results,
    sa.Column("secret_sha256", sa.Text, primary_key=True, comment="sha256 of the cookie's value, hex."),
    _site(),
    sa.Column("key_id", sa.Text, comment="API key it was opened with; null: an OIDC token."),
    sa.Column("name", sa.Text, nullable=False, comment="Who; reviews carry it."),
    sa.Column("role", sa.Text, nullable=False, comment="Their role."),
    sa.Column("scopes", pg.ARRAY(sa.Text), nullable=False, comment="What they may do."),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=_now, comment="When."),
    sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False, comment="Not accepted from then on."),
    comment="Signed-in sessions of the page; signing out deletes one.",
)

releases = sa.Table(
    "releases",
    results,
    _id("release_id", "Internal number; the last row is the state."),
    sa.Column("follows", sa.BigInteger, nullable=False, unique=True, comment="The release before it; 0 for the first."),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=_now, comment="When."),
    sa.Column("operator", sa.Text, nullable=False, comment="Who."),
    sa.Column(
        "action",
        sa.Text,
        nullable=False,
        comment="promote, rollback, shadow, canary, stop, prune, or hold (decided not to).",
    ),
    sa.Column("model_version", sa.BigInteger, comment="What it was about."),
    sa.Column("reason", sa.Text, nullable=False, comment="Why."),
    sa.Column("numbers", pg.JSONB, comment="What an automatic decision was based on."),
    sa.Column(
        "stable", sa.BigInteger, nullable=False, comment="Since then: serves recordings that are not the canary's."
    ),
    sa.Column("previous", sa.BigInteger, comment="Since then: what a rollback returns to."),
    sa.Column("canary", sa.BigInteger, comment="Since then: serves a share of the recordings."),
    sa.Column("canary_percent", sa.Float, comment="That share, by hash of the recording's name."),
    sa.Column("shadow", sa.BigInteger, comment="Since then: scores all recordings, into shadow_scores."),
    comment="Which model version serves what, since when, by whom and why: a log that only grows.",
)

shadow_scores = sa.Table(
    "shadow_scores",
    results,
    *(column._copy() for column in scores.columns),
    comment="What a version in shadow says: compared, adopted when it is promoted, never shown as a verdict.",
)

scoring_work = sa.Table(
    "scoring_work",
    results,
    sa.Column("model_version", sa.BigInteger, primary_key=True, comment="To score with."),
    sa.Column("shadow", sa.Boolean, primary_key=True, comment="Into shadow_scores."),
    sa.Column("first_id", sa.BigInteger, primary_key=True, comment="First window_id of the block."),
    sa.Column("stop_id", sa.BigInteger, nullable=False, comment="First window_id after it."),
    sa.Column(
        "window_set_id", sa.BigInteger, nullable=False, index=True, comment="warehouse.window_sets.window_set_id."
    ),
    sa.Column(
        "holder", sa.Integer, comment="Who scores it: the number of an advisory lock that lives as long as they."
    ),
    comment="Blocks of windows to score. A row goes with the commit of its scores.",
)

audit_log = sa.Table(
    "audit_log",
    results,
    sa.Column("audit_id", sa.BigInteger, primary_key=True, autoincrement=False, comment="1, 2, ... without a gap."),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False, comment="The database's clock."),
    sa.Column("actor", sa.Text, nullable=False, comment="Who, as signed in; the operating system's user for commands."),
    sa.Column(
        "role", sa.Text, nullable=False, comment="Their role: viewer, reviewer, admin, device; command for commands."
    ),
    sa.Column("site", sa.Text, nullable=False, comment="Hospital or tenant; empty: all."),
    sa.Column(
        "action", sa.Text, nullable=False, comment="What was done: read, export, review, key_add, release, erase, ..."
    ),
    sa.Column(
        "subject",
        sa.Text,
        nullable=False,
        comment="To what: a path of the API, a key's id, a model version, ... never a direct identifier.",
    ),
    sa.Column("detail", sa.Text, nullable=False, comment="More, such as the request's query; or empty."),
    sa.Column("previous", pg.BYTEA, nullable=False, comment="hash of the row before; 32 zero bytes in the first."),
    sa.Column(
        "hash",
        pg.BYTEA,
        nullable=False,
        comment="sha256 of previous and all columns but it, each with its length before it.",
    ),
    comment="Who read which strip, and who administered what. Rows are only added; each carries the hash of the one "
    "before.",
)

erasures = sa.Table(
    "erasures",
    results,
    _id("erasure_id", "Internal number."),
    sa.Column(
        "subject",
        sa.Text,
        nullable=False,
        comment="sha256 of site and pseudonym, which cannot be turned back; empty for retention.",
    ),
    sa.Column("reason", sa.Text, nullable=False, comment="erasure (a patient asked) or retention (too old)."),
    sa.Column("recording_ids", pg.ARRAY(sa.BigInteger), nullable=False, comment="Of the recordings that are gone."),
    sa.Column("window_set_ids", pg.ARRAY(sa.BigInteger), nullable=False, comment="Of their window sets."),
    sa.Column("started_at", sa.DateTime(timezone=True), nullable=False, server_default=_now, comment="Start."),
    sa.Column(
        "finished_at",
        sa.DateTime(timezone=True),
        comment="End; null: under way, or stopped half way: the next erasure finishes it.",
    ),
    sa.Column("deleted", pg.JSONB, comment="Rows deleted, by table, and files."),
    sa.CheckConstraint("reason IN ('erasure', 'retention')", name="erasures_reason_known"),
    comment="What was erased, by numbers that lead nowhere any more: goes on after a crash, and is proven again.",
)

retraining_marks = sa.Table(
    "retraining_marks",
    results,
    sa.Column(
        "data_span",
        sa.Integer,
        primary_key=True,
        autoincrement=False,
        comment="warehouse.data_spans.span; models know theirs, also those whose training is under way.",
    ),
    sa.Column("reason", sa.Text, primary_key=True, comment="erasure."),
    sa.Column("marked_at", sa.DateTime(timezone=True), nullable=False, server_default=_now, comment="When first."),
    comment="Data spans that lost a patient: a released model version trained on one is to be trained again.",
)

drift_runs = sa.Table(
    "drift_runs",
    results,
    _id("drift_run_id", "Internal number."),
    _site(),
    sa.Column(
        "method", sa.Text, nullable=False, server_default="reference", comment="reference, or skew (TFDV's statistics)."
    ),
    sa.Column("model_version", sa.BigInteger, nullable=False, comment="Whose reference was compared with."),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=_now, comment="When."),
    sa.Column(
        "arrived_after", sa.DateTime(timezone=True), nullable=False, comment="Recordings that came since are live."
    ),
    sa.Column("status", sa.Text, nullable=False, comment="compared, no_data, or no_reference (an older model)."),
    sa.Column("recordings", sa.BigInteger, nullable=False, comment="Live recordings."),
    sa.Column("windows", sa.BigInteger, nullable=False, comment="Live windows looked at."),
    sa.Column("tests", sa.BigInteger, nullable=False, comment="Questions asked; findings account for all of them."),
    sa.Column("gaps", pg.JSONB, nullable=False, comment="What could not be compared: reason to how often."),
    sa.Column("seconds", sa.Float, nullable=False, comment="How long it took."),
    sa.Index("drift_runs_by_site", "site", "drift_run_id"),
    comment="Comparisons of live windows with the reference of a model version.",
)

drift_findings = sa.Table(
    "drift_findings",
    results,
    _id("drift_finding_id", "Internal number."),
    sa.Column(
        "drift_run_id", sa.ForeignKey("drift_runs.drift_run_id"), nullable=False, index=True, comment="Found by."
    ),
    _site(),
    sa.Column("model_version", sa.BigInteger, nullable=False, comment="As of the run."),
    sa.Column("kind", sa.Text, nullable=False, comment="gradual (against the reference) or sudden (at a moment)."),
    sa.Column("drift", sa.Text, nullable=False, comment="input, prediction, concept or skew."),
    sa.Column("feature", sa.Text, nullable=False, comment="What moved."),
    sa.Column("lead", sa.Text, nullable=False, comment="In which lead; '' for features of the whole window."),
    sa.Column("scope", sa.Text, nullable=False, comment="What moved together: site, device or recording."),
    sa.Column("subject", sa.Text, nullable=False, comment="Its name."),
    sa.Column("recording_id", sa.BigInteger, comment="When the scope is a recording: the row goes with it. Else null."),
    sa.Column("before", sa.Float, nullable=False, comment="Mean of the reference, or before the change."),
    sa.Column("after", sa.Float, nullable=False, comment="Mean of live windows, or after the change."),
    sa.Column("unit", sa.Text, nullable=False, comment="Of both; '' for none."),
    sa.Column("effect", sa.Float, nullable=False, comment="The difference in spreads of single windows."),
    sa.Column("p_value", sa.Float, comment="Of this test alone; null: skew is measured, not tested."),
    sa.Column("adjusted", sa.Float, comment="Over all tests of the run (Benjamini-Hochberg); null likewise."),
    sa.Column("windows", sa.BigInteger, nullable=False, comment="Live windows the test saw."),
    sa.Column("recordings", pg.ARRAY(sa.BigInteger), nullable=False, comment="recording_id, most telling first."),
    sa.Column("devices", pg.ARRAY(sa.Text), nullable=False, comment="Their devices."),
    sa.Column("examples", pg.ARRAY(sa.BigInteger), nullable=False, comment="window_id, most telling first."),
    sa.Column("since", sa.DateTime(timezone=True), comment="When it began; null: not known."),
    sa.Column("detail", sa.Text, nullable=False, comment="In words."),
    comment="What moved, by how much, and what makes it.",
)

retrainings = sa.Table(
    "retrainings",
    results,
    _id("retraining_id", "Internal number."),
    sa.Column("started_at", sa.DateTime(timezone=True), nullable=False, server_default=_now, comment="Start."),
    sa.Column("finished_at", sa.DateTime(timezone=True), comment="End; null: running, or killed."),
    sa.Column(
        "status",
        sa.Text,
        nullable=False,
        comment="running, held, data_refused, unchanged, not_blessed, not_better, in_shadow or failed.",
    ),
    sa.Column("triggers", pg.JSONB, nullable=False, comment="Why: trigger, reason and numbers of each."),
    sa.Column("champion", sa.BigInteger, nullable=False, comment="Stable version then; what it is compared with."),
    sa.Column("model_version", sa.BigInteger, comment="What was trained and pushed; null: nothing."),
    sa.Column("reason", sa.Text, comment="Why it ended so."),
    sa.Index("retrainings_by_status", "status", "retraining_id"),
    comment="One row an attempt to train a successor, and what came of it (pipelines.retrain).",
)

retraining_steps = sa.Table(
    "retraining_steps",
    results,
    sa.Column("retraining_id", sa.ForeignKey("retrainings.retraining_id"), primary_key=True, comment="Of."),
    sa.Column("ordinal", sa.Integer, primary_key=True, autoincrement=False, comment="1, 2, ... in order."),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=_now, comment="When it ended."),
    sa.Column("step", sa.Text, nullable=False, comment="policy, data, train, evaluate or release."),
    sa.Column("passed", sa.Boolean, nullable=False, comment="Whether the attempt goes on."),
    sa.Column("reason", sa.Text, nullable=False, comment="Why."),
    sa.Column("numbers", pg.JSONB, nullable=False, comment="What that was based on."),
    comment="Steps of an attempt, as far as it got. Rows are only added.",
)

retraining_requests = sa.Table(
    "retraining_requests",
    results,
    _id("request_id", "Internal number."),
    sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False, server_default=_now, comment="When first."),
    sa.Column("requested_by", sa.Text, nullable=False, comment="Who, as signed in."),
    sa.Column("source", sa.Text, nullable=False, comment="alertmanager."),
    sa.Column("fingerprint", sa.Text, nullable=False, comment="The alert group's key: one open request each."),
    sa.Column("reason", sa.Text, nullable=False, comment="In words."),
    sa.Column("detail", pg.JSONB, nullable=False, comment="Labels and annotations of the alerts."),
    sa.Column("retraining_id", sa.BigInteger, comment="Attempt that took it up; null: open."),
    sa.Index("retraining_requests_open", "fingerprint", unique=True, postgresql_where=sa.text("retraining_id IS NULL")),
    comment="Alerts that asked for a new version; the next run of pipelines.retrain takes them up.",
)
