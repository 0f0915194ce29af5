"""The embedded worlds; and methods and steps of a study as tables and figures print them, a paper's by its own name."""

WORLDS = ("motion", "scene", "words", "moving_shapes", "moving_shapes_scene")  # the embedded worlds; a test holds them

LABELS = {
    "ma_fsar": "MA-FSAR",
    "sloshnet": "SloshNet",
    "gghm": "GgHM",
    "clip_fsar": "CLIP-FSAR",
    "aim": "AIM",
    "otam": "OTAM",
    "trx": "TRX",
    "strm": "STRM",
    "hyrsm": "HyRSM",
    "molo": "MoLo",
    "protonet": "ProtoNet",
    "bimhm": "Bi-MHM",
    "ordered_differences": "ordered differences",
    "frozen_clip": "frozen CLIP",
    "zero_shot_clip": "zero-shot CLIP",
    "simple_shot": "SimpleShot",
    "logistic_regression": "logistic regression",
    "tip_adapter": "Tip-Adapter",
    "with_text": "frozen CLIP with text",
    "frozen": "frozen features",
    "untrained": "itself, untrained",
    "actionclip": "ActionCLIP",
    "m2clip": "M2-CLIP",
    "pretrained": "frozen CLIP, label words",
    "prompted": "prompted, untrained",
    "unimodal": "1-of-N classifier",
}


def label(name: str) -> str:
    """A method's or step's name as it is printed; of a user's own method, its class's."""
    return LABELS.get(name, name.rpartition(":")[2])
