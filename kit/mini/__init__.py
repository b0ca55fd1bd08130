"""The paper in miniature: a small language of list functions, a scripted teacher, a small policy."""
