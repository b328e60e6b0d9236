"""One page that shows what a model tells apart and what it confuses."""

from keras_finegrain.reporting.report import report as report
