"""Linear probes of hidden states: earlier tokens, and properties of the graph.

Cross-validated ridge regression of standardised states; its strength is chosen by leave-one-out
within each training part. A token is predicted as the largest of the regressions of its one-hot
code. A probe finds a signal of any strength: the state of a random network predicts the tokens of a
short architecture exactly. Noise on the states shows how much of a state a token accounts for.

N architectures, H hidden units, T tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NOISE = 0.3
"""Standard deviation of the noise, relative to the root mean square deviation of the units."""
_NUM_FOLDS = 5
_STRENGTHS = np.logspace(-4, 3, 8)


@dataclass(frozen=True, slots=True)
class TokenProbe:
    """Accuracy with which a token is predicted from the last hidden state.

    Attributes:
        accuracy: fraction of held-out architectures whose token was predicted.
        chance: fraction of its most frequent value, which needs no state.
    """

    accuracy: float
    chance: float

    @property
    def gain(self) -> float:
        return self.accuracy - self.chance


def noisy(hidden_NH: Floats, rng: np.random.Generator, noise: float = NOISE) -> Floats:
    """Add the same noise to all units, so that units of little variance carry little."""
    deviation = float(np.sqrt(hidden_NH.var(axis=0).mean()))
    return hidden_NH + noise * deviation * rng.normal(size=hidden_NH.shape)


def token_probes(hidden_NH: Floats, tokens_NT: Ints, *, seed: int) -> tuple[TokenProbe, ...]:
    """Return a probe for each token; `seed` fixes the folds."""
    values = [np.unique(tokens_N) for tokens_N in tokens_NT.T]
    codes = [tokens_N[:, None] == v for tokens_N, v in zip(tokens_NT.T, values, strict=True)]
    predicted_NC = _predicted(hidden_NH, np.concatenate(codes, axis=1).astype(np.float64), seed)
    ends = np.cumsum([len(v) for v in values])[:-1]
    probes = []
    for tokens_N, v, scores_NK in zip(
        tokens_NT.T, values, np.split(predicted_NC, ends, axis=1), strict=True
    ):
        accuracy = float((v[scores_NK.argmax(axis=1)] == tokens_N).mean())
        chance = float(np.unique(tokens_N, return_counts=True)[1].max() / len(tokens_N))
        probes.append(TokenProbe(accuracy, chance))
    return tuple(probes)


def property_probes(
    hidden_NH: Floats, properties: Mapping[str, Floats], *, seed: int
) -> dict[str, float | None]:
    """Return the explained variance (R^2) on held-out architectures, by property.

    0 is the prediction of the mean, negative is worse than that. None where a property is the same
    for all architectures.
    """
    varying = {name: values_N for name, values_N in properties.items() if np.ptp(values_N) > 0}
    found: dict[str, float | None] = dict.fromkeys(properties)
    if varying:
        predicted_NC = _predicted(hidden_NH, np.stack(list(varying.values()), axis=1), seed)
        for (name, values_N), predicted_N in zip(varying.items(), predicted_NC.T, strict=True):
            error = ((values_N - predicted_N) ** 2).mean()
            found[name] = float(1 - error / values_N.var())
    return found


def _predicted(hidden_NH: Floats, targets_NC: Floats, seed: int) -> Floats:
    """Predict each row by a model that was not trained on it."""
    model = make_pipeline(StandardScaler(), RidgeCV(_STRENGTHS, alpha_per_target=True))
    folds = KFold(min(_NUM_FOLDS, len(hidden_NH)), shuffle=True, random_state=seed)
    predicted: Floats = cross_val_predict(model, hidden_NH, targets_NC, cv=folds)
    return predicted.reshape(targets_NC.shape)
