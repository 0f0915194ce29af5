"""A graph network whose edges start from labels, and what it guides: GgHM's, in the form of EGNN (CVPR 2019).

GgHM (arXiv 2308.09346) names node aggregation and edge aggregation in several layers; that they are EGNN's is inferred,
no code was released. An edge holds one number ``A_ij`` in 0 to 1, how strongly i and j are of one class; EGNN's second
channel is ``1 - A_ij``, since its update makes both add up to 1. An edge to itself takes part in nothing.

`G` graphs, `M` nodes, `D` width of a node; `E` episodes, `W` way, `Q` queries, `R` queries of one graph, `T` frames,
`C` width of a frame, `N` places that are guided each, `H` hidden width.
"""

import torch
from einops import einsum, rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F

EDGES = ("both", "intra")
GUIDES = ("exchange", "gather")
TINY = 1e-6  # least divisor: a row or an edge without weight stays without


def initial_edges(way: int, queries: int, like: Tensor) -> Tensor:
    """``[M M]``, M = way + queries: 1 between a class and itself, 0 between classes, 0.5 wherever a query is part."""
    members, dtype = way + queries, torch.promote_types(like.dtype, torch.float32)
    edges = torch.full((members, members), 0.5, device=like.device, dtype=dtype)
    edges[:way, :way] = torch.eye(way, device=like.device)
    return edges.fill_diagonal_(1.0)


def perceptron(inside: int, hidden: int, outside: int) -> nn.Sequential:
    """Linear, ReLU, Linear."""
    return nn.Sequential(nn.Linear(inside, hidden), nn.ReLU(), nn.Linear(hidden, outside))


class GraphLayer(nn.Module):
    """One node aggregation, then one edge aggregation.

    ``v_i' = v_i + f_v([v_i; sum_j a_ij v_j; sum_j b_ij v_j])``, a and b being A and 1 - A with rows that add up to 1;
    with ``s_ij = sigmoid(f_e(|v_i' - v_j'|))``, ``x_ij = s_ij A_ij`` and ``y_ij = (1 - s_ij)(1 - A_ij)``,
    ``A_ij' = x_ij / (x_ij + y_ij)``.

    edges: "both": nodes gather over A and 1 - A; "intra": over A alone.
    relative: x and y are first divided by the mean of s and of 1 - s over the row, weighted by A and 1 - A (EGNN).
    """

    def __init__(self, width: int, edges: str = "both", relative: bool = True) -> None:
        super().__init__()
        self.both, self.relative = edges == "both", relative
        self.node = perceptron((3 if self.both else 2) * width, width, width)
        self.edge = perceptron(width, width, 1)

    def forward(self, nodes: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
        """``nodes [G M D]``, ``edges [G M M]`` in float32 or better -> the same, a layer later."""
        others = 1 - torch.eye(edges.shape[-1], device=edges.device, dtype=edges.dtype)
        same, different = edges * others, (1 - edges) * others
        gathered = [nodes] + [_rows(x).to(nodes.dtype) @ nodes for x in ((same, different) if self.both else (same,))]
        nodes = nodes + self.node(torch.cat(gathered, dim=-1))
        apart = rearrange(nodes, "g m d -> g m 1 d") - rearrange(nodes, "g m d -> g 1 m d")
        score = self.edge(apart.abs())[..., 0]
        likely = score.to(edges.dtype).sigmoid()
        x, y = likely * same, (1 - likely) * different
        if self.relative:
            x = x * same.sum(-1, keepdim=True) / x.sum(-1, keepdim=True).clamp(min=TINY)
            y = y * different.sum(-1, keepdim=True) / y.sum(-1, keepdim=True).clamp(min=TINY)
        return nodes, x / (x + y).clamp(min=TINY) + (1 - others)


def _rows(edges: Tensor) -> Tensor:
    """Every row divided by its sum; a row of zeros stays."""
    return edges / edges.sum(-1, keepdim=True).clamp(min=TINY)


class EdgeGraph(nn.Module):
    """Nodes of width ``dim`` brought to ``width``, then ``layers`` of ``GraphLayer``."""

    def __init__(self, dim: int, width: int, layers: int, edges: str = "both", relative: bool = True) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"graph_layers is {layers}; a graph network needs one or more (graph=False is without)")
        self.into = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, width))
        self.layers = nn.ModuleList(GraphLayer(width, edges, relative) for _ in range(layers))

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        """``nodes [G M C]``, ``edges [M M]`` or ``[G M M]`` -> the edges after each layer, ``[G M M layers]``."""
        nodes, found = self.into(nodes), []
        for layer in self.layers:
            nodes, edges = layer(nodes, edges)
            found.append(edges)
        return torch.stack(found, dim=-1)


class Guidance(nn.Module):
    """The graph of a query, and the task features that its edges make.

    With A the last edges of a query and embedded nodes ``z = f_emb(v)``: the query gathers ``g = sum_w A_w z_w / sum_w
    A_w``; a class is given ``A_w z_query`` (guide "exchange") or that same g ("gather"). Then ``t = g + f_FFN(g)``,
    and a frame f becomes ``f + f_fuse([f, t])``, from zero (residual), or ``f_fuse([f, t])``. f_fuse is Linear, ReLU,
    Linear; its first layer on a concatenation is a sum of two, of which the frames' part needs no episode.

    The paper's Algorithm 1 names f_emb, f_FFN, f_fuse and a matrix product; it was not seen, the rest is ours.
    shared: one graph for all queries of an episode instead of one for each.
    """

    def __init__(
        self, dim: int, width: int, layers: int, edges: str, relative: bool, guide: str, residual: bool, shared: bool
    ) -> None:
        super().__init__()
        self.guide, self.residual, self.shared = guide, residual, shared
        self.graph = EdgeGraph(dim, width, layers, edges, relative)
        self.f_emb = perceptron(dim, width, width)
        self.f_ffn = perceptron(width, width, width)
        self.frame_part = nn.Linear(dim, width)
        self.task_part = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, dim)
        if residual:
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)

    def edges(self, classes: Tensor, query: Tensor) -> Tensor:
        """Nodes ``[E W C]``, ``[E Q C]`` -> a query's edges to the classes after every layer, ``[E Q W layers]``.

        With one graph an episode ("shared") ``[E Q W+Q layers]``: those to the queries follow, none to itself.
        """
        (episodes, way), queries = classes.shape[:2], query.shape[1]
        if self.shared:
            start = initial_edges(way, queries, classes)
            found = self.graph(torch.cat([classes, query], dim=1), start)[:, way:]
            itself = torch.eye(queries, way + queries, device=found.device, dtype=found.dtype).roll(way, dims=1)
            return found - itself[..., None]
        nodes = torch.cat(
            [repeat(classes, "e w c -> (e q) w c", q=queries), rearrange(query, "e q c -> (e q) 1 c")], dim=1
        )
        found = self.graph(nodes, initial_edges(way, 1, classes))[:, way, :way]
        return rearrange(found, "(e q) w l -> e q w l", e=episodes)

    def tasks(self, edges: Tensor, classes: Tensor, query: Tensor, every: Tensor) -> tuple[Tensor, Tensor]:
        """What guides: the classes' ``[E Q W H]`` and the query's ``[E Q H]``, as they enter f_fuse.

        ``edges [E Q W]`` or ``[E Q W+R]``; nodes ``[E W C]``, ``[E Q C]``; ``every [E R C]``: all queries of the graph.
        """
        way = classes.shape[1]
        own = self.f_emb(query)
        weights = edges / edges.sum(-1, keepdim=True).clamp(min=TINY)
        gathered = einsum(weights[..., :way], self.f_emb(classes), "e q w, e w h -> e q h")
        if self.shared:
            gathered = gathered + einsum(weights[..., way:], self.f_emb(every), "e q r, e r h -> e q h")
        if self.guide == "exchange":
            given = edges[..., :way, None] * own[:, :, None]
        else:
            given = repeat(gathered, "e q h -> e q w h", w=way)
        given, gathered = (task.to(own.dtype) for task in (given, gathered))
        return tuple(self.task_part(task + self.f_ffn(task)) for task in (given, gathered))

    def fuse(self, frames: Tensor, parts: Tensor, task: Tensor) -> Tensor:
        """``frames [... T C]``, ``parts [... T N H]``, ``task [... H]`` -> task features ``[... T C]``."""
        fused = self.out(F.relu(parts + task[..., None, None, :]).mean(dim=-2))
        return frames + fused if self.residual else fused
