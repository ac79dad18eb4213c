"""What decided on an emotion before networks did, from the values of :mod:`~fer_utils.descriptors`: scikit-learn classifiers.

Those of Li & Deng 2019, sections III-B and V-A. Free parameters are chosen as there: by the mean diagonal of the confusion matrix.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Self

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.metrics import recall_score
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from sklearn.utils import check_consistent_length
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_is_fitted, check_X_y

from .splits import Split

__all__ = ["RBFSVM", "LDANearestNeighbour", "LinearSVM", "RandomLabelDetector"]

#: Rows handled at once where a whole matrix in double precision would be large.
_ROWS = 1024
#: Without a validation part, one of so many parts of the training faces is cut off as such.
_PARTS = 5


def _check_training(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    X, y = check_X_y(X, y, dtype=[np.float32, np.float64])
    check_classification_targets(y)
    if len(np.unique(y)) < 2:
        raise ValueError("a classifier needs at least 2 classes, got 1 class")
    return X, y


def _check_faces(classifier: Any, X: np.ndarray) -> np.ndarray:
    check_is_fitted(classifier, "n_features_in_")
    X = check_array(X, dtype=[np.float32, np.float64])
    if X.shape[1] != classifier.n_features_in_:
        name, count = type(classifier).__name__, classifier.n_features_in_
        raise ValueError(f"X has {X.shape[1]} features, but {name} is expecting {count} features as input")
    return X


class _KernelSVM(ClassifierMixin, BaseEstimator):
    """scikit-learn's ``SVC``, one against one with a vote (Li & Deng 2019, eq. 7), on a kernel computed once for all its settings.

    By itself ``SVC`` would compute inner products of faces over and over, in each pair of classes and for each setting.
    """

    C: float | Sequence[float]
    class_weight: str | None
    # What a kernel decides: what to compute once for two sets of faces, the values of gamma to try, and the kernel from both.
    _compare: Callable[[np.ndarray, np.ndarray], np.ndarray]
    _gammas: Callable[[], list[Any]]
    _kernel: Callable[[np.ndarray, Any], np.ndarray]

    def fit(self, X: np.ndarray, y: np.ndarray, validation: Split | Iterable[Split] | None = None) -> Self:
        """Choose the parameters, if there are several, then train on all faces.

        Parameters
        ----------
        X : float ``[N, D]``
        y : array ``[N]``
            Class names or numbers.
        validation : Split or several, optional
            Of the same faces, such as :func:`~fer_utils.splits.validation_split` makes of training faces. Each setting is trained on the
            ``train`` part and scored on the ``test`` part, over all splits together. The highest mean diagonal wins; of equals, the
            smallest parameters. By default every fifth face, stratified, with a fixed seed: that does not know which faces are of one
            person. Unused where there is one setting.

        Raises
        ------
        ValueError
            If ``validation`` is of other faces or leaves a class nothing to train on, there are several settings, no ``validation``, and
            fewer than five faces of every class, there are fewer than two classes, a parameter is not above 0, or values are missing or
            not finite.
        """
        X, y = _check_training(X, y)
        X = X.astype(np.float32, copy=False)
        self.classes_, codes = np.unique(y, return_inverse=True)
        self.n_features_in_ = X.shape[1]
        costs, gammas = _sorted("C", self.C), self._gammas()
        choose = len(costs) * len(gammas) > 1
        splits = self._find_splits(validation, codes) if choose else []
        compared = self._compare(X, X)
        best, scores = (costs[0], gammas[0]), {}
        if choose:
            for gamma in gammas:
                kernel = self._kernel(compared, gamma)
                scores |= {(C, gamma): self._score(kernel, codes, splits, C) for C in costs}
            best = max(scores, key=scores.__getitem__)
        self.scores_ = {C if gamma is None else (C, gamma): score for (C, gamma), score in scores.items()}
        self.C_, self.gamma_ = best  # without a kernel's gamma None
        self.svc_ = self._train(self._kernel(compared, self.gamma_), codes, self.C_)
        self.faces_ = X
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Say how much speaks for each class.

        Parameters
        ----------
        X : float ``[N, D]``

        Returns
        -------
        float ``[N, K]``
            The votes for each class of ``classes_``, and a share of less than one vote by how clear they are, as ``SVC`` has it. With two
            classes ``[N]``, above 0 for the second.
        """
        return np.concatenate([self.svc_.decision_function(kernel) for kernel in self._kernels(X)])

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The class with most votes of the pairs; of equals, the first in ``classes_``. ``X`` is ``[N, D]``."""
        codes = np.concatenate([self.svc_.predict(kernel) for kernel in self._kernels(X)])
        return self.classes_[codes]

    def _kernels(self, X: np.ndarray) -> Iterator[np.ndarray]:
        """Between some of ``X`` and the training faces, ``[rows, N]``; some at a time bounds memory."""
        X = _check_faces(self, X)  # where it has double precision, so has its kernel
        for start in range(0, len(X), _ROWS):
            yield self._kernel(self._compare(X[start : start + _ROWS], self.faces_), self.gamma_)

    def _find_splits(self, validation: Split | Iterable[Split] | None, codes: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Positions to train on and to score on, of each split."""
        if validation is None:
            if np.bincount(codes).max() < _PARTS:
                raise ValueError(f"no class has {_PARTS} faces, which choosing takes: give fit a validation split, or one value each")
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "The least populated class", UserWarning)
                train, test = next(StratifiedKFold(_PARTS, shuffle=True, random_state=0).split(codes, codes))
            alone = ~np.isin(codes[test], codes[train])  # the only face of a class is for training
            return [(np.union1d(train, test[alone]), test[~alone])]
        splits = [validation] if isinstance(validation, Split) else list(validation)
        for split in splits:
            if len(split.names) != len(codes):
                raise ValueError(f"{split.name} is a split of {len(split.names)} faces, but there are {len(codes)} to train on")
            missing = np.setdiff1d(codes, codes[split.train])
            if len(missing):
                raise ValueError(f"{split.name} leaves nothing of {self.classes_[missing[0]]} to train on")
        if not splits:
            raise ValueError("no validation split")
        return [(split.train, split.test) for split in splits]

    def _score(self, kernel: np.ndarray, codes: np.ndarray, splits: Sequence[tuple[np.ndarray, np.ndarray]], C: float) -> float:
        """Mean diagonal over the test parts of all splits together."""
        guesses = []
        for train, test in splits:
            svc = self._train(kernel[np.ix_(train, train)], codes[train], C)
            guesses.append(svc.predict(kernel[np.ix_(test, train)]))
        truth = codes[np.concatenate([test for _, test in splits])]
        return float(recall_score(truth, np.concatenate(guesses), labels=np.unique(truth), average="macro"))

    def _train(self, kernel: np.ndarray, codes: np.ndarray, C: float) -> SVC:
        return SVC(C=C, kernel="precomputed", class_weight=self.class_weight).fit(kernel, codes)


def _sorted(name: str, values: float | Sequence[float]) -> list[float]:
    numbers = sorted(set(np.atleast_1d(values).astype(float).tolist()))
    if not numbers or not all(0 < number < np.inf for number in numbers):
        raise ValueError(f"{name} must be above 0, or several such numbers, got {values}")
    return numbers


class LinearSVM(_KernelSVM):
    """Linear support vector machines, one against one, with a vote (Li & Deng 2019, section V-A and eq. 7).

    Parameters
    ----------
    C : float or sequence of float
        What an error costs; of several, ``fit`` chooses by the mean diagonal of a validation part.
    class_weight : {"balanced"}, optional
        Let errors on rare classes cost more, in inverse proportion to the classes' sizes. The paper does not speak of it.

    Attributes
    ----------
    C_ : float
        The one chosen.
    scores_ : dict
        Mean diagonal of each value of ``C`` on the validation part; empty where there was nothing to choose.
    svc_ : sklearn.svm.SVC
        The trained one, on the kernel ``"precomputed"``; its classes are positions in ``classes_``.
    faces_ : float32 ``[N, D]``
        The training faces, which a prediction compares with.
    classes_ : array

    Notes
    -----
    ``sklearn.svm.SVC(kernel="linear")`` up to rounding: eq. 7 with an intercept, which LibSVM adds. The kernel is one matrix product in
    single precision (N * N * 4 bytes, twice that for LibSVM), and serves all pairs and values of ``C``.
    """

    def __init__(self, C: float | Sequence[float] = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0), class_weight: str | None = None) -> None:
        self.C = C
        self.class_weight = class_weight

    def _compare(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return first @ second.T

    def _gammas(self) -> list[None]:
        return [None]

    def _kernel(self, products: np.ndarray, gamma: None) -> np.ndarray:
        return products


class RBFSVM(_KernelSVM):
    """Support vector machines with a Gaussian kernel, one against one, with a vote (Li & Deng 2019, section III-B).

    Parameters
    ----------
    C, gamma : float or sequence of float
        What an error costs, and the kernel exp(-gamma d^2); of several, ``fit`` tries all pairs of values and chooses by the mean diagonal
        of a validation part.
    class_weight : {"balanced"}, optional
        As in :class:`LinearSVM`.

    Attributes
    ----------
    C_, gamma_ : float
        Those chosen.
    scores_ : dict
        Mean diagonal of each ``(C, gamma)`` on the validation part; empty where there was nothing to choose.
    svc_, faces_, classes_
        As in :class:`LinearSVM`.

    Notes
    -----
    ``sklearn.svm.SVC(kernel="rbf")`` up to rounding; all settings share one matrix of distances. The paper gives no grid: the default
    covers HOG features, whose squared distances are some tens.
    """

    def __init__(
        self, C: float | Sequence[float] = (0.5, 2.0, 8.0, 32.0, 128.0, 512.0),
        gamma: float | Sequence[float] = (2**-13, 2**-11, 2**-9, 2**-7, 2**-5), class_weight: str | None = None,
    ) -> None:
        self.C = C
        self.gamma = gamma
        self.class_weight = class_weight

    def _gammas(self) -> list[float]:
        return _sorted("gamma", self.gamma)

    def _compare(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Squared distances.

        scikit-learn's ``euclidean_distances`` goes by double precision: it takes twice as long, and rounding moves a face near a border.
        """
        distances = -2 * (first @ second.T)
        distances += np.einsum("nd,nd->n", first, first)[:, None]
        distances += np.einsum("nd,nd->n", second, second)
        return np.maximum(distances, 0, out=distances)

    def _kernel(self, products: np.ndarray, gamma: float) -> np.ndarray:
        return np.exp(-np.float32(gamma) * products)


class LDANearestNeighbour(ClassifierMixin, TransformerMixin, BaseEstimator):
    """Linear discriminant analysis, then the class of the nearest training face (Li & Deng 2019, section V-A).

    Parameters
    ----------
    shrinkage : float, optional
        In ``[0, 1]``, how far the covariance within classes is drawn towards that of a ball. By default estimated after Ledoit & Wolf
        2004.

    Attributes
    ----------
    shrinkage_ : float
        The one used.
    mean_ : float64 ``[D]``
    scalings_ : float64 ``[D, K - 1]``
        Directions that part the classes best, in which the covariance within classes is the unit matrix; the best first.
    classes_ : array

    Notes
    -----
    The paper does not say how its discriminant analysis copes with fewer faces than values (CK+ has 309 faces), where the covariance
    within classes cannot be inverted. Shrinking it needs no free parameter. The covariance is that of all classes pooled, so a class of a
    few faces does no harm. Distances between classes are those of ``sklearn.discriminant_analysis.LinearDiscriminantAnalysis(solver="lsqr",
    shrinkage=shrinkage_)``; of 5,900 values, only one linear system is solved, or one of the size of the training set where that is
    smaller. That is why this is not scikit-learn's own: for 309 faces of 5,900 values its solver took 51 seconds and this 0.1, on one
    core, and a study by person fits many times. Its solver "eigen", which also projects, shrinks the covariance between classes too, and
    so finds other directions.
    """

    def __init__(self, shrinkage: float | None = None) -> None:
        self.shrinkage = shrinkage

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Find the directions and keep the training faces in them.

        Parameters
        ----------
        X : float ``[N, D]``
        y : array ``[N]``
            Class names or numbers.

        Raises
        ------
        ValueError
            If there are fewer than two classes, the faces of each class are all alike, the shrinkage is not in ``[0, 1]``, or it is 0 and
            the covariance cannot be inverted.
        """
        X, y = _check_training(X, y)
        if self.shrinkage is not None and not 0 <= self.shrinkage <= 1:
            raise ValueError(f"shrinkage must be from 0 to 1, got {self.shrinkage}")
        self.classes_, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
        self.n_features_in_ = X.shape[1]
        means = np.stack([X[codes == k].mean(0, dtype=np.float64) for k in range(len(counts))])
        self.mean_ = counts / len(X) @ means
        between = ((means - self.mean_) * np.sqrt(counts / len(X))[:, None]).T  # [D, K]
        solved = self._divide_by_within(X, codes, means, between)
        spread, turn = np.linalg.eigh(between.T @ solved)
        # K means span K - 1 directions; the least is rounding.
        spread, turn = spread[:0:-1], turn[:, :0:-1]
        keep = spread > 1e-10 * spread[0]
        self.scalings_ = solved @ turn[:, keep] / np.sqrt(spread[keep])
        self._nearest = KNeighborsClassifier(1).fit(self.transform(X), y)
        return self

    def _divide_by_within(self, X: np.ndarray, codes: np.ndarray, means: np.ndarray, between: np.ndarray) -> np.ndarray:
        """The inverse of the shrunken covariance within classes, times ``between``."""
        faces, values = X.shape
        few = faces < values

        def rows() -> Iterable[np.ndarray]:
            for start in range(0, faces, _ROWS):
                yield X[start : start + _ROWS] - means[codes[start : start + _ROWS]]

        # Inner products of faces or of values, whichever are fewer: both have the same trace and norm.
        if few:
            centred = np.concatenate(list(rows()))
            scatter, lengths = centred @ centred.T, np.einsum("nd,nd->n", centred, centred)
        else:
            scatter, lengths = np.zeros((values, values)), np.empty(0)
            for part in rows():
                scatter += part.T @ part
                lengths = np.append(lengths, np.einsum("nd,nd->n", part, part))
        mean = np.trace(scatter) / (faces * values)
        if mean <= 1e-12 * np.square(means).mean():
            raise ValueError("the faces of each class are all alike; discriminant analysis needs some spread within classes")
        share = _ledoit_wolf(scatter, lengths, faces, values) if self.shrinkage is None else float(self.shrinkage)
        self.shrinkage_ = share
        if share == 1:
            return between / mean
        try:
            if few and share > 0:  # Woodbury's identity
                scatter[np.diag_indices(faces)] += share * mean * faces / (1 - share)
                inner = cho_solve(cho_factor(scatter, overwrite_a=True), centred @ between)
                return (between - centred.T @ inner) / (share * mean)
            if few:
                raise LinAlgError
            scatter *= (1 - share) / faces
            scatter[np.diag_indices(values)] += share * mean
            return cho_solve(cho_factor(scatter, overwrite_a=True), between)
        except LinAlgError as error:
            raise ValueError(
                f"the covariance of {values} values within classes cannot be inverted from {faces} faces with a shrinkage of {share:g}"
            ) from error

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Project faces ``[N, D]`` on the directions: float64 ``[N, K - 1]``."""
        X = _check_faces(self, X)
        return X @ self.scalings_ - self.mean_ @ self.scalings_

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The class of the training face nearest to each of ``[N, D]``."""
        points = self.transform(X)
        return self._nearest.predict(points)


def _ledoit_wolf(scatter: np.ndarray, lengths: np.ndarray, faces: int, values: int) -> float:
    """The shrinkage of ``sklearn.covariance.ledoit_wolf_shrinkage`` from what is at hand, eight times as fast as a whole fit is with that.

    ``lengths`` are squared, ``[faces]``: summed over all pairs of values, the products of squares are the squares of these.
    """
    square = np.einsum("ij,ij->", scatter, scatter) / faces**2
    noise = (np.square(lengths).sum() / faces - square) / faces
    distance = square - np.trace(scatter) ** 2 / (faces**2 * values)
    return float(np.clip(noise / distance, 0, 1)) if distance > 0 else 1.0


class RandomLabelDetector(ClassifierMixin, BaseEstimator):
    """The naive emotion detector, which learns from random labels (Li & Deng 2019, section V-A).

    Parameters
    ----------
    estimator : classifier, optional
        Trained on the random labels; without one each face just gets a random label.
    labels : {"uniform", "prior"}
        Draw all classes alike, as the paper does, or as often as they occur in training.
    random_state : int
        Seed; the same one draws the same labels.

    Attributes
    ----------
    classes_ : array
    estimator_ : classifier
        The trained one, where there is one.

    Notes
    -----
    The paper gives each sample a uniform random label, and reports a score that depends on the descriptor. So the labels must go through a
    classifier: it is trained on them, then tested on the true ones. Whatever it learns, 1 of K faces is expected to be right.
    """

    def __init__(self, estimator: BaseEstimator | None = None, labels: str = "uniform", random_state: int = 0) -> None:
        self.estimator = estimator
        self.labels = labels
        self.random_state = random_state

    def fit(self, X: np.ndarray, y: np.ndarray, **fit_params: Any) -> Self:
        """Draw a label for each of ``X`` and train the estimator, if any, on them.

        Parameters
        ----------
        X, y : array ``[N, ...]`` and ``[N]``
            ``y`` only says which classes there are, and how often.
        **fit_params

        Raises
        ------
        ValueError
            For unknown ``labels``.
        """
        if self.labels not in ("uniform", "prior"):
            raise ValueError(f"labels must be 'uniform' or 'prior', got {self.labels!r}")
        check_consistent_length(X, y)
        check_classification_targets(y)
        self.classes_, counts = np.unique(y, return_counts=True)
        self._shares = counts / counts.sum() if self.labels == "prior" else np.full(len(counts), 1 / len(counts))
        if self.estimator is not None:
            self.estimator_ = clone(self.estimator).fit(X, self._draw(len(y), 0), **fit_params)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """What the estimator says of ``X``, or a random label each."""
        check_is_fitted(self)
        return self.estimator_.predict(X) if self.estimator is not None else self._draw(len(X), 1)

    def _draw(self, count: int, stream: int) -> np.ndarray:
        return np.random.default_rng([self.random_state, stream]).choice(self.classes_, count, p=self._shares)
