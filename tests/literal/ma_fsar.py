"""MA-FSAR as its equations read: one video, one frame, one token, one head at a time.

``w`` holds the method's parameters by name; a token is a vector [D], a frame a list of tokens, a video
a list of frames.
"""

import torch
from torch import Tensor

from tests.literal.otam import both_directions, cosine_cost

Weights = dict[str, Tensor]
TOWER = "backbone.clip.visual"


def norm(x: Tensor, w: Weights, name: str) -> Tensor:
    """LayerNorm of one token."""
    centred = x - x.mean()
    return centred / torch.sqrt((centred**2).mean() + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]


def linear(x: Tensor, w: Weights, name: str) -> Tensor:
    """W x + b of one token; b where there is one."""
    y = w[f"{name}.weight"] @ x
    return y + w[f"{name}.bias"] if f"{name}.bias" in w else y


def gelu(x: Tensor) -> Tensor:
    """x times the normal distribution function."""
    return x * (1 + torch.erf(x / 2**0.5)) / 2


def quick_gelu(x: Tensor) -> Tensor:
    """x times sigmoid(1.702 x), OpenAI's."""
    return x / (1 + torch.exp(-1.702 * x))


def attend(queries: list[Tensor], keys: list[Tensor], values: list[Tensor], heads: int) -> list[Tensor]:
    """For each query token: over the heads, the values weighted by softmax of the scaled products with the keys."""
    width = len(queries[0]) // heads
    out = []
    for q in queries:
        parts = []
        for h in range(heads):
            at = slice(h * width, (h + 1) * width)
            scores = [float(q[at] @ k[at]) / width**0.5 for k in keys]
            weights = [torch.exp(torch.tensor(s - max(scores), dtype=q.dtype)) for s in scores]
            parts.append(sum(a * v[at] for a, v in zip(weights, values, strict=True)) / sum(weights))
        out.append(torch.cat(parts))
    return out


def msa(tokens: list[Tensor], w: Weights, block: str, heads: int) -> list[Tensor]:
    """A block's own self-attention of LN x: GT-MSA, LM-MSA and LST-MSA are all this one, on other tokens."""
    tokens = [norm(x, w, f"{block}.ln_1") for x in tokens]
    weight, bias = w[f"{block}.attn.in_proj_weight"].chunk(3), w[f"{block}.attn.in_proj_bias"].chunk(3)
    queries, keys, values = ([m @ x + b for x in tokens] for m, b in zip(weight, bias, strict=True))
    return [linear(x, w, f"{block}.attn.out_proj") for x in attend(queries, keys, values, heads)]


def adapter(x: Tensor, w: Weights, name: str) -> Tensor:
    """Down, GELU, up; the skip is written where it is used."""
    return linear(gelu(linear(x, w, f"{name}.down")), w, f"{name}.up")


def first_tokens(frame: Tensor, w: Weights, t: int) -> list[Tensor]:
    """The class token and the patches of one frame [3 H W], with place, with frame t's embedding, normalised."""
    kernels = w[f"{TOWER}.conv1.weight"]
    size = kernels.shape[-1]
    tokens = [w[f"{TOWER}.class_embedding"]]
    for row in range(0, frame.shape[1], size):
        for column in range(0, frame.shape[2], size):
            patch = frame[:, row : row + size, column : column + size]
            tokens.append(torch.stack([(kernel * patch).sum() for kernel in kernels]))
    places = w[f"{TOWER}.positional_embedding"]
    return [norm(x + p + w["temporal_embedding"][t], w, f"{TOWER}.ln_pre") for x, p in zip(tokens, places, strict=True)]


def tower(clip: Tensor, text: Tensor | None, w: Weights, layers: int, heads: int, scale: float = 0.5) -> list[Tensor]:
    """F: one vector per frame of one video [T 3 H W]; with the class text where it is a support."""
    video = [first_tokens(frame, w, t) for t, frame in enumerate(clip)]
    for layer in range(layers):
        block, adapters = f"{TOWER}.transformer.resblocks.{layer}", f"adapters.{layer}"
        class_tokens = [frame[0] for frame in video]
        mixed = msa(class_tokens, w, block, heads)
        global_tokens = [x + adapter(y, w, f"{adapters}.temporal") for x, y in zip(class_tokens, mixed, strict=True)]
        for t, frame in enumerate(video):
            seen = [*frame, global_tokens[t]]
            if text is not None:
                seen.append(linear(text, w, f"text_projections.{layer}"))
            local = msa(seen, w, block, heads)
            after = [x + y + adapter(y, w, f"{adapters}.local") for x, y in zip(seen, local, strict=True)]
            video[t] = []
            for z in after[: len(frame)]:
                n = norm(z, w, f"{block}.ln_2")
                mlp = linear(quick_gelu(linear(n, w, f"{block}.mlp.c_fc")), w, f"{block}.mlp.c_proj")
                video[t].append(z + mlp + scale * adapter(n, w, f"{adapters}.joint"))
    return [w[f"{TOWER}.proj"].T @ norm(frame[0], w, f"{TOWER}.ln_post") for frame in video]


def tpcm(frames: list[Tensor], text: Tensor | None, w: Weights, where: str = "query-key") -> list[Tensor]:
    """F~ of one video; ``where`` says how the text of a support enters, a query has none."""
    queries = keys = values = frames
    if text is not None and where == "query-key":
        queries = keys = [x + text for x in frames]
    if text is not None and where == "query":
        queries = [x + text for x in frames]
    if text is not None and where == "concat":
        queries = keys = values = [*frames, text]
    projected = []
    for kind, tokens in (("to_q", queries), ("to_k", keys), ("to_v", values)):
        projected.append([linear(norm(x, w, "tpcm.norm"), w, f"tpcm.{kind}") for x in tokens])
    out = []
    for x, y in zip(queries, attend(*projected, heads=8), strict=True):
        x = x + linear(y, w, "tpcm.to_out")
        if text is not None and where == "output":
            x = x + text
        out.append(x + linear(gelu(linear(x, w, "tpcm.ffn.0")), w, "tpcm.ffn.3"))
    return out[: len(frames)]


def cosine(x: Tensor, y: Tensor) -> float:
    """x.y / |x||y|."""
    return float(x @ y / (x.norm() * y.norm()))


def softmax(values: list[float]) -> list[float]:
    """exp(x) / sum exp(x)."""
    powers = [torch.exp(torch.tensor(v, dtype=torch.float64)) for v in values]
    return [float(p / sum(powers)) for p in powers]


def mean(vectors: list[Tensor]) -> Tensor:
    return sum(vectors) / len(vectors)


def log(x: float) -> float:
    return float(torch.log(torch.tensor(x, dtype=torch.float64)))


def episode(
    support: Tensor,
    labels: list[int],
    query: Tensor,
    query_labels: list[int],
    text: Tensor,
    w: Weights,
    *,
    layers: int,
    heads: int,
    a: float,
    temperature: float,
    where: str = "query-key",
) -> tuple[list[list[float]], dict[str, float]]:
    """One episode: p [Q W] and the terms L_S2T, L_Q2T, L_Q2S with their weights; OTAM with lambda 0.1 on prototypes."""
    f_s = [tower(clip, text[label], w, layers, heads) for clip, label in zip(support, labels, strict=True)]
    f_q = [tower(clip, None, w, layers, heads) for clip in query]
    modulated = [tpcm(f, text[label], w, where) for f, label in zip(f_s, labels, strict=True)]
    prototypes = []
    for c in range(len(text)):
        members = [f for f, label in zip(modulated, labels, strict=True) if label == c]
        prototypes.append([mean([member[t] for member in members]) for t in range(len(members[0]))])

    p, losses = [], {"q2s": 0.0, "s2t": 0.0, "q2t": 0.0}
    for f, label in zip(f_q, query_labels, strict=True):
        video = [x.tolist() for x in tpcm(f, None, w)]
        costs = [cosine_cost(video, [x.tolist() for x in prototype], 0.01) for prototype in prototypes]
        q2s = softmax([-both_directions(cost, 0.1) for cost in costs])
        q2t = softmax([temperature * cosine(mean(f), c) for c in text])
        p.append([a * t + (1 - a) * v for t, v in zip(q2t, q2s, strict=True)])
        losses["q2s"] -= (1 - a) * log(q2s[label]) / len(f_q)
        losses["q2t"] -= a / 2 * log(q2t[label]) / len(f_q)  # KL to a distribution with one member
    for f, label in zip(f_s, labels, strict=True):
        s2t = softmax([temperature * cosine(mean(f), c) for c in text])
        losses["s2t"] -= a / 2 * log(s2t[label]) / len(f_s)
    return p, losses
