"""The linear part of an autoencoder of sequences: the principal components of whole sequences."""

import torch
from torch import Tensor, nn

from hybridgen.models.sequence_gan_output import padded
from hybridgen.models.sequence_gan_parts import Layout


class LinearPath(nn.Module):
    """To the first principal components of sequences of at most T steps, and back; fixed once it is computed.

    Args:
        layout: of the data.
        code_size: components D.
        steps: T. What is decoded for more steps stays as at the last.
    """

    def __init__(self, layout: Layout, code_size: int, steps: int) -> None:
        super().__init__()
        self.steps, features = steps, layout.num_features
        # Categories and whether a cell is there are decoded to logits: near 4 and -4 for what is 1 and 0.
        logits = torch.zeros(features, dtype=torch.bool)
        for group in layout.groups:
            logits[group.start : group.stop] = group.kind in ("categorical", "observed")
        self.register_buffer("logits", logits, persistent=False)
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))
        self.register_buffer("mean", torch.zeros(steps * features))
        self.register_buffer("read", torch.zeros(steps * features, code_size))
        self.register_buffer("write", torch.zeros(code_size, steps * features))
        self.register_buffer("scale", torch.ones(features))

    @torch.no_grad()
    def fit(self, values: Tensor, lengths: Tensor | None) -> int:
        """Compute the components of sequences.

        Args:
            values: ``(N, T, F)``.
            lengths: ``(N,)``.

        Returns:
            How many components there are, at most D.
        """
        from sklearn.decomposition import PCA

        rows = padded(values, lengths, self.steps).flatten(1).cpu()
        most = min(self.read.shape[1], *rows.shape)
        found = PCA(most, random_state=0).fit(rows.double().cpu().numpy())
        # Of the population, as the batch normalisation of codes has it.
        variances = torch.from_numpy(found.explained_variance_) * (1 - 1 / len(rows))
        deviations = variances.clamp(min=0).sqrt()
        used = int((deviations > 1e-4 * deviations[0].clamp(min=1e-12)).sum())
        deviations, components = deviations[:used], torch.from_numpy(found.components_)[:used]
        self.mean.copy_(torch.from_numpy(found.mean_))
        self.read.zero_()
        self.read[:, :used] = (components.T / deviations).to(self.read)
        self.write.zero_()
        self.write[:used] = (deviations.unsqueeze(1) * components).to(self.write)
        # What the components leave, of each feature: the cells' numbers are in units of it.
        left = rows - (self.mean.cpu() + (rows - self.mean.cpu()) @ (self.read @ self.write).cpu())
        left = left.reshape(len(rows), self.steps, -1).square().mean((0, 1)).sqrt()
        of_data = rows.reshape(len(rows), self.steps, -1).std((0, 1))
        self.scale.copy_(torch.where(self.logits.cpu(), 1.0, torch.maximum(left, 1e-3 * of_data)))
        self.fitted.fill_(True)
        return used

    def encode(self, values: Tensor, lengths: Tensor | None) -> Tensor:
        """Components ``(B, D)`` of variance 1 of sequences ``(B, T, F)``."""
        # Fine detail is the point of it: never in half precision.
        with torch.autocast(values.device.type, enabled=False):
            return (padded(values.float(), lengths, self.steps).flatten(1) - self.mean) @ self.read

    def add(self, numbers: Tensor, code: Tensor) -> Tensor:
        """What cells say, ``(B, T, F)``, in its unit and with what the components ``(B, D)`` say added."""
        steps = numbers.shape[1]
        with torch.autocast(code.device.type, enabled=False):
            plain = (self.mean + code.float() @ self.write).reshape(len(code), self.steps, -1)
        plain = torch.where(self.logits, 8 * plain - 4, plain)
        if steps > self.steps:
            plain = torch.cat([plain, plain[:, -1:].expand(-1, steps - self.steps, -1)], 1)
        return plain[:, :steps] + self.scale * numbers
