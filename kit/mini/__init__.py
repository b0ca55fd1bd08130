"""The paper in miniature: a small language, a scripted teacher, a small policy."""
