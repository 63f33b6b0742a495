"""Where a DRAW model looks and paints: a grid of Gaussian filters that a decoder places, spreads and sharpens.

For an image of height H and width W and a grid of N x N filters, five numbers of the decoder decide::

    centre     g_x = (W + 1) / 2 (a_x + 1),   g_y = (H + 1) / 2 (a_y + 1)
    stride     d = (max(H, W) - 1) / (N - 1) exp(a_d)
    filters    F_x[i, p] ~ exp(-(p - g_x - (i - N/2 - 1/2) d)^2 / (2 s^2)),   p = 1..W, i = 1..N, each row summing to 1
    read       c F_y x F_x^T                                                  s, c = exp(a_s / 2), exp(a_c)
    write      F_y^T w F_x / c

Gregor et al. 2015, "DRAW: a recurrent neural network for image generation", arXiv:1502.04623, section 3.
"""

import torch
from torch import Tensor, nn

_LARGEST = 8.0


class Attention(nn.Module):
    """A grid of filters, placed by a hidden state.

    Args:
        hidden_size: width of that state.
        height: H of images.
        width: W of images.
        size: N, filters a side; at least 1.
    """

    def __init__(self, hidden_size: int, height: int, width: int, size: int) -> None:
        super().__init__()
        self.height, self.width, self.size = height, width, size
        self.place = nn.Linear(hidden_size, 5)

    def filters(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Filters of rows ``(B, N, H)`` and of columns ``(B, N, W)``, and the intensity ``(B, 1, 1)``."""
        x, y, log_variance, log_stride, log_intensity = self.place(hidden).unsqueeze(-1).unbind(1)  # (B, 1) each
        # A place far away, or a filter of no width, would be infinite; within e^8 both ways nothing is.
        log_variance, log_stride, log_intensity = (
            part.clamp(-_LARGEST, _LARGEST) for part in (log_variance, log_stride, log_intensity)
        )
        stride = (max(self.height, self.width) - 1) / max(1, self.size - 1) * log_stride.exp()
        steps = torch.arange(1, self.size + 1, device=hidden.device) - self.size / 2 - 0.5
        centres = [(extent + 1) / 2 * (a + 1) + steps * stride for extent, a in ((self.height, y), (self.width, x))]
        variance = log_variance.exp().unsqueeze(-1)
        found = []
        for extent, centre in zip((self.height, self.width), centres, strict=True):
            pixels = torch.arange(1, extent + 1, device=hidden.device)
            # A softmax over pixels is the Gaussian divided by its sum, and finite however far away its centre is.
            found.append((-(pixels - centre.unsqueeze(-1)).square() / (2 * variance)).softmax(-1))
        return found[0], found[1], log_intensity.exp().unsqueeze(-1)

    def read(self, images: list[Tensor], hidden: Tensor) -> Tensor:
        """The patches of images ``(B, H, W)`` that the state looks at, ``(B, len(images) * N * N)``."""
        rows, columns, intensity = self.filters(hidden)
        return torch.cat([(intensity * (rows @ image @ columns.mT)).flatten(1) for image in images], 1)

    def write(self, patch: Tensor, hidden: Tensor) -> Tensor:
        """A patch ``(B, N * N)`` painted where the state says, ``(B, H, W)``."""
        rows, columns, intensity = self.filters(hidden)
        return rows.mT @ patch.unflatten(1, (self.size, self.size)) @ columns / intensity
