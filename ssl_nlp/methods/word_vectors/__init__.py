"""Vectors of words, without any context: word2vec and GloVe."""
