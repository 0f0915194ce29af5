"""How two videos are compared; each metric is cut into ``prepare`` (one video) and ``compare`` (an episode)."""

from difflib import get_close_matches

from vidlib.matching.base import Metric, class_mean, frame_cost
from vidlib.matching.cross_transformer import TRX
from vidlib.matching.hausdorff import BiMHM, bimhm_distance
from vidlib.matching.otam import OTAM, otam_distance, otam_path
from vidlib.matching.prototype import Cosine, MeanPrototype

METRICS: dict[str, type[Metric]] = {
    "otam": OTAM,
    "bimhm": BiMHM,
    "trx": TRX,
    "prototype": MeanPrototype,
    "cosine": Cosine,
}

# Each metric's own factor on its logits, for MA-FSAR on clip-mini: as OTAM's 4, ten times the factor that gives the
# least loss on 300 val episodes of moving_shapes before training (0.4, 0.3, 0.017, 0.008 and 4).
METRIC_SCALES: dict[str, float] = {"otam": 4.0, "bimhm": 3.0, "trx": 0.2, "prototype": 0.08, "cosine": 40.0}

__all__ = [
    "METRICS",
    "METRIC_SCALES",
    "Metric",
    "bimhm_distance",
    "build_metric",
    "class_mean",
    "frame_cost",
    "otam_distance",
    "otam_path",
]


def build_metric(name: str, *, dim: int, frames: int, **options) -> Metric:
    """The metric called ``name`` for videos of ``frames`` features of width ``dim``; ``options`` go to its constructor.

    ValueError on an unknown name, and where TRX's tuples would be longer than the video.
    """
    if name not in METRICS:
        near = get_close_matches(str(name), METRICS, n=1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        raise ValueError(f"metric '{name}' is unknown{hint}; known are {', '.join(METRICS)}")
    if name != "trx":
        return METRICS[name](**options)
    metric = TRX(dim, **options)
    most = max(head.cardinality for head in metric.transformers)
    if frames < most:
        raise ValueError(f"frames is {frames}; TRX with cardinality {most} needs at least {most}")
    return metric
