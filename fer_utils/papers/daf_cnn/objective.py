"""What DAF-CNN is trained for (Zhou et al., eq. 13): softmax and triplet-centre loss, as Keras does it."""

from __future__ import annotations

from typing import Any

from .backend import PACKAGE, keras

__all__ = ["JointSupervision", "TripletCenterLoss", "make_objective"]

ops = keras.ops


@keras.saving.register_keras_serializable(PACKAGE)
class TripletCenterLoss(keras.layers.Layer):
    """``max(D(e_i, c_p) + margin - D(e_i, c_q), 0)`` with ``D = |e - c|^2 / 2`` (Zhou et al., eq. 6-9), called on embeddings and labels.

    It gives the numbers of :class:`fer_utils.losses.triplet_center.TripletCenterLoss`. It is a layer, not a ``keras.losses.Loss``: a
    training call moves the centres, and only a layer's variables are followed by every backend, saved with the network and kept by a
    checkpoint.

    Parameters
    ----------
    num_classes, embedding_size : int
    margin : float
        In units of half a squared distance; 11 for FER2013 and 13 for SFEW, 4.2.
    centre_rule : {"corrected", "printed"}
        ``"corrected"``: a training call moves a centre to the samples of its class that miss the margin, and away from those of other
        classes that it disturbs, each part divided by 1 + the number of samples. ``"printed"`` is eq. 12 as it stands, the negative.
    alpha : float
        In (0, 1], of a centre's step.
    reduction : {"mean", "sum"}
        Over the batch; eq. 9 is ``"sum"``.
    init_std : float
        Deviation of the first centres' coordinates around 0; 0.01, 4.2.
    seed : int
        Draws the first centres.
    **kwargs
        As all layers of Keras take.

    Attributes
    ----------
    centres : ``[num_classes, embedding_size]``
        A variable that no optimiser moves.

    Raises
    ------
    ValueError
        For fewer than 2 classes or 1 dimension, or an argument out of its range.
    """

    def __init__(
        self, num_classes: int, embedding_size: int, *, margin: float = 11.0, centre_rule: str = "corrected", alpha: float = 0.5,
        reduction: str = "mean", init_std: float = 0.01, seed: int = 0, **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if num_classes < 2 or embedding_size < 1:
            raise ValueError(f"centres need at least 2 classes and 1 dimension, got {num_classes=}, {embedding_size=}")
        if not margin > 0 or not init_std > 0:
            raise ValueError(f"margin and init_std must be positive, got {margin} and {init_std}")
        if not 0 < alpha <= 1:
            raise ValueError(f"alpha must be above 0 and at most 1, got {alpha}")
        for name, value, options in (("centre_rule", centre_rule, ("corrected", "printed")), ("reduction", reduction, ("mean", "sum"))):
            if value not in options:
                raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, got {value!r}")
        self.num_classes, self.embedding_size, self.margin, self.centre_rule = num_classes, embedding_size, margin, centre_rule
        self.alpha, self.reduction, self.init_std, self.seed = alpha, reduction, init_std, seed
        self.centres = self.add_weight(
            shape=(num_classes, embedding_size), initializer=keras.initializers.RandomNormal(0.0, init_std, seed), trainable=False,
            name="centres",
        )

    def call(self, embeddings: Any, labels: Any, training: bool = False) -> Any:
        """The loss of a batch; in training the centres then move.

        Parameters
        ----------
        embeddings : float ``[B, D]``
        labels : integer ``[B]``, 0 to ``num_classes - 1``
        training : bool

        Returns
        -------
        float scalar
            It still saw the old centres.

        Raises
        ------
        ValueError
            If the shapes do not fit. Values of labels are not looked at, as a compiled step cannot.
        """
        if len(labels.shape) != 1:
            raise ValueError(f"labels must be [B], one integer an embedding, got {list(labels.shape)}")
        distances = self.measure(embeddings)
        own = ops.cast(ops.one_hot(labels, self.num_classes), "bool")  # [B, K]
        nearest = ops.argmin(ops.stop_gradient(ops.where(own, float("inf"), distances)), 1)  # [B], of another class
        disturbed = ops.cast(ops.one_hot(nearest, self.num_classes), "bool")
        hinges = ops.relu(_take(distances, own) + self.margin - _take(distances, disturbed))  # [B]
        if training:
            active = ops.stop_gradient(hinges)[:, None] > 0
            fixed, centres = ops.stop_gradient(embeddings), ops.convert_to_tensor(self.centres)
            step = _pull(fixed, own & active, centres) - _pull(fixed, disturbed & active, centres)
            self.centres.assign(centres + self.alpha * (step if self.centre_rule == "printed" else -step))
        return ops.sum(hinges) if self.reduction == "sum" else ops.mean(hinges)

    def measure(self, embeddings: Any) -> Any:
        """Half the squared distances ``[B, K]`` of embeddings ``[B, D]`` from the centres. Raises ``ValueError`` for another size."""
        if len(embeddings.shape) != 2 or embeddings.shape[1] != self.embedding_size:
            raise ValueError(f"embeddings must be [B, {self.embedding_size}], as the centres are, got {list(embeddings.shape)}")
        centres = ops.convert_to_tensor(self.centres) + 0.0  # a copy: the graph may keep it while the centres move
        return ops.sum(ops.square(embeddings[:, None] - centres[None]), 2) / 2

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        names = ("num_classes", "embedding_size", "margin", "centre_rule", "alpha", "reduction", "init_std", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _take(distances: Any, chosen: Any) -> Any:
    """The one distance ``[B]`` that is chosen in each row of ``[B, K]``."""
    return ops.sum(ops.where(chosen, distances, 0.0), 1)


def _pull(embeddings: Any, members: Any, centres: Any) -> Any:
    """``sum_i [i in j] (c_j - e_i) / (1 + sum_i [i in j])`` with ``members`` bool ``[B, K]``; samples that are not finite do not count."""
    finite = ops.all(ops.isfinite(embeddings), 1, keepdims=True)
    counted = ops.cast(members & finite, centres.dtype)
    counts = ops.sum(counted, 0)[:, None]  # [K, 1]
    return (counts * centres - ops.transpose(counted) @ ops.where(finite, embeddings, 0.0)) / (1 + counts)


@keras.saving.register_keras_serializable(PACKAGE)
class JointSupervision(keras.Model):
    """A network under ``softmax_weight * L_softmax + weight * L_tc`` (Zhou et al., eq. 13), to be compiled and fitted as any Keras model.

    It is given images and plain labels. What is compiled, such as metrics, sees ``scores``; the loss of eq. 13 needs none.

    Parameters
    ----------
    network : keras.Model
        Gives ``embedding``, ``scores`` and ``softmax``, see :func:`~fer_utils.papers.daf_cnn.model.build_daf_cnn`.
    metric_loss : TripletCenterLoss, optional
        None for softmax alone.
    weight : float
        Lambda.
    softmax_weight : float
        0 for 4.3.2's second stage, which replaces the softmax loss. Nothing then trains the network's own scores, so minus half the squared
        distances from the centres take their place.
    **kwargs
        As all models of Keras take.

    Raises
    ------
    ValueError
        If the network lacks an output, no weight counts, or the centres have other dimensions than the embedding.

    Examples
    --------
    >>> model = JointSupervision(build_daf_cnn(7), TripletCenterLoss(7, 128, reduction="sum"), 0.007)  # doctest: +SKIP
    >>> model.compile("adam", metrics=["accuracy"])  # doctest: +SKIP
    >>> model.fit(images, labels, validation_split=0.1)  # doctest: +SKIP
    """

    def __init__(
        self, network: Any, metric_loss: TripletCenterLoss | None = None, weight: float = 0.0, softmax_weight: float = 1.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        outputs = getattr(network, "output", None)
        missing = [name for name in ("embedding", "scores") if not isinstance(outputs, dict) or name not in outputs]
        if missing:
            raise ValueError(f"the network gives no {missing[0]!r}; expected a dict with 'embedding' and 'scores', as build_daf_cnn gives")
        if weight < 0 or softmax_weight < 0 or (softmax_weight == 0 and (metric_loss is None or weight == 0)):
            raise ValueError(f"expected weights from 0 of which one counts, got {weight=}, {softmax_weight=}, {metric_loss=}")
        size = network.output["embedding"].shape[1]
        if metric_loss is not None and metric_loss.embedding_size != size:
            raise ValueError(f"the centres must have the embedding's {size} dimensions, got {metric_loss.embedding_size}")
        self.network, self.metric_loss, self.weight, self.softmax_weight = network, metric_loss, float(weight), float(softmax_weight)
        self.softmax_tracker = keras.metrics.Mean("softmax_loss")
        self.metric_tracker = None if metric_loss is None else keras.metrics.Mean("tc_loss")
        self.built = True

    def call(self, images: Any, training: bool = False) -> dict[str, Any]:
        """``embedding``, ``scores`` and ``softmax`` of images, the latter two by the nearest centre where the softmax is not trained.

        Parameters
        ----------
        images : float ``[B, H, W, C]``
        training : bool
        """
        found = self.network(images, training=training)
        if self.softmax_weight == 0:
            scores = -self.metric_loss.measure(found["embedding"])
            found = {"embedding": found["embedding"], "scores": scores, "softmax": ops.softmax(scores)}
        return found

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True) -> Any:
        """Eq. 13 of a batch, called by Keras.

        Parameters
        ----------
        x : ignored
        y : int ``[B]``
            Labels.
        y_pred : dict
            Of :meth:`call`.
        sample_weight : None
            The centres have no use for it.
        training : bool
            Whether the centres move.

        Raises
        ------
        ValueError
            If there is a ``sample_weight``.
        """
        if sample_weight is not None:
            raise ValueError("eq. 13 has no weights of samples; expected none")
        labels = ops.reshape(ops.cast(y, "int32"), (-1,))
        cross = ops.mean(keras.losses.sparse_categorical_crossentropy(labels, y_pred["scores"], from_logits=True))
        self.softmax_tracker.update_state(cross)
        parts = [self.softmax_weight * cross] if self.softmax_weight else []
        if self.metric_loss is not None:
            distant = self.metric_loss(y_pred["embedding"], labels, training=training)
            self.metric_tracker.update_state(distant)
            parts.append(self.weight * distant)
        return sum(parts)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """What was compiled, of ``scores``.

        Parameters
        ----------
        x, y, y_pred, sample_weight
            As Keras gives them.
        """
        return super().compute_metrics(x, y, y_pred["scores"], sample_weight)

    def get_config(self) -> dict[str, Any]:
        """Network, loss and weights."""
        parts = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in ("network", "metric_loss")}
        return {"name": self.name, **parts, "weight": self.weight, "softmax_weight": self.softmax_weight}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> JointSupervision:
        """Build it again.

        Parameters
        ----------
        config : dict
            Of ``get_config``.
        custom_objects : dict, optional
            As Keras'.
        """
        parts = {name: keras.saving.deserialize_keras_object(config[name], custom_objects) for name in ("network", "metric_loss")}
        return cls(**{**config, **parts})


def make_objective(network: Any, recipe: Any, *, metric: bool = True, seed: int = 0) -> JointSupervision:
    """Put a network under a recipe's objective.

    Parameters
    ----------
    network : keras.Model
    recipe : DAFCNN
    metric : bool
        Whether the triplet-centre loss has a part; without it, softmax alone.
    seed : int
        Draws the first centres.
    """
    if not metric:
        return JointSupervision(network)
    loss = TripletCenterLoss(
        network.output["scores"].shape[1], network.output["embedding"].shape[1], margin=recipe.margin, centre_rule=recipe.centre_rule,
        alpha=recipe.centre_rate, reduction=recipe.reduction_of_loss, init_std=recipe.centre_std, seed=seed, name="triplet_center_loss",
    )
    return JointSupervision(network, loss, recipe.weight, getattr(recipe, "softmax_weight", 1.0))
