"""Errors that a user can put right."""


class TrainingError(Exception):
    """Settings that cannot be trained with, or a training that diverged.

    Its message names the setting as the command lines do, `--freeze` for
    `Settings.freeze`.
    """
