"""What the losses share: one call, one way of keeping class centres, one way of checking values.

A loss is called ``loss(embeddings, labels)``, as in pytorch-metric-learning, and gives a scalar: a function of this batch and of what the
loss has kept. Everything is computed in float32 even under autocast (float64 if the embeddings are), and the gradient comes back in the
type of the embeddings. Of several processes a loss knows nothing; see :class:`~fer_utils.losses.gathered.GatheredLoss`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

__all__ = ["EmbeddingLoss", "LossWithCentres", "check_range", "check_that", "choose", "choose_rule", "reads_values"]


def choose(argument: str, value: str, options: tuple[str, ...]) -> str:
    """Return a value that is one of the options.

    Parameters
    ----------
    argument : str
        Its name, for the error.
    value : str
    options : tuple of str

    Raises
    ------
    ValueError
        If it is none of them.
    """
    if value not in options:
        raise ValueError(f"{argument} must be one of {', '.join(map(repr, options))}, got {value!r}")
    return value


def choose_rule(centre_rule: str, update: str) -> str:
    """Return ``centre_rule``, if it goes with the update: only the alpha rule has two forms.

    Parameters
    ----------
    centre_rule : {"corrected", "printed"}
    update : {"alpha", "gradient"}

    Raises
    ------
    ValueError
        For another rule, or ``"printed"`` with ``"gradient"``.
    """
    if choose("centre_rule", centre_rule, ("corrected", "printed")) == "printed" and update == "gradient":
        raise ValueError("centre_rule='printed' is a form of the alpha rule; with update='gradient' autograd moves the centres")
    return centre_rule


# -- values of tensors ----------------------------------------------------------------------------------------------------


def reads_values(tensor: torch.Tensor) -> bool:
    """Whether Python may look at the values: on a GPU it would have to wait until all work queued there is done, at every step."""
    return tensor.device.type == "cpu"


def check_that(condition: torch.Tensor, expected: str, found: Callable[[], str] | None = None) -> None:
    """Make sure that a condition on values holds.

    On a GPU it is checked there, without waiting for it: the program ends some steps later.

    Parameters
    ----------
    condition : bool tensor ``[]``
    expected : str
        For the error.
    found : callable, optional
        Says what was found instead; called on a CPU only.

    Raises
    ------
    ValueError
        If it does not hold.
    """
    if not reads_values(condition):
        torch._assert_async(condition, expected)
    elif not condition:
        raise ValueError(expected if found is None else f"{expected}, got {found()}")


def check_range(name: str, values: torch.Tensor, count: int) -> None:
    """Make sure that all values are 0 to ``count - 1``.

    Parameters
    ----------
    name : str
        Of the values, for the error.
    values : int tensor
    count : int

    Raises
    ------
    ValueError
        If one is not; on a GPU as :func:`check_that`.
    """
    inside = ((values >= 0) & (values < count)).all()
    check_that(inside, f"{name} must be 0 to {count - 1}", lambda: f"{int(values.min())} to {int(values.max())}")


# -- base classes ---------------------------------------------------------------------------------------------------------


class EmbeddingLoss(nn.Module):
    """Checks of the input, precision and reduction; a subclass writes ``_loss``.

    Parameters
    ----------
    reduction : {"mean", "sum"}
        Over the batch.

    Attributes
    ----------
    needs_whole_batch : bool
        Whether the loss of a batch is more than the mean of its parts', as it is where samples meet each other or move a state. Where
        several processes share a batch, :class:`~fer_utils.losses.gathered.GatheredLoss` then gathers it.
    """

    needs_whole_batch = True

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = choose("reduction", reduction, ("mean", "sum"))

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor | None = None) -> torch.Tensor:
        """The loss of a batch.

        Parameters
        ----------
        embeddings : float ``[B, D]``
        labels : integer ``[B]``
        indices : int64 ``[B]``, optional
            Which samples of the training set these are. Only :class:`~fer_utils.losses.locality.LocalityPreservingLoss` reads them; the
            others take them so that one training loop serves all.

        Returns
        -------
        float32 scalar
            float64 if the embeddings are.

        Raises
        ------
        ValueError
            If a shape, a type or a label does not fit, or if ``indices`` are a miner's tuple, which only
            :class:`~fer_utils.losses.contrastive.ContrastiveLoss` can use.
        """
        labels = self._check(embeddings, labels, indices)
        with torch.autocast(embeddings.device.type, enabled=False):
            return self._loss(embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)), labels, indices)

    def _check(self, embeddings: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor | None) -> torch.Tensor:
        if not embeddings.is_floating_point() or embeddings.ndim != 2 or not embeddings.numel():
            raise ValueError(f"embeddings must be float [B, D], at least one, got {embeddings.dtype} {list(embeddings.shape)}")
        for name, value in (("labels", labels), ("indices", indices)):
            if value is None and name == "indices":
                continue
            if not isinstance(value, torch.Tensor):
                hint = "; of the losses here only ContrastiveLoss takes a miner's tuple" if name == "indices" else ""
                raise ValueError(f"{name} must be a tensor [B], got {type(value).__name__}{hint}")
            if value.shape != (len(embeddings),) or value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
                raise ValueError(f"{name} must be {len(embeddings)} integers, one an embedding, got {value.dtype} {list(value.shape)}")
        return labels.to(embeddings.device, torch.int64)

    def _loss(self, embeddings: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor | None) -> torch.Tensor:
        raise NotImplementedError

    def _reduce(self, values: torch.Tensor) -> torch.Tensor:
        """Sum, or mean, of one value a sample or a pair; 0 if there is none."""
        return values.sum() / (max(values.numel(), 1) if self.reduction == "mean" else 1)


class LossWithCentres(EmbeddingLoss):
    """One centre a class, moved by the papers' alpha rule or by the optimiser; a subclass writes ``_value`` and ``_centre_step``.

    Parameters
    ----------
    num_classes, embedding_size : int
    update : {"alpha", "gradient"}
        ``"alpha"``: a training call moves the centres, ``c <- c - alpha * step``; the loss that it returns still saw the old ones.
        ``"gradient"``: the centres are a parameter, to be given to an optimiser.
    alpha : float
        In (0, 1].
    reduction : {"mean", "sum"}
    init_std : float
        Standard deviation of the first centres' coordinates, around 0.

    Attributes
    ----------
    centres : float32 ``[num_classes, embedding_size]``
        A buffer or a parameter; in the ``state_dict`` under this name either way.

    Raises
    ------
    ValueError
        For fewer than 2 classes or 1 dimension, or an argument out of its range.
    """

    def __init__(self, num_classes: int, embedding_size: int, update: str, alpha: float, reduction: str, init_std: float) -> None:
        super().__init__(reduction)
        if num_classes < 2 or embedding_size < 1:
            raise ValueError(f"centres need at least 2 classes and 1 dimension, got num_classes={num_classes}, {embedding_size=}")
        if not 0 < alpha <= 1:
            raise ValueError(f"alpha must be above 0 and at most 1, got {alpha}")
        if not init_std > 0:
            raise ValueError(f"init_std must be positive, got {init_std}")
        self.update = choose("update", update, ("alpha", "gradient"))
        self.alpha = alpha
        centres = torch.randn(num_classes, embedding_size) * init_std
        if update == "gradient":
            self.centres = nn.Parameter(centres)
        else:
            self.register_buffer("centres", centres)

    def extra_repr(self) -> str:
        """Sizes and options, for ``print``."""
        rule = f"update='alpha', alpha={self.alpha:g}" if self.update == "alpha" else "update='gradient'"
        return f"{', '.join(map(str, self.centres.shape))}, {rule}, reduction={self.reduction!r}"

    def _check(self, embeddings: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor | None) -> torch.Tensor:
        labels = super()._check(embeddings, labels, indices)
        count, size = self.centres.shape
        if embeddings.shape[1] != size:
            raise ValueError(f"embeddings must have the centres' {size} dimensions, got {embeddings.shape[1]}")
        check_range("labels", labels, count)
        return labels

    def _loss(self, embeddings: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor | None) -> torch.Tensor:
        if self.update == "gradient":
            return self._value(embeddings, labels, self.centres.to(embeddings.dtype))
        # A copy: the graph may keep what the next lines change in place.
        centres = self.centres.to(embeddings.dtype, copy=True)
        loss = self._value(embeddings, labels, centres)
        if self.training and torch.is_grad_enabled():
            step = self._centre_step(embeddings.detach(), labels, centres)
            self.centres.sub_(step.to(self.centres.dtype), alpha=self.alpha)
        return loss

    def _value(self, embeddings: torch.Tensor, labels: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def _centre_step(self, embeddings: torch.Tensor, labels: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def _pull(
        self, embeddings: torch.Tensor, classes: torch.Tensor, centres: torch.Tensor, which: torch.Tensor | None = None
    ) -> torch.Tensor:
        """``sum_i [classes_i = j] (c_j - e_i) / (1 + sum_i [classes_i = j])`` over the samples ``which`` (bool ``[B]``), all by default.

        Samples that are not finite, as a gradient scaler meets them now and then, do not count: they would stay in a centre for ever.
        """
        counted = embeddings.isfinite().all(1) & (True if which is None else which)  # [B]
        members = (classes[:, None] == torch.arange(len(centres), device=classes.device)) & counted[:, None]  # [B, K]
        members = members.to(embeddings.dtype)
        counts = members.sum(0)[:, None]  # [K, 1]
        sums = members.T @ embeddings.where(counted[:, None], 0)  # [K, D]
        return (counts * centres - sums) / (1 + counts)
