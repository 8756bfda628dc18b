"""Transformer layers over the tokens of events, in buckets of similar length.

Pre-norm layers (Xiong et al., arXiv:2002.04745): x + attention(norm(x)), then x + mlp(norm(x)).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from dnn_reco.nn.length_buckets import TokenLayout
from dnn_reco.nn.predictor import autocast_disabled

# Length scales [m] of the inputs of the attention bias.
_FAR, _NEAR = 500.0, 20.0


class TransformerLayer(nn.Module):
    """Multi-head attention among the tokens of each event, and an MLP on each token.

    Parameters
    ----------
    width
        Dimension of a token.
    num_heads
        Number of attention heads, a divisor of the width.
    hidden
        Hidden width of the MLP.
    """

    def __init__(self, width: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, hidden)
        self.mlp_out = nn.Linear(hidden, width)
        for dense in (self.qkv, self.mlp_in):
            init_to_variance(dense)
        # initially a layer is the identity
        for dense in (self.out, self.mlp_out):
            nn.init.zeros_(dense.weight)
            nn.init.zeros_(dense.bias)

    def forward(
        self,
        tokens: Tensor,
        layout: TokenLayout,
        biases: Sequence[Tensor | None],
    ) -> Tensor:
        """All tokens after this layer [rows, width].

        Parameters
        ----------
        tokens
            Tokens before this layer [rows, width].
        layout
            Rows of the tokens of each event.
        biases
            For each bucket what is added to the attention logits.
        """
        parts = torch.split(self.qkv(self.norm_attention(tokens)), layout.sizes)
        attended = [
            self._attend_all(part.view(bucket.num_events, bucket.length, -1), bias)
            for part, bucket, bias in zip(parts, layout.buckets, biases, strict=True)
        ]
        tokens = tokens + self.out(torch.cat(attended))
        return tokens + self._mlp(tokens)

    def summarise(
        self,
        tokens: Tensor,
        layout: TokenLayout,
        biases: Sequence[Tensor | None],
    ) -> Tensor:
        """The summary token of each event after this layer [B, width], in the order of the batch.

        The same numbers as from :meth:`forward`, at a fraction of the cost.
        """
        width = tokens.shape[1]
        normed = self.norm_attention(tokens)
        weight, bias = self.qkv.weight, self.qkv.bias
        of_buckets = normed[layout.summary[layout.order]]
        queries = functional.linear(of_buckets, weight[:width], bias[:width])
        keys_values = functional.linear(normed, weight[width:], bias[width:])
        attended = [
            self._attend_first(query, part.view(bucket.num_events, bucket.length, -1), mask)
            for query, part, bucket, mask in zip(
                torch.split(queries, [bucket.num_events for bucket in layout.buckets]),
                torch.split(keys_values, layout.sizes),
                layout.buckets,
                biases,
                strict=True,
            )
        ]
        added = self.out(torch.cat(attended)[layout.order.argsort()])
        summary: Tensor = tokens[layout.summary] + added
        return summary + self._mlp(summary)

    def _mlp(self, tokens: Tensor) -> Tensor:
        hidden = functional.gelu(self.mlp_in(self.norm_mlp(tokens)))
        out: Tensor = self.mlp_out(hidden)
        return out

    def _attend_all(self, qkv: Tensor, bias: Tensor | None) -> Tensor:
        """[G, N, 3 width] -> [G N, width]."""
        num_events, length, _ = qkv.shape
        parts = qkv.view(num_events, length, 3, self.num_heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        out = _attend(query, key, value, bias)
        return out.transpose(1, 2).reshape(num_events * length, -1)

    def _attend_first(self, query: Tensor, keys_values: Tensor, bias: Tensor | None) -> Tensor:
        """[G, width] and [G, N, 2 width] -> [G, width]."""
        num_events, length, _ = keys_values.shape
        parts = keys_values.view(num_events, length, 2, self.num_heads, -1)
        key, value = parts.permute(2, 0, 3, 1, 4)
        heads = query.view(num_events, self.num_heads, 1, -1)
        of_first = None if bias is None else bias[:, :, :1]
        out = _attend(heads, key, value, of_first)
        return out.flatten(1)


def _attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """Attention of all heads [G, heads, N, width / heads].

    Training in bfloat16 on CPUs uses float32 here: its gradient takes four times as long in
    bfloat16.
    """
    if torch.compiler.is_exporting():  # the choice of a kernel needs the length, unknown there
        logits = query @ key.transpose(2, 3) * query.shape[3] ** -0.5
        weights = (logits if bias is None else logits + bias).softmax(dim=3)
        return torch.matmul(weights, value)
    if query.device.type != "cpu" or query.dtype != torch.bfloat16 or not query.requires_grad:
        return functional.scaled_dot_product_attention(query, key, value, bias)
    with autocast_disabled(query.device):
        return functional.scaled_dot_product_attention(
            query.float(), key.float(), value.float(), bias
        )


def init_to_variance(dense: nn.Linear, variance: float = 1.0) -> None:
    """Initialise with weights that map inputs of mean square 1 to outputs of that variance.

    Three times the variance of PyTorch's default: a transformer of few layers begins to learn the
    direction after half as many events.
    """
    if dense.weight.is_meta:  # without memory: PyTorch would take a second to do nothing
        return
    nn.init.normal_(dense.weight, std=(variance / dense.in_features) ** 0.5)
    nn.init.zeros_(dense.bias)


class RelativeBias(nn.Module):
    """Attention bias from the relative position and time of two hits.

    An MLP maps distance, time difference, and the delay of the later hit with respect to light from
    the earlier one, to a number that is added to the logits of each head; 0 from and to the summary
    token.

    Parameters
    ----------
    num_heads
        Number of attention heads.
    """

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.dense = nn.Sequential(nn.Linear(4, 16), nn.GELU(), nn.Linear(16, num_heads))

    def forward(self, coordinates: Tensor, layout: TokenLayout) -> list[Tensor]:
        """What to add to the attention logits, for each bucket [G, num_heads, N, N].

        Parameters
        ----------
        coordinates
            Position and time of each hit [k, 4] in m (time multiplied by the speed of light in
            ice).
        layout
            Rows of the tokens of each event.
        """
        # the fifth column is 1 for hits, 0 for summary tokens and padding
        coordinates = torch.cat([coordinates, torch.ones_like(coordinates[:, :1])], dim=1)
        rows = coordinates.new_zeros(layout.num_rows, 5).index_copy(0, layout.hits, coordinates)
        biases = []
        for part, bucket in zip(torch.split(rows, layout.sizes), layout.buckets, strict=True):
            hits = part.view(bucket.num_events, bucket.length, 5)
            is_hit = hits[:, :, 4]
            difference = hits[:, :, None, :4] - hits[:, None, :, :4]
            distance = (difference[..., :3].square().sum(dim=3) + 1).sqrt()
            time = difference[..., 3]
            delay = time.abs() - distance
            inputs = torch.stack(
                [distance / _FAR, time / _FAR, delay / _FAR, torch.asinh(delay / _NEAR)], dim=3
            )
            both = (is_hit[:, :, None] * is_hit[:, None])[:, None]
            bias = self.dense(inputs).permute(0, 3, 1, 2) * both
            biases.append(bias if bucket.bias is None else bias + bucket.bias)
        return biases


class Trunk(nn.Module):
    """A stack of layers; of the last one only the summary token of each event is computed.

    Parameters
    ----------
    width, num_heads, hidden
        See :class:`TransformerLayer`.
    num_layers
        Number of layers.
    """

    def __init__(self, width: int, num_layers: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TransformerLayer(width, num_heads, hidden) for _ in range(num_layers - 1)
        )
        self.last = TransformerLayer(width, num_heads, hidden)
        self.norm = nn.LayerNorm(width)

    def forward(
        self, tokens: Tensor, layout: TokenLayout, biases: Sequence[Tensor | None]
    ) -> Tensor:
        """The summary token of each event after all layers [B, width], normalised."""
        for layer in self.layers:
            tokens = layer(tokens, layout, biases)
        summary: Tensor = self.norm(self.last.summarise(tokens, layout, biases))
        return summary
