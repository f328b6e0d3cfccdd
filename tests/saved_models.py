"""Small SavedModels with the contract's signatures, whole and broken, without training."""

import numpy as np
import tensorflow as tf

from configs import contract
from configs.contract import FeatureSpec
from warehouse.store.window_block import WindowBlock

SPEC = FeatureSpec()
THRESHOLD = 1.5


def random_block(n, seed=0, spec=SPEC):
    """n windows of random samples, as they come out of the warehouse."""
    random = np.random.default_rng(seed)
    shape = (n, spec.window_samples, spec.n_leads)
    return WindowBlock(
        window_id=np.arange(n),
        recorded_at_us=np.arange(n) * 800_000,
        r_peak_s=np.arange(n) * 0.8,
        samples=random.integers(-2000, 2000, shape).astype(np.int16),
        lead_mask=random.random((n, spec.n_leads)) > 0.1,
        rr=random.random((n, 5)).astype(np.float32),
        template=random.integers(-2000, 2000, shape).astype(np.int16),
        template_beats=random.integers(0, 20, n).astype(np.int16),
        quality=np.ones(n, np.float32),
        aami_class=np.full(n, b"N"),
    )


def save_model(directory, *, scale=1.0, threshold=THRESHOLD, outputs=(), signatures=None, wide=0, asset=None):
    """Writes a model whose score is `scale` times the root mean square of the samples in mV, and half of whose
    reconstruction is missing.

    Args:
        scale: NaN makes a model with weights that are no numbers.
        outputs: left out of both signatures.
        signatures: only these; all when None.
        wide: units of a hidden layer that only costs time.
        asset: a file that the model needs.
    """
    model = tf.Module()
    model.scale = tf.Variable(scale, trainable=False)
    if wide:
        model.slow = tf.Variable(tf.zeros((wide, wide)), trainable=False)
    if asset is not None:
        model.asset = tf.saved_model.Asset(str(asset))

    def answer(**raw):
        samples = raw[contract.SAMPLES]
        n = tf.shape(samples)[0]
        by_lead = tf.sqrt(tf.reduce_mean(tf.square(samples), axis=1)) * raw[contract.LEAD_MASK]
        score = model.scale * tf.reduce_mean(by_lead, axis=1)
        if wide:
            score += tf.reduce_sum(tf.linalg.matmul(model.slow, model.slow))
        half = samples / 2
        found = {
            contract.SCORE: score,
            contract.VERDICT: tf.cast(score >= threshold, tf.int32),
            contract.LEAD: tf.argmax(by_lead, axis=1, output_type=tf.int32),
            contract.THRESHOLD: tf.fill([n], tf.constant(threshold, tf.float32)),
            contract.PARTS: tf.stack([score, 0 * score, 0 * score], axis=1),
            contract.RECONSTRUCTION: half,
            contract.SAMPLE_ERROR: tf.abs(half) * 10,
        }
        return {name: value for name, value in found.items() if name not in outputs}

    examples = random_block(1).model_inputs()
    specs = {name: tf.TensorSpec((None, *value.shape[1:]), tf.float32, name) for name, value in examples.items()}
    short = (contract.SCORE, contract.VERDICT, contract.LEAD)
    functions = {
        contract.SIGNATURE_DEFAULT: answer,
        contract.SIGNATURE_SCORE: lambda **raw: {k: v for k, v in answer(**raw).items() if k in short},
    }
    tf.saved_model.save(
        model,
        str(directory),
        signatures={
            name: tf.function(function).get_concrete_function(**specs)
            for name, function in functions.items()
            if signatures is None or name in signatures
        },
    )
    return directory


def write_examples(path, block):
    """Writes a block as ExampleGen does."""
    inputs = block.model_inputs()
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for i in range(len(block)):
            lists = {name: tf.train.FloatList(value=values[i].reshape(-1)) for name, values in inputs.items()}
            feature = {name: tf.train.Feature(float_list=values) for name, values in lists.items()}
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    return path


def write_warmup_of(directory, name):
    from serving.warmup import write_warmup

    write_warmup(directory, name, random_block(8).model_inputs())
