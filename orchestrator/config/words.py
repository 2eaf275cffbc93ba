"""The field's other words for what is here: they lead from an unknown name to the choice or the key that it means."""

from __future__ import annotations

import re

CHOICES = {
    "model": {
        "fc": "mlp",
        "fully_connected": "mlp",
        "perceptron": "mlp",
        "multilayer_perceptron": "mlp",
        "softmax_regression": "linear",
        "logistic_regression": "linear",
        "cnn": "convnet",
        "resnet": "resnet_cifar",  # the one whose depth is an argument; resnet18 and its like are for larger images
        "wide_resnet": "wrn",
        "preactivation_resnet": "preact_cifar",
        "preact_resnet": "preact_cifar",
        "stochastic_depth": "resnet110_stochastic_depth",
        "densenet": "densenet_cifar",
        "plain": "plain_cifar",
        "vgg": "vgg16",
        "inception": "inception_v3",
        "inception_v1": "googlenet",
        "resnext": "resnext29_8x64d",
        "senet": "se_resnet50",
        "squeezenet": "squeezenet1_1",
        "mobilenet": "mobilenet_v2",
        "efficientnet": "efficientnet_b0",
        "nasnet": "nasnet_a_cifar",
        "amoebanet": "amoebanet_a",
    },
    "norm": {
        "bn": "batch",
        "batch_norm": "batch",
        "batch_normalization": "batch",
        "ln": "layer",
        "layer_norm": "layer",
        "gn": "group",
        "group_norm": "group",
        "instance_norm": "instance",
        "weight_norm": "weight",
        "lrn": "local_response",
        "identity": "none",
        "off": "none",
    },
    "activation": {
        "swish": "silu",
        "lrelu": "leaky_relu",
        "logistic": "sigmoid",
        "linear": "identity",
        "none": "identity",
        "rectifier": "relu",
    },
    "init": {
        "he": "kaiming",
        "he_normal": "kaiming",
        "he_uniform": "kaiming",
        "kaiming_normal": "kaiming",
        "kaiming_uniform": "kaiming",
        "msra": "kaiming",
        "glorot": "xavier",
        "glorot_normal": "xavier",
        "glorot_uniform": "xavier",
        "xavier_normal": "xavier",
        "xavier_uniform": "xavier",
        "lecun_normal": "lecun",
        "normal": "gaussian",
        "truncated_normal": "gaussian",
        "trunc_normal": "gaussian",
        "random_normal": "gaussian",
        "random_uniform": "uniform",
        "zeros": "zero",
        "ones": "constant",
        "saxe": "orthogonal",
        "none": "default",
    },
    "preprocess": {
        "zca": "whiten",
        "whitening": "whiten",
        "pca_whitening": "whiten",
        "normalize": "standardize",
        "normalization": "standardize",
        "zscore": "standardize",
        "mean": "center",
        "mean_subtraction": "center",
        "rescale": "unit",
        "minmax": "unit",
    },
    "augment": {
        "random_crop": "crop",
        "pad_and_crop": "crop",
        "hflip": "flip",
        "mirror": "flip",
        "random_flip": "flip",
        "random_horizontal_flip": "flip",
        "color_jitter": "contrast_and_brightness",
        "colour_jitter": "contrast_and_brightness",
        "contrast": "contrast_and_brightness",
        "brightness": "contrast_and_brightness",
        "random_erasing": "cutout",
        "erasing": "cutout",
        "lighting": "pca_lighting",
        "fancy_pca": "pca_lighting",
        "rotate": "rotation",
        "random_rotation": "rotation",
        "shear": "shearing",
        "stretch": "stretching",
        "translate": "translation",
        "shift": "translation",
        "inception_crop": "random_resized_crop",
        "compose": "sequence",
        "standard": "standard_cifar",
    },
    "optimizer": {
        "nag": "nesterov",
        "gd": "gradient_descent",
        "full_batch": "gradient_descent",
        "batch_gradient_descent": "gradient_descent",
        "stochastic_gradient_descent": "sgd",
        "heavy_ball": "momentum",
        "signsgd": "sign",
        "hf": "hessian_free",
        "conjugate_gradient": "hessian_free",
    },
    "schedule": {
        "none": "constant",
        "linear": "schedule=polynomial schedule.power=1",
        "linear_decay": "schedule=polynomial schedule.power=1",
        "poly": "polynomial",
        "cosine_annealing": "cosine",
        "sgdr": "cyclic_cosine",
        "warm_restarts": "cyclic_cosine",
        "cosine_annealing_warm_restarts": "cyclic_cosine",
        "reduce_on_plateau": "plateau",
        "reduce_lr_on_plateau": "plateau",
        "step_lr": "step",
        "multistep": "step",
        "step_decay": "step",
        "exponential_decay": "exponential",
        "super_convergence": "one_cycle",
        "warmup": "schedule.warmup_epochs",
    },
    "loss": {
        "ce": "cross_entropy",
        "nll": "cross_entropy",
        "softmax": "cross_entropy",
        "log_loss": "cross_entropy",
        "categorical_cross_entropy": "cross_entropy",
        "label_smoothing": "loss=cross_entropy loss.label_smoothing=0.1",
        "svm": "hinge",
        "multi_margin": "hinge",
    },
    "penalty": {
        "ridge": "l2",
        "tikhonov": "l2",
        "lasso": "l1",
        "weight_decay": "optimizer.weight_decay",
        "dropout": "model.dropout",
        "early_stopping": "early_stopping=patience",
        "label_smoothing": "loss.label_smoothing",
    },
    "early_stopping": {"true": "patience", "yes": "patience", "false": "none", "off": "none"},
    "evaluate": {
        "tta": "ten_crops",
        "ten_crop": "ten_crops",
        "flip": "flips",
        "mc_dropout": "monte_carlo_dropout",
        "none": "single_crop",
    },
    "transfer": {
        "linear_probe": "head",
        "feature_extraction": "head",
        "fine_tuning": "all",
        "finetune": "all",
        "none": "default",
    },
    "data": {"cifar": "cifar10", "imagenet": "image_folder", "folder": "image_folder"},
    "sampler": {
        "grid_search": "grid",
        "random_search": "random",
        "bayesian": "tpe",
        "optuna": "tpe",
        "quasi_random": "sobol",
    },
    "scheduler": {
        "hyperband": "asha",
        "successive_halving": "asha",
        "median": "asha",
        "fifo": "none",
        "cosine": "schedule=cosine",
        "step": "schedule=step",
        "plateau": "schedule=plateau",
    },
    "tracking": {"mlflow": "local", "off": "none"},
}
"""Group -> word -> its choice, or what to type where it is something else."""

KEYS = {
    "learning_rate": "optimizer.lr",
    "momentum": "optimizer.momentum",
    "weight_decay": "optimizer.weight_decay",
    "nesterov": "optimizer=sgd optimizer.nesterov",
    "beta1": "optimizer.betas",
    "beta2": "optimizer.betas",
    "epsilon": "optimizer.eps",
    "optim": "optimizer",
    "lr_scheduler": "schedule",
    "lr_schedule": "schedule",
    "warmup": "schedule.warmup_epochs",
    "warmup_epochs": "schedule.warmup_epochs",
    "gradient_clipping": "clip_grad_norm",
    "grad_clip": "clip_grad_norm",
    "gradient_clip_val": "clip_grad_norm",
    "clip_norm": "clip_grad_norm",
    "max_grad_norm": "clip_grad_norm",
    "ema": "ema_decay",
    "polyak": "ema_decay",
    "swa": "average_from",
    "patience": "early_stopping=patience early_stopping.patience",
    "min_delta": "early_stopping=patience early_stopping.min_delta",
    "label_smoothing": "loss.label_smoothing",
    "label_noise": "data.label_noise",
    "dropout": "model.dropout",
    "dropout_rate": "model.dropout",
    "layers": "model.hidden",
    "n_layers": "model.hidden",
    "hidden_size": "model.width",
    "hidden_units": "model.width",
    "criterion": "loss",
    "regularization": "penalty",
    "regularizer": "penalty",
    "l1": "penalty=l1 penalty.strength",
    "l2": "penalty=l2 penalty.strength",
    "normalization": "norm",
    "nonlinearity": "activation",
    "initialization": "init",
    "initializer": "init",
    "augmentation": "augment",
    "transform": "augment",
    "transforms": "augment",
    "preprocessing": "preprocess",
    "dataset": "data",
    "architecture": "model",
    "network": "model",
    "num_epochs": "epochs",
    "n_epochs": "epochs",
    "max_epochs": "epochs",
    "bs": "batch_size",
    "minibatch_size": "batch_size",
    "num_trials": "trials",
    "n_trials": "trials",
    "num_samples": "trials",
    "random_state": "seed",
    "random_seed": "seed",
    "validation_split": "data.val_fraction",
    "val_split": "data.val_fraction",
    "timeout": "time_budget_s",
    "pruner": "scheduler",
    "num_workers": "max_concurrent",
    "n_jobs": "max_concurrent",
    "amp": "precision",
    "weights": "pretrained",
    "checkpoint": "pretrained",
}
"""Word -> the key that it is here, after the choice that has it where the default has not."""


def choice_meant(group: str, word: str) -> str | None:
    """The hint for an unknown choice; None where no other word is known."""
    return _hint(_find(CHOICES.get(group, {}), word))


def key_meant(key: str) -> str | None:
    """The hint for an unknown key, with or without its group; None where no other word is known."""
    group, dot, name = key.rpartition(".")
    meant = _find(KEYS, name) or ""
    there = meant.rpartition(" ")[2]
    if there == key or (dot and not there.startswith(f"{group}.")):
        return None
    return _hint(meant)


def _hint(meant: str | None) -> str | None:
    if not meant:
        return None
    return f"here it is  {meant}" if "=" in meant else f"it is called {meant} here"


def _find(words: dict[str, str], word: str) -> str | None:
    """The meaning of a word, however its parts are joined: RandomCrop, random-crop, random_crop."""
    by_letters = {_letters(known): meant for known, meant in words.items()}
    return by_letters.get(_letters(word))


def _letters(word: str) -> str:
    return re.sub(r"[\W_]", "", word.lower())
