"""Post-norm attention and feed-forward blocks on ``scaled_dot_product_attention``.

Legend: N batch, L tokens, h heads, d channels of one head, C = h d channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from univs.model.linear import feed_forward, linear


class Attention(nn.Module):
    """Multi-head attention with the parameter layout of ``nn.MultiheadAttention``."""

    def __init__(self, num_channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * num_channels, num_channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * num_channels))
        self.out_proj = nn.Linear(num_channels, num_channels)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def project_queries(self, x: Tensor) -> Tensor:
        """Project [..., L, C] -> [..., h, L, d]."""
        return self._project(x, 0)

    def project_keys(self, x: Tensor) -> Tensor:
        """Project [..., L, C] -> [..., h, L, d]."""
        return self._project(x, 1)

    def project_values(self, x: Tensor) -> Tensor:
        """Project [..., L, C] -> [..., h, L, d]."""
        return self._project(x, 2)

    def project_output(self, x: Tensor) -> Tensor:
        """Merge heads and project [..., h, L, d] -> [..., L, C]."""
        return self.out_proj(x.transpose(-3, -2).flatten(-2))

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        keep_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Attend [N, L, C] to keys and values [N, K, C].

        ``keep_mask`` broadcasts to [N, h, L, K]; true entries may be attended to.
        """
        attended = F.scaled_dot_product_attention(
            self.project_queries(query),
            self.project_keys(key),
            self.project_values(value),
            attn_mask=keep_mask,
            is_causal=is_causal,
        )
        return self.project_output(attended)

    def _project(self, x: Tensor, part: int) -> Tensor:
        size = self.in_proj_weight.shape[1]
        rows = slice(part * size, (part + 1) * size)
        projected = linear(x, self.in_proj_weight[rows], self.in_proj_bias[rows])
        return projected.unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)


class AttentionBlock(nn.Module):
    """``norm(x + attention(...))``."""

    def __init__(self, num_channels: int, num_heads: int) -> None:
        super().__init__()
        self.attention = Attention(num_channels, num_heads)
        self.norm = nn.LayerNorm(num_channels)

    def forward(
        self, x: Tensor, query: Tensor, key: Tensor, value: Tensor, keep_mask: Tensor | None
    ) -> Tensor:
        """Update [N, L, C]; ``query`` is ``x`` with its position, ``keep_mask`` as in ``Attention``."""
        return self.norm(x + self.attention(query, key, value, keep_mask))


class FeedForwardBlock(nn.Module):
    """``norm(x + W2 relu(W1 x))``."""

    def __init__(self, num_channels: int, ffn_dim: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(num_channels, ffn_dim)
        self.linear2 = nn.Linear(ffn_dim, num_channels)
        self.norm = nn.LayerNorm(num_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Update [..., C]."""
        return self.norm(x + feed_forward(x, self.linear1, self.linear2))


class PromptAttentionBlock(nn.Module):
    """Prompt cross-attention (ProCA): each prompt query looks at itself and at its own tokens."""

    def __init__(self, num_channels: int, num_heads: int) -> None:
        super().__init__()
        self.attention = Attention(num_channels, num_heads)
        self.norm = nn.LayerNorm(num_channels)

    def forward(
        self,
        x: Tensor,
        positions: Tensor,
        tokens: Tensor,
        token_positions: Tensor | None,
        token_valid: Tensor,
    ) -> Tensor:
        """Update prompt queries [B, P, T, C] from tokens [B, P, T', L, C], T' = T or 1.

        ``token_valid`` is [B, P, L]. Without token positions the queries' are left out, too.
        """
        query, key = x, tokens
        if token_positions is not None:
            query, key = x + positions, tokens + token_positions
        num_groups = tokens.shape[2]
        # T' = 1 makes one group of T queries, so that shared tokens are projected once.
        grouped_query = query.unflatten(2, (num_groups, -1))
        grouped_x = x.unflatten(2, (num_groups, -1))
        attended = self._attend(grouped_query, grouped_x, key, tokens, token_valid)
        return self.norm(x + attended.flatten(2, 3))

    def _attend(self, query: Tensor, x: Tensor, key: Tensor, value: Tensor, valid: Tensor) -> Tensor:
        """Attend [B, P, T', G, C] to itself, query by query, and to [B, P, T', L, C]."""
        queries = self.attention.project_queries(query)
        queries = queries * queries.shape[-1] ** -0.5
        own_scores = (queries * self.attention.project_keys(query)).sum(-1, keepdim=True)
        token_scores = queries @ self.attention.project_keys(key).transpose(-2, -1)
        token_scores = token_scores.masked_fill(~valid[:, :, None, None, None], float("-inf"))
        weights = torch.cat([own_scores, token_scores], dim=-1).softmax(-1).to(token_scores.dtype)
        attended = weights[..., 1:] @ self.attention.project_values(value)
        attended = attended + weights[..., :1] * self.attention.project_values(x)
        return self.attention.project_output(attended)
