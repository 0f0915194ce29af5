"""GgHM as its equations read: one video, one frame, one place, one graph, one pair of frames at a time.

``w`` holds the method's parameters by name; a vector is a tensor [C], a frame a list of vectors (its places), a video a
list of frames.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tests.literal.ma_fsar import attend, linear, mean, norm

Weights = dict[str, Tensor]


def perceptron(x: Tensor, w: Weights, name: str) -> Tensor:
    """Linear, ReLU, Linear."""
    return linear(torch.relu(linear(x, w, f"{name}.0")), w, f"{name}.2")


def self_attention(places: list[Tensor], w: Weights, name: str, o: dict) -> list[Tensor]:
    """SA of the places of one frame."""
    residual = o["attention_residual"]
    seen = [norm(x, w, f"{name}.norm") for x in places] if residual else places
    to_q, to_k, to_v = w[f"{name}.to_qkv.weight"].chunk(3)
    mixed = attend([to_q @ x for x in seen], [to_k @ x for x in seen], [to_v @ x for x in seen], o["heads"])
    out = [linear(y, w, f"{name}.to_out") for y in mixed]
    return [x + y for x, y in zip(places, out, strict=True)] if residual else out


def patch_relation(video: list[list[Tensor]], w: Weights, o: dict) -> list[list[Tensor]]:
    """F_tp: the temporal MLP, the patch shift, attention with and without it."""
    first, second = w["dense.patch.first.weight"], w["dense.patch.second.weight"]
    moved = [list(frame) for frame in video]
    for n in range(len(video[0])):
        over_time = torch.stack([frame[n] for frame in video])  # [T C]
        hidden = second @ torch.relu(first @ over_time) + over_time
        on_grid = n % o["gap"] == 0
        if on_grid == (o["shifted"] == "grid"):
            for t in range(len(video)):
                moved[t][n] = hidden[t]
    plain = "dense.patch.attention" if o["shared_attention"] else "dense.patch.plain_attention"
    out = []
    for frame, other in zip(moved, video, strict=True):
        a = self_attention(frame, w, "dense.patch.attention", o)
        b = self_attention(other, w, plain, o)
        out.append([o["gamma"] * x + (1 - o["gamma"]) * y for x, y in zip(a, b, strict=True)])
    return out


def channel_relation(video: list[list[Tensor]], w: Weights, o: dict) -> list[list[Tensor]]:
    """F_tc: out[t, c] = sum_i K[c, i] F[t + i, c], frames outside being zero; then attention."""
    kernel = w["dense.channel.conv.weight"][:, 0]  # [C taps]
    half = kernel.shape[1] // 2
    out = []
    for t in range(len(video)):
        frame = []
        for n in range(len(video[0])):
            taps = [(i, t + i - half) for i in range(kernel.shape[1]) if 0 <= t + i - half < len(video)]
            frame.append(sum(kernel[:, i] * video[at][n] for i, at in taps))
        out.append(self_attention(frame, w, "dense.channel.attention", o))
    return out


def dense(video: list[list[Tensor]], w: Weights, o: dict) -> list[list[Tensor]]:
    """F~ = beta F_tp + (1 - beta) F_tc, or one of them, or F."""
    if o["dense"] is None:
        return video
    patch = patch_relation(video, w, o) if o["dense"] != "channel" else None
    channel = channel_relation(video, w, o) if o["dense"] != "patch" else None
    if patch is None or channel is None:
        return patch or channel
    return [
        [o["beta"] * x + (1 - o["beta"]) * y for x, y in zip(a, b, strict=True)]
        for a, b in zip(patch, channel, strict=True)
    ]


def share(weights: dict[int, float]) -> dict[int, float]:
    """Weights divided by their sum."""
    total = sum(weights.values())
    return {j: x / total if total else 0.0 for j, x in weights.items()}


def graph(nodes: list[Tensor], way: int, w: Weights, o: dict) -> list[list[list[float]]]:
    """The edges A[i][j] after every layer; the first ``way`` nodes are classes, the others queries."""
    m, both = range(len(nodes)), o["edges"] == "both"
    edges = [[0.5 if i >= way or j >= way else float(i == j) for j in m] for i in m]
    nodes = [linear(norm(x, w, "guidance.graph.into.0"), w, "guidance.graph.into.1") for x in nodes]
    found = []
    for layer in range(o["graph_layers"]):
        name = f"guidance.graph.layers.{layer}"
        fresh = []
        for i in m:
            same = share({j: edges[i][j] for j in m if j != i})
            different = share({j: 1 - edges[i][j] for j in m if j != i})
            parts = [nodes[i], sum(a * nodes[j] for j, a in same.items())]
            parts += [sum(b * nodes[j] for j, b in different.items())] if both else []
            fresh.append(nodes[i] + perceptron(torch.cat(parts), w, f"{name}.node"))
        nodes, after = fresh, [[1.0 for _ in m] for _ in m]
        for i in m:
            others = [j for j in m if j != i]
            like = {j: float(torch.sigmoid(perceptron((nodes[i] - nodes[j]).abs(), w, f"{name}.edge"))) for j in others}
            x = {j: like[j] * edges[i][j] for j in others}
            y = {j: (1 - like[j]) * (1 - edges[i][j]) for j in others}
            if o["relative_edges"]:
                mean_x = sum(x.values()) / sum(edges[i][j] for j in others)
                mean_y = sum(y.values()) / sum(1 - edges[i][j] for j in others)
                x, y = {j: v / mean_x for j, v in x.items()}, {j: v / mean_y for j, v in y.items()}
            for j in others:
                after[i][j] = x[j] / (x[j] + y[j])
        edges = after
        found.append(edges)
    return found


def task(gathered: Tensor, w: Weights) -> Tensor:
    """What a video is guided by: g + f_FFN(g)."""
    return gathered + perceptron(gathered, w, "guidance.f_ffn")


def fuse(frame: list[Tensor], t: Tensor, w: Weights, residual: bool) -> Tensor:
    """The mean over a frame's places of f + f_fuse([f, t]); f_fuse's first layer acts on the concatenation."""
    weight = torch.cat([w["guidance.frame_part.weight"], w["guidance.task_part.weight"]], dim=1)
    out = []
    for f in frame:
        hidden = torch.relu(weight @ torch.cat([f, t]) + w["guidance.frame_part.bias"])
        fused = linear(hidden, w, "guidance.out")
        out.append(f + fused if residual else fused)
    return mean(out)


def place_of_time(t: int, width: int, factor: float) -> Tensor:
    """The positional encoding of frame t: sin and cos in turn, base 10000."""
    waves = [t * math.exp(-math.log(10000.0) * (i - i % 2) / width) for i in range(width)]
    return factor * torch.tensor([math.cos(x) if i % 2 else math.sin(x) for i, x in enumerate(waves)])


def apart(x: Tensor, y: Tensor, distance: str) -> float:
    """||x - y||, or 1 - cos."""
    if distance == "cosine":
        return 1 - float(x @ y / (x.norm() * y.norm()))
    return float((x - y).norm())


def hausdorff(one: list[Tensor], other: list[Tensor], distance: str) -> float:
    """1/n (sum_i min_j |s_i - q_j| + sum_j min_i |q_j - s_i|)."""
    there = sum(min(apart(x, y, distance) for y in other) for x in one) / len(one)
    back = sum(min(apart(x, y, distance) for x in one) for y in other) / len(other)
    return there + back


def tuples(frames: list[Tensor], factor: float) -> list[Tensor]:
    """Concatenations of frames i1 < i2 with their places in time."""
    placed = [x + place_of_time(t, len(x), factor).to(x) for t, x in enumerate(frames)]
    return [torch.cat([placed[i], placed[j]]) for j in range(len(frames)) for i in range(j)]


def hybrid(support: list[Tensor], query: list[Tensor], o: dict) -> tuple[float, float]:
    """D_frame, D_tuple of two videos."""
    pairs = [tuples(video, o["position"]) for video in (support, query)]
    return hausdorff(support, query, o["distance"]), hausdorff(*pairs, o["distance"])


def episode(
    support: list[list[list[Tensor]]],
    labels: list[int],
    query: list[list[list[Tensor]]],
    query_labels: list[int],
    way: int,
    w: Weights,
    o: dict,
    readout: Callable[[list[Tensor]], list[Tensor]],
) -> tuple[list[list[float]], list[list[float]], dict[str, float]]:
    """Videos of one episode as last maps -> logits [Q W], the last edges [Q W], the terms of the loss.

    ``readout`` makes one vector of a frame's places, or one of each (where they are pooled after the guidance).
    """
    supports, queries = ([[readout(f) for f in dense(v, w, o)] for v in videos] for videos in (support, query))
    members = [[v for v, label in zip(supports, labels, strict=True) if label == c] for c in range(way)]
    classes = [mean([mean([mean(f) for f in v]) for v in of]) for of in members]
    nodes = [mean([mean(f) for f in v]) for v in queries]

    logits, selected, terms = [], [], []
    for q, video in enumerate(queries):
        t_class = t_query = None
        if o["graph"]:
            if o["transductive"]:
                layers = graph([*classes, *nodes], way, w, o)
                rows = [edges[way + q] for edges in layers]
                whom, me = [*classes, *nodes], way + q
                truth = [*range(way), *query_labels]
            else:
                layers = graph([*classes, nodes[q]], way, w, o)
                rows = [edges[way] for edges in layers]
                whom, me, truth = [*classes, nodes[q]], way, [*range(way), query_labels[q]]
            counted = rows if o["graph_loss"] == "all" else rows[-1:]
            for row in counted:
                for j, a in enumerate(row):
                    if j != me:
                        terms.append(-math.log(a if truth[j] == query_labels[q] else 1 - a))
            a = {j: x for j, x in enumerate(rows[-1]) if j != me}
            gathered = sum(x * perceptron(whom[j], w, "guidance.f_emb") for j, x in share(a).items())
            own = perceptron(nodes[q], w, "guidance.f_emb")
            t_query = task(gathered, w)
            t_class = [task(a[c] * own if o["guide"] == "exchange" else gathered, w) for c in range(way)]
            selected.append([a[c] for c in range(way)])
        ours = [mean(f) if t_query is None else fuse(f, t_query, w, o["fuse_residual"]) for f in video]
        row = []
        for c in range(way):
            shots = members[c]
            if o["shots"] == "features":
                every = zip(*members[c], strict=True)  # the shots' t-th frames together, for every t
                shots = [[[mean(list(x)) for x in zip(*frames, strict=True)] for frames in every]]
            found = []
            for shot in shots:
                theirs = [mean(f) if t_class is None else fuse(f, t_class[c], w, o["fuse_residual"]) for f in shot]
                frame, pair = hybrid(theirs, ours, o)
                found.append(o["alpha"] * pair + (1 - o["alpha"]) * frame)
            row.append(-o["metric_scale"] * sum(found) / len(found))
        logits.append(row)

    losses = {"match": 0.0}
    for row, label in zip(logits, query_labels, strict=True):
        losses["match"] += (math.log(sum(math.exp(x - max(row)) for x in row)) + max(row) - row[label]) / len(logits)
    if o["graph"]:
        losses["graph"] = o["graph_weight"] * sum(terms) / len(terms)
    return logits, selected, losses
