"""Known photos, by which new ones are named."""

from keras_finegrain.gallery.answers import Answer as Answer
from keras_finegrain.gallery.answers import Candidate as Candidate
from keras_finegrain.gallery.answers import Match as Match
from keras_finegrain.gallery.gallery import Gallery as Gallery

__all__ = ["Answer", "Candidate", "Gallery", "Match"]
