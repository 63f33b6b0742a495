"""Pictures of real and generated series: PCA and t-SNE of windows, autocorrelation, a few series.

t-SNE: van der Maaten & Hinton 2008. Both projections of windows, as TimeGAN shows them: Yoon et al. 2019.
"""

from pathlib import Path
from typing import Any

import numpy as np

from hybridgen.evaluation.series.inputs import as_pair, check_counts
from hybridgen.evaluation.series.statistics import autocorrelation

_COLOURS = {"real": "tab:red", "generated": "tab:blue"}


def projections(real: Any, fake: Any, *, most: int = 1000, seed: int = 0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Two coordinates of real and generated series, by PCA and by t-SNE.

    As in TimeGAN's code: at most 1,000 of each, the mean over features of each step; the axes of PCA are those of the
    real series, t-SNE (perplexity 40, or less where there are few) sees both.

    Args:
        real: ``(N, T, F)``.
        fake: ``(M, T, F)``.
        most: series of each kind, drawn at random.
        seed: of the draw and of t-SNE.

    Returns:
        ``"pca"`` and ``"tsne"``: points ``(n, 2)`` of the real and ``(m, 2)`` of the generated ones.

    Raises:
        ValueError: if a shape does not fit, or scikit-learn is not installed.
    """
    try:
        from sklearn.decomposition import PCA
        from sklearn.manifold import TSNE
    except ImportError:
        raise ValueError("PCA and t-SNE need scikit-learn: pip install scikit-learn") from None
    real, fake = as_pair(real, fake)
    check_counts(most=most)
    if min(len(real), len(fake)) < 3 or real.shape[1] < 2:
        raise ValueError("a picture needs at least 3 real and 3 generated series of at least 2 steps")
    random = np.random.default_rng(seed)
    one, other = (s.numpy().mean(2)[random.permutation(len(s))[:most]] for s in (real, fake))
    pca = PCA(2).fit(one)
    together = np.concatenate([one, other])
    perplexity = min(40, (len(together) - 1) / 3)
    points = TSNE(2, perplexity=perplexity, max_iter=300, init="pca", random_state=seed).fit_transform(together)
    return {"pca": (pca.transform(one), pca.transform(other)), "tsne": (points[: len(one)], points[len(one) :])}


def save_pictures(
    real: Any, fake: Any, folder: str | Path, *, names: list[str] | None = None, most: int = 1000, seed: int = 0
) -> list[Path]:
    """Write `pca.png`, `tsne.png`, `autocorrelation.png` and `series.png`.

    Args:
        real: ``(N, T, F)``.
        fake: ``(M, T, F)``.
        folder: where to; made if need be.
        names: of the F features.
        most: series of each kind in PCA and t-SNE.
        seed: of what is drawn at random.

    Returns:
        The files.

    Raises:
        ValueError: if a shape does not fit, or matplotlib or scikit-learn is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError("pictures need matplotlib: pip install matplotlib") from None
    real, fake = as_pair(real, fake)
    features = real.shape[2]
    if names is not None and len(names) != features:
        raise ValueError(f"names has {len(names)} names for {features} features")
    names = names or [f"feature {i}" for i in range(features)]
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    figures = {}
    for kind, sets in projections(real, fake, most=most, seed=seed).items():
        figures[kind] = figure = Figure(figsize=(6, 5), layout="constrained")
        axes = figure.add_subplot()
        for (label, colour), points in zip(_COLOURS.items(), sets, strict=True):
            axes.scatter(*points.T, s=6, alpha=0.3, color=colour, label=label)
        axes.set_title({"pca": "PCA", "tsne": "t-SNE"}[kind])
        axes.legend()
    shown = min(features, 12)
    columns = min(shown, 4)
    grid = (-(-shown // columns), columns)
    size = (3 * columns, 2.2 * grid[0])
    figures["autocorrelation"] = Figure(figsize=size, layout="constrained")
    figures["series"] = Figure(figsize=size, layout="constrained")
    random = np.random.default_rng(seed)
    for (label, colour), series in zip(_COLOURS.items(), (real, fake), strict=True):
        correlations = autocorrelation(series).numpy()
        drawn = series[random.permutation(len(series))[:8]].numpy()
        for feature in range(shown):
            first = label == "real"
            for kind in ("autocorrelation", "series"):
                figure = figures[kind]
                axes = figure.add_subplot(*grid, feature + 1) if first else figure.axes[feature]
                axes.set_title(names[feature], fontsize=8)
                lags = np.arange(1, len(correlations) + 1)
                curves = correlations[:, feature] if kind == "autocorrelation" else drawn[:, :, feature].T
                lines = axes.plot(lags if kind == "autocorrelation" else np.arange(len(curves)), curves, color=colour)
                for line in lines:
                    line.set(alpha=1.0 if kind == "autocorrelation" else 0.5, linewidth=1)
                lines[0].set_label(label)
    for kind in ("autocorrelation", "series"):
        figures[kind].axes[0].legend(fontsize=7)
    paths = []
    for kind, figure in figures.items():
        paths.append(folder / f"{kind}.png")
        figure.savefig(paths[-1], dpi=120)
    return paths
