import math

import numpy as np
import pytest

from fer_utils.errors import DataError
from fer_utils.papers.daf_cnn.backend import keras
from fer_utils.papers.daf_cnn.callbacks import ReduceAndReload, ResumeTraining


def make_model(rate=1e-3, dropout=0.5):
    first, second = (keras.initializers.GlorotUniform(seed) for seed in (1, 2))
    model = keras.Sequential([
        keras.Input((3,)), keras.layers.Dense(4, kernel_initializer=first), keras.layers.Dropout(dropout, seed=3),
        keras.layers.Dense(2, kernel_initializer=second),
    ])
    model.compile(keras.optimizers.Adam(rate), loss="mse")
    return model


def rate_of(model):
    return float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))


def watch(values, **options):
    """The callback on a model whose weights are the number of the epoch, and which epoch's weights it has after each; and its rates."""
    model, callback = make_model(), ReduceAndReload(**options)
    callback.set_model(model)
    held, rates = [], []
    for epoch, value in enumerate(values):
        model.set_weights([np.full_like(weight, epoch) for weight in model.get_weights()])
        model.stop_training = False
        callback.on_epoch_end(epoch, {"val_accuracy": value})
        held.append(int(model.get_weights()[0].flat[0]))
        rates.append(rate_of(model))
        if model.stop_training:
            break
    return callback, held, rates


def test_the_paper_s_plateau():
    """13 epochs without a gain of 0.0005: the best weights come back and the rate falls from 1e-3 by 0.2, to 1e-5 and not below."""
    callback, held, rates = watch([0.5, 0.6] + [0.55] * 200)
    assert callback.reloads == [14, 27, 40, 53] and len(held) == 54, "then nothing is left to lower"
    assert [held[epoch] for epoch in callback.reloads] == [1] * 4 and held[13] == 13
    assert [rates[epoch] for epoch in (13, 14, 27, 40, 53)] == pytest.approx([1e-3, 2e-4, 4e-5, 1e-5, 1e-5])
    assert callback.rates[:15] == pytest.approx([1e-3] * 15) and callback.rates[15] == pytest.approx(2e-4)
    assert (callback.best, callback.best_epoch) == (0.6, 1)


def test_a_gain_is_counted_from_the_last_that_counted():
    """Small steps up that add to 0.0005 count; a smaller one alone does not, but its weights are the best."""
    callback, held, _ = watch([0.5, 0.5003, 0.5005, 0.5006, 0.5001, 0.5002], patience=3)
    assert callback.reloads == [5] and held[-1] == 3, "0.5005 counted, so three epochs without one end at the sixth"
    assert callback.reference == 0.5005 and callback.best_epoch == 3
    assert watch([0.5, 0.5005, 0.501, 0.5015], patience=1)[0].reloads == [], "a gain of just 0.0005"
    assert watch([0.5, 0.5], patience=1, min_delta=0)[0].reloads == [1], "no gain at all is none"


def test_keras_own_goes_on_from_the_last_weights():
    """Why the callback is ours: with the same values the rate falls in the same epoch, but the weights stay."""
    model, own = make_model(), keras.callbacks.ReduceLROnPlateau("val_accuracy", 0.2, 3, mode="max", min_delta=0.0005, min_lr=1e-5)
    own.set_model(model)
    own.on_train_begin()
    for epoch, value in enumerate([0.6, 0.5, 0.5, 0.5]):
        model.set_weights([np.full_like(weight, epoch) for weight in model.get_weights()])
        own.on_epoch_end(epoch, {"val_accuracy": value})
    assert rate_of(model) == pytest.approx(2e-4) and model.get_weights()[0].flat[0] == 3
    assert watch([0.6, 0.5, 0.5, 0.5], patience=3)[1][-1] == 0


def test_training_ends_with_the_best_weights():
    callback, held, _ = watch([0.5, 0.7, 0.6])
    assert held == [0, 1, 2]
    callback.on_train_end()
    assert callback.model.get_weights()[0].flat[0] == 1


def test_a_validation_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"no 'val_accuracy' to follow; expected one of loss"):
        make_model().fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0, callbacks=[ReduceAndReload()])


@pytest.mark.parametrize("wrong", [{"patience": 0}, {"factor": 1.0}, {"factor": 0}, {"min_delta": -1}, {"least_rate": -1}])
def test_settings_out_of_range(wrong):
    with pytest.raises(ValueError, match=rf"expected min_delta and least_rate from 0, a patience .*{next(iter(wrong))}="):
        ReduceAndReload(**wrong)


# -- resuming -------------------------------------------------------------------------------------------------------------


X, Y = np.random.default_rng(0).normal(size=(8, 3)).astype("float32"), np.ones((8, 2), "float32")


def fit(model, path, epochs, **options):
    plateau = ReduceAndReload("loss", patience=1, min_delta=100)  # after the first epoch none gains: weights come back after each
    resume = ResumeTraining(path, follow=[plateau], made_for={"epochs": 9}, **options)
    model.fit(X, Y, epochs=epochs, initial_epoch=resume.load(model), shuffle=False, verbose=0, callbacks=[plateau, resume])
    return plateau, resume


def test_a_second_call_goes_on(tmp_path):
    """Dropout, Adam's moments, the rate, the plateau and the best weights as if the first call had not ended."""
    whole, parts = make_model(), make_model()
    wanted, state = fit(whole, tmp_path / "whole", 3)
    fit(parts, tmp_path / "parts", 2)
    parts = make_model(rate=0.1)  # built anew; whatever its rate, that of the file counts
    found, resumed = fit(parts, tmp_path / "parts", 3)
    assert resumed.logs == state.logs and len(state.logs) == 3 and state.done
    assert found.rates == wanted.rates and found.reloads == wanted.reloads != []
    for first, second in zip([*whole.variables, *whole.optimizer.variables], [*parts.variables, *parts.optimizer.variables], strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(first), keras.ops.convert_to_numpy(second))


def test_a_state_is_of_one_training(tmp_path):
    path = tmp_path / "state"
    fit(make_model(), path, 1)
    with pytest.raises(DataError, match=r"of another training \(epochs was 9 and is now 8\); expected the call that made it"):
        ResumeTraining(path, made_for={"epochs": 8}).load(make_model())
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match=r"the model is not compiled; expected compile"):
        ResumeTraining(path, made_for={"epochs": 9}).load(other)
    other.compile("adam", loss="mse")
    with pytest.raises(DataError, match=r"does not fit \(the model's variables differ\); expected the state of this network"):
        ResumeTraining(path, made_for={"epochs": 9}).load(other)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match=r"state: cannot be read .*; expected a safetensors file"):
        ResumeTraining(path, made_for={"epochs": 9}).load(make_model())
    assert ResumeTraining(tmp_path / "nothing").load(make_model()) == 0


def test_what_is_not_finite_is_not_kept(tmp_path):
    model, resume = make_model(), ResumeTraining(tmp_path / "state")
    resume.set_model(model)
    with pytest.raises(ArithmeticError, match=r"the loss of epoch 5 is not finite \(loss is nan, accuracy is 0\.5\); try a smaller"):
        resume.on_epoch_end(4, {"loss": math.nan, "accuracy": 0.5})
    assert not (tmp_path / "state").exists()
