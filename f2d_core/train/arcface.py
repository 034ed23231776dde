"""Margin losses for identities: the cosine to one's own class is made smaller before the softmax.

ArcFace (Deng et al. 2019, Eq. 3) adds the margin to the angle, CosFace (Wang et al. 2018, Eq. 4) subtracts it from the
cosine. As in InsightFace's code, the gradient of ArcFace passes the margin unchanged unless `exact`: it keeps its sign
at angles above pi - margin, where the derivative of cos(angle + margin) turns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

ARCFACE, COSFACE = "arcface", "cosface"
MARGINS = {ARCFACE: 0.5, COSFACE: 0.4}  # kind -> its usual size: ArcFace in radians, CosFace in cosine
_LEAST_SINE = 1e-4


@dataclass(frozen=True)
class Margin:
    """A kind of margin. size: radians for ArcFace, cosine for CosFace. exact: the true derivative."""

    kind: str = ARCFACE
    size: float = MARGINS[ARCFACE]
    exact: bool = False

    def applied(self, cosine: torch.Tensor) -> torch.Tensor:
        """The cosine that stands for `cosine`, any shape."""
        if self.kind == COSFACE:
            return cosine - self.size
        return (cosine.clamp(-1, 1).acos() + self.size).cos()

    def slope(self, cosine: torch.Tensor) -> torch.Tensor:
        """d applied / d cosine, or 1 where the gradient passes straight through."""
        if self.kind == COSFACE or not self.exact:
            return torch.ones_like(cosine)
        angle = cosine.clamp(-1, 1).acos()
        return (angle + self.size).sin() / angle.sin().clamp(min=_LEAST_SINE)


def dense_losses(
    features: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor, margin: Margin, scale: float
) -> torch.Tensor:
    """(B,): cross-entropy over all classes in one process. features: (B, d). labels: (B,) int64. weight: (C, d).

    The definition; training uses f2d_core.train.sharded, which keeps fewer copies and shares the classes out.
    """
    cosine = F.linear(F.normalize(features), F.normalize(weight))
    own = cosine.gather(1, labels[:, None])
    slope = margin.slope(own.detach())
    shifted = own * slope + (margin.applied(own.detach()) - own.detach() * slope)
    return F.cross_entropy(scale * cosine.scatter(1, labels[:, None], shifted), labels, reduction="none")
